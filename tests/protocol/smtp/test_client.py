"""The client machine against scripted servers and against our own server machine."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.envelope import Address, BodyType, Envelope, ForwardPath, Notify, Ret
from posthouse.kernel.errors import LocalProtocolError
from posthouse.protocol.sasl.client import LoginClient, PlainClient
from posthouse.protocol.smtp import outgoing
from posthouse.protocol.smtp.client import EAGER_CHUNK_OCTETS_MAX, ClientSession
from posthouse.protocol.smtp.client_events import (
    Authenticated,
    ClientEvent,
    Closed,
    MessageEnded,
    OutgoingMessage,
    Ready,
    Refused,
    Result,
    SessionFailed,
    Stage,
    TlsAgreed,
)
from posthouse.protocol.smtp.limits import Limits
from posthouse.protocol.smtp.outgoing import OutgoingContent
from tests.protocol.smtp.dialogue import MachinePeer

FULL_EHLO = b"250-mx.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n"
PIPELINING = b"250-mx.example\r\n250 PIPELINING\r\n"
CHUNKING = b"250-mx.example\r\n250-CHUNKING\r\n250 PIPELINING\r\n"
PLAIN = b"250 mx.example\r\n"


def message(
    *names: str, octets: bytes = b"Subject: x\r\n\r\nbody\r\n", **envelope
) -> OutgoingMessage:
    recipients = tuple(
        ForwardPath(address=Address(name, "mx.example")) for name in names or ("bob",)
    )
    envelope.setdefault("reverse_path", Address("alice", "client.example"))
    return OutgoingMessage(
        envelope=Envelope(recipients=recipients, **envelope), octets=octets, tag=names
    )


def events_of(session: ClientSession) -> list[ClientEvent]:
    events = []
    while (event := session.next_event()) is not None:
        events.append(event)
    return events


def written(session: ClientSession) -> bytes:
    octets = b""
    while out := session.take_outgoing():
        octets += out
    return octets


def ready(ehlo: bytes = PIPELINING, *, is_tls: bool = False) -> ClientSession:
    session = ClientSession(name="client.example", is_tls=is_tls)
    session.receive(b"220 mx.example\r\n")
    assert events_of(session) == []
    assert written(session) == b"EHLO client.example\r\n"
    session.receive(ehlo)
    (event,) = events_of(session)
    assert isinstance(event, Ready)
    return session


def ended(session: ClientSession) -> MessageEnded:
    (event,) = events_of(session)
    assert isinstance(event, MessageEnded)
    return event


def results(event: ClientEvent) -> list[tuple[Result, Stage]]:
    assert isinstance(event, MessageEnded)
    return [(outcome.result, outcome.stage) for outcome in event.outcomes]


def test_an_envelope_and_its_data_are_one_write() -> None:  # RFC 2920 §3.1
    session = ready()
    session.send(message("bob", "eve", octets=b".dot\r\n..\r\nno end"))
    assert session.take_outgoing() == (
        b"MAIL FROM:<alice@client.example>\r\n"
        b"RCPT TO:<bob@mx.example>\r\nRCPT TO:<eve@mx.example>\r\nDATA\r\n"
    )
    assert session.waiting_for is Stage.MAIL
    session.receive(b"250 ok\r\n250 ok\r\n550 5.1.1 who\r\n354 go\r\n")
    assert events_of(session) == []
    assert session.waiting_for is Stage.BLOCK
    assert written(session) == b"..dot\r\n...\r\nno end\r\n.\r\n"
    assert session.waiting_for is Stage.DOT
    session.receive(b"250 2.0.0 queued as 1\r\n")
    event = ended(session)
    assert results(event) == [(Result.ACCEPTED, Stage.DOT), (Result.PERMANENT, Stage.RCPT)]
    assert [outcome.status for outcome in event.outcomes] == ["2.0.0", "5.1.1"]
    assert session.is_idle
    session.quit()
    assert written(session) == b"QUIT\r\n"
    session.receive(b"221 bye\r\n")
    assert events_of(session) == [Closed()]


def test_without_pipelining_each_command_waits() -> None:
    session = ready(PLAIN)
    session.send(message("bob", "eve"))
    steps = [
        (b"MAIL FROM:<alice@client.example>\r\n", b"250 ok\r\n"),
        (b"RCPT TO:<bob@mx.example>\r\n", b"450 later\r\n"),
        (b"RCPT TO:<eve@mx.example>\r\n", b"251 forwarding\r\n"),
        (b"DATA\r\n", b"354 go\r\n"),
        (b"Subject: x\r\n\r\nbody\r\n.\r\n", b"250 ok\r\n"),
    ]
    for sent, reply in steps[:-1]:
        assert written(session) == sent
        session.receive(reply)
        assert events_of(session) == []
    assert written(session) == steps[-1][0]
    session.receive(steps[-1][1])
    assert results(ended(session)) == [
        (Result.TRANSIENT, Stage.RCPT),
        (Result.ACCEPTED, Stage.DOT),
    ]


def test_no_data_without_a_recipient_and_the_next_message_begins_with_rset() -> None:
    session = ready(PLAIN)
    session.send(message("bob"))
    session.send(message("eve"))
    written(session)
    session.receive(b"250 ok\r\n")
    events_of(session)
    written(session)
    session.receive(b"550 5.1.1 no\r\n")
    assert results(ended(session)) == [(Result.PERMANENT, Stage.RCPT)]
    assert written(session) == b"RSET\r\nMAIL FROM:<alice@client.example>\r\n"


def test_354_for_nobody_is_answered_with_a_lone_dot() -> None:  # RFC 2920 §3.1
    session = ready()
    session.send(message("bob"))
    written(session)
    session.receive(b"250 ok\r\n550 no\r\n354 go\r\n")
    assert events_of(session) == []
    assert written(session) == b".\r\n"
    session.receive(b"250 strange\r\n")
    assert results(ended(session)) == [(Result.PERMANENT, Stage.RCPT)]


def test_the_next_envelope_goes_behind_the_content() -> None:
    session = ready()
    session.send(message("a"))
    session.send(message("b"))
    session.send(message("c"))
    assert b"<b@" not in written(session)
    session.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert events_of(session) == []
    out = written(session)
    assert out.startswith(b"Subject: x\r\n\r\nbody\r\n.\r\nMAIL FROM:")
    assert out.endswith(b"RCPT TO:<b@mx.example>\r\nDATA\r\n")
    session.receive(b"554 no\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    assert results(ended(session)) == [(Result.PERMANENT, Stage.DOT)]
    assert b"RSET" not in written(session)


def test_chunking_sends_a_small_message_unasked_and_a_big_one_when_it_is_wanted() -> None:
    session = ready(CHUNKING)
    session.send(message("bob", octets=b".x\r\n"))
    assert written(session).endswith(b"RCPT TO:<bob@mx.example>\r\nBDAT 4 LAST\r\n.x\r\n")
    session.receive(b"250 ok\r\n250 ok\r\n250 ok\r\n")
    assert results(ended(session)) == [(Result.ACCEPTED, Stage.DOT)]
    big = b"x" * EAGER_CHUNK_OCTETS_MAX + b"\r\n"
    session.send(message("bob", octets=big))
    assert written(session).endswith(b"RCPT TO:<bob@mx.example>\r\n")
    session.receive(b"250 ok\r\n250 ok\r\n")
    assert events_of(session) == []
    assert written(session) == b"BDAT %d LAST\r\n" % len(big) + big
    session.receive(b"452 4.3.1 full\r\n")
    assert results(ended(session)) == [(Result.TRANSIENT, Stage.DOT)]
    session.send(message("eve", octets=b"y\r\n"))
    assert written(session).startswith(b"RSET\r\nMAIL")  # RFC 3030 §2: state is not known


# F25
@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        (b"450 a\r\n503 b\r\n503 c\r\n503 d\r\n", [(Result.TRANSIENT, Stage.MAIL)] * 2),
        (b"550 a\r\n503 b\r\n503 c\r\n503 d\r\n", [(Result.PERMANENT, Stage.MAIL)] * 2),
        (
            b"250 a\r\n450 b\r\n550 c\r\n503 d\r\n",
            [(Result.TRANSIENT, Stage.RCPT), (Result.PERMANENT, Stage.RCPT)],
        ),
        (
            b"250 a\r\n250 b\r\n552 too many\r\n451 d\r\n",
            [(Result.TRANSIENT, Stage.DATA), (Result.TRANSIENT, Stage.RCPT)],
        ),
        (
            b"250 a\r\n250 b\r\n552 5.2.2 full\r\n554 d\r\n",
            [(Result.PERMANENT, Stage.DATA), (Result.PERMANENT, Stage.RCPT)],
        ),
    ],
)
def test_each_refusal_is_told_with_its_stage(
    replies: bytes, expected: list[tuple[Result, Stage]]
) -> None:
    session = ready()
    session.send(message("a", "b"))
    written(session)
    session.receive(replies)
    event = ended(session)
    assert results(event) == expected
    assert event.was_tried
    assert session.is_idle


# F25
@pytest.mark.parametrize(
    ("octets", "stage", "is_transient"),
    [
        (b"421 4.3.2 busy\r\n", Stage.GREETING, True),
        (b"451 later\r\n", Stage.GREETING, True),
        (b"554 no SMTP here\r\n", Stage.GREETING, False),
        (b"220 hi\r\n421 gone\r\n", Stage.EHLO, True),
        (b"220 hi\r\n451 later\r\n", Stage.EHLO, True),
        (b"220 hi\r\n500 what\r\n550 not you\r\n", Stage.EHLO, False),
        (b"nonsense\r\n", Stage.GREETING, True),
        (b"220 hi\r\n250 x\r\n421 idle\r\n", Stage.IDLE, True),
        (b"220 hi\r\n250 x\r\n250 y\r\n", Stage.IDLE, True),
    ],
)
def test_a_session_that_fails_says_where(octets: bytes, stage: Stage, is_transient: bool) -> None:
    session = ClientSession(name="client.example")
    session.receive(octets)
    event = events_of(session)[-1]
    assert isinstance(event, SessionFailed)
    assert (event.stage, event.is_transient) == (stage, is_transient)
    assert session.is_over


def test_helo_is_tried_when_ehlo_is_not_known() -> None:  # RFC 5321 §3.2
    session = ClientSession(name="client.example")
    session.receive(b"220 old\r\n500 what\r\n")
    assert events_of(session) == []
    assert written(session) == b"EHLO client.example\r\nHELO client.example\r\n"
    session.receive(b"250 old.example\r\n")
    (event,) = events_of(session)
    assert isinstance(event, Ready)
    assert not event.extensions.is_extended


# F26
@pytest.mark.parametrize(
    ("replies", "result", "stage", "was_tried"),
    [
        (b"", Result.TRANSIENT, Stage.MAIL, False),
        (b"250 ok\r\n", Result.TRANSIENT, Stage.MAIL, True),
        (b"250 ok\r\n250 ok\r\n", Result.TRANSIENT, Stage.RCPT, True),
        (b"250 ok\r\n250 ok\r\n354 go\r\n", Result.UNKNOWN, Stage.DOT, True),
    ],
)
def test_a_line_that_breaks_is_unknown_only_after_the_dot(
    replies: bytes, result: Result, stage: Stage, was_tried: bool
) -> None:
    session = ready()
    session.send(message("bob"))
    written(session)
    session.receive(replies)
    assert events_of(session) == []
    written(session)
    session.connection_lost("reset by peer")
    first, second = events_of(session)
    assert results(first) == [(result, stage)]
    assert isinstance(first, MessageEnded) and first.was_tried is was_tried
    assert first.outcomes[0].detail == "reset by peer"
    assert isinstance(second, SessionFailed)
    session.send(message("eve"))
    assert not ended(session).was_tried


# F26
def test_a_line_that_breaks_before_the_dot_was_handed_out_delivered_nothing() -> None:
    session = ready()
    session.send(message("bob", octets=b"x" * 600_000 + b"\r\n"))
    written(session)
    session.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    events_of(session)
    assert len(session.take_outgoing()) == 262_144
    assert session.waiting_for is Stage.BLOCK
    session.connection_lost("timed out")
    assert results(events_of(session)[0]) == [(Result.TRANSIENT, Stage.DATA)]
    assert written(session) == b""


# F25
def test_a_reply_in_the_middle_of_the_content_ends_the_session() -> None:
    session = ready()
    session.send(message("bob", octets=b"x" * 600_000 + b"\r\n"))
    written(session)
    session.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    events_of(session)
    session.take_outgoing()
    session.receive(b"552 5.3.4 too big\r\n")
    first, second = events_of(session)
    assert results(first) == [(Result.PERMANENT, Stage.BLOCK)]
    assert isinstance(second, SessionFailed)


# F25
def test_421_anywhere_ends_the_session_and_leaves_the_rest_to_be_tried() -> None:
    session = ready()
    for name in "abc":
        session.send(message(name))
    written(session)
    session.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    events_of(session)
    written(session)
    session.receive(b"421 4.3.2 shutting down\r\n")
    a, b, c, failed = events_of(session)
    assert results(a) == [(Result.TRANSIENT, Stage.DOT)]
    assert isinstance(b, MessageEnded) and isinstance(c, MessageEnded)
    assert not b.was_tried and not c.was_tried
    assert isinstance(failed, SessionFailed) and failed.reply is not None


# F29
@pytest.mark.parametrize(
    ("replies", "result"),
    [
        (b"999 what\r\n", Result.TRANSIENT),
        (b"354 what\r\n", Result.TRANSIENT),
        (b"250 ok\r\n250 ok\r\n250 not data\r\n", Result.TRANSIENT),
        (b"250 ok\r\n250 ok\r\n354 go\r\n25\r\n", Result.UNKNOWN),
        (b"250 ok\r\n250 ok\r\n354 go\r\n354 again\r\n", Result.UNKNOWN),
    ],
)
def test_nonsense_is_a_temporary_failure(replies: bytes, result: Result) -> None:
    session = ready()
    session.send(message("bob"))
    written(session)
    head, tail = replies[: replies.find(b"354")], replies[replies.find(b"354") :]
    if not head.startswith(b"250") or b"354" not in replies:
        head, tail = replies, b""
    session.receive(head)
    events = events_of(session)
    for line in tail.splitlines(keepends=True):
        session.receive(line)
        events += events_of(session)
        written(session)
    assert results(events[0])[0][0] is result
    assert isinstance(events[-1], SessionFailed) and events[-1].is_transient


# F28
def test_starttls_and_what_may_go_wrong_with_it() -> None:
    session = ready()
    session.start_tls()
    assert written(session) == b"STARTTLS\r\n"
    session.receive(b"454 4.7.0 not now\r\n")
    (refused,) = events_of(session)
    assert isinstance(refused, Refused) and refused.stage is Stage.STARTTLS
    session.start_tls()
    session.receive(b"220 go\r\n")
    assert events_of(session) == [TlsAgreed()]
    with pytest.raises(LocalProtocolError):
        session.send(message())
    written(session)
    session.tls_started()
    assert written(session) == b"EHLO client.example\r\n"
    session.receive(PLAIN)
    (event,) = events_of(session)
    assert event == Ready(extensions=session.extensions, is_tls=True)
    assert not session.extensions.is_pipelining  # what plaintext said is forgotten


# F28
def test_octets_behind_the_220_are_a_violation() -> None:
    for octets in (b"220 go\r\n250 injected\r\n", b"220 go\r\n2"):
        session = ready()
        session.start_tls()
        session.receive(octets)
        (event,) = events_of(session)
        assert isinstance(event, SessionFailed)
        assert event.stage is Stage.STARTTLS
    session = ready()
    session.start_tls()
    session.receive(b"220 go\r\n")
    events_of(session)
    session.receive(b"250 injected\r\n")
    session.tls_started()
    (event,) = events_of(session)
    assert isinstance(event, SessionFailed)


def test_logging_in() -> None:
    session = ready(b"250-x\r\n250 AUTH PLAIN LOGIN\r\n", is_tls=True)
    session.authenticate(PlainClient("user", "secret"))
    assert written(session) == b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n"
    session.receive(b"535 5.7.8 no\r\n")
    (refused,) = events_of(session)
    assert isinstance(refused, Refused) and refused.stage is Stage.AUTH
    session.authenticate(LoginClient("user", "secret"))
    session.receive(b"334 VXNlcm5hbWU6\r\n")
    assert events_of(session) == []
    session.receive(b"334 UGFzc3dvcmQ6\r\n")
    assert events_of(session) == []
    assert written(session) == b"AUTH LOGIN\r\ndXNlcg==\r\nc2VjcmV0\r\n"
    session.receive(b"235 2.7.0 yes\r\n")
    (event,) = events_of(session)
    assert isinstance(event, Authenticated)
    session = ready(is_tls=True)
    session.authenticate(PlainClient("user", "secret"))
    session.receive(b"334 !!!\r\n")
    assert events_of(session) == []
    assert written(session).endswith(b"*\r\n")
    session.receive(b"501 cancelled\r\n")
    assert isinstance(events_of(session)[0], Refused)


# P12
def test_a_password_is_not_sent_without_tls() -> None:
    session = ready()
    with pytest.raises(LocalProtocolError):
        session.authenticate(PlainClient("user", "secret"))
    assert written(session) == b""


def test_parameters_are_used_only_when_offered() -> None:
    rich = OutgoingMessage(
        envelope=Envelope(
            reverse_path=None,
            recipients=(
                ForwardPath(
                    address=Address("a b", "mx.example"),
                    notify=Notify.SUCCESS | Notify.DELAY,
                    original_recipient="rfc822;x+y@z.example",
                ),
            ),
            body=BodyType.EIGHT_BIT,
            is_smtputf8=True,
            ret=Ret.HDRS,
            envelope_id="a+b c",
        ),
        octets="Subject: \u263a\r\n\r\n".encode(),
    )
    session = ready(FULL_EHLO + b"250 SIZE 1000\r\n")
    session.send(rich)
    assert written(session) == (
        b"MAIL FROM:<> SIZE=16 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb+20c\r\n"
        b'RCPT TO:<"a b"@mx.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@z.example\r\n'
        b"DATA\r\n"
    )
    session = ready()
    session.send(rich)
    event = ended(session)  # its header section needs SMTPUTF8
    assert [outcome.status for outcome in event.outcomes] == ["5.6.7"]
    assert written(session) == b""


def test_what_a_host_cannot_take_is_not_offered() -> None:
    session = ready(b"250-x\r\n250 SIZE 10\r\n")
    session.send(message(octets=b"x" * 11))
    assert ended(session).outcomes[0].status == "5.3.4"
    session.send(message(octets=b"x" * 10))
    assert written(session) == b"MAIL FROM:<alice@client.example> SIZE=10\r\n"
    session = ready()
    session.send(message("b\u00fc", "bob"))
    assert b"b\xc3\xbc" not in (out := written(session)) and b"<bob@" in out
    session.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    events_of(session)
    written(session)
    session.receive(b"250 ok\r\n")
    assert results(ended(session)) == [
        (Result.PERMANENT, Stage.MAIL),
        (Result.ACCEPTED, Stage.DOT),
    ]


@given(
    octets=st.lists(st.sampled_from([b"\r\n", b".", b"x", b"\r\n.\r\n", b"\r", b"\n"])).map(
        b"".join
    ),
    block_octets=st.integers(2, 9),
)
def test_stuffed_in_blocks_is_stuffed_at_once(octets: bytes, block_octets: int) -> None:
    content = OutgoingContent(octets, is_stuffed=True)
    taken = b""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outgoing, "BLOCK_OCTETS", block_octets)
        while not content.is_sent:
            taken += content.take()
    framed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
    ended_line = not octets or octets.endswith(b"\r\n")
    assert taken == framed + (b".\r\n" if ended_line else b"\r\n.\r\n")


@given(
    bodies=st.lists(
        st.lists(st.sampled_from([b"\r\n", b".", b"x", b"..", b"BDAT 1\r\n"]), max_size=8).map(
            b"".join
        ),
        min_size=1,
        max_size=4,
    ),
    size=st.integers(1, 100),
    is_chunking=st.booleans(),
    is_pipelining=st.booleans(),
)
def test_our_client_and_our_server_understand_each_other(
    bodies: list[bytes], size: int, is_chunking: bool, is_pipelining: bool
) -> None:
    server = MachinePeer(limits=Limits(transactions_max=10, unknown_recipients_max=100))
    from_hello = server.session.hello
    server.session.hello = type(from_hello)(
        host="mx.example", is_chunking=is_chunking, is_pipelining=is_pipelining
    )
    client = ClientSession(name="client.example")
    seen: list[MessageEnded] = []
    read, sent = 0, 0
    names = [("bob", "unknown"), ("unknown", "unknown2"), ("later", "eve"), ("ann",)]
    for _ in range(1000):
        moved = server.written[read:]
        read = len(server.written)
        for at in range(0, len(moved), size):
            client.receive(moved[at : at + size])
        while (event := client.next_event()) is not None:
            if isinstance(event, Ready):
                for number, body in enumerate(bodies):
                    client.send(message(*names[number], octets=body + b"\r\n"))
                    sent += 1
            elif isinstance(event, MessageEnded):
                seen.append(event)
            else:
                assert event == Closed()
        if sent and len(seen) == sent and client.is_idle:
            client.quit()
        out = written(client)
        for at in range(0, len(out), size):
            server.send(out[at : at + size])
        if client.is_over:
            break
    assert server.ended == "quit"
    wanted = [
        [Result.ACCEPTED, Result.PERMANENT],
        [Result.PERMANENT, Result.PERMANENT],
        [Result.TRANSIENT, Result.ACCEPTED],
        [Result.ACCEPTED],
    ][: len(bodies)]
    assert [[o.result for o in event.outcomes] for event in seen] == wanted
    delivered = [body + b"\r\n" for body, mine in zip(bodies, wanted) if Result.ACCEPTED in mine]
    assert server.messages == delivered


# F27 P9
def test_a_session_that_is_over_keeps_nothing_more_of_what_the_server_says() -> None:
    session = ClientSession(name="client.example")
    session.receive(b"554 no\r\n")
    assert isinstance(events_of(session)[-1], SessionFailed) and session.is_over
    tracemalloc.start()
    for _ in range(1000):
        session.receive(b"250 ok\r\n" * 1000)
    grown = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert grown < 65_536 and events_of(session) == []
