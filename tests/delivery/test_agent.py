"""Queued recipients of our own domains: into their mailboxes, or back to the sender."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from posthouse.accounts import admin
from posthouse.accounts.directory import Options as DirectoryOptions
from posthouse.delivery.agent import LOCAL, Dispatch, LocalAgent
from posthouse.kernel.envelope import Address
from posthouse.kernel.ids import AccountId
from posthouse.mailbox import fetch, names
from posthouse.queue.item import State
from posthouse.queue.spool import KeptFor
from posthouse.queue.work import Ending
from posthouse.sim.world import World, run_virtual
from posthouse.store import accounts as account_rows
from posthouse.store import accounts as rows
from posthouse.store import mail
from posthouse.store.mail_entries import uids
from posthouse.store.transaction import DirectoryChanged
from tests.queue.house import CONTENT, House, say

STRANGER = Address("you", "elsewhere.example")
ALICE, BOB = "alice@here.example", "bob@here.example"


def plain_alias(tx, address: str, target: str) -> None:
    """An alias as it may have become, without what is checked when one is made."""
    parsed = admin.parse_typed(address)
    domain = admin.known_domain(tx, parsed.domain)
    rows.add_alias(tx, domain.id, parsed.local_part, target)
    tx.changed(DirectoryChanged())


class LocalHouse(House):
    """A `House` that delivers here.example itself; `remote` plays every other host."""

    def __init__(self, folder: Path, world: World, tasks: asyncio.TaskGroup) -> None:
        super().__init__(folder, world.clock, say(Ending.RELAYED, "250 ok"))
        self.remote = self.agent
        self.workers = world.workers
        self.dispatch = Dispatch(
            local=LocalAgent(
                directory=DirectoryOptions(),
                workers=world.workers,
                chance=self.chance,
                tasks=tasks,
            ),
            remote=self.remote,
            store=self.store,
        )
        self.agent = self.dispatch  # type: ignore[assignment]
        self.runner = self.new_runner()

    def add(self, address: str, *, quota_octets: int | None = None) -> None:
        def unit(tx) -> None:
            account = admin.add_account(tx, address, password_hash=None, quota_octets=quota_octets)
            names.create_default_mailboxes(tx, account)

        self.store.write_now(unit)

    def set_quota(self, address: str, octets: int | None) -> None:
        self.store.write_now(
            lambda tx: tx.run(
                "UPDATE account SET quota_octets = ? WHERE name = ?", (octets, address)
            )
        )

    def inbox(self, address: str) -> list[bytes]:
        def read(tx) -> list[bytes]:
            account = account_rows.account_by_name(tx, address)
            mailbox = names.find(tx, AccountId(account.id), "INBOX")
            found = uids(tx, mailbox, ((1, mail.UID_MAX),))
            return [fetch.octets(tx, account.id, mailbox, uid).whole() for uid in found]

        return self.store.read_now(read)

    def detail(self, message) -> str:
        """The last line of the first recipient's ledger."""
        row = self.recipients(message)[0]
        found = self.store.read_now(
            lambda tx: tx.one(
                "SELECT detail FROM ledger WHERE recipient_id = ? AND step = ?", (row.id, row.step)
            )
        )
        return found[0]


def with_house(tmp_path: Path, test: Callable[[LocalHouse], Awaitable[None]]) -> None:
    async def main(world: World) -> None:
        async with asyncio.TaskGroup() as tasks:
            house = LocalHouse(tmp_path, world, tasks)
            house.store.write_now(lambda tx: admin.add_domain(tx, "here.example"))
            house.add(ALICE)
            await house.dispatch.refresh()
            await test(house)
        house.check()

    run_virtual(main)


def test_a_notice_to_one_of_us_arrives_in_the_mailbox(tmp_path):  # P2 P5
    async def test(house):
        house.remote.judge = say(Ending.FAILED, "550 5.1.1 nobody of that name")
        message = house.accept("who@there.example")  # from Alice
        await house.run_for(5)
        assert house.states(message) == [State.RETURNED]
        (notice,) = house.inbox(ALICE)
        lines = notice.split(b"\r\n")
        assert lines[:2] == [b"Return-Path: <>", b"Delivered-To: alice@here.example"]
        assert b"550 5.1.1 nobody of that name" in notice
        assert house.check().ends == {"failed": 1, "delivered": 1}

    with_house(tmp_path, test)


def test_a_message_is_stored_unchanged_behind_its_trace_fields(tmp_path):  # P2
    async def test(house):
        message = house.accept(ALICE, reverse_path=STRANGER)
        await house.run_for(5)
        assert house.states(message) == [State.STORED]
        assert house.inbox(ALICE) == [
            b"Return-Path: <you@elsewhere.example>\r\nDelivered-To: alice@here.example\r\n"
            b"Received: by us\r\n" + CONTENT
        ]
        assert house.detail(message) == "stored for alice@here.example"
        assert house.remote.works == []

    with_house(tmp_path, test)


def test_a_full_mailbox_defers_until_there_is_room(tmp_path):  # P2
    async def test(house):
        house.set_quota(ALICE, 10)
        message = house.accept(ALICE, reverse_path=STRANGER)
        await house.run_for(5)
        (row,) = house.recipients(message)
        assert (row.state, row.attempts) == (State.QUEUED, 1)
        assert "mailbox is full" in row.last_reply
        assert house.inbox(ALICE) == []
        house.check()
        house.set_quota(ALICE, None)
        await house.run_for(600)
        assert house.states(message) == [State.STORED]
        assert len(house.inbox(ALICE)) == 1

    with_house(tmp_path, test)


def test_a_mailbox_that_stays_full_returns_the_message(tmp_path):  # P2 P5
    async def test(house):
        house.set_quota(ALICE, 10)
        message = house.accept(ALICE, reverse_path=STRANGER)
        await house.run_for(6 * 86_400)
        assert house.states(message) == [State.RETURNED]
        assert house.inbox(ALICE) == []
        told = [work.octets for work in house.remote.works]
        assert sum(b"Action: failed" in octets for octets in told) == 1

    with_house(tmp_path, test)


def test_an_alias_leads_into_a_mailbox_and_to_others_elsewhere(tmp_path):  # P2
    async def test(house):
        for target in (ALICE, "zoe@there.example", "yan@other.example"):
            house.store.write_now(
                lambda tx, target=target: admin.add_alias(tx, "team@here.example", target)
            )
        message = house.accept("team@here.example", reverse_path=STRANGER)
        await house.run_for(5)
        assert house.states(message) == [State.STORED]
        (stored,) = house.inbox(ALICE)
        assert stored.endswith(CONTENT)
        sent = {work.recipients[0].address: work for work in house.remote.works}
        assert set(sent) == {"zoe@there.example", "yan@other.example"}
        for work in sent.values():
            assert work.message.reverse_path == "you@elsewhere.example"
            assert work.message.queue_id != "q1"
            assert work.octets == b"Received: by us\r\n" + CONTENT
        assert house.check().ends == {"delivered": 1, "relayed": 2}

    with_house(tmp_path, test)


def test_junk_that_an_alias_sends_on_stays_junk(tmp_path):  # P5
    async def test(house):
        house.store.write_now(
            lambda tx: admin.add_alias(tx, "away@here.example", "zoe@there.example")
        )
        house.accept("away@here.example", reverse_path=STRANGER, is_junk=True)
        await house.run_for(5)
        (work,) = house.remote.works
        assert work.message.is_junk

    with_house(tmp_path, test)


def test_an_alias_that_leads_only_elsewhere_goes_on_as_a_message_of_its_own(tmp_path):  # P2
    async def test(house):
        house.store.write_now(
            lambda tx: admin.add_alias(tx, "away@here.example", "zoe@there.example")
        )
        message = house.accept("away@here.example", reverse_path=STRANGER)
        await house.run_for(5)
        assert house.states(message) == [State.STORED]
        assert "zoe@there.example" in house.detail(message)
        (work,) = house.remote.works
        assert work.octets.endswith(CONTENT)

    with_house(tmp_path, test)


def test_an_unknown_user_is_told_to_the_sender(tmp_path):  # P2 P5
    async def test(house):
        message = house.accept("nobody@here.example", reverse_path=STRANGER)
        await house.run_for(5)
        assert house.states(message) == [State.RETURNED]
        (notice,) = (work.octets for work in house.remote.works)
        assert b"Status: 5.1.1" in notice
        assert b"Final-Recipient: rfc822; nobody@here.example" in notice
        assert house.check().ends == {"failed": 1, "relayed": 1}

    with_house(tmp_path, test)


def test_an_alias_that_leads_too_far_is_our_fault_and_waits(tmp_path):  # P8
    async def test(house):
        far = DirectoryOptions().alias_depth_max + 2
        for n in range(far):
            house.store.write_now(
                lambda tx, n=n: plain_alias(tx, f"a{n}@here.example", f"a{n + 1}@here.example")
            )
        message = house.accept("a0@here.example", reverse_path=STRANGER)
        await house.run_for(5)
        (row,) = house.recipients(message)
        assert (row.state, row.attempts) == (State.QUEUED, 1)
        assert row.last_reply == "the alias leads too far"

    with_house(tmp_path, test)


def test_workers_that_fail_cost_no_message(tmp_path):  # P8 F22
    async def test(house):
        house.workers.fault = OSError("no thread")
        message = house.accept(ALICE, reverse_path=STRANGER)
        await house.run_for(5)
        assert house.states(message) == [State.QUEUED]
        assert house.recipients(message)[0].last_reply == "no thread"
        house.workers.fault = None
        await house.run_for(600)
        assert house.states(message) == [State.STORED]
        assert len(house.inbox(ALICE)) == 1

    with_house(tmp_path, test)


def test_recipients_of_one_message_have_ends_of_their_own(tmp_path):  # P2
    async def test(house):
        house.add(BOB, quota_octets=10)
        message = house.accept(ALICE, BOB, "nobody@here.example", reverse_path=STRANGER)
        await house.run_for(5)
        assert house.states(message) == [State.STORED, State.QUEUED, State.RETURNED]
        assert len(house.inbox(ALICE)) == 1
        house.check()
        house.set_quota(BOB, None)
        await house.run_for(600)
        assert house.states(message)[1] is State.STORED
        assert (len(house.inbox(ALICE)), len(house.inbox(BOB))) == (1, 1)

    with_house(tmp_path, test)


def test_an_alias_to_a_full_mailbox_and_another_loses_neither(tmp_path):  # P2
    async def test(house):
        house.add(BOB, quota_octets=10)
        for target in (ALICE, BOB):
            house.store.write_now(
                lambda tx, target=target: admin.add_alias(tx, "both@here.example", target)
            )
        house.accept("both@here.example", reverse_path=STRANGER)
        await house.run_for(5)
        house.set_quota(BOB, None)
        await house.run_for(600)
        assert len(house.inbox(ALICE)) == 1
        assert len(house.inbox(BOB)) == 1

    with_house(tmp_path, test)


def test_local_domains_go_here_and_all_others_to_the_relay(tmp_path):
    async def test(house):
        dispatch = house.dispatch
        await house.clock.sleep(0.1)
        assert dispatch.destination("here.example", None) == LOCAL
        assert dispatch.destination("", None) == LOCAL  # <Postmaster>
        assert dispatch.destination("there.example", None) == "there.example"
        # A person's word goes before everything.
        assert dispatch.destination("here.example", "mx.there.example:25") != LOCAL
        assert dispatch.destination("new.example", None) != LOCAL
        house.store.write_now(lambda tx: admin.add_domain(tx, "new.example"))
        await house.clock.sleep(0.1)
        assert dispatch.destination("new.example", None) == LOCAL
        assert dispatch.trouble(LOCAL) is None

    with_house(tmp_path, test)


def test_domains_added_one_right_after_the_other_are_both_local(tmp_path):
    async def test(house):
        await house.clock.sleep(0.1)
        for domain in ("one.example", "two.example"):
            house.store.write_now(lambda tx, domain=domain: admin.add_domain(tx, domain))
        await house.clock.sleep(0.1)
        assert house.dispatch.destination("one.example", None) == LOCAL
        assert house.dispatch.destination("two.example", None) == LOCAL

    with_house(tmp_path, test)


def test_a_route_takes_a_local_recipient_to_another_host(tmp_path):
    async def test(house):
        from posthouse.queue import admin as queue_admin

        message = house.accept(ALICE, reverse_path=STRANGER)
        house.store.write_now(
            lambda tx: queue_admin.reroute(
                tx, queue_admin.Selection(queue_id="q1"), "mx.there.example:25", by="root"
            )
        )
        await house.run_for(5)
        assert house.states(message) == [State.RELAYED]
        assert house.inbox(ALICE) == []

    with_house(tmp_path, test)


def test_a_copy_made_for_one_account_goes_to_no_other_host(tmp_path):
    async def test(house):
        from posthouse.queue import admin as queue_admin

        kept = KeptFor(account=ALICE, quoted=b"Subject: x\r\n\r\n")
        message = house.accept("al@here.example", reverse_path=STRANGER, kept=kept)
        everything = queue_admin.Selection(queue_id="q1")
        house.store.write_now(
            lambda tx: queue_admin.reroute(tx, everything, "mx.there.example:25", by="root")
        )
        await house.run_for(5)
        assert house.states(message) == [State.STORED]
        assert house.inbox(ALICE) == [
            b"Return-Path: <you@elsewhere.example>\r\nDelivered-To: al@here.example\r\n"
            b"Received: by us\r\n" + CONTENT
        ]
        assert house.remote.works == []

    with_house(tmp_path, test)


def test_what_an_account_does_not_take_comes_back_with_what_may_be_shown(tmp_path):  # P2 P5
    async def test(house):
        quoted = b"Subject: as it came\r\n\r\n"
        kept = KeptFor(account=ALICE, quoted=quoted, refusal="it stays closed")
        message = house.accept(ALICE, reverse_path=STRANGER, kept=kept)
        await house.run_for(5)
        assert house.states(message) == [State.RETURNED]
        (notice,) = [work.octets for work in house.remote.works]
        assert b"Status: 5.7.5" in notice and b"Subject: as it came" in notice
        assert CONTENT.rpartition(b"\r\n\r\n")[2] not in notice
        assert house.inbox(ALICE) == []

    with_house(tmp_path, test)
