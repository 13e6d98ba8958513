"""Content on its way through the queue: large messages, notices at acceptance, what is kept hot."""

from __future__ import annotations

from posthouse.kernel.envelope import Address, Notify
from posthouse.kernel.ids import MessageId, QueueId
from posthouse.message.dsn import Action, parse
from posthouse.queue import dsn, spool
from posthouse.queue.hot import Hot
from posthouse.queue.item import State
from posthouse.queue.work import Ending
from posthouse.sim.world import run_virtual
from tests.queue.house import CONTENT, SENDER, House, say

BIG = CONTENT + b"x" * 78 + b"\r\n" * 60_000


def test_large_messages_are_read_as_memory_allows(tmp_path):  # P9
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED), content_octets_max=3 * len(BIG))
        most = 0

        def takes_s(work):
            nonlocal most
            most = max(most, sum(house.agent.under_way.values()))
            return 1.0

        house.agent.takes_s = takes_s
        messages = [house.accept(f"u{n}@d{n}.example", content=BIG) for n in range(10)]
        await house.run_for(20)
        assert all(house.states(message) == [State.RELAYED] for message in messages)
        assert all(work.octets.endswith(BIG) for work in house.agent.works)
        assert most == 3

    run_virtual(main)


def test_a_message_larger_than_all_the_memory_goes_alone(tmp_path):  # P9
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED), content_octets_max=1)
        messages = [house.accept(f"u{n}@there.example", content=BIG) for n in range(3)]
        await house.run_for(20)
        assert all(house.states(message) == [State.RELAYED] for message in messages)

    run_virtual(main)


def test_recipients_stored_at_acceptance_get_the_notice_they_asked_for(tmp_path):
    # RFC 3461 §5.2.3
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED))

        def recipient(name: str, notify: Notify | None) -> spool.AcceptedRecipient:
            address = Address(name, "here.example")
            return spool.AcceptedRecipient(address=address, state=State.STORED, notify=notify)

        def unit(tx):
            message = spool.accept(
                tx,
                spool.Accepted(
                    queue_id=QueueId("q1"),
                    reverse_path=SENDER,
                    recipients=(recipient("bob", Notify.SUCCESS), recipient("eve", None)),
                    size=len(CONTENT),
                ),
            )
            assert dsn.tell_delivered(tx, house.notices, message, original=CONTENT)

        house.store.write_now(unit)
        await house.run_for(5)
        (notice,) = house.notices_to()
        report = parse(notice.removeprefix(b"Received: by us\r\n"))
        assert [(one.final_recipient, one.action) for one in report.recipients] == [
            ("bob@here.example", Action.DELIVERED)
        ]
        assert b"Hello." not in notice  # only failures return the whole message, RFC 3461 §4.3
        house.check()

    run_virtual(main)


def test_a_failure_returns_the_whole_message_and_a_large_one_its_header_section(tmp_path):
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.FAILED, "550 5.1.1 no"))
        house.accept("bob@there.example")
        house.accept("bob@there.example", content=BIG)
        await house.run_for(5)
        notices = house.notices_to()
        assert len(notices) == 2
        assert sum(b"Hello." in octets for octets in notices) == 1
        assert max(map(len, notices)) < 10_000

    run_virtual(main)


def test_a_delay_is_told_only_to_those_who_want_to_know(tmp_path):  # RFC 3461 §4.1
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.DEFERRED, "451 later"))
        house.accept("bob@a.example", notify=Notify.FAILURE)
        house.accept("bob@b.example", notify=Notify.DELAY | Notify.FAILURE)
        house.accept("bob@c.example", reverse_path=None)
        await house.run_for(5 * 3600)
        told = {parse(octets).recipients[0].final_recipient for octets in house.notices_to()}
        assert told == {"bob@b.example"}

    run_virtual(main)


def test_what_is_kept_hot_has_a_bound_and_the_oldest_goes_first() -> None:  # P9
    hot = Hot(100)
    for number in range(5):
        hot.put(MessageId(number), b"x" * 30)
    assert list(hot.contents) == [2, 3, 4]
    hot.put(MessageId(9), b"x" * 101)
    assert 9 not in hot.contents
    hot.drop(MessageId(3))
    hot.put(MessageId(5), b"x" * 30)
    assert list(hot.contents) == [2, 4, 5]
