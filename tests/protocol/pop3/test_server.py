"""The POP3 machine: dialogues, limits and hostile input."""

from __future__ import annotations

import time
from array import array
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.errors import LocalProtocolError
from posthouse.protocol.pop3.events import (
    Event,
    LoginAttempted,
    MessageWanted,
    QuitReceived,
    StartTlsReceived,
)
from posthouse.protocol.pop3.server import (
    TURN_COMMANDS_MAX,
    TURN_OCTETS_MAX,
    Maildrop,
    ServerSession,
)

MESSAGES = (b"Subject: a\r\n\r\none\r\n.two\r\nthree\r\n", b"Subject: b\r\n\r\n.\r\n")


def drop() -> Maildrop:
    sizes = array("Q", [len(message) for message in MESSAGES])
    return Maildrop(7, array("I", [3, 9]), sizes)


class Client:
    """Answers events as a service would whose only user is ann."""

    def __init__(self, **named: bool) -> None:
        named = {"may_log_in": True, "may_start_tls": True} | named
        self.machine = ServerSession(**named)
        self.events: list[Event] = []
        self.greeting = self.machine.take_outgoing()
        self.replies = b""

    def send(self, octets: bytes) -> bytes:
        self.machine.receive(octets)
        before = len(self.replies)
        while True:
            event = self.machine.next_event()
            was_listing = self.machine.has_more
            self.take()
            if event is None and not was_listing:
                return self.replies[before:]
            if event is None:
                continue
            self.events.append(event)
            self.answer(event)
            self.take()

    def take(self) -> None:
        self.replies += self.machine.take_outgoing()
        while self.machine.has_more:
            self.replies += self.machine.take_outgoing()

    def answer(self, event: Event) -> None:
        machine = self.machine
        if isinstance(event, LoginAttempted):
            credentials = event.credentials
            if (credentials.authentication_id, credentials.password) == ("ann", "pass word"):
                machine.open_maildrop(drop())
            else:
                machine.refuse_login("wrong name or password", code="AUTH")
        elif isinstance(event, MessageWanted):
            machine.send_message(MESSAGES[event.index])
        elif isinstance(event, QuitReceived):
            machine.farewell(is_done=True)
        else:
            machine.accept_starttls()


LOGIN = b"USER ann\r\nPASS pass word\r\n"
PLAIN = b64encode(b"\0ann\0pass word")
DIALOGUE = (
    LOGIN + b"STAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nTOP 1 1\r\nDELE 2\r\nLIST\r\nRSET\r\nNOOP\r\nDELE 1"
    b"\r\nbad line\r\nRETR 1\r\nQUIT\r\n"
)
ANSWERS = (
    b"+OK\r\n+OK 2 messages\r\n"
    b"+OK 2 49\r\n"
    b"+OK\r\n1 32\r\n2 17\r\n.\r\n"
    b"+OK\r\n1 7.3\r\n2 7.9\r\n.\r\n"
    b"+OK\r\nSubject: a\r\n\r\none\r\n..two\r\nthree\r\n.\r\n"
    b"+OK\r\nSubject: a\r\n\r\none\r\n.\r\n"
    b"+OK\r\n"
    b"+OK\r\n1 32\r\n.\r\n"
    b"+OK\r\n+OK\r\n+OK\r\n"
    b"-ERR unknown command\r\n"
    b"-ERR there is no such message\r\n"
    b"+OK\r\n"
)


def test_a_whole_session_pipelined() -> None:
    client = Client()
    assert client.greeting.startswith(b"+OK ")
    client.send(DIALOGUE)
    assert client.replies == ANSWERS
    assert client.machine.is_over
    assert client.events[-1] == QuitReceived(deleted=(0,))


@given(cuts=st.lists(st.integers(0, len(DIALOGUE)), max_size=6).map(sorted))
def test_where_the_network_cuts_the_octets_changes_nothing(cuts: list[int]) -> None:
    client = Client()
    for start, end in zip([0, *cuts], [*cuts, len(DIALOGUE)], strict=True):
        client.send(DIALOGUE[start:end])
    assert client.replies == ANSWERS


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"RETR 999999999999", b"-ERR a number is expected"),
        (b"RETR 3", b"-ERR there is no such message"),
        (b"RETR 0", b"-ERR there is no such message"),
        (b"RETR -1", b"-ERR a number is expected"),
        (b"RETR", b"-ERR wrong arguments"),
        (b"TOP 1 -1", b"-ERR a number is expected"),
        (b"TOP 1", b"-ERR TOP takes a message number and a count of lines"),
        (b"TOP 1 4294967296", b"+OK"),
        (b"DELE 9", b"-ERR there is no such message"),
        (b"LIST 2", b"+OK 2 17"),
        (b"UIDL 2", b"+OK 2 7.9"),
        (b"UIDL x", b"-ERR a number is expected"),
        (b"NO\x00OP", b"-ERR that is not a command"),
        (b"NOOP \x00", b"-ERR that is not a command"),
        (b"STAT now", b"-ERR wrong arguments"),
        (b"USER ann", b"-ERR you are logged in"),
        (b"noop", b"+OK"),
        (b"XTND XMIT", b"-ERR unknown command"),
    ],
)
def test_a_line_and_its_answer(line: bytes, reply: bytes) -> None:  # H58
    client = Client()
    client.send(LOGIN)
    assert client.send(line + b"\r\n").split(b"\r\n")[0] == reply
    assert client.send(b"NOOP\r\n") == b"+OK\r\n"


def test_an_overlong_line_is_discarded_and_the_next_one_read() -> None:  # H58
    client = Client()
    assert client.send(b"USER " + b"x" * 10_240).count(b"-ERR") == 1
    assert len(client.machine._inbox) <= 1
    assert client.send(b"x" * 100_000 + b"\r") == b""
    assert client.send(b"\n" + LOGIN) == b"+OK\r\n+OK 2 messages\r\n"


def test_a_line_of_512_octets_is_taken_and_one_of_513_is_not() -> None:
    for length, reply in ((512, b"-ERR unknown"), (513, b"-ERR that line is too long")):
        client = Client()
        assert client.send(b"X" + b" " + b"y" * (length - 4) + b"\r\n").startswith(reply)


def test_three_mistakes_in_a_row_end_the_session() -> None:  # H58
    client = Client()
    client.send(b"A\r\nB\r\nCAPA\r\nC\r\nD\r\n")
    assert not client.machine.is_over
    client.send(b"E\r\nNOOP\r\n")
    assert client.machine.is_over
    assert client.replies.endswith(b"-ERR unknown command\r\n")


def test_commands_of_a_later_phase_are_refused() -> None:
    for verb in (b"STAT", b"LIST", b"RETR 1", b"DELE 1"):
        assert Client().send(verb + b"\r\n").startswith(b"-ERR log in first")


def test_no_password_without_tls() -> None:  # P12
    client = Client(may_log_in=False)
    assert client.send(b"USER ann\r\n").startswith(b"-ERR passwords need TLS")
    assert client.send(b"AUTH PLAIN " + PLAIN + b"\r\n").startswith(b"-ERR passwords need TLS")
    assert client.events == []
    shown = client.send(b"CAPA\r\n").split(b"\r\n")
    assert b"STLS" in shown and b"USER" not in shown and b"SASL PLAIN" not in shown


def test_stls_forgets_what_came_before() -> None:
    client = Client(may_log_in=False)
    assert client.send(b"STLS\r\n") == b"+OK begin TLS now\r\n"
    client.machine.tls_started()
    assert client.send(b"PASS pass word\r\n").startswith(b"-ERR USER comes first")
    assert client.send(b"STLS\r\n").startswith(b"-ERR")
    assert client.send(LOGIN).endswith(b"+OK 2 messages\r\n")
    assert b"STLS" not in client.send(b"CAPA\r\n")


def test_commands_injected_behind_stls_end_the_session() -> None:  # H8
    client = Client(may_log_in=False)
    replies = client.send(b"STLS\r\nUSER ann\r\n")
    assert replies == b"-ERR commands behind STLS are not allowed\r\n"
    assert client.machine.is_over and client.events == []
    assert not any(isinstance(event, StartTlsReceived) for event in client.events)


@pytest.mark.parametrize(
    "exchange",
    [b"AUTH PLAIN " + PLAIN + b"\r\n", b"AUTH plain\r\n" + PLAIN + b"\r\n"],
)
def test_auth_plain_with_and_without_initial_response(exchange: bytes) -> None:
    client = Client()
    assert client.send(exchange).endswith(b"+OK 2 messages\r\n")


@pytest.mark.parametrize(
    "response",
    [b"*", b"====", b"AA", b64encode(b"no NULs"), b64encode(b"\0a\0b\0c"), b64encode(b"\0\xff\0p")],
)
def test_malformed_sasl_is_refused_and_the_session_goes_on(response: bytes) -> None:  # H59
    client = Client()
    replies = client.send(b"AUTH PLAIN\r\n" + response + b"\r\n")
    assert replies.startswith(b"+ \r\n-ERR ") and client.events == []
    assert client.send(LOGIN).endswith(b"+OK 2 messages\r\n")


def test_a_sasl_response_may_be_long_but_not_endless() -> None:  # H56
    client = Client()
    client.send(b"AUTH PLAIN\r\n")
    client.send(b"A" * 12_000)
    assert client.send(b"A" * 1_000_000).startswith(b"-ERR that line is too long")
    assert len(client.machine._inbox) <= 1
    assert client.send(b"\r\n" + LOGIN).endswith(b"+OK 2 messages\r\n")


def test_unknown_and_known_names_look_alike_at_user() -> None:  # H23
    assert Client().send(b"USER ann\r\n") == Client().send(b"USER nobody\r\n")


@pytest.mark.timed
def test_a_million_messages_are_listed_in_pieces() -> None:  # H58
    count = 1_000_000
    client = Client()
    big = Maildrop(1, array("I", range(1, count + 1)), array("Q", [10]) * count)
    client.answer = lambda event: client.machine.open_maildrop(big)  # type: ignore[method-assign]
    client.send(LOGIN)
    client.machine.receive(b"UIDL\r\nNOOP\r\n")
    assert client.machine.next_event() is None
    total = largest = 0
    while client.machine.has_more:
        piece = client.machine.take_outgoing()
        total += piece.count(b"\r\n")
        largest = max(largest, len(piece))
    assert total == count + 2 and largest < 64 * 1024
    started = time.perf_counter()
    client.send(b"STAT\r\n" * 2_000)
    assert time.perf_counter() - started < 1.0


def test_an_open_event_has_to_be_answered_first() -> None:
    machine = ServerSession(may_log_in=True, may_start_tls=False)
    machine.receive(LOGIN)
    assert isinstance(machine.next_event(), LoginAttempted)
    with pytest.raises(LocalProtocolError):
        machine.next_event()
    with pytest.raises(LocalProtocolError):
        machine.farewell(is_done=True)


@given(st.binary(max_size=300))
def test_no_octets_break_the_machine(octets: bytes) -> None:
    client = Client()
    client.send(octets + b"\r\n")
    client.send(LOGIN + octets + b"\r\n")
    for line in client.replies.split(b"\r\n"):
        assert b"\n" not in line


def test_commands_without_end_are_answered_in_turns() -> None:  # P9, P10
    machine = ServerSession(may_log_in=True, may_start_tls=True)
    machine.take_outgoing()
    machine.receive(b"CAPA\r\n" * 10_000)
    turns, octets = 0, 0
    while machine.next_event() is None and machine.has_more:
        assert machine.next_event() is None  # nothing goes on before the turn's answers are taken
        piece = machine.take_outgoing()
        turns, octets = turns + 1, octets + len(piece)
        assert 0 < len(piece) <= TURN_OCTETS_MAX + 1000
    one = Client().send(b"CAPA\r\n")
    assert octets + len(machine.take_outgoing()) == 10_000 * len(one)
    assert turns >= 10_000 // TURN_COMMANDS_MAX
