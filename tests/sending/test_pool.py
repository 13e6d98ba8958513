"""Sessions that are kept and shared: reuse, growth, pace, back pressure, and what is sent again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from posthouse.sending import (
    AsyncTransport,
    AuthError,
    ConnectError,
    Message,
    SendingError,
    Sent,
)
from posthouse.sending.rate import Rate
from tests.sending.bad_server import DROP, SILENCE, USUAL, BadServer


def letter(n: int = 0, **more: Any) -> Message:
    given = {"sender": "ada@example.org", "to": f"b{n}@example.net", "text": f"{n}", **more}
    return Message(tag=n, **given)


def transport(server: BadServer, **more: Any) -> AsyncTransport:
    return AsyncTransport(host="127.0.0.1", port=server.port, **more)


async def test_one_after_the_other_goes_over_one_session() -> None:
    async with BadServer() as server, transport(server) as way:
        for n in range(5):
            await way.send(letter(n))
        assert server.connections == 1
    assert len(server.taken) == 5


async def test_sessions_are_opened_as_they_are_needed_and_no_more_than_allowed() -> None:
    async with BadServer() as server, transport(server, connections_max=3) as way:
        receipts = await asyncio.gather(*(way.send(letter(n)) for n in range(40)))
    assert len(receipts) == len(server.taken) == 40
    assert 2 <= server.connections <= 3 and server.open_most <= 3


async def test_a_session_is_used_for_so_many_letters() -> None:
    async with (
        BadServer() as server,
        transport(server, connections_max=1, messages_per_connection_max=3) as way,
    ):
        for n in range(7):
            await way.send(letter(n))
    assert server.connections == 3 and len(server.taken) == 7


async def test_the_server_may_say_how_many_itself() -> None:
    async with (
        BadServer(extensions=("PIPELINING", "LIMITS MAILMAX=2")) as server,
        transport(server, connections_max=1) as way,
    ):
        await asyncio.gather(*(way.send(letter(n)) for n in range(6)))
    assert server.connections == 3


async def test_recipients_of_too_many_domains_are_sent_to_in_turns() -> None:
    to = [f"{name}@{domain}.example" for domain in "abc" for name in ("x", "y")]
    async with (
        BadServer(extensions=(*USUAL, "LIMITS RCPTDOMAINMAX=2 RCPTMAX=3")) as server,
        transport(server) as way,
    ):
        receipt = await way.send(letter(to=to))
    assert receipt.accepted == tuple(to)
    assert [len(one.recipients) for one in server.taken] == [3, 3]
    for one in server.taken:
        assert len({recipient.partition("@")[2] for recipient in one.recipients}) <= 2


SOME_AT_ONCE = (*USUAL, "LIMITS RCPTMAX=2 MAILMAX=1")
"""The rest of a letter's recipients needs another session."""


async def test_what_some_recipients_have_is_a_receipt_where_no_session_is_had_for_the_others() -> (
    None
):
    replies = {"GREETING": ["220 bad.test", "421 4.3.2 too many of you"]}
    to = [f"{name}@example.net" for name in "abcde"]
    async with BadServer(extensions=SOME_AT_ONCE, replies=replies) as server:
        async with transport(server, connections_max=1) as way:
            receipt = await way.send(letter(to=to))
        assert server.taken[0].recipients == to[:2]
    assert receipt.accepted == tuple(to[:2])
    assert [one.recipient for one in receipt.rejected] == to[2:]
    assert all(one.is_transient and "too many of you" in one.text for one in receipt.rejected)


async def test_what_some_recipients_may_have_is_unsure_for_the_letter() -> None:
    replies = {"GREETING": ["220 bad.test", "421 4.3.2 too many of you"], "DOT": DROP}
    to = [f"{name}@example.net" for name in "abc"]
    async with (
        BadServer(extensions=SOME_AT_ONCE, replies=replies) as server,
        transport(server, connections_max=1) as way,
    ):
        with pytest.raises(SendingError) as raised:
            await way.send(letter(to=to))
    assert raised.value.may_have_been_sent


async def test_a_letter_in_several_transactions_begins_once() -> None:
    begun: list[int] = []
    async with BadServer(extensions=SOME_AT_ONCE) as server, transport(server) as way:
        to = [f"{name}@example.net" for name in "abcde"]
        [sent] = [one async for one in way.send_all([letter(to=to)], on_begin=begun.append)]
    assert sent.receipt is not None and sent.receipt.accepted == tuple(to)
    assert begun == [0] and len(server.taken) == 3


async def test_a_kept_session_that_the_server_ended_is_no_error() -> None:
    async with (
        BadServer(replies={"DOT": ["250 ok", "250 ok"]}) as server,
        transport(server, connections_max=1) as way,
    ):
        await way.send(letter(1))
        for task in list(server._tasks):  # the server hangs up on whoever is idle
            task.cancel()
        await way.send(letter(2))
    assert len(server.taken) == 2 and server.connections == 2


async def test_421_in_the_middle_moves_the_letter_to_another_session() -> None:
    async with (
        BadServer(replies={"MAIL": ["250 ok", "421 4.3.2 bye", "250 ok"]}) as server,
        transport(server, connections_max=1) as way,
    ):
        await way.send(letter(1))
        await way.send(letter(2))
    assert len(server.taken) == 2 and server.connections == 2


async def test_letters_behind_a_lost_one_are_sent_by_another_session_once() -> None:
    async with (
        BadServer(replies={"DOT": [DROP, "250 ok"]}) as server,
        transport(server, connections_max=1) as way,
    ):
        results = await asyncio.gather(
            *(way.send(letter(n)) for n in range(6)), return_exceptions=True
        )
    lost = [one for one in results if isinstance(one, SendingError)]
    assert len(lost) == 1 and lost[0].may_have_been_sent
    arrived = [taken.recipients[0] for taken in server.taken]
    assert len(arrived) == len(set(arrived)) == 5


async def test_whoever_waits_for_a_server_that_is_away_is_told_at_once() -> None:
    async with BadServer() as server:
        port = server.port
    async with AsyncTransport(host="127.0.0.1", port=port) as way:
        results = await asyncio.gather(
            *(way.send(letter(n)) for n in range(20)), return_exceptions=True
        )
    assert all(isinstance(one, ConnectError) for one in results)
    assert len({id(one) for one in results}) == 20  # each with a traceback of its own


async def test_the_next_letter_tries_again_after_a_failure() -> None:
    replies = {"GREETING": ["554 5.3.2 not yet", "220 here"]}
    async with BadServer(replies=replies) as server, transport(server) as way:
        with pytest.raises(ConnectError):
            await way.send(letter(1))
        await way.send(letter(2))
    assert len(server.taken) == 1


async def test_nobody_sends_faster_than_the_rate() -> None:
    loop = asyncio.get_running_loop()
    async with BadServer() as server, transport(server, rate=4, rate_per_s=0.2) as way:
        began = loop.time()
        await asyncio.gather(*(way.send(letter(n)) for n in range(9)))
        assert loop.time() - began >= 0.4
    assert len(server.taken) == 9


def test_a_window_slides_over_the_last_beginnings() -> None:
    rate = Rate(2, 1.0)
    assert rate.wait_s(0.0) == 0.0
    rate.took(0.0)
    rate.took(0.5)
    assert rate.wait_s(0.6) == pytest.approx(0.4)
    assert rate.wait_s(1.0) == 0.0
    rate.took(1.0)
    assert rate.wait_s(1.2) == pytest.approx(0.3)


async def test_who_is_too_many_waits_outside() -> None:
    async with BadServer(replies={"DOT": SILENCE}) as server:
        way = transport(server, connections_max=1, pending_max=2)
        tasks = [asyncio.ensure_future(way.send(letter(n))) for n in range(10)]
        async with asyncio.timeout(5):
            while not any(one.startswith("DATA") for one in server.commands):
                await asyncio.sleep(0.001)
        pool = way._carrier._pool  # type: ignore[union-attr]
        assert len(pool._waiting) <= 2 and len(pool._room) >= 4
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        pool.abort()


async def test_cancelling_takes_a_letter_back_that_has_not_begun() -> None:
    async with BadServer(replies={"GREETING": SILENCE}) as server:
        way = transport(server)
        task = asyncio.ensure_future(way.send(letter()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not way._carrier._pool._waiting  # type: ignore[union-attr]
        way._carrier._pool.abort()  # type: ignore[union-attr]


async def test_closing_lets_what_is_under_way_end() -> None:
    async with BadServer() as server:
        way = transport(server, connections_max=1)
        tasks = [asyncio.ensure_future(way.send(letter(n))) for n in range(20)]
        await asyncio.sleep(0)
        await way.close()
        assert all(task.done() for task in tasks)
    assert len(server.taken) == 20 and server.commands[-1] == "QUIT"


# --- many ---


async def collected(way: AsyncTransport, messages: Any, **more: Any) -> list[Sent]:
    return [one async for one in way.send_all(messages, **more)]


async def test_thousands_are_taken_from_their_source_as_there_is_room() -> None:
    taken = done = most = 0

    def source() -> Iterator[Message]:
        nonlocal taken, most
        for n in range(2000):
            taken += 1
            most = max(most, taken - done)
            yield letter(n)

    async with BadServer() as server, transport(server, connections_max=3) as way:
        seen: list[tuple[int, int]] = []
        async for one in way.send_all(source(), on_progress=lambda *at: seen.append(at)):
            done += 1
            assert one.receipt is not None and one.receipt.tag == one.tag == one.index
    assert taken == done == 2000 and most <= 3 * 4 + 1
    assert seen[-1] == (2000, 0)


async def test_an_error_of_one_ends_none_of_the_others() -> None:
    bad = Message(sender="ada@example.org", to="x@example.net", subject="a\nb", tag=3)
    messages = [letter(1), letter(2), bad, letter(4)]
    async with BadServer() as server, transport(server) as way:
        results = await collected(way, messages)
    failed = [one for one in results if one.error is not None]
    assert [(one.index, one.tag) for one in failed] == [(2, 3)]
    assert len(server.taken) == 3


async def test_what_the_source_raises_comes_when_the_others_are_done() -> None:
    def source() -> Iterator[Message]:
        yield letter(1)
        yield letter(2)
        raise RuntimeError("the file broke")

    async with BadServer() as server, transport(server) as way:
        with pytest.raises(RuntimeError, match="the file broke"):
            await collected(way, source())
    assert len(server.taken) == 2


async def test_a_source_may_be_asynchronous_and_be_left_early() -> None:
    async def source() -> Any:
        for n in itertools.count():
            yield letter(n)

    async with BadServer() as server, transport(server) as way:
        results = way.send_all(source())
        async for one in results:
            if one.index >= 5:
                break
        await results.aclose()  # type: ignore[attr-defined]
        before = len(server.taken)
        await way.send(letter(1))
    assert before >= 5


async def test_a_letter_is_begun_when_it_is_handed_over_and_not_before() -> None:
    begun: list[int] = []
    async with (
        BadServer() as server,
        transport(server, rate=3, rate_per_s=60.0, connections_max=2) as way,
    ):
        results = way.send_all(map(letter, range(20)), on_begin=begun.append)
        ended = [(await anext(results)).index for _ in range(3)]
        assert sorted(ended) == sorted(begun) and len(server.taken) == 3
        await results.aclose()  # type: ignore[attr-defined]
        assert len(begun) == 3  # those that waited for the rate were never begun


async def test_what_cannot_be_written_down_is_not_sent() -> None:
    def begin(index: int) -> None:
        if index == 2:
            raise OSError("the disk is full")

    async with BadServer() as server, transport(server, connections_max=1) as way:
        with pytest.raises(OSError, match="the disk is full"):
            await collected(way, map(letter, range(4)), on_begin=begin)
        await way.send(letter(9))
    recipients = [one.recipients[0] for one in server.taken]
    assert "b2@example.net" not in recipients and "b9@example.net" in recipients


async def test_a_refused_login_is_not_tried_again_for_each_letter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replies = {"AUTH": "535 5.7.8 wrong"}
    async with BadServer(extensions=(*USUAL, "AUTH PLAIN"), replies=replies) as server:
        way = transport(server, user="ada", password="x")
        results = await collected(way, map(letter, range(300)))
        assert all(isinstance(one.error, AuthError) for one in results)
        assert len(server.auth_lines) == 1
        monkeypatch.setattr("posthouse.sending.pool.REFUSED_S", 0.0)
        way._carrier._pool._refused_until_s = 0.0  # type: ignore[union-attr]
        with pytest.raises(AuthError):
            await way.send(letter())
        assert len(server.auth_lines) == 2
        await way.close()


async def test_a_login_that_was_taken_is_followed_by_all_sessions_that_are_needed() -> None:
    async with (
        BadServer(extensions=(*USUAL, "AUTH PLAIN")) as server,
        transport(server, user="ada", password="x", connections_max=4) as way,
    ):
        results = await collected(way, map(letter, range(40)))
        assert all(one.error is None for one in results)
        assert len(server.auth_lines) == server.open_most == 4


async def test_a_login_that_verify_proved_ends_what_was_remembered_of_a_refused_one() -> None:
    replies = {"AUTH": ["535 5.7.8 wrong", "235 2.7.0 welcome"]}
    async with (
        BadServer(extensions=(*USUAL, "AUTH PLAIN"), replies=replies) as server,
        transport(server, user="ada", password="x") as way,
    ):
        with pytest.raises(AuthError):
            await way.send(letter())
        await way.verify()
        await way.send(letter())
        assert len(server.taken) == 1


async def test_a_server_with_enough_sessions_is_not_asked_for_one_more_before_each_letter() -> None:
    replies = {"GREETING": ["220 bad.test", "220 bad.test", "421 4.7.0 too many sessions"]}
    async with BadServer(replies=replies) as server, transport(server) as way:
        results = await collected(way, map(letter, range(200)))
        assert all(one.error is None for one in results)
        assert server.connections <= 5  # those that were tried at once


async def test_nobody_waits_at_the_end_for_a_letter_that_was_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("posthouse.sending.pool.GIVEN_UP_S", 0.05)
    async with BadServer(replies={"DOT": SILENCE}) as server:
        way = transport(server, data_timeout_s=600)
        task = asyncio.create_task(way.send(letter()))
        while "DATA" not in server.commands:
            await asyncio.sleep(0.01)
        task.cancel()
        async with asyncio.timeout(10):
            await way.close()
        assert task.cancelled()
