"""A queue with a store in a folder, a scripted agent and virtual time, for the tests beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from posthouse.kernel.envelope import Address, Notify, Ret, TlsDemand
from posthouse.kernel.ids import MessageId, QueueId
from posthouse.queue import dsn, ledger, spool
from posthouse.queue.item import Origin, State
from posthouse.queue.options import Options
from posthouse.queue.outcomes import Recorder
from posthouse.queue.runner import Runner
from posthouse.queue.work import Ending, Outcome, Report, Trouble, Work
from posthouse.sim.chance import SeededChance
from posthouse.store import queue as rows
from posthouse.store.blobs.disk import FileDisk
from posthouse.store.options import Options as StoreOptions
from posthouse.store.queue_rows import RecipientRow
from posthouse.store.sqlite.engine import SqliteStore

SENDER = Address("alice", "here.example")
CONTENT = b"From: alice@here.example\r\nSubject: hello\r\nMessage-ID: <1@x>\r\n\r\nHello.\r\n"
Judge = Callable[[Work], list[Outcome]]


def open_store(folder: Path, clock: object) -> SqliteStore:
    return SqliteStore.open(
        StoreOptions(folder=str(folder)), clock=clock, disk=FileDisk(), is_inline=True
    )


def say(ending: Ending, words: str = "", **more: object) -> Judge:
    """A judge that says the same of every recipient."""
    status = {Ending.RELAYED: "2.0.0", Ending.FAILED: "5.1.1"}.get(ending, "4.2.0")

    def judge(work: Work) -> list[Outcome]:
        return [
            Outcome(recipient=row.id, ending=ending, status=status, words=words, host="mx", **more)
            for row in work.recipients
        ]

    return judge


class ScriptedAgent:
    """Ends every attempt `takes_s` later as `judge` says; keeps what it was given."""

    def __init__(self, clock: object, judge: Judge) -> None:
        self.clock = clock
        self.judge = judge
        self.takes_s: Callable[[Work], float] = lambda work: 0.1
        self.troubles: dict[str, Trouble] = {}
        self.works: list[Work] = []
        self.times: list[float] = []
        self.under_way: dict[str, int] = {}
        self.most_under_way: dict[str, int] = {}

    def destination(self, domain: str, route: str | None) -> str:
        return route or domain

    def trouble(self, destination: str) -> Trouble | None:
        return self.troubles.get(destination)

    def start(self, work: Work, report: Callable[[Report], None]) -> None:
        self.works.append(work)
        self.times.append(self.clock.monotonic_s())
        under_way = self.under_way.get(work.destination, 0) + 1
        self.under_way[work.destination] = under_way
        most = self.most_under_way.get(work.destination, 0)
        self.most_under_way[work.destination] = max(most, under_way)
        loop = asyncio.get_running_loop()
        loop.call_later(self.takes_s(work), self._end, work, report)

    def _end(self, work: Work, report: Callable[[Report], None]) -> None:
        self.under_way[work.destination] -= 1
        outcomes = tuple(self.judge(work))
        is_trouble = any(outcome.ending is Ending.DEFERRED for outcome in outcomes)
        report(Report(work=work, outcomes=outcomes, is_trouble=is_trouble))

    async def close(self) -> None:
        while any(self.under_way.values()):
            await self.clock.sleep(0.1)


class House:
    """Everything wired; `accept` puts messages in."""

    def __init__(self, folder: Path, clock: object, judge: Judge, **options: object) -> None:
        self.clock = clock
        self.store = open_store(folder, clock)
        self.chance = SeededChance(7)
        self.options = Options(owner="node/0", **options)
        self.accept_notice: dsn.Accept = dsn.to_queue(self.options.schedule)
        self.notices = dsn.Notices(
            dsn.Options(host="mail.here.example"),
            accept=lambda tx, notice: self.accept_notice(tx, notice),
            chance=self.chance,
        )
        self.recorder = Recorder(self.options.schedule, notices=self.notices, chance=self.chance)
        self.agent = ScriptedAgent(clock, judge)
        self.count = 0
        self.runner = self.new_runner()

    def new_runner(self, owner: str = "node/0") -> Runner:
        options = Options(
            owner=owner,
            **{
                name: getattr(self.options, name)
                for name in self.options.__struct_fields__
                if name != "owner"
            },
        )
        return Runner(
            options,
            store=self.store,
            clock=self.clock,
            agent=self.agent,
            recorder=self.recorder,
        )

    def accept(
        self,
        *recipients: str,
        reverse_path: Address | None = SENDER,
        notify: Notify | None = None,
        ret: Ret | None = None,
        origin: Origin = Origin.SUBMISSION,
        content: bytes = CONTENT,
        original_recipient: str | None = None,
        is_junk: bool = False,
        tls_demand: TlsDemand = TlsDemand.NONE,
        kept: spool.KeptFor | None = None,
    ) -> MessageId:
        self.count += 1
        queue_id = QueueId(f"q{self.count}")

        def unit(tx):
            return spool.accept(
                tx,
                spool.Accepted(
                    queue_id=queue_id,
                    reverse_path=reverse_path,
                    recipients=tuple(
                        spool.AcceptedRecipient(
                            address=Address(*one.rsplit("@", 1)),
                            state=State.QUEUED,
                            notify=notify,
                            original_recipient=original_recipient,
                        )
                        for one in recipients
                    ),
                    size=len(content),
                    blob=tx.put_blob(content),
                    prefix=b"Received: by us\r\n",
                    ret=ret,
                    envelope_id="env 1",
                    origin=origin,
                    is_junk=is_junk,
                    tls_demand=tls_demand,
                    expires_at=self.options.schedule.expires_at(tx.now_us(), origin),
                    kept=kept,
                ),
            )

        return self.store.write_now(unit)

    def recipients(self, message: MessageId) -> list[RecipientRow]:
        return self.store.read_now(lambda tx: rows.recipients_of_message(tx, message))

    def states(self, message: MessageId) -> list[State]:
        return [row.state for row in self.recipients(message)]

    def ledger(self, message: MessageId) -> list[str]:
        """The reasons in the first recipient's ledger."""
        first = self.recipients(message)[0].id
        return [row.reason for row in self.store.read_now(lambda tx: ledger.history(tx, first))]

    def notices_to(self, domain: str = SENDER.domain) -> list[bytes]:
        """What the queue holds or held for senders."""
        return [work.octets for work in self.agent.works if work.domain == domain]

    def check(self) -> ledger.LedgerReport:
        report = self.store.read_now(lambda tx: ledger.check(tx, reads_octets=True))
        assert report.is_clean, report.faults
        return report

    async def run_for(self, seconds: float) -> None:
        task = asyncio.ensure_future(self.runner.run())
        await self.clock.sleep(seconds)
        if task.done():
            await task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
