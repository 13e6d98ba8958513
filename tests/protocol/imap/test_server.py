"""The IMAP machine: framing, literals, limits, continuations."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.errors import LocalProtocolError
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap.limits import Limits
from posthouse.protocol.imap.server import Phase, ServerSession
from tests.protocol.imap.runs import machine, run

DIALOGUE = (
    b"a1 NOOP\r\n"
    b"a2 LOGIN {3+}\r\nada {3}\r\npw1\r\n"
    b"a3 SELECT {5+}\r\ninbox\r\n"
    b"a4 IDLE\r\nDONE\r\n"
    b'a5 APPEND "a b" (\\seen) "01-Jan-2020 00:00:00 +0000" {12+}\r\nx: y\r\n\r\nbody\r\n'
    b"a6 FETCH 1:*,7 (UID BODY.PEEK[1.HEADER.FIELDS (FROM {4+}\r\ndate)]<0.9>)\r\n"
    b'a7 SEARCH OR (FROM "x" NOT SEEN) TEXT {2+}\r\n\xc3\xa4\r\n'
    b"a8 APPEND x {99999999}\r\n"
    b"a9 FOO {20+}\r\n01234567890123456789 rest {3+}\r\nabc\r\n"
    b"a10 STORE 1 +FLAGS.SILENT (\\Deleted x)\r\n"
    b"a11 LOGOUT\r\n"
)


@given(cuts=st.lists(st.integers(0, len(DIALOGUE)), max_size=6).map(sorted))
def test_where_the_network_cuts_the_octets_changes_nothing(cuts: list[int]) -> None:
    whole, parts = machine(), machine()
    places = [0, *cuts, len(DIALOGUE)]
    pieces = [DIALOGUE[low:high] for low, high in pairwise(places)]
    assert run(whole, DIALOGUE) == run(parts, *pieces)
    assert whole.has_ended and parts.has_ended


def test_one_octet_at_a_time_is_the_same_dialogue() -> None:
    events, said = run(machine(), *(DIALOGUE[at : at + 1] for at in range(len(DIALOGUE))))
    assert (events, said) == run(machine(), DIALOGUE)
    assert [type(event).__name__ for event in events] == [
        "Noop", "Select", "Idle", "IdleEnded", "Append", "Fetch", "Search", "Store", "Logout",
    ]  # fmt: skip
    assert b"a2 BAD Command is not allowed now" in said
    assert b"a8 BAD [TOOBIG]" in said and said.count(b"+ ") == 1
    assert b"a9 BAD Unknown command" in said


@given(st.binary(max_size=400))
def test_no_octets_raise_and_none_are_answered_without_a_tag(octets: bytes) -> None:
    session = machine(Phase.GREETED)
    _, said = run(session, octets + b"\r\n")
    for line in said.splitlines(keepends=True):
        assert line.endswith(b"\r\n")


# RFC 3501 §5.5
def test_nothing_behind_an_open_command_is_parsed() -> None:
    session = machine()
    session.receive(b"a NOOP\r\nb CHECK\r\n")
    assert session.next_event() == e.Noop(tag=b"a")
    with pytest.raises(LocalProtocolError):
        session.next_event()
    session.answered()
    assert session.next_event() == e.Check(tag=b"b")


# H50
@pytest.mark.parametrize(
    "attack",
    [
        b"a LOGIN {4294967295+}\r\n",
        b"a LOGIN {99999999999999999999}\r\n",
        b"a LOGIN {-1}\r\n",
        b"a LOGIN " + b"{1+}\r\nx " * 100_000,
        b"t" * 8_000 + b" NOOP\r\n",
        b"a LOGIN " + b"(" * 100_000 + b"\r\n",
        b"a " + b"x" * 1_000_000 + b"\r\n",
    ],
)
def test_before_login_nothing_large_is_kept_and_the_third_mistake_ends_it(attack: bytes) -> None:
    session = machine(Phase.GREETED)
    tracemalloc.start()
    said = b""
    for _ in range(3):
        for at in range(0, len(attack), 4_096):
            events, more = run(session, attack[at : at + 4_096])
            said += more
            assert not events and b"+ " not in more
            _, peak = tracemalloc.get_traced_memory()
            assert len(session._inbox) <= 8_192 + 4_096
    tracemalloc.stop()
    assert peak < 256 * 1024
    assert said.count(b"BAD") in (1, 2, 3) and b"* BYE" in said
    assert session.has_ended


# H51
def test_a_literal_too_large_is_refused_without_a_plus_and_the_session_goes_on() -> None:
    session = machine()
    events, said = run(session, b"a SEARCH TEXT {2000000}\r\nb NOOP\r\n")
    assert said == b"a BAD [TOOBIG] Literal is too large\r\n"
    assert events == [e.Noop(tag=b"b")]


# H51
def test_a_literal_nobody_asked_for_is_thrown_away_while_it_comes() -> None:
    session = machine()
    assert run(session, b"a SEARCH TEXT {3000000+}\r\n")[1].startswith(b"a BAD [TOOBIG]")
    for _ in range(30):
        run(session, b"x NOOP\r\n" * 12_500)
        assert len(session._inbox) < 100_000
    assert run(session, b" {3+}\r\nabc\r\nb NOOP\r\n") == ([e.Noop(tag=b"b")], b"")


# H51
def test_more_than_can_be_thrown_away_ends_the_session() -> None:
    session = machine()
    _, said = run(session, b"a SEARCH TEXT {1073741824+}\r\n")
    assert b"* BYE [TOOBIG]" in said and session.has_ended


# H51
def test_many_literals_count_together() -> None:
    session = machine()
    _, said = run(session, b"a SEARCH TEXT {600000+}\r\n" + b"x" * 600_000 + b" TEXT {600000+}\r\n")
    assert said.startswith(b"a BAD [TOOBIG]")


def test_an_appended_message_may_be_as_large_as_the_limit_for_messages() -> None:
    session = machine(limits=Limits(append_octets_max=3_000_000))
    session.receive(b"a APPEND x {2500000}\r\n")
    assert session.next_event() == e.AppendOffered(tag=b"a", octets=2_500_000)
    session.take_literal()
    assert session.take_outgoing() == b"+ go ahead\r\n"
    events, _ = run(session, *[b"x" * 100_000] * 25, b"\r\n")
    assert isinstance(events[0], e.Append) and len(events[0].message) == 2_500_000
    _, said = run(session, b"b APPEND x {3000001}\r\n")
    assert said == b"b BAD [TOOBIG] Literal is too large\r\n"


def test_a_refused_message_is_thrown_away_if_it_comes_all_the_same() -> None:
    session = machine()
    session.receive(b"a APPEND x {2000000+}\r\n")
    assert isinstance(session.next_event(), e.AppendOffered)
    session.refuse_literal("No room", code="OVERQUOTA")
    events, said = run(session, b"y" * 2_000_000, b"\r\nb NOOP\r\n")
    assert (events, said) == ([e.Noop(tag=b"b")], b"a NO [OVERQUOTA] No room\r\n")


def test_collecting_a_message_takes_no_second_copy() -> None:
    session = machine()
    session.receive(b"a APPEND x {8000000+}\r\n")
    session.next_event()
    session.take_literal()
    part = b"x" * 100_000
    tracemalloc.start()
    for _ in range(80):
        run(session, part)
    events, _ = run(session, b"\r\n")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(events[0], e.Append)
    assert peak < 8_000_000 + 4 * 1024 * 1024  # P9


# H8
def test_octets_behind_starttls_end_the_session() -> None:
    session = machine(Phase.GREETED)
    events, said = run(session, b"a STARTTLS\r\nb LOGIN ada pw\r\n")
    assert events == [] and b"a BAD" in said and b"* BYE" in said
    assert session.has_ended
    assert run(session, b"c NOOP\r\n") == ([], b"")


def test_starttls_alone_is_an_event() -> None:
    session = machine(Phase.GREETED)
    assert run(session, b"a STARTTLS\r\n") == ([e.StartTls(tag=b"a")], b"")
    assert not session.has_ended


# H56
def test_garbage_in_idle_is_thrown_away_and_told_once() -> None:
    session = machine()
    run(session, b"a IDLE\r\n")
    for _ in range(16):
        assert run(session, b"g" * 65_536) == ([], b"")
        assert len(session._inbox) <= 70_000
    events, said = run(session, b"\r\nb NOOP\r\n")
    assert events == [e.IdleEnded(tag=b"a", is_done=False), e.Noop(tag=b"b")]
    assert said == b"a BAD no\r\n"


# H56
def test_a_sasl_response_without_end_is_thrown_away() -> None:
    session = machine(Phase.GREETED)
    run(session, b"a AUTHENTICATE PLAIN\r\n")
    run(session, b"A" * 65_536)
    assert len(session._inbox) <= 100
    assert run(session, b"\r\n")[0] == [e.SaslAborted(tag=b"a", is_malformed=True)]
    run(session, b"a AUTHENTICATE PLAIN\r\n")
    said = b"".join(run(session, b"A" * 65_536)[1] for _ in range(16))
    assert said == b"* BYE [TOOBIG] Too much to throw away\r\n" and session.has_ended


# H56
def test_aborting_sasl_for_ever_ends_the_session() -> None:
    session = machine(Phase.GREETED)
    said = b""
    for _ in range(1_000):
        said += run(session, b"a AUTHENTICATE PLAIN\r\n", b"*\r\n")[1]
    assert (
        session.has_ended
        and said.count(b"a BAD") == 3
        and said.endswith(b"BYE Too many errors\r\n")
    )


# H59
@pytest.mark.parametrize("line", [b"====", b"AAA", b"A A=", b"AGE", b"\xff", b"AGFkYQ==\n"])
def test_what_is_no_base64_is_no_response(line: bytes) -> None:
    session = machine(Phase.GREETED)
    events, _ = run(session, b"a AUTHENTICATE PLAIN\r\n", line + b"\r\n")
    assert events[1] == e.SaslAborted(tag=b"a", is_malformed=True)


def test_twenty_mistakes_after_login_end_the_session() -> None:
    session = machine()
    _, said = run(session, b"a FOO\r\n" * 30)
    assert said.count(b"a BAD") == 20 and said.count(b"* BYE") == 1


def test_reading_has_to_stop_when_many_commands_wait() -> None:
    session = machine()
    session.receive(b"a NOOP\r\n")
    session.next_event()
    session.receive(b"b NOOP\r\n" * 31)
    assert not session.is_overfull
    session.receive(b"c NOOP\r\n")
    assert session.is_overfull


# P9
def test_an_idle_machine_is_small() -> None:
    run(machine(), b"a NOOP\r\n")
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    machines = [machine() for _ in range(100)]
    for session in machines:
        run(session, b"a SELECT INBOX\r\nb IDLE\r\n")
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / 100 < 1_536


def test_only_crlf_ends_a_line() -> None:
    session = machine()
    events, said = run(session, b"a NOOP\nb NOOP\rc NOOP\r\n")
    assert events == [] and said.startswith(b"a BAD")
    assert isinstance(session, ServerSession)
