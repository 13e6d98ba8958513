"""Sending over real sockets: TLS in its ways, logins, receipts, and each mistake's own error."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from posthouse.kernel.envelope import Notify, Ret, TlsDemand
from posthouse.protocol.smtp.client_events import Stage
from posthouse.sending import (
    AsyncTransport,
    AuthError,
    CapabilityError,
    ConnectError,
    EnvelopeError,
    Message,
    MessageError,
    OptionError,
    OutcomeState,
    ProtocolError,
    SendEnvelope,
    SendingError,
    SendTimeout,
    TlsError,
)
from posthouse.testing import MailServer
from tests.sending.bad_server import DROP, SILENCE, USUAL, BadServer
from tests.sending.conftest import Certificates

LOGIN = (*USUAL, "AUTH PLAIN LOGIN")


def letter(**more: Any) -> Message:
    given = {"to": "bob@example.net", "subject": "Tea", "text": "At five?", **more}
    return Message(sender="Ada <ada@example.org>", **given)


def transport(server: BadServer, **more: Any) -> AsyncTransport:
    given: dict[str, Any] = {"host": "localhost", "port": server.port, **more}
    return AsyncTransport(**given)


async def sent(server: BadServer, message: Message | None = None, **more: Any) -> Any:
    async with transport(server, **more) as way:
        return await way.send(message or letter())


async def error(server: BadServer, message: Message | None = None, **more: Any) -> Any:
    with pytest.raises(SendingError) as caught:
        await sent(server, message, **more)
    return caught.value


# --- receipts ---


async def test_a_letter_arrives_and_the_receipt_tells_how() -> None:
    async with BadServer() as server:
        receipt = await sent(server, letter(tag=7))
    (taken,) = server.taken
    assert (taken.sender, taken.recipients) == ("ada@example.org", ["bob@example.net"])
    assert taken.octets.endswith(b"\r\n\r\nAt five?\r\n")
    assert receipt.message_id.encode() in taken.octets
    assert receipt.accepted == receipt.recipients == ("bob@example.net",)
    assert receipt.response == "250 2.0.0 ok: queued as Q1" and receipt.queue_id == "Q1"
    assert receipt.server == f"localhost:{server.port}" and receipt.tag == 7
    assert receipt.rejected == () and receipt.tls is None
    assert receipt.phases.connect_s > 0 and receipt.phases.message_s > 0
    assert server.commands[-1] == "QUIT"


async def test_who_is_refused_is_told_and_the_others_get_it() -> None:
    replies = {"RCPT": ["250 ok", "550 5.1.1 no such user", "250 ok"]}
    async with BadServer(replies=replies) as server:
        to = ["bob@example.net", "eve@example.net", "ada@example.org"]
        receipt = await sent(server, letter(to=to))
    assert receipt.accepted == ("bob@example.net", "ada@example.org")
    (refused,) = receipt.rejected
    assert (refused.recipient, refused.code, refused.status) == ("eve@example.net", 550, "5.1.1")
    assert not refused.is_transient


async def test_envelope_and_dsn_go_as_they_were_asked_for() -> None:
    wish = SendEnvelope(
        sender="",
        recipients=["eve@example.net"],
        notify=Notify.SUCCESS | Notify.FAILURE,
        ret=Ret.HDRS,
        envelope_id="x+y",
    )
    async with BadServer() as server:
        receipt = await sent(server, letter(envelope=wish))
    assert receipt.sender == "" and receipt.recipients == ("eve@example.net",)
    mail, rcpt = (one for one in server.commands if one.startswith(("MAIL", "RCPT")))
    assert "MAIL FROM:<>" in mail and "RET=HDRS" in mail and "ENVID=x+2By" in mail
    assert "NOTIFY=SUCCESS,FAILURE" in rcpt


async def test_what_the_server_takes_at_once_is_asked_in_turns() -> None:
    people = [f"p{n}@example.net" for n in range(5)]
    async with BadServer(extensions=(*USUAL, "LIMITS RCPTMAX=2")) as server:
        receipt = await sent(server, letter(to=people))
    assert [taken.recipients for taken in server.taken] == [people[:2], people[2:4], people[4:]]
    assert receipt.accepted == tuple(people)
    assert server.connections == 1


async def test_too_many_recipients_are_asked_again_for_the_rest() -> None:
    replies = {"RCPT": ["250 ok", "452 4.5.3 too many", "452 4.5.3 too many", "250 ok"]}
    async with BadServer(replies=replies) as server:
        to = ["a@example.net", "b@example.net", "c@example.net"]
        receipt = await sent(server, letter(to=to))
    assert receipt.accepted == ("a@example.net", "b@example.net", "c@example.net")
    assert len(server.taken) == 2


# --- TLS ---


async def test_starttls_with_a_certificate_of_ones_own(certificates: Certificates) -> None:
    async with BadServer(extensions=LOGIN, context=certificates.good) as server:
        receipt = await sent(
            server, tls="starttls", ca=certificates.ca, user="ada", password="sesame"
        )
    assert receipt.tls is not None and receipt.tls.is_verified
    assert receipt.tls.version.startswith("TLSv1.") and receipt.phases.tls_s > 0
    assert server.auth_lines == ["\0ada\0sesame"]
    assert receipt.phases.login_s > 0


async def test_tls_from_the_start(certificates: Certificates) -> None:
    async with BadServer(context=certificates.good, is_implicit=True) as server:
        receipt = await sent(server, tls="implicit", ca=certificates.ca)
    assert receipt.tls is not None and receipt.tls.is_verified
    assert "STARTTLS" not in server.commands


async def test_a_certificate_nobody_vouches_for_is_refused_with_a_way_out(
    certificates: Certificates,
) -> None:
    async with BadServer(context=certificates.self_signed) as server:
        found = await error(server, tls="starttls")
    assert isinstance(found, TlsError)
    assert 'ca="certificate.pem"' in found.hint and "verify=False" in found.hint
    assert server.taken == []


async def test_another_hosts_certificate_is_told_by_its_name(certificates: Certificates) -> None:
    async with BadServer(context=certificates.other_name) as server:
        found = await error(server, tls="starttls", ca=certificates.ca)
        assert isinstance(found, TlsError)
        assert "the certificate is for mail.elsewhere.test, not for" in found.hint
        assert 'server_name="mail.elsewhere.test"' in found.hint
        receipt = await sent(
            server, tls="starttls", ca=certificates.ca, server_name="mail.elsewhere.test"
        )
    assert receipt.tls is not None and receipt.tls.is_verified


async def test_the_name_that_will_be_missed_next_is_told_with_the_first_fault(
    certificates: Certificates,
) -> None:
    async with BadServer(context=certificates.other_name) as server:
        found = await error(server, tls="starttls")
    assert isinstance(found, TlsError) and 'ca="certificate.pem"' in found.hint
    assert 'server_name="mail.elsewhere.test"' in found.hint


async def test_a_certificate_that_is_over_is_told_as_that(certificates: Certificates) -> None:
    async with BadServer(context=certificates.expired) as server:
        found = await error(server, tls="starttls", ca=certificates.ca)
    assert isinstance(found, TlsError) and "renew" in found.hint


async def test_verify_false_takes_any_and_says_so_in_the_log(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "posthouse.sending")
    async with BadServer(context=certificates.self_signed) as server:
        receipt = await sent(server, tls="starttls", verify=False)
    assert receipt.tls is not None and not receipt.tls.is_verified
    assert "is not checked (verify=False)" in caplog.text


async def test_a_client_certificate_is_shown(certificates: Certificates) -> None:
    offered = (*USUAL, "AUTH EXTERNAL")
    async with BadServer(
        extensions=offered, context=certificates.wants_client, is_implicit=True
    ) as server:
        await sent(
            server,
            tls="implicit",
            ca=certificates.ca,
            certificate=certificates.client,
            mechanism="EXTERNAL",
        )
    assert server.commands[1] == "AUTH EXTERNAL ="


async def test_tls_spoken_to_a_plain_port_names_starttls() -> None:
    async with BadServer() as server:
        found = await error(server, tls="implicit")
    assert isinstance(found, TlsError) and 'tls="starttls"' in found.hint


async def test_plain_text_spoken_to_a_tls_port_names_implicit(certificates: Certificates) -> None:
    async with BadServer(context=certificates.good, is_implicit=True) as server:
        found = await error(server, tls="starttls", greeting_timeout_s=1)
    assert isinstance(found, (SendTimeout, ProtocolError)) and 'tls="implicit"' in found.hint


async def test_starttls_that_is_not_offered_stops_before_anything_is_said() -> None:
    async with BadServer(extensions=LOGIN) as server:
        found = await error(server, tls="starttls", user="ada", password="sesame")
    assert isinstance(found, TlsError)
    assert not any(one.startswith(("AUTH", "MAIL")) for one in server.commands)


async def test_starttls_that_is_refused_is_no_way_around_it(certificates: Certificates) -> None:
    replies = {"STARTTLS": "454 4.7.0 not now"}
    async with BadServer(context=certificates.good, replies=replies) as server:
        found = await error(server, tls="starttls", ca=certificates.ca)
        assert isinstance(found, TlsError) and "454" in found.text
        receipt = await sent(server, tls="opportunistic")
    assert receipt.tls is None


async def test_opportunistic_tls_takes_what_there_is(certificates: Certificates) -> None:
    async with BadServer(context=certificates.self_signed) as server:
        receipt = await sent(server, tls="opportunistic")
    assert receipt.tls is not None and not receipt.tls.is_verified


async def test_on_loopback_plain_text_will_do() -> None:
    async with BadServer(extensions=LOGIN) as server:
        await sent(server, user="ada", password="sesame")
    assert server.auth_lines == ["\0ada\0sesame"]


# --- logging in ---


async def test_a_wrong_password_is_told_as_that_and_shown_nowhere() -> None:
    replies = {"AUTH": "535 5.7.8 authentication failed"}
    async with BadServer(extensions=LOGIN, replies=replies) as server:
        found = await error(server, user="ada@example.org", password="sesame-7")
    assert isinstance(found, AuthError) and "app password" in found.hint
    assert "sesame-7" not in str(found) and "sesame-7" not in repr(vars(found))
    assert "535 5.7.8" in found.text


@pytest.mark.parametrize(
    ("user", "reply", "words"),
    [
        ("ada", "535 5.7.8 no", "the whole address"),
        (
            "ada@gmail.com",
            "534 5.7.9 Application-specific password required",
            "myaccount.google.com/apppasswords",
        ),
        ("ada@example.org", "535 5.7.139 basic authentication is disabled", "token"),
        ("ada@yahoo.com", "535 5.7.8 no", "app password"),
        ("ada@example.org", "454 4.7.0 too many", "later"),
    ],
)
async def test_a_refused_login_names_the_likely_mistake(user: str, reply: str, words: str) -> None:
    async with BadServer(extensions=LOGIN, replies={"AUTH": reply}) as server:
        found = await error(server, user=user, password="x")
    assert isinstance(found, AuthError) and words in found.hint


async def test_a_server_without_logins_is_told_as_that() -> None:
    async with BadServer() as server:
        found = await error(server, user="ada", password="x")
        assert isinstance(found, AuthError) and "offers no login" in found.text
    async with BadServer(extensions=(*USUAL, "AUTH GSSAPI")) as server:
        found = await error(server, user="ada", password="x")
        assert isinstance(found, AuthError) and "GSSAPI" in found.text


async def test_a_token_is_made_anew_once_when_it_is_refused() -> None:
    given = iter(["old", "new", "never"])

    async def token() -> str:
        return next(given)

    replies = {"AUTH": ["535 5.7.8 expired", "235 2.7.0 ok"]}
    async with BadServer(extensions=(*USUAL, "AUTH XOAUTH2"), replies=replies) as server:
        await sent(server, user="ada@example.org", token=token)
    assert [line.split("Bearer ")[1][:3] for line in server.auth_lines] == ["old", "new"]


async def test_the_same_token_is_not_shown_twice() -> None:
    replies = {"AUTH": "535 5.7.8 expired"}
    async with BadServer(extensions=(*USUAL, "AUTH XOAUTH2"), replies=replies) as server:
        found = await error(server, user="ada@example.org", token=lambda: "old")
    assert isinstance(found, AuthError) and "expired" in str(found)
    assert len(server.auth_lines) == 1


async def test_a_token_callable_that_fails_shows_nothing_of_its_own() -> None:
    def token() -> str:
        raise RuntimeError("refresh token r3fr3sh is over")

    async with BadServer(extensions=(*USUAL, "AUTH OAUTHBEARER")) as server:
        found = await error(server, user="ada@example.org", token=token)
    assert isinstance(found, AuthError) and "RuntimeError" in found.text
    assert "r3fr3sh" not in str(found)


async def test_cram_md5_is_taken_only_when_it_is_named() -> None:
    offered = (*USUAL, "AUTH CRAM-MD5")
    async with BadServer(extensions=offered, challenges=[b"<1@x>"]) as server:
        found = await error(server, user="ada", password="sesame")
        assert isinstance(found, AuthError)
        await sent(server, user="ada", password="sesame", mechanism="CRAM-MD5")
    (answer,) = server.auth_lines
    assert answer.startswith("ada ") and len(answer) == 4 + 32


# --- refusals ---


@pytest.mark.parametrize(
    ("replies", "kind", "words"),
    [
        ({"MAIL": "530 5.7.0 log in first"}, EnvelopeError, "log in"),
        ({"MAIL": "553 5.7.1 not yours"}, EnvelopeError, "log in"),
        ({"RCPT": "550 5.1.1 no such user"}, EnvelopeError, "spelling"),
        ({"RCPT": "554 5.7.1 relay access denied"}, EnvelopeError, "log in"),
        ({"RCPT": "450 4.7.1 greylisted, try again later"}, EnvelopeError, "once more"),
        ({"DATA": "554 5.7.1 no"}, MessageError, "administrator"),
        ({"DOT": "552 5.3.4 too big"}, MessageError, "octets"),
        ({"DOT": "451 4.3.0 not now"}, MessageError, "later"),
        ({"GREETING": "554 5.7.1 go away"}, ConnectError, ""),
        ({"GREETING": "421 4.3.2 busy"}, ConnectError, "later"),
        ({"EHLO": "501 5.5.4 who?"}, ConnectError, "hello_name"),
    ],
)
async def test_each_refusal_is_an_error_of_its_own_kind(
    replies: dict[str, str], kind: type[SendingError], words: str
) -> None:
    async with BadServer(replies=replies) as server:
        found = await error(server)
    assert type(found) is kind
    assert words in found.hint
    reply = next(iter(replies.values()))
    assert found.reply is not None and found.reply.code == int(reply[:3])
    assert found.is_transient == reply.startswith("4")
    assert server.taken == []


async def test_nobody_accepted_lists_everybody() -> None:
    async with BadServer(replies={"RCPT": "550 5.1.1 no"}) as server:
        found = await error(server, letter(to=["a@example.net", "b@example.net"]))
    assert [one.recipient for one in found.rejected] == ["a@example.net", "b@example.net"]


async def test_what_the_server_cannot_carry_is_known_before_it_is_sent() -> None:
    async with BadServer(extensions=("SIZE 1000",)) as server:
        too_big = await error(server, letter(text="x" * 1000))
        unicode_ = await error(server, letter(to="jürgen@example.net"))
    for found, words in ((too_big, "octets"), (unicode_, "SMTPUTF8")):
        assert type(found) is CapabilityError and words in found.hint
    assert not any(one.startswith("MAIL") for one in server.commands)


REQUIRED = SendEnvelope(tls_demand=TlsDemand.REQUIRED)


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({}, TlsError, "smtps://"),  # on loopback any certificate will do otherwise
        ({"tls": "off"}, TlsError, "smtps://"),
        ({"tls": "starttls", "verify": False}, TlsError, "without verify=False"),
        ({"tls": "opportunistic"}, TlsError, "smtps://"),
        ({"tls": "starttls", "ca": True}, CapabilityError, "REQUIRETLS"),
    ],
)
async def test_who_requires_tls_gets_it_with_a_certificate_that_was_checked(
    certificates: Certificates, more: dict[str, Any], kind: type[SendingError], words: str
) -> None:
    more = {**more, **({"ca": certificates.ca} if "ca" in more else {})}
    async with BadServer(context=certificates.good) as server:
        found = await error(server, letter(envelope=REQUIRED), **more)
    assert type(found) is kind and words in found.hint
    assert not any(one.startswith("MAIL") for one in server.commands)


async def test_tls_can_be_required(certificates: Certificates) -> None:
    async with BadServer(extensions=(*USUAL, "REQUIRETLS"), context=certificates.good) as server:
        await sent(server, letter(envelope=REQUIRED), tls="starttls", ca=certificates.ca)
    assert "REQUIRETLS" in server.taken[0].parameters


async def test_the_identity_of_another_goes_with_mechanisms_that_carry_it() -> None:
    async with BadServer(extensions=(*USUAL, "AUTH LOGIN")) as server:
        found = await error(server, user="ada", password="x", authorization_id="bob")
        assert isinstance(found, AuthError) and server.auth_lines == []
    async with BadServer(extensions=LOGIN) as server:
        await sent(server, user="ada", password="x", authorization_id="bob")
    assert server.auth_lines == ["bob\0ada\0x"]


async def test_verify_opens_no_more_sessions_than_there_may_be() -> None:
    async with BadServer() as server, transport(server, connections_max=1) as way:
        for _ in range(3):
            await way.send(letter())
            await way.verify()
        await asyncio.gather(way.send(letter()), way.verify(), way.verify())
    assert server.open_most <= 2  # one that leaves, and one that comes


# --- ports of another kind ---

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """A port whose connections are all served to their ends."""
    served: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        with contextlib.suppress(OSError):
            await handler(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        await asyncio.gather(*served)


@pytest.mark.parametrize("tls", ["off", "starttls", "auto"])
async def test_plain_text_where_tls_begins_is_told_soon(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tls: str
) -> None:
    monkeypatch.setattr("posthouse.sending.connection.SILENCE_S", 0.1)
    async with BadServer(context=certificates.self_signed, is_implicit=True) as server:
        found = await error(server, tls=tls)
    assert type(found) is TlsError and not found.is_transient
    assert "from the first octet" in found.text and "smtps://" in found.hint


async def test_a_server_may_take_its_time_to_greet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.sending.connection.SILENCE_S", 0.05)

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        theirs, ours = await asyncio.open_connection("127.0.0.1", server.port)

        async def pass_on(one: asyncio.StreamReader, other: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while octets := await one.read(65_536):
                    other.write(octets)
            other.close()

        await asyncio.gather(pass_on(reader, ours), pass_on(theirs, writer))

    async with (
        BadServer() as server,
        listening(slowly) as port,
        AsyncTransport(host="127.0.0.1", port=port) as way,
    ):
        assert (await way.send(letter())).accepted
    assert len(server.taken) == 1


async def test_a_refused_handshake_is_tls_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8446 §6.2: an alert is TLS, whatever it says; our first octets are no EHLO."""
    monkeypatch.setattr("posthouse.sending.connection.SILENCE_S", 0.05)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"\x15\x03\x01\x00\x02\x02\x28")

    async with (
        listening(refuse) as port,
        AsyncTransport(host="127.0.0.1", port=port, tls="starttls") as way,
    ):
        with pytest.raises(TlsError, match="from the first octet"):
            await way.verify()


async def test_nobody_is_asked_for_tls_where_speaking_first_is_punished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("posthouse.sending.connection.SILENCE_S", 0.05)
    came = []

    async def greet_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)
        await asyncio.sleep(0.3)
        writer.write(b"554 5.7.1 not you\r\n")

    async with listening(greet_late) as port:
        for is_relay, connections in ((True, 1), (False, 2)):
            monkeypatch.setattr("posthouse.sending.mistakes.SMTP_PORT", port if is_relay else 25)
            came.clear()
            async with AsyncTransport(host="127.0.0.1", port=port) as way:
                with pytest.raises(ConnectError, match="not you"):
                    await way.verify()
            assert len(came) == connections


# --- lines that break ---


async def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with AsyncTransport(host="127.0.0.1", port=port) as way:
        with pytest.raises(ConnectError) as caught:
            await way.send(letter())
    assert "587" in caught.value.hint and caught.value.is_transient


async def test_a_name_without_an_address() -> None:
    async with AsyncTransport(host="no-such-host.invalid") as way:
        with pytest.raises(ConnectError) as caught:
            await way.send(letter())
    assert "no-such-host.invalid" in caught.value.text


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
async def test_a_line_that_breaks_before_the_content_is_tried_again(verb: str) -> None:
    usual = {"MAIL": "250 ok", "RCPT": "250 ok", "DATA": "354 go"}[verb]
    async with BadServer(replies={verb: [DROP, usual]}) as server:
        receipt = await sent(server)
    assert receipt.accepted == ("bob@example.net",)
    assert len(server.taken) == 1 and server.connections == 2


async def test_a_line_that_always_breaks_is_given_up() -> None:
    async with BadServer(replies={"MAIL": DROP}) as server:
        found = await error(server)
    assert isinstance(found, ProtocolError) and not found.may_have_been_sent
    assert server.connections == 3


async def test_a_line_that_breaks_behind_the_dot_is_not_repeated() -> None:
    async with BadServer(replies={"DOT": DROP}) as server:
        found = await error(server)
    assert isinstance(found, ProtocolError) and found.may_have_been_sent
    assert server.connections == 1


async def test_a_line_that_breaks_inside_the_content_is_an_error_that_can_be_repeated() -> None:
    async with BadServer(extensions=("PIPELINING",), drop_after_content_octets=1000) as server:
        found = await error(server, letter(text="x" * 70 + "\n" * 8_000_000))
    assert not found.may_have_been_sent and found.is_transient
    assert server.taken == []


@pytest.mark.parametrize("verb", ["GREETING", "MAIL", "DOT"])
async def test_silence_ends_in_its_time(verb: str) -> None:
    async with BadServer(replies={verb: SILENCE}) as server:
        found = await error(
            server, greeting_timeout_s=0.1, command_timeout_s=0.1, data_timeout_s=0.1
        )
    assert isinstance(found, SendTimeout) and "in time" in found.text
    assert found.may_have_been_sent == (verb == "DOT")
    if verb == "DOT":
        assert found.stage is Stage.DOT and "look before you send it again" in found.hint
    assert server.taken == []


async def test_octets_that_are_no_smtp() -> None:
    async with BadServer(replies={"GREETING": "HTTP/1.1 400 Bad Request"}) as server:
        found = await error(server)
    assert isinstance(found, ProtocolError)


@pytest.mark.parametrize(
    ("greeting", "name"),
    [
        ("* OK [CAPABILITY IMAP4rev1] ready", "IMAP"),
        ("* BYE too many connections", "IMAP"),
        ("+OK POP3 ready <1@mail.example.org>", "POP3"),
        ("-ERR not now", "POP3"),
        ('"IMPLEMENTATION" "Sieve"', "ManageSieve"),
        ("SSH-2.0-OpenSSH_9.2", "SSH"),
        ("HTTP/1.1 400 Bad Request", "HTTP"),
    ],
)
@pytest.mark.parametrize("is_implicit", [False, True])
async def test_another_protocols_port_is_named_and_no_better_later(
    greeting: str, name: str, *, is_implicit: bool, certificates: Certificates
) -> None:
    context = certificates.good if is_implicit else None
    replies = {"GREETING": greeting}
    more = {"tls": "implicit", "ca": certificates.ca} if is_implicit else {}
    async with BadServer(replies=replies, context=context, is_implicit=is_implicit) as server:
        found = await error(server, **more)
    assert isinstance(found, ProtocolError) and not found.is_transient
    assert f"speaks {name}, " in found.text and greeting[:8] in found.text
    assert "465 (smtps://) or 587 (smtp+starttls://)" in found.hint


@pytest.mark.parametrize("reply", ["500 5.5.1 Unknown command", "502 5.5.2 not recognized"])
async def test_lmtp_and_smtp_taken_for_each_other_are_told(reply: str) -> None:
    async with BadServer(replies={"LHLO": reply, "EHLO": reply, "HELO": reply}) as server:
        by_lmtp, by_smtp = AsyncTransport(f"lmtp://127.0.0.1:{server.port}"), transport(server)
        async with by_lmtp, by_smtp:
            with pytest.raises(ProtocolError, match="speaks SMTP and not LMTP") as caught:
                await by_lmtp.send(letter())
            assert "use smtp://" in caught.value.hint and reply in caught.value.text
            with pytest.raises(ProtocolError, match="takes neither EHLO nor HELO") as caught:
                await by_smtp.send(letter())
            assert f"lmtp://localhost:{server.port}" in caught.value.hint
            assert "hello_name" not in caught.value.hint


async def test_a_name_that_is_disliked_is_told_as_that() -> None:
    async with BadServer(replies={"EHLO": "550 5.7.1 bad name", "HELO": "550 bad name"}) as server:
        found = await error(server)
    assert isinstance(found, ConnectError) and "hello_name" in found.hint


async def test_what_is_not_protected_is_the_contents_fault_and_the_server_says_enough() -> None:
    async with BadServer(replies={"DOT": "550 5.7.5 has to be encrypted"}) as server:
        found = await error(server)
    assert isinstance(found, MessageError) and found.hint == ""


# --- verify and other ways to use it ---


async def test_verify_sends_nothing_and_tells_what_it_found(certificates: Certificates) -> None:
    async with (
        BadServer(extensions=LOGIN, context=certificates.good) as server,
        transport(server, tls="starttls", ca=certificates.ca, user="ada", password="sesame") as way,
    ):
        found = await way.verify()
        await way.send(letter())
    assert found.is_logged_in and found.greeting_name == "bad.test"
    assert "PIPELINING" in found.extensions
    assert found.tls is not None and found.tls.is_verified
    assert server.connections == 1


async def test_lmtp_tells_of_each_recipient_by_itself() -> None:
    replies = {"DOT": ["250 2.0.0 ok", "452 4.2.2 full"]}
    async with (
        BadServer(is_lmtp=True, replies=replies) as server,
        AsyncTransport(f"lmtp://127.0.0.1:{server.port}") as way,
    ):
        receipt = await way.send(letter(to=["a@example.net", "b@example.net"]))
    assert server.commands[0].startswith("LHLO ")
    assert receipt.accepted == ("a@example.net",)
    assert [one.status for one in receipt.rejected] == ["4.2.2"]


async def test_a_url_says_it_all(certificates: Certificates) -> None:
    async with BadServer(extensions=LOGIN, context=certificates.good) as server:
        url = f"smtp+starttls://ada%40example.org:se%3Asame@localhost:{server.port}"
        async with AsyncTransport(url, ca=certificates.ca) as way:
            await way.send(letter())
        assert "se:same" not in repr(way) and "se:same" not in repr(way.options)
    assert server.auth_lines == ["\0ada@example.org\0se:same"]


async def test_a_closed_transport_says_so() -> None:
    async with BadServer() as server:
        way = transport(server)
        await way.close()
        await way.close()
        with pytest.raises(ConnectError, match="closed"):
            await way.send(letter())


async def test_what_is_no_message_is_told_how_to_become_one() -> None:
    async with AsyncTransport("memory:") as way:
        with pytest.raises(MessageError, match="this is str") as caught:
            await way.send("hello")  # type: ignore[arg-type]
        assert "Message(raw=" in caught.value.hint
        (failed,) = [one async for one in way.send_all(["hello"])]  # type: ignore[list-item]
        assert isinstance(failed.error, MessageError)


def test_options_are_checked_where_they_are_given() -> None:
    with pytest.raises(OptionError) as caught:
        AsyncTransport(conections_max=3)  # type: ignore[call-arg]
    assert caught.value.option == "conections_max" and "connections_max" in caught.value.hint


def test_sessions_live_in_one_loop(mail_server: MailServer) -> None:
    async def in_two() -> None:
        async with AsyncTransport(mail_server.url, ca=mail_server.ca) as way:
            await way.send(letter())
            with pytest.raises(OptionError, match="two event loops"):
                await asyncio.to_thread(asyncio.run, way.send(letter()))

    asyncio.run(in_two())


def test_one_loop_may_follow_another() -> None:
    way = AsyncTransport("memory:")
    for _ in range(2):
        asyncio.run(way.send(letter()))
    assert len(way.letters) == 2


# --- what nobody can know ---


async def test_a_recipient_whose_reply_is_lost_may_have_it() -> None:  # H65
    replies = {"DOT": ["250 2.0.0 ok", DROP]}
    to = ["one@x.example", "two@x.example"]
    async with BadServer(is_lmtp=True, replies=replies) as server:
        async with AsyncTransport(f"lmtp://127.0.0.1:{server.port}") as way:
            receipt = await way.send(letter(to=to))
        [unsure] = receipt.rejected
        states = {one.recipient: one.state for one in await receipt.outcome()}
    assert receipt.accepted == ("one@x.example",)
    assert unsure.may_have_been_sent and unsure.is_transient
    assert states == {to[0]: OutcomeState.ACCEPTED, to[1]: OutcomeState.UNKNOWN}


@pytest.mark.parametrize("replies", [["550 5.1.1 no", "450 4.2.1 later"], ["450 later", "550 no"]])
async def test_a_letter_is_worth_another_try_where_one_recipient_is(replies: list[str]) -> None:
    async with BadServer(replies={"RCPT": replies}) as server:
        found = await error(server, letter(to=["a@x.example", "b@x.example"]))
    assert found.is_transient and [one.is_transient for one in found.rejected].count(True) == 1
