"""Streams over a transport in memory: order of callbacks, STARTTLS, errors, deadlines."""

from __future__ import annotations

import ssl
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.kernel.errors import LocalProtocolError
from posthouse.net.deadlines import Deadlines
from posthouse.net.stream import (
    CLOSE_S,
    HANDSHAKE_S,
    Peer,
    Stream,
    TlsFailure,
    TlsStart,
    TlsTrouble,
    lost_words,
    peer_of,
)
from posthouse.net.tls_adapter import TlsAdapter
from posthouse.tls.contexts import opportunistic_client_context, server_context
from tests.net.memory import MemoryTransport, Recorder, ToldClock, pump, stream_for


def plain() -> tuple[Recorder, Stream, MemoryTransport]:
    handler = Recorder()
    stream, transport = stream_for(handler), MemoryTransport()
    stream.connection_made(transport)
    return handler, stream, transport


class Pair:
    """A server and a client stream with TLS from the first octet, not yet pumped."""

    def __init__(
        self, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, name: str | None
    ) -> None:
        self.clock = ToldClock()
        self.served, self.dialled = Recorder(), Recorder()
        start = TlsStart(context=server_tls, server_side=True)
        self.server = stream_for(self.served, clock=self.clock, tls=start)
        start = TlsStart(context=client_tls, server_side=False, server_name=name)
        self.client = stream_for(self.dialled, clock=self.clock, tls=start)
        self.at_server, self.at_client = MemoryTransport(), MemoryTransport()
        self.server.connection_made(self.at_server)
        self.client.connection_made(self.at_client)

    def pump(self) -> None:
        pump(self.server, self.at_server, self.client, self.at_client)


@pytest.fixture
def pair(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> Pair:
    return Pair(server_tls, client_tls, "mail.example.org")


# --- plain ---


def test_a_plain_connection_is_told_in_order() -> None:
    handler, stream, transport = plain()
    stream.data_received(b"NOOP\r\n")
    stream.write(b"250 OK\r\n")
    assert stream.eof_received() is True  # our direction stays open for the answer
    stream.eof_received()
    assert handler.events == ["connected", "received", "ended"]
    assert transport.writes == [b"250 OK\r\n"] and not transport.is_closed
    stream.close()
    stream.connection_lost(None)
    assert handler.events[-1] == "lost" and handler.error is None
    assert stream.tls is None and not stream.is_tls
    assert stream.peer == Peer("192.0.2.1", 1025) and stream.local == Peer("192.0.2.9", 25)


def test_nothing_is_received_or_written_after_close_or_abort() -> None:
    for end in (Stream.close, Stream.abort):
        handler, stream, transport = plain()
        end(stream)
        stream.data_received(b"late")
        stream.write(b"late")
        stream.pause_reading()
        stream.resume_reading()
        stream.close()
        assert handler.octets == b"" and transport.writes == [] and transport.is_closed


def test_an_error_of_the_transport_reaches_the_handler_and_the_counter() -> None:
    gone: list[Stream] = []
    handler = Recorder()
    stream = stream_for(handler, on_lost=gone.append)
    stream.connection_made(MemoryTransport())
    stream.connection_lost(ConnectionResetError())
    assert isinstance(handler.error, ConnectionResetError) and gone == [stream]


def test_the_counter_is_told_even_when_the_handler_has_a_bug() -> None:
    gone: list[Stream] = []
    handler = Recorder(lost=lambda _: 1 / 0)
    stream = stream_for(handler, on_lost=gone.append)
    stream.connection_made(MemoryTransport())
    with pytest.raises(ZeroDivisionError):
        stream.connection_lost(None)
    assert gone == [stream]


def test_writable_is_told_only_while_the_stream_is_open() -> None:
    handler, stream, _ = plain()
    stream.pause_writing()
    assert not stream.is_writable
    stream.resume_writing()
    assert stream.is_writable and handler.events == ["connected", "writable"]
    stream.close()
    stream.resume_writing()
    assert handler.events == ["connected", "writable"]


def test_what_a_peer_does_not_take_keeps_a_closed_connection_only_for_a_while() -> None:  # H15
    clock = ToldClock()
    stream, transport = stream_for(Recorder(), clock=clock), MemoryTransport()
    stream.connection_made(transport)
    transport.is_slow = True
    stream.write(b"x" * 100_000)
    stream.close()
    assert not transport.is_aborted and stream.unsent_octets == 100_000
    clock.elapsed_s += CLOSE_S
    stream.deadlines.sweep()
    assert transport.is_aborted
    stream.connection_lost(None)
    assert len(stream.deadlines) == 0


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        (("192.0.2.1", 25), Peer("192.0.2.1", 25)),
        (("::ffff:192.0.2.1", 25, 0, 0), Peer("192.0.2.1", 25)),
        (("fe80::1%eth0", 25, 0, 2), Peer("fe80::1", 25)),
        (("2001:db8::1", 25, 0, 0), Peer("2001:db8::1", 25)),
        ("", Peer("", 0)),
        (None, Peer("", 0)),
    ],
)
def test_a_peer_is_an_address_without_scope_or_mapping(name: object, peer: Peer) -> None:
    assert peer_of(name) == peer


# --- TLS ---


def test_implicit_tls_is_told_after_the_handshake(pair: Pair) -> None:
    assert pair.served.events == [] and pair.server.tls is None and pair.server.is_tls
    pair.pump()
    assert pair.served.events == pair.dialled.events == ["connected"]
    info = pair.server.tls
    assert info is not None and info.version == "TLSv1.3" and info.bits >= 128
    assert info.sni is None  # a bare context does not ask; `Certificates` does
    assert pair.client.tls is not None and pair.client.tls.sni == "mail.example.org"
    pair.client.write(b"EHLO x\r\n")
    pair.pump()
    assert pair.served.octets == b"EHLO x\r\n"
    assert len(pair.client.peer_chain()) >= 1 and pair.server.peer_chain() == ()
    assert len(pair.server.deadlines) == 0


def test_the_greeting_leaves_in_one_write_with_the_ticket(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    pair = Pair(server_tls, client_tls, "mail.example.org")
    pair.served.on["connected"] = lambda handler: handler.stream.write(b"220 ready\r\n")
    pair.server.data_received(pair.at_client.take())
    assert len(pair.at_server.writes) == 1  # ServerHello to Finished
    pair.client.data_received(pair.at_server.take())
    pair.server.data_received(pair.at_client.take())
    assert len(pair.at_server.writes) == 1
    pair.pump()
    assert pair.dialled.octets == b"220 ready\r\n"


def test_a_write_is_one_transport_write_however_long(pair: Pair) -> None:
    pair.pump()
    whole = bytes(range(256)) * 1000
    pair.server.write(whole)
    assert len(pair.at_server.writes) == 1
    pair.pump()
    assert pair.dialled.octets == whole
    pair.client.write(whole)
    pair.pump()
    assert pair.served.octets == whole


@given(cuts=st.lists(st.integers(1, 700), max_size=12))
@settings(deadline=None, max_examples=30)
def test_where_the_network_cuts_tls_changes_nothing(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, cuts: list[int]
) -> None:
    pair = Pair(server_tls, client_tls, "mail.example.org")
    for _ in range(4):
        octets = pair.at_client.take()
        for cut in cuts:
            piece, octets = octets[:cut], octets[cut:]
            if piece:
                pair.server.data_received(piece)
        if octets:
            pair.server.data_received(octets)
        if back := pair.at_server.take():
            pair.client.data_received(back)
        if pair.dialled.events == ["connected"]:
            pair.client.write(b"x" * 5000)
    assert set(pair.served.octets) == {ord("x")} and len(pair.served.octets) % 5000 == 0


def test_octets_right_behind_the_handshake_come_after_the_callback(pair: Pair) -> None:
    pair.server.data_received(pair.at_client.take())
    pair.client.data_received(pair.at_server.take())
    pair.client.write(b"early")  # in one segment with the client's Finished
    pair.server.data_received(pair.at_client.take())
    assert pair.served.events == ["connected", "received"] and pair.served.octets == b"early"


def test_starttls_takes_effect_at_once_on_both_sides(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    def serve(handler: Recorder) -> None:
        stream = handler.stream
        assert stream is not None
        if handler.octets.endswith(b"STARTTLS\r\n"):
            stream.write(b"220 go\r\n")
            stream.start_tls(server_tls, server_side=True)

    def dial(handler: Recorder) -> None:
        if handler.octets == b"220 go\r\n" and handler.stream is not None:
            handler.stream.start_tls(client_tls, server_side=False, server_name="mail.example.org")

    served, dialled = Recorder(received=serve), Recorder(received=dial)
    server, client = stream_for(served), stream_for(dialled)
    at_server, at_client = MemoryTransport(), MemoryTransport()
    server.connection_made(at_server)
    client.connection_made(at_client)
    client.write(b"STARTTLS\r\n")
    pump(server, at_server, client, at_client)
    assert served.events == ["connected", "received", "tls_started"]
    assert dialled.events == ["connected", "received", "tls_started"]
    assert at_server.writes == [] and server.tls is not None
    with pytest.raises(LocalProtocolError):
        server.start_tls(server_tls, server_side=True)


def test_plaintext_injected_behind_starttls_never_reaches_the_session(  # H8
    server_tls: ssl.SSLContext,
) -> None:
    handler, stream, transport = plain()
    stream.data_received(b"STARTTLS\r\n")
    stream.write(b"220 go\r\n")
    stream.start_tls(server_tls, server_side=True)
    stream.data_received(b"RCPT TO:<x@example.org>\r\n")  # a segment of its own, before TLS
    assert handler.octets == b"STARTTLS\r\n"
    stream.connection_lost(None)
    assert isinstance(handler.error, TlsFailure)
    assert handler.error.trouble is TlsTrouble.PLAINTEXT
    assert transport.is_closed and "tls_started" not in handler.events


@pytest.mark.parametrize(
    ("octets", "trouble", "word"),
    [
        (b"EHLO client.example\r\n", TlsTrouble.PLAINTEXT, "plain text"),
        (b"GET / HTTP/1.1\r\n\r\n", TlsTrouble.PLAINTEXT, "HTTP"),
        (b"a001 LOGIN u p\r\n", TlsTrouble.PLAINTEXT, "plain text"),
        (b"CAPA\r\n\r\n", TlsTrouble.PLAINTEXT, "plain text"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", TlsTrouble.OTHER, "TLS failed"),
    ],
)
def test_octets_that_are_no_tls_fail_in_plain_words(
    server_tls: ssl.SSLContext, octets: bytes, trouble: TlsTrouble, word: str
) -> None:
    handler, transport = Recorder(), MemoryTransport()
    stream = stream_for(handler, tls=TlsStart(context=server_tls, server_side=True))
    stream.connection_made(transport)
    stream.data_received(octets)
    stream.connection_lost(None)
    assert transport.is_closed and handler.events == ["lost"]
    assert isinstance(handler.error, TlsFailure)
    assert handler.error.trouble is trouble and word in str(handler.error)


def test_a_stranger_s_certificate_fails_the_verifying_client(
    server_tls: ssl.SSLContext,
) -> None:
    pair = Pair(server_tls, ssl.create_default_context(), "mail.example.org")
    pair.pump()
    pair.client.connection_lost(None)
    error = pair.dialled.error
    assert isinstance(error, TlsFailure) and error.trouble is TlsTrouble.CERTIFICATE
    assert pair.at_client.is_closed


def test_a_wrong_name_fails_the_verifying_client_and_not_the_opportunistic_one(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    pair = Pair(server_tls, client_tls, "other.example.org")
    pair.pump()
    assert pair.dialled.events == [] and pair.at_client.is_closed
    pair = Pair(server_tls, opportunistic_client_context(), "other.example.org")
    pair.pump()
    assert pair.dialled.events == ["connected"]


def test_the_server_hears_that_its_certificate_is_not_trusted(
    server_tls: ssl.SSLContext,
) -> None:
    context = ssl.create_default_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    pair = Pair(server_tls, context, "mail.example.org")
    pair.pump()
    pair.server.connection_lost(None)
    error = pair.served.error
    assert isinstance(error, TlsFailure) and error.trouble is TlsTrouble.CERTIFICATE


def test_old_tls_and_weak_suites_are_refused(authority: object) -> None:  # H62
    tls = server_context()
    authority.issue_cert("mail.example.org").configure_cert(tls)  # type: ignore[attr-defined]
    for maximum, ciphers in (("TLSv1_1", "ALL:@SECLEVEL=0"), ("TLSv1_2", "AES128-SHA")):
        client = opportunistic_client_context()
        client.set_ciphers(ciphers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            client.minimum_version = ssl.TLSVersion.TLSv1
            client.maximum_version = ssl.TLSVersion[maximum]
        pair = Pair(tls, client, None)
        pair.pump()
        pair.server.connection_lost(None)
        assert isinstance(pair.served.error, TlsFailure)
        assert pair.served.error.trouble in (TlsTrouble.VERSION, TlsTrouble.CIPHER)


def test_a_handshake_that_stalls_is_cut(server_tls: ssl.SSLContext) -> None:  # H15
    clock, handler, transport = ToldClock(), Recorder(), MemoryTransport()
    stream = stream_for(handler, clock=clock, tls=TlsStart(context=server_tls, server_side=True))
    stream.connection_made(transport)
    stream.data_received(b"\x16\x03")
    clock.elapsed_s += HANDSHAKE_S - 0.5
    stream.deadlines.sweep()
    assert not transport.is_closed
    clock.elapsed_s += 1
    stream.deadlines.sweep()
    assert transport.is_aborted
    stream.connection_lost(None)
    assert isinstance(handler.error, TlsFailure)
    assert handler.error.trouble is TlsTrouble.TIMEOUT and handler.events == ["lost"]


def test_hanging_up_in_the_handshake_is_a_failure(pair: Pair) -> None:
    pair.server.eof_received()
    pair.server.connection_lost(None)
    assert isinstance(pair.served.error, TlsFailure)
    assert pair.served.error.trouble is TlsTrouble.CUT and pair.served.events == ["lost"]


def test_a_reset_in_the_handshake_keeps_the_system_s_error(pair: Pair) -> None:
    pair.server.connection_lost(ConnectionResetError())
    assert isinstance(pair.served.error, ConnectionResetError)


def test_close_notify_ends_the_stream_and_an_end_without_it_is_reported(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    pair = Pair(server_tls, client_tls, "mail.example.org")
    pair.pump()
    pair.client.write(b"QUIT\r\n")
    pair.client.close()
    pair.pump()
    pair.server.eof_received()
    assert pair.served.events == ["connected", "received", "ended"] and not pair.server.is_cut
    pair.server.write(b"221 bye\r\n")  # the other direction is still open (RFC 8446 §6.1)
    assert pair.at_server.writes

    pair = Pair(server_tls, client_tls, "mail.example.org")
    pair.pump()
    pair.server.eof_received()
    assert pair.served.events == ["connected", "ended"] and pair.server.is_cut


def test_damaged_records_end_the_connection(pair: Pair) -> None:
    pair.pump()
    pair.client.write(b"NOOP\r\n")
    octets = bytearray(pair.at_client.take())
    octets[-1] ^= 1
    pair.server.data_received(bytes(octets))
    pair.server.connection_lost(None)
    assert pair.served.octets == b"" and isinstance(pair.served.error, TlsFailure)


def test_what_is_written_during_the_handshake_leaves_encrypted_after_it(pair: Pair) -> None:
    pair.server.write(b"421 going down\r\n")
    assert pair.at_server.writes == []
    pair.pump()
    assert pair.dialled.octets == b"421 going down\r\n"


def test_a_server_name_that_tls_cannot_carry_is_a_failure_not_a_crash(
    client_tls: ssl.SSLContext,
) -> None:
    handler, transport = Recorder(), MemoryTransport()
    start = TlsStart(context=client_tls, server_side=False, server_name="." + "x" * 300)
    stream = stream_for(handler, tls=start)
    stream.connection_made(transport)
    stream.connection_lost(None)
    assert isinstance(handler.error, TlsFailure) and transport.is_closed


def test_renegotiation_is_refused(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    # H62
    assert server_tls.options & ssl.OP_NO_RENEGOTIATION
    assert server_tls.options & ssl.OP_NO_COMPRESSION
    assert server_tls.verify_mode is ssl.CERT_NONE  # so a client's certificate is never read
    client = TlsAdapter(client_tls, server_side=False, server_name="mail.example.org")
    assert client.take_outgoing() == b""


# --- deadlines ---


class Session:
    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.times = 0

    def expired(self) -> None:
        self.times += 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, ""),
        (BrokenPipeError(32, "Broken pipe"), "Broken pipe"),
        (OSError("gone"), "gone"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_why_a_connection_is_gone_is_told_without_numbers(
    error: Exception | None, words: str
) -> None:
    assert lost_words(error) == words


def test_deadlines_expire_once_and_only_what_is_due() -> None:
    clock = ToldClock()
    deadlines = Deadlines(clock)
    due, later, gone = (Session(deadlines.after_s(s)) for s in (1, 100, 1))
    for session in (due, later, gone, due):
        deadlines.add(session)
    deadlines.discard(gone)
    assert len(deadlines) == 2
    clock.elapsed_s += 2
    assert deadlines.sweep() == 1 and deadlines.sweep() == 0
    assert (due.times, later.times, gone.times) == (1, 0, 0)


def test_one_session_s_end_may_move_or_discard_another() -> None:
    clock = ToldClock()
    deadlines = Deadlines(clock)
    first, second = Session(clock.elapsed_s), Session(clock.elapsed_s)
    first.expired = lambda: setattr(second, "deadline_s", clock.elapsed_s + 9)  # type: ignore[method-assign]
    deadlines.add(first)
    deadlines.add(second)
    deadlines.sweep()
    assert second.times == 0
