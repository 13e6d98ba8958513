"""A store, a DNS and all of reporting over them, in virtual time."""

from __future__ import annotations

from pathlib import Path

from posthouse.config.limits import limit_names
from posthouse.kernel.ids import BlobId
from posthouse.kernel.ports import Fetched, FetchFailed, FetchTrouble
from posthouse.observe.limits import LimitWatch
from posthouse.observe.log import Log
from posthouse.observe.metrics import Metrics
from posthouse.observe.options import LogFormat, LogOptions
from posthouse.reporting.collect import Collector
from posthouse.reporting.failures import FailureReporter
from posthouse.reporting.intake import Intake
from posthouse.reporting.job import Sender
from posthouse.reporting.options import Options
from posthouse.sim.dns import ZoneResolver
from posthouse.sim.world import World
from posthouse.store import queue as queue_rows
from posthouse.store.queue_rows import RecipientRow
from posthouse.store.transaction import Transaction
from tests.queue.house import open_store
from tests.reporting.samples import OPTIONS

SIGNATURE = b"DKIM-Signature: v=1; d=here.example\r\n"


class ScriptedFetch:
    """Answers POST as told, and keeps what it was given."""

    def __init__(self) -> None:
        self.status = 200
        self.is_down = False
        self.posts: list[tuple[str, bytes, str]] = []

    async def get(
        self, url: str, *, octets_max: int, timeout_s: float, allow_http: bool = False
    ) -> Fetched:
        raise AssertionError("nothing is fetched for reports")

    async def post(
        self, url: str, octets: bytes, *, media_type: str, octets_max: int, timeout_s: float
    ) -> Fetched:
        if self.is_down:
            raise FetchFailed("nobody answers", FetchTrouble.CONNECT)
        self.posts.append((url, octets, media_type))
        return Fetched(status=self.status, media_type="", octets=b"")


class House:
    def __init__(self, folder: Path, world: World, options: Options = OPTIONS) -> None:
        self.world = world
        self.options = options
        self.store = open_store(folder, world.clock)
        self.workers = world.workers
        self.resolver = ZoneResolver(world.zones)
        self.fetch = ScriptedFetch()
        self.has_key = True
        self.signed: list[tuple[bytes, str]] = []
        self.lines: list[bytes] = []
        self.log = Log(
            self.lines.append,
            unix_us=world.clock.unix_us,
            options=LogOptions(format=LogFormat.JSON),
        )
        self.metrics = Metrics(limit_names())
        self.limits = LimitWatch(self.log, self.metrics)
        self.collector = Collector(
            options,
            store=self.store,
            clock=world.clock,
            log=self.log,
            limits=self.limits,
        )
        self.sender = self.new_sender()
        self.intake = Intake(
            options,
            store=self.store,
            clock=world.clock,
            workers=self.workers,
            log=None,
            limits=self.limits,
        )
        self.failures = FailureReporter(
            options,
            store=self.store,
            resolver=self.resolver,
            clock=world.clock,
            chance=world.chance,
            sign=self.sign,
            redaction_key=b"potatoes",
            limits=self.limits,
        )

    def new_sender(self) -> Sender:
        return Sender(
            self.options,
            store=self.store,
            resolver=self.resolver,
            clock=self.world.clock,
            chance=self.world.chance,
            workers=self.workers,
            fetch=self.fetch,
            sign=self.sign,
            limits=self.limits,
        )

    def sign(self, tx: Transaction | None, octets: bytes, domain: str) -> bytes:
        self.signed.append((octets, domain))
        return SIGNATURE if self.has_key else b""

    def mails(self) -> list[tuple[list[RecipientRow], bytes]]:
        """What reporting put into the queue: recipients and octets of each mail."""

        def query(tx: Transaction) -> list[tuple[list[RecipientRow], bytes]]:
            found = tx.all("SELECT id, blob_id FROM message ORDER BY id")
            return [
                (queue_rows.recipients_of_message(tx, row[0]), tx.blob(BlobId(row[1])))
                for row in found
            ]

        return self.store.read_now(query)

    def addresses(self) -> list[list[str]]:
        return [[recipient.address for recipient in found] for found, _ in self.mails()]

    def reached(self) -> dict[str, int]:
        """Limits that were reached, and how often. Each time left a line."""
        counts = {name: int(self.metrics.limits[name].total) for name in limit_names()}
        found = {name: count for name, count in counts.items() if count}
        assert sum(found.values()) == sum(b"limit.reached" in line for line in self.lines)
        return found

    def zone(self, name: str, *texts: str) -> None:
        for text in texts:
            self.world.zones.add(name, "TXT", f'"{text}"')
