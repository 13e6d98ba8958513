"""What dialogues cannot say about the server machine: order of calls, budgets, memory."""

from __future__ import annotations

import sys
import tracemalloc

import pytest

from posthouse.kernel.errors import LocalProtocolError
from posthouse.kernel.reply import Reply
from posthouse.protocol.smtp import replies
from posthouse.protocol.smtp.events import (
    DataRequested,
    HelloReceived,
    MessageReceived,
    RecipientOffered,
    SenderOffered,
    SessionEnded,
)
from posthouse.protocol.smtp.limits import OUTBOX_OCTETS_MAX, Limits, Mode, ServerHello
from posthouse.protocol.smtp.phases import ALLOWED, Phase
from posthouse.protocol.smtp.server import ServerSession
from tests.protocol.smtp.dialogue import MachinePeer, read_dialogue, run_dialogue

HELLO = ServerHello(host="mx.example")


def new_session(limits: Limits | None = None, mode: Mode = Mode.MX) -> ServerSession:
    return ServerSession(limits=limits or Limits(), hello=HELLO, mode=mode)


def ready_peer(limits: Limits | None = None) -> MachinePeer:
    peer = MachinePeer(limits=limits)
    peer.send(b"EHLO client.example\r\n")
    return peer


# H6
def test_octets_before_the_greeting_end_the_session() -> None:
    session = new_session()
    session.receive(b"EHLO x\r\n")
    assert session.next_event() is None
    session.greet()
    assert session.next_event() == SessionEnded(reason="early talker")
    assert session.take_outgoing().startswith(b"554 5.5.0")
    session.receive(b"NOOP\r\n")
    assert session.next_event() is None
    assert session.take_outgoing() == b""


# H8
def test_octets_that_come_while_starttls_is_decided_are_thrown_away() -> None:
    session = new_session()
    session.greet()
    session.receive(b"EHLO x\r\n")
    session.next_event()
    session.accept_hello()
    session.receive(b"STARTTLS\r\n")
    session.next_event()
    session.receive(b"RCPT TO:<x@y.example>\r\n")
    session.accept_starttls()
    assert session.next_event() == SessionEnded(reason="octets behind STARTTLS")
    assert session.take_outgoing().endswith(b"554 5.5.1 Nothing may follow STARTTLS\r\n")


# H6
def test_octets_that_come_while_the_hello_is_decided_are_early_too() -> None:
    session = new_session()
    session.greet()
    session.receive(b"EHLO x\r\n")
    assert isinstance(session.next_event(), HelloReceived)
    session.receive(b"MAIL FROM:<a@b.example>\r\n")
    session.accept_hello()
    assert session.next_event() == SessionEnded(reason="pipelined behind hello")


def test_nothing_behind_an_open_event_is_parsed() -> None:
    session = new_session()
    session.greet()
    session.receive(b"EHLO x\r\n")
    session.next_event()
    session.accept_hello()
    session.receive(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<b@mx.example>\r\n")
    assert isinstance(session.next_event(), SenderOffered)
    session.receive(b"DATA\r")
    with pytest.raises(LocalProtocolError):
        session.next_event()
    session.answer(replies.SENDER_OK)
    assert isinstance(session.next_event(), RecipientOffered)
    session.receive(b"\n")
    session.answer(replies.RECIPIENT_OK)
    assert isinstance(session.next_event(), DataRequested)
    with pytest.raises(LocalProtocolError):
        session.answer(replies.OK)
    session.accept_data()
    assert session.take_outgoing().endswith(
        b"250 2.1.0 Sender OK\r\n250 2.1.5 Recipient OK\r\n" + replies.START_CONTENT.encode()
    )


def test_answers_out_of_turn_are_bugs() -> None:
    session = new_session()
    session.greet()
    for call in (session.greet, session.accept_hello, session.accept_data, session.tls_started):
        with pytest.raises(LocalProtocolError):
            call()
    with pytest.raises(LocalProtocolError):
        session.answer(replies.OK)


# H13
def test_many_commands_in_one_segment_are_cut_off_by_the_junk_budget() -> None:
    for command in (b"NOOP\r\n", b"RSET\r\n"):
        peer = MachinePeer()
        peer.send(command * 10_000)
        assert peer.ended == "smtp.junk_commands_max"
        assert peer.written.count(b"\r\n") == 1 + 50 + 1
        assert b"421 4.7.0" in peer.written
        assert peer.session.take_limits_hit() == ("smtp.junk_commands_max",)


# H13 H22
def test_replies_wait_in_a_bounded_outbox() -> None:
    session = new_session(Limits(recipients_max=2))
    session.greet()
    session.receive(b"EHLO x\r\n")
    session.next_event()
    session.accept_hello()
    session.receive(b"MAIL FROM:<a@b.example>\r\n" + b"RCPT TO:<b@mx.example>\r\n" * 9000)
    session.next_event()
    session.answer(replies.SENDER_OK)
    for _ in range(2):
        session.next_event()
        session.answer(replies.RECIPIENT_OK)
    largest, replied = 0, b""
    while session.next_event() is None and (out := session.take_outgoing()):
        largest = max(largest, len(out))
        replied += out
    assert largest < OUTBOX_OCTETS_MAX + 1000
    assert replied.count(b"452 4.5.3") == 9000 - 2
    assert session.recipients == 2


# H22
def test_recipients_without_end_end_the_session() -> None:
    peer = ready_peer(Limits(recipients_max=1))
    peer.send(b"MAIL FROM:<a@b.example>\r\n" + b"RCPT TO:<b@mx.example>\r\n" * 20_000)
    assert peer.ended == "smtp.recipients_max"


# H5
def test_a_line_without_end_takes_no_memory() -> None:
    peer = MachinePeer()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(1024):
        peer.send(b"x" * 1024)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 8192
    peer.send(b"\r\nNOOP\r\n")
    assert peer.written.count(b"500 5.5.2") == 1
    assert peer.written.endswith(b"250 2.0.0 OK\r\n")


# P9
def test_an_idle_machine_is_small() -> None:
    ready_peer()
    kept = []
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(200):
        session = new_session()
        session.greet()
        session.receive(b"EHLO client.example\r\n")
        session.next_event()
        session.accept_hello()
        session.take_outgoing()
        kept.append(session)
    each = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    tracemalloc.stop()
    assert each < 1024
    assert sys.getsizeof(kept[0]) < 512


# P9
def test_a_big_message_in_many_segments_is_kept_once() -> None:
    peer = ready_peer()
    peer.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<b@mx.example>\r\nDATA\r\n")
    line = b".." + b"x" * 74 + b"\r\n"
    block = line * 100
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(1000):
        peer.send(block)
    peer.send(b".\r\n")
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peer.messages == [line[1:] * 100_000]
    assert peak < len(peer.messages[0]) + 4 * 1024 * 1024


def test_soft_errors_cost_time() -> None:
    peer = MachinePeer(limits=Limits(errors_soft=2, soft_delay_s=1.0))
    peer.send(b"WHAT\r\n" * 2)
    assert peer.delays_s == 0
    peer.send(b"WHAT\r\n")
    assert peer.delays_s == 1.0
    peer.send(b"WHAT\r\n" * 2)
    assert peer.delays_s == 3.0
    peer = ready_peer(Limits(unknown_recipients_soft=1))
    peer.send(b"MAIL FROM:<a@b.example>\r\n")
    peer.send(b"RCPT TO:<unknown@mx.example>\r\n" * 3)
    assert peer.delays_s == 2.0


def test_limits_may_be_tightened_while_the_session_runs() -> None:
    peer = ready_peer()
    peer.send(b"NOOP\r\nNOOP\r\n")
    peer.session.limits = Limits(junk_commands_max=1, errors_max=1)
    peer.send(b"NOOP\r\n")
    assert peer.ended == "smtp.junk_commands_max"


# P14
def test_the_caller_may_end_the_session_in_any_phase() -> None:
    for octets in (b"", b"MAIL FROM:<a@b.example>\r\n", b"EHL"):
        peer = ready_peer()
        peer.send(octets)
        peer.session.disconnect(replies.SHUTTING_DOWN, "shutdown")
        peer.drive()
        assert peer.ended == "shutdown"
        assert peer.written.endswith(replies.SHUTTING_DOWN.encode())
        assert peer.session.is_ended
        peer.send(b"NOOP\r\n")
        assert peer.written.endswith(replies.SHUTTING_DOWN.encode())


def test_421_to_an_event_ends_the_session() -> None:
    session = new_session()
    session.greet()
    session.receive(b"EHLO x\r\nNOOP\r\n")
    session.next_event()
    session.answer(Reply(421, "4.7.0", "Go away"))
    assert session.next_event() == SessionEnded(reason="refused by policy")


# P3
def test_a_message_refused_by_the_caller_leaves_the_session_usable() -> None:
    session = new_session()
    session.greet()
    session.receive(b"EHLO x\r\n")
    session.next_event()
    session.accept_hello()
    for reply in (replies.LOCAL_FAULT, Reply(550, "5.7.1", "Spam")):
        session.receive(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<b@mx.example>\r\nDATA\r\n")
        session.next_event()
        session.answer(replies.SENDER_OK)
        session.next_event()
        session.answer(replies.RECIPIENT_OK)
        session.next_event()
        session.accept_data()
        session.take_outgoing()
        session.receive(b"x\r\n.\r\n")
        assert session.next_event() == MessageReceived(octets=b"x\r\n")
        session.answer(reply)
        assert session.take_outgoing() == reply.encode()
        assert session.phase is Phase.READY
        assert session.is_between_messages


# F32
def test_a_line_that_breaks_in_the_middle_leaves_no_message() -> None:
    for octets in (b"DATA\r\nhalf a mess", b"BDAT 100 LAST\r\nhalf", b"BDAT 4\r\nhalf"):
        peer = ready_peer()
        peer.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<b@mx.example>\r\n" + octets)
        assert peer.messages == []
        assert not peer.session.is_between_messages


def test_the_table_of_phases_covers_every_phase_that_reads_commands() -> None:
    reading = {Phase.GREETED, Phase.READY, Phase.MAIL, Phase.RCPT, Phase.CHUNKS}
    assert set(ALLOWED) == reading
    assert all(b"QUIT" in verbs and b"RSET" in verbs for verbs in ALLOWED.values())
    assert [phase for phase in ALLOWED if b"STARTTLS" in ALLOWED[phase]] == [Phase.READY]


# P9
def test_tiny_segments_behind_an_open_event_are_not_copied_each_time() -> None:
    session = new_session()
    session.greet()
    session.receive(b"EHLO x\r\n")
    session.next_event()
    pieces = [b"N"] * 70_000
    for piece in pieces:
        session.receive(piece)
    assert not session.is_hungry
    assert len(session.inbox) == len(pieces)
    assert len(session.inbox.octets) < 20  # none was joined yet


def test_a_dialogue_that_goes_otherwise_is_noticed(tmp_path) -> None:
    for wrong in ("S: 251", "S~ nothing like it", "X: quit", "M# 1"):
        path = tmp_path / "wrong.txt"
        path.write_text(f"S: 220\nC: NOOP\n{wrong}\n")
        with pytest.raises(AssertionError):
            run_dialogue(read_dialogue(path), MachinePeer())
