"""`posthouse send` for one message: each option, each mistake, and no secret anywhere it shows."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
import pytest_asyncio
import trustme
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from posthouse.cli import send_words
from posthouse.cli.output import ExitCode
from posthouse.cli.send import Sending, _words, send
from posthouse.cli.send_options import OTHER_NAMES
from posthouse.cli.send_server import Way
from posthouse.cli.send_words import exit_code, in_options
from posthouse.kernel.reply import Reply
from posthouse.kernel.secret import Secret
from posthouse.message import read
from posthouse.message.fields import read_section
from posthouse.mimesec import Summary, open_message
from posthouse.mimesec.pgp import PgpOpener, make_key
from posthouse.mimesec.smime.make import make_identity
from posthouse.protocol.smtp.client_events import Stage
from posthouse.sending import (
    AuthError,
    ConnectError,
    EnvelopeError,
    MessageError,
    OptionError,
    Outcome,
    OutcomeState,
    ProtocolError,
    Receipt,
    SendingError,
    SendTimeout,
    TlsError,
)
from posthouse.sending.message import Message
from posthouse.sending.options import Keywords, Options
from posthouse.testing import MailServer
from tests.sending.bad_server import DROP, SILENCE, USUAL, BadServer

from .conftest import Cli

ADA, PASSWORD = "ada@example.test", "open-sesame-7"
BOB = "bob@example.test"
SENDING = Path(__file__).parents[2] / "src" / "posthouse" / "sending"


@pytest.fixture(scope="module")
def server_with_ada() -> Iterator[MailServer]:
    with MailServer.ephemeral({ADA: PASSWORD}) as server:
        yield server


@pytest.fixture
def post(server_with_ada: MailServer) -> MailServer:
    server_with_ada.clear()
    return server_with_ada


def plain(server: MailServer) -> tuple[str, ...]:
    """Port 25 without TLS or login."""
    return ("--server", f"127.0.0.1:{server.address('mx')[1]}", "--tls", "none")


def login(server: MailServer, service: str = "submission") -> tuple[str, ...]:
    place = f"localhost:{server.address(service)[1]}"
    return ("--server", place, "--ca", server.ca, "--user", ADA, "--password-stdin")


def sent(server: MailServer, cli: Cli, *arguments: str, stdin: str = "") -> Any:
    """The message that arrived for Bob, which has to be sent without a word of complaint."""
    code, _, err = cli(
        *("send", *plain(server), "--from", ADA, "--to", BOB, *arguments), stdin=stdin
    )
    assert code == ExitCode.OK, err
    (arrived,) = server.inbox(BOB)
    return arrived


def refused(cli: Cli, *arguments: str, stdin: str = "") -> tuple[int, str]:
    """Exit code and words of what is refused before anybody is called."""
    code, out, err = cli("send", *arguments, stdin=stdin)
    assert out == "" and "== connecting" not in err
    return code, err


def test_a_posthouse_takes_it_by_its_api(post: MailServer, cli: Cli) -> None:
    """It has no dialogue to show, and that is no mistake of the user."""
    url = f"posthouse+http://ada%40example.test@127.0.0.1:{post.address('http')[1]}"
    command = ("send", "--url", url, "--password-stdin", "--from", ADA, "--to", ADA)
    for more in ((), ("--quiet",)):
        code, out, err = cli(*command, *more, stdin=PASSWORD + "\n")
        assert code == ExitCode.OK, err
        assert out.startswith(f"{ADA}: accepted: ")
    assert len(post.wait_for(ADA, count=2)) == 2


def test_a_notice_that_cannot_be_read_is_told() -> None:
    receipt = Receipt(message_id="<1@x.test>", sender=ADA, recipients=(BOB,), accepted=(BOB,))
    unread = Outcome(recipient=BOB, state=OutcomeState.UNKNOWN, detail="a notice came")
    ended = Sending(server="mail.x.test:587", receipt=receipt, outcomes=(unread,))
    words, _ = _words(ended, Way(url=None, service=None, keywords={}))
    assert words == f"it was sent, and what became of {BOB}'s copy is not known: a notice came"


# --- the message ---


def test_without_more_words_a_message_has_what_one_needs(post: MailServer, cli: Cli) -> None:
    message = sent(post, cli).message
    assert message.subject == "A message from posthouse send"
    assert message.text == "This is a message from `posthouse send`.\n"
    assert message.date is not None and message.message_id.endswith("@example.test>")
    assert message.header("From") == ADA


def test_subject_text_and_attachments_may_be_of_any_script(
    post: MailServer, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "ü.bin").write_bytes(b"\x00\xff")
    arrived = sent(
        post,
        cli,
        *("--subject", "Grüße", "--body", "Hällo\n", "--attach", str(tmp_path / "ü.bin")),
    )
    assert arrived.octets.isascii()
    assert (arrived.message.subject, arrived.message.text) == ("Grüße", "Hällo\n")
    (attachment,) = arrived.message.attachments
    assert (attachment.name, attachment.octets) == ("ü.bin", b"\x00\xff")


def test_everybody_named_gets_it_and_only_bcc_is_not_seen(post: MailServer, cli: Cli) -> None:
    arrived = sent(
        post,
        cli,
        *("--to", "Eve <eve@example.test>", "--cc", "joe@example.test"),
        *("--bcc", "zoe@example.test", "--reply-to", "tea@example.test"),
    )
    for other in ("eve", "joe", "zoe"):
        assert len(post.inbox(f"{other}@example.test")) == 1
    assert arrived.message.header("To") == f"{BOB}, Eve <eve@example.test>"
    assert arrived.message.header("Cc") == "joe@example.test"
    assert arrived.message.header("Reply-To") == "tea@example.test"
    assert b"zoe" not in arrived.octets


def test_bcc_alone_is_somebody(post: MailServer, cli: Cli) -> None:
    code, out, _ = cli("send", *plain(post), "--from", ADA, "--bcc", BOB)
    assert code == ExitCode.OK and out.startswith(f"{BOB}: accepted: 250 ")


def test_html_comes_from_a_file_an_argument_or_stdin(
    post: MailServer, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text("<p>Of a file</p>")
    for arguments, stdin, words in (
        (("--html", "page.html"), "", "Of a file"),
        (("--html-body", "<p>Of an argument</p>"), "", "Of an argument"),
        (("--html", "-"), "<p>Of stdin</p>", "Of stdin"),
    ):
        post.clear()
        message = sent(post, cli, *arguments, stdin=stdin).message
        assert words in message.html and message.text.strip() == words


def test_a_body_comes_from_a_file_or_stdin_behind_a_password(
    post: MailServer, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "body.txt").write_bytes(b"\xef\xbb\xbfOf a file\n")  # with a mark, as some editors
    assert sent(post, cli, "--body-file", "body.txt").message.text == "Of a file\n"
    post.clear()
    code, _, err = cli(
        *("send", *login(post), "--from", ADA, "--to", BOB, "--body-file", "-"),
        stdin=f"{PASSWORD}\nBehind it\nand more\n",
    )
    assert code == ExitCode.OK, err
    (arrived,) = post.wait_for(BOB)
    assert arrived.message.text == "Behind it\nand more\n"


def test_the_name_of_a_file_as_the_text_is_sent_and_noticed(
    post: MailServer, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "body.txt").write_text("Of a file")
    code, _, err = cli(
        *("send", *login(post), "--from", ADA, "--to", BOB, "--body", "body.txt"),
        stdin=f"{PASSWORD}\n",
    )
    assert code == ExitCode.OK and "say --body-file body.txt" in err
    (arrived,) = post.wait_for(BOB)
    assert arrived.message.text.strip() == "body.txt"


def test_octets_of_stdin_reach_the_message_as_they_are(
    post: MailServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = f"From: {ADA}\nTo: {BOB}\nSubject: x\n\nM\xfcller\n".encode("latin-1")

    class Stdin(io.TextIOWrapper):
        """`Cli` puts its own in place; this one stays."""

    monkeypatch.setattr("io.StringIO", lambda text: Stdin(io.BytesIO(raw)))
    code, out, err = cli("send", *plain(post), "--eml", "-")
    assert code == ExitCode.OK, err
    assert out.startswith(f"{BOB}: accepted: ")
    (arrived,) = post.inbox(BOB)
    assert arrived.octets.endswith(b"\r\n\r\nM\xfcller\r\n")


def test_pictures_stand_in_the_html(post: MailServer, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_bytes(b"\x89PNG")
    (tmp_path / "a.png").write_bytes(b"\x89PNG2")
    arrived = sent(
        post,
        cli,
        *("--html-body", '<img src="cid:logo"><img src="a.png">'),
        *("--inline", "logo:logo.png", "--inline-files", str(tmp_path)),
    )
    assert b"Content-ID: <logo>\r\n" in arrived.octets
    octets = [one.octets for one in arrived.message.attachments]
    assert sorted(octets) == [b"\x89PNG", b"\x89PNG2"]
    assert 'src="a.png"' not in arrived.message.html


def test_an_invitation_and_the_rest_of_the_fields(
    post: MailServer, cli: Cli, tmp_path: Path
) -> None:
    ics = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1\r\n"
        "DTSTAMP:20260305T170000Z\r\nDTSTART:20260305T170000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    (tmp_path / "tea.ics").write_text(ics, newline="")
    arrived = sent(
        post,
        cli,
        *("--calendar", "tea.ics", "--body", "Come", "--priority", "high"),
        *("--in-reply-to", "<1@example.test>", "--header", "X-Try: ü", "--header", "X-Try: 2"),
    )
    assert b"text/calendar; " in arrived.octets and b"method=REQUEST" in arrived.octets
    message = arrived.message
    assert message.header("Importance") == "high"
    assert message.header("In-Reply-To") == message.header("References") == "<1@example.test>"
    section = read_section(arrived.octets)
    assert len(list(section.every(b"x-try"))) == 2 and message.header("X-Try") == "ü"


def test_a_field_given_takes_the_place_of_ours_and_the_envelope_stays(
    post: MailServer, cli: Cli
) -> None:
    arrived = sent(
        post,
        cli,
        *("--header", "subject: mine", "--header", "From: Other <other@example.test>"),
        *("--header", "To: everybody@example.test", "--header", "Message-ID: <x@y.test>"),
        *("--header", "Date: Thu, 05 Mar 2026 17:00:00 +0100"),
    )
    assert arrived.sender == ADA
    message = arrived.message
    assert message.subject == "mine"
    assert message.header("From") == "Other <other@example.test>"
    assert message.header("To") == "everybody@example.test"
    assert message.message_id == "<x@y.test>"
    assert message.date == datetime(2026, 3, 5, 16, tzinfo=UTC)
    assert "everybody@example.test" not in post.addresses()


def test_nobody_sends_a_notice(post: MailServer, cli: Cli) -> None:
    code, _, err = cli("send", *plain(post), "--from", "<>", "--to", BOB)
    assert code == ExitCode.OK, err
    assert "-> MAIL FROM:<>" in err
    (arrived,) = post.inbox(BOB)
    assert arrived.sender == "" and arrived.message.header("From").startswith("mailer-daemon@")


def test_a_whole_message_goes_as_it_is_to_those_it_names_or_others(
    post: MailServer, cli: Cli, tmp_path: Path
) -> None:
    raw = f"From: {ADA}\r\nTo: {BOB}\r\nBcc: zoe@example.test\r\nX-A:  as it is \r\n\r\nx\r\n"
    (tmp_path / "letter.eml").write_text(raw, newline="")
    code, out, err = cli("send", *plain(post), "--eml", "letter.eml")
    assert code == ExitCode.OK, err
    assert [line.split(":")[0] for line in out.splitlines()] == [BOB, "zoe@example.test"]
    (arrived,) = post.inbox(BOB)
    assert b"X-A:  as it is \r\n" in arrived.octets and b"zoe" not in arrived.octets
    code, out, _ = cli(
        *("send", *plain(post), "--eml", "letter.eml", "--from", "<>", "--to", "joe@example.test")
    )
    assert code == ExitCode.OK and out.startswith("joe@example.test: accepted")
    (other,) = post.inbox("joe@example.test")
    assert other.sender == "" and other.message.header("From") == ADA


def test_a_template_makes_one_letter_too(post: MailServer, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "hello.subject.txt").write_text("Hello {{ name }}\n")
    (tmp_path / "hello.html").write_text("<p>{{ name }} &amp; tea</p>")
    message = sent(post, cli, "--template", "hello", "--data", "name=B<b").message
    assert message.subject == "Hello B<b" and "B&lt;b &amp; tea" in message.html
    code, err = refused(
        cli, *("--server", "127.0.0.1:1", "--from", ADA, "--to", BOB, "--template", "hello")
    )
    assert code == ExitCode.FAILED
    assert err.splitlines()[-1] == "hint: give it with --data, or as a column of --recipients"


def test_a_subject_of_ones_own_goes_before_the_templates(
    post: MailServer, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "hello.subject.txt").write_text("Hello")
    (tmp_path / "hello.txt").write_text("x")
    assert sent(post, cli, "--template", "hello", "--subject", "Tea").message.subject == "Tea"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--subject", "For {{name}}", "--body", "x"), "--subject has {{name}}, which goes out as"),
        (("--subject", "x", "--body", "Dear {{ name }},"), "--body has {{ name }}, which goes"),
        (("--subject", "x", "--html-body", "{% if a %}x"), "--html-body has {% if a %}, which"),
        (("--body", "x"), 'there is no --subject: it has "A message from posthouse send" for one'),
        (("--template", "hello"), "there is no --subject and no hello.subject.txt: it has"),
        (("--subject", "", "--body", "x {} {{}} {{ {"), ""),
        ((), ""),
    ],
)
def test_what_a_letter_may_lack_is_noticed_and_no_error(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "hello.txt").write_text("x")
    code, _, err = cli("send", "--from", ADA, "--to", BOB, "--dry-run", "out", *arguments)
    assert code == ExitCode.OK and err.startswith(f"hint: {words}" if words else "")
    assert len(err.splitlines()) == bool(words)


def test_a_dry_run_as_json_says_where_it_was_written(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("send", "--from", ADA, "--to", BOB, "--dry-run", "out", "--json")
    told = json.loads(out)
    (file,) = Path("out").glob("*.eml")
    assert code == ExitCode.OK and not told["is_accepted"]
    assert [one["written_to"] for one in told["recipients"]] == [str(file)]


def test_a_dry_run_writes_what_would_be_sent_with_its_envelope(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "with blank & 100%"
    code, out, err = cli(
        *("send", "--from", ADA, "--to", BOB, "--dry-run", str(folder), "--body", "x"),
        *("--user", ADA, "--password-stdin", "--body-file", "-")[:3],
        stdin="unused\n",
    )
    assert code == ExitCode.OK, err
    (file,) = folder.glob("*.eml")
    assert out == f"{BOB}: written to {file}\n"
    assert err == 'hint: there is no --subject: it has "A message from posthouse send" for one\n'
    assert read(file.read_bytes()).text == "x\n"
    assert json.loads(file.with_suffix(".json").read_text())["recipients"] == [BOB]


# --- the envelope ---


@pytest_asyncio.fixture
async def bad() -> AsyncIterator[BadServer]:
    async with BadServer() as server:
        yield server


async def to(server: BadServer, cli: Cli, *arguments: str, stdin: str = "") -> Any:
    """Send by a scripted server on this loop: exit code, stdout, stderr."""
    return await asyncio.to_thread(
        cli,
        *("send", "--server", f"127.0.0.1:{server.port}", "--from", ADA, "--to", BOB, *arguments),
        stdin=stdin,
    )


async def test_notices_are_asked_for(bad: BadServer, cli: Cli) -> None:
    code, _, err = await to(
        bad,
        cli,
        *("--notify", "success,delay", "--notify-return", "headers", "--envelope-id", "Q 1"),
        *("--return-path", "bounces@example.test"),
    )
    assert code == ExitCode.OK, err
    mail = next(one for one in bad.commands if one.startswith("MAIL"))
    rcpt = next(one for one in bad.commands if one.startswith("RCPT"))
    assert "FROM:<bounces@example.test>" in mail
    assert "RET=HDRS" in mail and "ENVID=Q+201" in mail
    assert "NOTIFY=SUCCESS,DELAY" in rcpt and f"ORCPT=rfc822;{BOB}" in rcpt


async def test_no_notice_and_no_tls_by_demand(bad: BadServer, cli: Cli) -> None:
    code, _, err = await to(bad, cli, "--notify", "never", "--tls-demand", "optional")
    assert code == ExitCode.OK, err
    assert "NOTIFY=NEVER" in err
    assert b"TLS-Required: No\r\n" in bad.taken[0].octets
    code, _, err = await to(bad, cli, "--tls-demand", "required")
    assert code == ExitCode.FAILED and "REQUIRETLS wants TLS with a certificate" in err
    assert "hint: use --tls implicit or --tls starttls, without --insecure" in err


async def test_some_of_the_recipients_may_be_refused(cli: Cli) -> None:
    replies = {"RCPT": ["250 2.1.5 ok", "450 4.2.1 busy", "250 2.1.5 ok"]}
    async with BadServer(replies=replies) as server:
        code, out, err = await to(server, cli, "--cc", "eve@example.test", "--cc", "joe@x.test")
        place = f"127.0.0.1:{server.port}"
    assert out.splitlines() == [
        f"{BOB}: accepted: 250 2.0.0 ok: queued as Q1",
        "eve@example.test: refused: 450 4.2.1 busy",
        "joe@x.test: accepted: 250 2.0.0 ok: queued as Q1",
    ]
    assert code == ExitCode.TEMPORARY
    assert err.splitlines()[-2:] == [
        f"error: {place} refused the recipient eve@example.test: 450 4.2.1 busy",
        "hint: it may work later; send it again to those who were refused",
    ]


async def test_a_recipient_whose_reply_was_lost_is_neither_accepted_nor_refused(cli: Cli) -> None:
    replies = {
        "RCPT": ["250 2.1.5 ok", "450 4.2.1 busy", "250 2.1.5 ok"],
        "DOT": ["250 2.0.0 ok", DROP],
    }
    more = ("--cc", "eve@example.test", "--cc", "joe@x.test", "--json")
    for arguments in (more[:-1], more):
        async with BadServer(is_lmtp=True, replies=replies) as server:
            code, out, err = await asyncio.to_thread(
                cli,
                *("send", "--url", f"lmtp://127.0.0.1:{server.port}", "--from", ADA, "--to", BOB),
                *arguments,
            )
        assert code == ExitCode.FAILED
        assert err.splitlines()[-2:] == [
            "hint: it may work later; send it again to those who were refused",
            "hint: it may have been taken or not: look before you send it again",
        ]
        if arguments != more:
            words = [line.split(": ")[:2] for line in out.splitlines()]
            assert words == [
                [BOB, "accepted"], ["eve@example.test", "refused"], ["joe@x.test", "unknown"],
            ]  # fmt: skip
            assert "broke before it said whether it took the message for joe@x.test: " in err
    told = [one["may_have_been_sent"] for one in json.loads(out)["recipients"]]
    assert told == [False, False, True]


@pytest.mark.parametrize(
    ("replies", "code", "words"),
    [
        ({"MAIL": "451 4.3.0 later"}, ExitCode.TEMPORARY, "it may work later"),
        ({"GREETING": "421 4.3.2 full"}, ExitCode.TEMPORARY, "turns us away: 421"),
        ({"GREETING": "554 5.7.1 go"}, ExitCode.FAILED, "turns us away: 554"),
        ({"DOT": "552 5.3.4 big"}, ExitCode.FAILED, "octets with all that is attached"),
        ({"DOT": DROP}, ExitCode.FAILED, "look before you send it again"),
        ({"DATA": DROP}, ExitCode.TEMPORARY, "ended the session before it took the message"),
        ({"RCPT": "550 5.1.1 no"}, ExitCode.FAILED, "check the spelling of the address"),
    ],
)
async def test_what_may_work_later_ends_with_75(
    replies: dict[str, str], code: ExitCode, words: str, cli: Cli
) -> None:
    async with BadServer(replies=replies) as server:
        got, out, err = await to(server, cli)
    assert (got, words in err) == (code, True), err
    if replies == {"DOT": DROP}:
        assert out.startswith(f"{BOB}: unknown: ")


def _error(kind: type[SendingError], **more: Any) -> SendingError:
    return kind("x", **more)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (_error(ConnectError, is_transient=True), ExitCode.TEMPORARY),
        (_error(SendTimeout, is_transient=True), ExitCode.TEMPORARY),
        (_error(ConnectError), ExitCode.FAILED),
        (_error(SendTimeout, is_transient=True, stage=Stage.GREETING), ExitCode.FAILED),
        (_error(TlsError, is_transient=True), ExitCode.FAILED),
        (_error(AuthError, is_transient=True, reply=Reply(454, "4.7.0", "")), ExitCode.TEMPORARY),
        (_error(AuthError, reply=Reply(535, "5.7.8", "")), ExitCode.FAILED),
        (_error(EnvelopeError, is_transient=True, reply=Reply(450, "", "")), ExitCode.TEMPORARY),
        (_error(ProtocolError, is_transient=True, may_have_been_sent=True), ExitCode.FAILED),
    ],
)
def test_nothing_that_could_arrive_twice_is_said_to_be_worth_a_try(
    error: SendingError, code: ExitCode
) -> None:
    assert exit_code(error) == code


# --- the line, and who we are ---


def test_a_login_by_starttls_or_tls_from_the_start(post: MailServer, cli: Cli) -> None:
    for service, tls in (("submission", "starttls"), ("submissions", "implicit")):
        code, out, err = cli(
            *("send", *login(post, service), "--tls", tls, "--from", ADA, "--to", BOB, "--json"),
            stdin=f"{PASSWORD}\n",
        )
        assert code == ExitCode.OK, err
        told = json.loads(out)
        assert told["tls"].startswith("TLSv1.3 with ") and told["is_accepted"] is True
        assert told["queue_id"] in told["recipients"][0]["reply"]
        assert told["message_id"].endswith("@example.test>") and told["size_octets"] > 100
        assert "-> AUTH " in err and PASSWORD not in err + out


def test_the_password_comes_from_a_file_or_the_environment(
    post: MailServer, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\r\nsecond line\n")
    start = ("send", *login(post)[:-1], "--from", ADA, "--to", BOB)
    code, _, err = cli(*start, "--password-file", "password")
    assert code == ExitCode.OK, err
    monkeypatch.setenv("POSTHOUSE_PASSWORD", PASSWORD)
    code, _, err = cli(*start)
    assert code == ExitCode.OK, err
    monkeypatch.setenv("POSTHOUSE_PASSWORD", "wrong")
    assert cli(*start, "--password-file", "password")[0] == ExitCode.OK  # the file is nearer


def test_a_url_names_the_server_and_the_user(post: MailServer, cli: Cli) -> None:
    port = post.address("submission")[1]
    url = f"smtp+starttls://{ADA.replace('@', '%40')}@localhost:{port}"
    code, _, err = cli(
        *("send", "--url", url, "--ca", post.ca, "--from", ADA, "--to", BOB, "--password-stdin"),
        stdin=f"{PASSWORD}\n",
    )
    assert code == ExitCode.OK, err
    assert "<- 235 " in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "smtps://ada:s3cret@mail.example.test"),
        ("--url", "smtps://ada@mail.example.test?password=s3cret"),
        ("--url", "smtps://mail.example.test?proxy=http://me:s3cret@proxy.test"),
        ("--server", "127.0.0.1:1", "--proxy", "socks5://me:s3cret@proxy.test"),
        ("--server", "127.0.0.1:1", "--outcome-mailbox", "imaps://ada:s3cret@mail.example.test"),
    ],
)
def test_a_url_with_a_password_is_refused_and_not_repeated(
    arguments: tuple[str, ...], cli: Cli
) -> None:
    code, err = refused(cli, "--from", ADA, "--to", BOB, *arguments)
    assert code == ExitCode.USAGE
    assert "has a password in it, which others on this machine can see" in err
    assert "s3cret" not in err


# Secrets: nothing of them is in a process's arguments, on a terminal or in JSON.
def test_no_secret_shows_in_arguments_or_output(post: MailServer, tmp_path: Path) -> None:
    marks = tmp_path / "arguments"
    program = (
        "import sys, pathlib; from posthouse.cli import main;"
        f"pathlib.Path({str(marks)!r}).write_bytes("
        "pathlib.Path('/proc/self/cmdline').read_bytes()); main()"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", program, "send", *login(post), "--json"),
            *("--from", ADA, "--to", BOB, "--mechanism", "LOGIN"),
        ],
        input=f"{PASSWORD}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={k: v for k, v in os.environ.items() if k != "POSTHOUSE_CONFIG"},
        cwd=tmp_path,
    )
    import base64

    said = done.stdout + done.stderr
    coded = base64.b64encode(PASSWORD.encode()).decode()
    assert done.returncode == ExitCode.OK, said
    assert "-> AUTH LOGIN" in said and said.count("-> ***") == 2
    assert PASSWORD not in said and coded not in said
    assert PASSWORD.encode() not in marks.read_bytes()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
async def test_a_mechanism_is_taken_by_its_name(mechanism: str, cli: Cli) -> None:
    challenges = {"LOGIN": (b"Username:", b"Password:"), "CRAM-MD5": (b"<1@bad.test>",)}
    async with BadServer(
        extensions=(*USUAL, "AUTH PLAIN LOGIN CRAM-MD5"),
        challenges=challenges.get(mechanism, ()),
    ) as server:
        code, _, err = await to(
            *(server, cli, "--user", ADA, "--password-stdin", "--mechanism", mechanism.lower()),
            stdin=f"{PASSWORD}\n",
        )
        assert code == ExitCode.OK, err
        assert any(one.startswith(f"AUTH {mechanism}") for one in server.commands)
    assert f"-> AUTH {mechanism}" in err and PASSWORD not in err


async def test_a_token_comes_from_a_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("ya29.token\n")
    async with BadServer(extensions=(*USUAL, "AUTH XOAUTH2")) as server:
        code, _, err = await to(server, cli, "--user", ADA, "--token-file", "token")
        assert code == ExitCode.OK, err
        assert "ya29.token" in server.auth_lines[0]
    assert "ya29" not in err


async def test_external_needs_no_password(cli: Cli) -> None:
    async with BadServer(extensions=(*USUAL, "AUTH EXTERNAL")) as server:
        code, _, err = await to(server, cli, "--mechanism", "EXTERNAL", "--authorization-id", "ada")
        assert code == ExitCode.OK, err
        assert server.auth_lines == ["ada"]


async def test_a_proxy_is_gone_through_and_its_password_hidden(
    bad: BadServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    import base64

    heard: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heard.append(head)
        inner, outer = await asyncio.open_connection("127.0.0.1", bad.port)
        writer.write(b"HTTP/1.1 200 ok\r\n\r\n")

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while octets := await source.read(65_536):
                target.write(octets)
            target.close()

        await asyncio.gather(copy(reader, outer), copy(inner, writer))

    listener = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    monkeypatch.setenv("POSTHOUSE_PROXY_PASSWORD", "pr0xy-secret")
    code, _, err = await to(bad, cli, "--proxy", f"http://me@127.0.0.1:{port}", "--tls", "none")
    listener.close()
    assert code == ExitCode.OK, err
    assert base64.b64encode(b"me:pr0xy-secret") in heard[0]
    assert "pr0xy" not in err


async def test_our_name_and_address_are_ours_to_say(bad: BadServer, cli: Cli) -> None:
    code, _, err = await to(
        bad, cli, "--hello-name", "pc.example.test", "--local-address", "127.0.0.2"
    )
    assert code == ExitCode.OK, err
    assert bad.commands[0] == "EHLO pc.example.test"


async def test_quiet_leaves_the_dialogue_out(bad: BadServer, cli: Cli) -> None:
    code, out, err = await to(bad, cli, "--quiet")
    assert (code, err) == (ExitCode.OK, "")
    assert out == f"{BOB}: accepted: 250 2.0.0 ok: queued as Q1\n"


class Certificates:
    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca)
        self.client = str(folder / "client.pem")
        authority.issue_cert(ADA).private_key_and_cert_chain_pem.write_to_path(self.client)
        self.good = self._context(authority.issue_cert("localhost"))
        self.other = self._context(authority.issue_cert("mail.elsewhere.test"))
        self.wants_client = self._context(authority.issue_cert("localhost"))
        authority.configure_trust(self.wants_client)
        self.wants_client.verify_mode = ssl.CERT_REQUIRED

    @staticmethod
    def _context(issued: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        issued.configure_cert(context)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


async def test_names_versions_and_our_own_certificate(certificates: Certificates, cli: Cli) -> None:
    ca = ("--ca", certificates.ca, "--tls-version-min", "1.3")
    async with BadServer(context=certificates.other) as server:
        code, _, err = await to(server, cli, *ca, "--server-name", "mail.elsewhere.test")
        assert code == ExitCode.OK, err
        code, _, err = await to(server, cli, *ca, "--server-name", "mail.example.test")
        assert code == ExitCode.FAILED
    assert "add --server-name mail.elsewhere.test" in err.splitlines()[-1]
    async with BadServer(context=certificates.wants_client, is_implicit=True) as server:
        rest = (*ca, "--server-name", "localhost", "--tls", "implicit")
        code, _, err = await to(server, cli, *rest, "--certificate", certificates.client)
        assert code == ExitCode.OK, err
        code, _, err = await to(server, cli, *rest)
        assert code == ExitCode.FAILED


async def test_the_usual_mistakes_with_tls_are_named(certificates: Certificates, cli: Cli) -> None:
    async with BadServer(context=certificates.good) as server:  # begins in plain text, as 587
        code, _, err = await to(server, cli, "--tls", "implicit")
        assert code == ExitCode.FAILED and "use --tls starttls" in err.splitlines()[-1]
        # This machine's names are checked, too, unless somebody says not to.
        code, _, err = await to(server, cli)
        assert code == ExitCode.FAILED and "--ca certificate.pem" in err
        code, _, err = await to(server, cli, "--insecure")
        assert code == ExitCode.OK, err
    async with BadServer(context=certificates.good, is_implicit=True) as server:  # as 465
        code, _, err = await to(server, cli, "--tls", "none", "--timeout", "1")
        assert code == ExitCode.FAILED and "use --tls implicit" in err.splitlines()[-1]
    async with BadServer() as server:
        code, _, err = await to(server, cli, "--tls", "starttls")
        assert code == ExitCode.FAILED and "--tls none sends in plain text" in err.splitlines()[-1]
        code, _, err = await to(server, cli, "--tls", "opportunistic")
        assert code == ExitCode.OK, err


async def test_the_log_speaks_of_options_while_the_command_runs(
    certificates: Certificates, cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    async with BadServer(context=certificates.good) as server:
        code, _, err = await to(server, cli, "--insecure")
    assert code == ExitCode.OK, err
    assert "is not checked (--insecure)" in caplog.text and "verify=" not in caplog.text
    assert logging.getLogger("posthouse.sending").filters == []


async def test_silence_is_waited_for_no_longer_than_asked(cli: Cli) -> None:
    async with BadServer(replies={"GREETING": SILENCE}) as server:
        code, _, err = await to(server, cli, "--timeout", "1")
    assert code == ExitCode.FAILED and "did not answer in time (greeting)" in err


class Ponderous(BadServer):
    """Looks into each message before it says that it has it."""

    def reply(self, verb: str) -> str:
        if verb == "DOT":
            time.sleep(1.2)
        return super().reply(verb)


async def test_the_end_of_the_message_has_a_longer_wait_of_its_own(cli: Cli) -> None:
    """RFC 5321 §4.5.3.2.6: a message that was given up on may have been taken all the same."""
    async with Ponderous() as server:
        code, out, err = await to(server, cli, "--timeout", "1")
    assert code == ExitCode.OK and out == f"{BOB}: accepted: 250 2.0.0 ok: queued as Q1\n", err
    async with BadServer(replies={"DOT": SILENCE}) as server:
        code, out, err = await to(server, cli, "--data-timeout", "1")
    assert code == ExitCode.FAILED and out.startswith(f"{BOB}: unknown: "), err
    assert "look before you send it again" in err


def test_the_wait_for_the_end_that_the_help_tells_is_the_librarys() -> None:
    told = next(one for one in send.params if one.name == "data_timeout_s")
    assert isinstance(told, click.Option) and told.help is not None
    assert f"; {Options().data_timeout_s:g} if not given" in told.help


def test_a_wrong_password_is_said_to_be_one(post: MailServer, cli: Cli) -> None:
    code, out, err = cli(
        *("send", *login(post), "--from", ADA, "--to", BOB), stdin="wrong-sesame-7\n"
    )
    assert (code, out) == (ExitCode.FAILED, "")
    assert f"refused the login of {ADA} by " in err and "wrong-sesame" not in err
    assert err.splitlines()[-1].startswith("hint: try name and password where")


def test_nobody_at_the_port_is_told_so(cli: Cli) -> None:
    code, out, err = cli(*("send", "--server", "127.0.0.1:1", "--from", ADA, "--to", BOB, "--json"))
    assert code == ExitCode.TEMPORARY
    told = json.loads(out)
    assert told["server"] == "127.0.0.1:1" and told["recipients"] == []
    assert told["error"] == "127.0.0.1:1 cannot be reached: Connection refused"
    assert told["hint"] and "== 127.0.0.1 port 1: Connection refused" in err


def test_a_service_is_known_by_its_name(cli: Cli) -> None:
    code, err = refused(cli, "--service", "gmial", "--from", ADA, "--to", BOB)
    assert code == ExitCode.USAGE
    assert err.splitlines() == [
        "error: --service names 'gmial', which is not in the table",
        "hint: did you mean gmail?",
    ]


async def test_lmtp_and_a_command_are_ways_too(cli: Cli, tmp_path: Path) -> None:
    rest = ("--from", ADA, "--to", BOB, "--cc", "eve@example.test")
    replies = {"DOT": ["250 2.1.5 kept", "452 4.2.2 full"]}
    async with BadServer(is_lmtp=True, replies=replies) as server:
        url = f"lmtp://127.0.0.1:{server.port}"
        code, out, err = await asyncio.to_thread(cli, "send", "--url", url, *rest)
    assert code == ExitCode.TEMPORARY and "-> LHLO " in err
    assert out.splitlines() == [
        f"{BOB}: accepted: 250 2.1.5 kept",
        "eve@example.test: refused: 452 4.2.2 full",
    ]
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/told; cat >{tmp_path}/taken\n')
    program.chmod(0o755)
    code, out, err = await asyncio.to_thread(cli, "send", "--url", f"sendmail://{program}", *rest)
    assert code == ExitCode.OK, err
    assert BOB in (tmp_path / "told").read_text()
    assert "Subject: A message" in (tmp_path / "taken").read_text()


# --- keys ---


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """ada.pem and bob.pem with key and certificate, ada.crt and bob.crt, ada-locked.pem."""
    now = datetime.now(UTC) - timedelta(days=1)
    for name in ("ada", "bob", "eve"):
        identity = make_identity([f"{name}@example.test"], at=now, days=9)
        certificate = identity.certificates_pem()
        (tmp_path / f"{name}.crt").write_bytes(certificate)
        (tmp_path / f"{name}.pem").write_bytes(identity.key_pem() + certificate)
        (tmp_path / f"{name}.key").write_bytes(identity.key_pem())
        locked = identity.key_pem(Secret("key-secret"))
        (tmp_path / f"{name}-locked.pem").write_bytes(locked + certificate)
    return tmp_path


def test_a_letter_is_signed_and_encrypted_by_smime(post: MailServer, keys: Path, cli: Cli) -> None:
    arrived = sent(post, cli, "--body", "Private", "--sign", "ada.pem")
    assert b"multipart/signed" in arrived.octets
    post.clear()
    arrived = sent(post, cli, "--body", "Private", "--sign", "ada.crt", "--sign-key", "ada.key")
    assert b"multipart/signed" in arrived.octets
    post.clear()
    arrived = sent(
        post, cli, *("--body", "Private", "--sign", "ada.pem", "--encrypt-to", "bob.crt")
    )
    assert b"application/pkcs7-mime" in arrived.octets and b"Private" not in arrived.octets
    opened = subprocess.run(
        [*("openssl", "cms", "-decrypt", "-inkey", "bob.key", "-recip", "bob.crt")],
        input=arrived.octets,
        capture_output=True,
        cwd=keys,
        check=True,
    )
    assert b"Private" in opened.stdout and b"multipart/signed" in opened.stdout


def make_pkcs12(keys: Path) -> None:
    """ada.p12, with a password."""
    subprocess.run(
        [
            *("openssl", "pkcs12", "-export", "-inkey", "ada.key", "-in", "ada.crt"),
            *("-out", "ada.p12", "-passout", "pass:key-secret"),
        ],
        cwd=keys,
        check=True,
    )


def test_a_pkcs12_file_and_the_passwords_of_keys(
    post: MailServer, keys: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pkcs12(keys)
    (keys / "key-password").write_text("key-secret\n")
    for name in ("ada.p12", "ada-locked.pem"):
        post.clear()
        arrived = sent(post, cli, "--sign", name, "--key-password-file", "key-password")
        assert b"multipart/signed" in arrived.octets
        code, err = refused(cli, *plain(post), "--from", ADA, "--to", BOB, "--sign", name)
        assert code == ExitCode.FAILED
        assert "give it with --key-password-file or in $POSTHOUSE_KEY_PASSWORD" in err
    monkeypatch.setenv("POSTHOUSE_KEY_PASSWORD", "key-secret")
    post.clear()
    assert b"multipart/signed" in sent(post, cli, "--sign", "ada.p12").octets
    monkeypatch.setenv("POSTHOUSE_KEY_PASSWORD", "wrong-secret")
    code, err = refused(cli, *plain(post), "--from", ADA, "--to", BOB, "--sign", "ada.p12")
    assert code == ExitCode.FAILED and "password" in err and "secret" not in err


def test_nobody_gets_what_they_cannot_read_and_nothing_goes_in_the_clear(
    post: MailServer, keys: Path, cli: Cli
) -> None:
    start = (*plain(post), "--from", ADA, "--to", BOB, "--encrypt-to", "bob.crt")
    code, err = refused(cli, *start, "--cc", "eve@example.test")
    assert code == ExitCode.FAILED
    assert "no key is for eve@example.test, who could not read the message" in err
    code, err = refused(cli, *start, "--bcc", "eve@example.test", "--encrypt-to", "eve.crt")
    assert code == ExitCode.FAILED and "eve@example.test in Bcc would be known" in err
    assert post.inbox(BOB) == []


def test_readers_who_will_complain_of_the_certificate_are_foretold(
    post: MailServer, keys: Path, cli: Cli
) -> None:
    _, _, err = cli("send", *plain(post), "--from", ADA, "--to", BOB, "--sign", "bob.pem")
    assert f"the key of --sign is for {BOB}: readers will say so of this From" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sign", "gone.p12"), "--sign: there is no file 'gone.p12'"),
        (("--sign", "ada.crt"), "name the file of the key with --sign-key"),
        (("--sign", "ada.pem", "--sign-key", "ada.crt"), "there is no private key in the file"),
        (("--sign", "note.txt"), "--sign: the file holds no key"),
        (("--encrypt-to", "ada.p12"), "name the certificate of the recipient"),
        (("--sign", "ada.p12"), "has a password, and none was given"),
        (("--sign", "ada.pem", "--sign-key", "bob.key"), "belongs to the private key"),
        (("--encrypt-to", "ada.key"), "--encrypt-to: ada.key holds no certificate alone"),
        (("--encrypt-to", "note.txt"), "--encrypt-to: note.txt: a certificate cannot be read"),
        (("--encrypt-to", "pgp.asc"), "a block of it does not end"),
        (("--sign-key", "ada.key"), "--sign-key needs --sign"),
        (("--key-password-file", "ada.key"), "--key-password-file needs --sign"),
    ],
)
def test_keys_that_cannot_be_used_are_told(
    arguments: tuple[str, ...], words: str, keys: Path, cli: Cli
) -> None:
    (keys / "pgp.asc").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    (keys / "note.txt").write_text("the key is under the mat\n")
    make_pkcs12(keys)
    code, err = refused(cli, "--server", "127.0.0.1:1", "--from", ADA, "--to", BOB, *arguments)
    assert code in (ExitCode.FAILED, ExitCode.USAGE) and words in err


def test_openpgp_keys_sign_and_encrypt_the_same_way(
    post: MailServer, cli: Cli, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    ada, bob = (make_key([one], at=now, days=9)[0] for one in (ADA, BOB))
    (tmp_path / "ada.asc").write_bytes(ada.armored("sesame", salt=bytes(24)))
    (tmp_path / "word").write_text("sesame\n")
    (tmp_path / "bob.asc").write_bytes(bob.public.armored())
    options = ("--sign", "ada.asc", "--key-password-file", "word", "--encrypt-to", "bob.asc")
    arrived = sent(post, cli, "--body", "Private", *options)
    assert b"Private" not in arrived.octets
    opener = PgpOpener(own=[bob], known=[ada.public], trusted=[ada.public.fingerprint])
    opened = open_message(arrived.octets, [opener], at=datetime.now(UTC))
    assert opened.summary is Summary.SIGNED_AND_ENCRYPTED and b"Private" in opened.octets
    code, err = refused(
        cli,
        *("--server", "127.0.0.1:1", "--from", ADA, "--to", BOB, "--sign", "ada.asc"),
    )
    assert code == ExitCode.FAILED and "has a password" in err and "--key-password-file" in err


def test_dkim_signs_what_is_sent_and_what_a_dry_run_writes(
    post: MailServer, cli: Cli, tmp_path: Path
) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "dkim.pem").write_bytes(pem)
    option = ("--dkim", "example.test:s1:dkim.pem")
    assert b"DKIM-Signature: v=1;" in sent(post, cli, *option).octets
    code, _, err = cli("send", "--from", ADA, "--to", BOB, "--dry-run", "out", *option)
    assert code == ExitCode.OK, err
    (file,) = (tmp_path / "out").glob("*.eml")
    assert file.read_bytes().startswith(b"DKIM-Signature: v=1;")


# --- what became of it ---


def test_the_end_of_a_letter_is_waited_for(post: MailServer, cli: Cli) -> None:
    """A notice arrives in the mailbox of who sent it, and says that the copy came back."""
    url = f"imaps://localhost:{post.address('imaps')[1]}"
    own_id = "<waited-for@example.test>"
    notice = (
        f"From: mailer-daemon@example.test\r\nTo: {ADA}\r\nSubject: Returned\r\n"
        "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;"
        ' boundary="b"\r\n\r\n--b\r\n\r\nIt came back.\r\n'
        "--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        "Reporting-MTA: dns; example.test\r\n\r\n"
        f"Final-Recipient: rfc822; {BOB}\r\nAction: failed\r\nStatus: 5.2.2\r\n"
        "Diagnostic-Code: smtp; 552 5.2.2 Mailbox is full\r\n\r\n"
        f"--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: {own_id}\r\n\r\nx\r\n--b--\r\n"
    )
    Path("notice.eml").write_text(notice, newline="")
    code, _, err = cli(
        *("send", *plain(post), "--eml", "notice.eml", "--from", "<>", "--to", ADA, "--quiet")
    )
    assert code == ExitCode.OK, err
    post.wait_for(ADA)
    start = ("send", *login(post), "--from", ADA, "--to", BOB, "--outcome-mailbox", url)
    code, out, err = cli(
        *(*start, "--wait", "20", "--header", f"Message-ID: {own_id}"), stdin=f"{PASSWORD}\n"
    )
    assert code == ExitCode.FAILED
    assert out == f"{BOB}: returned: 552 5.2.2 Mailbox is full\n"
    assert "== waiting up to 20 s for notices" in err
    assert f"error: the copy of {BOB} came back: 552 5.2.2 Mailbox is full" in err
    code, out, err = cli(*start, "--wait", "0", "--json", stdin=f"{PASSWORD}\n")
    assert code == ExitCode.OK, err
    assert json.loads(out)["recipients"][0]["state"] == "accepted"
    assert PASSWORD not in out + err


def test_a_mailbox_that_cannot_be_read_does_not_undo_the_sending(
    post: MailServer, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "other").write_text("not-this-one\n")
    url = f"imaps://localhost:{post.address('imaps')[1]}"
    code, out, err = cli(
        *("send", *login(post), "--from", ADA, "--to", BOB),
        *("--outcome-mailbox", url, "--outcome-password-file", "other"),
        stdin=f"{PASSWORD}\n",
    )
    assert code == ExitCode.OK and out.startswith(f"{BOB}: accepted: ")
    assert "error: it was sent, and what became of it is not known: the mailbox of" in err
    assert "--outcome-mailbox" in err.splitlines()[-1] and "not-this-one" not in err


# --- mistakes ---


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--header", "nothing"), "--header takes 'NAME: VALUE', and 'nothing' has no colon"),
        (("--header", "X: a\r\nBcc: b@example.org"), "--header X: a line break cannot"),
        (("--header", "X Y: a"), "--header X Y: this is not a field name"),
        (("--header", "Content-Type: a/b"), "--header Content-Type cannot be set here"),
        (("--header", "Bcc: a@b.test"), "--header Bcc cannot be set here"),
        (("--header", "Date: soon"), "--header Date: 'soon' is no date"),
        (("--header", "Subject: a", "--header", "Subject: b"), "--header Subject was given twice"),
        (("--subject", "a\nBcc: b"), "--subject: a line break cannot stand in a field"),
        (("--to", "nobody"), "--to: 'nobody' has no @ and so is no address"),
        (("--cc", "a@b.test; c@d.test"), "--cc: 'a@b.test; c@d.test' can be read in more"),
        (("--return-path", "x"), "--return-path: 'x' has no @"),
        (("--in-reply-to", "<a b>"), "--in-reply-to: "),
        (("--attach", "gone.pdf"), "--attach: there is no file 'gone.pdf'; it was looked for in"),
        (("--attach", "http://a.test/x"), "--attach: 'http://a.test/x' is a URL"),
        (("--inline", "logo:gone.png"), "--inline: there is no file 'gone.png'"),
        (("--inline", "logo"), "--inline takes CID:FILE, and 'logo' is none"),
        (("--inline-files", "."), "--inline-files needs --html, --html-body or --template"),
        (("--calendar", "gone.ics"), "--calendar: there is no file 'gone.ics'"),
        (("--body-file", "gone.txt"), "--body-file: there is no file 'gone.txt'; it was looked"),
        (("--body-file", "."), "--body-file: '.' is a folder"),
        (("--body-file", "latin.txt"), "--body-file: 'latin.txt' is not UTF-8 text (line 2)"),
        (("--html", "gone.html"), "--html: there is no file 'gone.html'"),
        (("--eml", "gone.eml"), "--eml: there is no file 'gone.eml'"),
        (("--eml", "latin.txt"), "--eml: "),
        (("--eml", "latin.txt", "--subject", "x"), "--subject is of no use with --eml"),
        (("--body", "x", "--body-file", "-"), "give --body or --body-file, not both"),
        (("--html", "x", "--html-body", "y"), "give --html or --html-body, not both"),
        (("--html", "-", "--body-file", "-"), '"-", which is stdin, can be read once'),
        (("--template", "gone"), "there is no template gone.txt or gone.html"),
        (("--template", "x", "--body", "y"), "--template makes the text"),
        (("--data", "a=b"), "--data needs --template"),
        (("--data", "a"), "--data takes NAME=VALUE"),
        (("--dkim", "key"), "--dkim takes DOMAIN:SELECTOR:FILE"),
        (("--dkim", "a.test:s:gone"), "there is no key file 'gone'"),
        (("--notify", "always"), "--notify takes never, or some of success,failure,delay"),
        (("--notify", "never,success"), "--notify takes never"),
        (("--envelope-id", "ü"), "--envelope-id: "),
        (("--server", "a b"), "--server is 'a b', which is no host name"),
        (("--server", "[x"), "--server takes host, host:port or [address]:port, and '[x' is"),
        (("--url", "smtp://x.test"), "give one of --server and --url"),
        (("--password-stdin",), "--password-stdin needs --user"),
        (("--password-file", "x"), "--password-file needs --user"),
        (("--token-file", "x"), "--token-file needs --user"),
        (("--mechanism", "PLAIN"), "--mechanism PLAIN needs --user"),
        (("--user", "x", "--password-file", "gone"), "--password-file: 'gone' cannot be read: No"),
        (("--user", "x", "--password-file", "empty"), "the first line of 'empty' is empty"),
        (("--user", "x", "--password-file", "latin.txt"), "'latin.txt' is not UTF-8 text"),
        (("--user", "x"), "a password is needed, and there is no terminal to ask on"),
        (("--ca", "gone.pem"), "--ca names gone.pem, which cannot be read: No such file"),
        (("--ca", "latin.txt"), "--ca names latin.txt, which holds no certificate"),
        (("--certificate", "gone.pem"), "--certificate cannot be read: No such file"),
        (("--certificate-key", "gone.pem"), "--certificate-key is of no use without the option"),
        (("--tls", "none", "--ca", "gone.pem"), "--ca is of no use with"),
        (("--proxy", "ftp://x"), "--proxy is no URL of a proxy that is known"),
        (("--proxy", "http://[x"), "--proxy cannot be read"),
        (("--body", "\udcff"), "--body: this is not UTF-8 text"),
        (("--html-body", "\udcff"), "--html-body: this is not UTF-8 text"),
        (("--outcome-mailbox", "pop://x@y.test"), "--outcome-mailbox is no URL of a mailbox"),
        (("--proxy-password-file", "x"), "--proxy-password-file needs --proxy"),
        (("--hello-name", "a b"), "--hello-name is 'a b', which is no host name"),
        (("--local-address", "nope"), "--local-address is 'nope', which is no address"),
        (("--wait", "1"), "--wait needs --outcome-mailbox"),
        (("--outcome-mailbox", "imaps://x.test"), "--outcome-mailbox needs a user and a"),
        (("--resume", "journal"), "--resume needs --recipients FILE"),
        (("--rate", "3"), "--rate needs --recipients FILE"),
    ],
)
def test_mistakes_are_told_before_anybody_is_called(
    arguments: tuple[str, ...], error: str, cli: Cli
) -> None:
    is_password = "--user" in arguments
    Path("latin.txt").write_bytes(b"M\xfcller\n" if is_password else b"a\nM\xfc\n")
    Path("empty").write_text("")
    server = () if "--server" in arguments else ("--server", "127.0.0.1:1")
    code, err = refused(cli, *server, "--from", ADA, "--to", BOB, *arguments)
    assert code in (ExitCode.USAGE, ExitCode.FAILED)
    assert error in err.splitlines()[0]
    assert "Traceback" not in err and "this is a bug" not in err


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("smtp://", "--url: the option host is missing in the URL"),
        ("smtp://h?port=x", "--url: the option port is 'x', and has to be a number"),
        ("smtp://h?watch=x", "--url: the option watch has to be"),
        ("smtp://h?frobnicate=1", "--url: the option frobnicate is not known"),
        ("folder:", "--url: the option folder is missing"),
        ("smtp://h?hello_name=a%20b", "--hello-name is 'a b', which is no host name"),
        ("gopher://x", "the URL begins with no scheme that is known"),
        ("smtp://[x", "the URL cannot be read"),
        ("lmtp:", "--url: the option host is missing in the URL\nhint: write lmtp://127.0.0.1:24"),
    ],
)
def test_a_url_that_cannot_be_is_told(url: str, error: str, cli: Cli) -> None:
    code, err = refused(cli, "--url", url, "--from", ADA, "--to", BOB)
    assert code == ExitCode.USAGE
    assert err.startswith(f"error: {error}")


@pytest.mark.parametrize(
    ("given", "ours"),
    [("--text", "--body"), ("--password", "--password-file"), ("--host", "--server")],
)
def test_other_programs_names_of_options_are_known(given: str, ours: str, cli: Cli) -> None:
    code, err = refused(cli, "--from", ADA, "--to", BOB, given, "x")
    assert code == ExitCode.USAGE
    assert f"No such option '{given}'. Did you mean '{ours}'?" in err


def test_other_names_stand_for_options_that_there_are() -> None:
    names = {name for param in send.params for name in param.opts}
    assert set(OTHER_NAMES.values()) <= names and not names & set(OTHER_NAMES)


def test_nobody_at_the_port_of_lmtp_is_not_sent_to_the_ports_of_smtp(cli: Cli) -> None:
    code, _, err = cli("send", "--url", "lmtp://127.0.0.1:1", "--from", ADA, "--to", BOB)
    assert code == ExitCode.TEMPORARY and "lmtp://127.0.0.1:PORT" in err and "587" not in err


def test_an_address_that_is_not_ours_is_told(cli: Cli) -> None:
    code, _, err = cli(
        *("send", "--server", "127.0.0.1:1", "--from", ADA, "--to", BOB),
        *("--local-address", "192.0.2.1"),
    )
    assert code == ExitCode.TEMPORARY
    assert err.splitlines()[-2:] == [
        "error: 127.0.0.1:1 cannot be reached: Cannot assign requested address",
        "hint: --local-address has to be an address of this machine",
    ]


@pytest.mark.parametrize("name", ["ä.example.test", "a..b", ".", "x" * 300])
async def test_a_name_no_certificate_can_have_is_no_bug(
    name: str, certificates: Certificates, cli: Cli
) -> None:
    async with BadServer(context=certificates.good) as server:
        code, _, err = await to(server, cli, "--ca", certificates.ca, "--server-name", name)
    assert code in (ExitCode.FAILED, ExitCode.USAGE), err
    assert "this is a bug" not in err and "error: " in err


def test_who_sends_and_to_whom_has_to_be_said(cli: Cli) -> None:
    code, err = refused(cli, "--server", "127.0.0.1:1", "--to", BOB)
    assert code == ExitCode.USAGE and 'give --from, or "<>" for none' in err
    code, err = refused(cli, "--server", "127.0.0.1:1", "--from", ADA)
    assert code == ExitCode.USAGE and "give --to, once or more often, or --recipients" in err


def test_a_person_is_asked_for_a_password_when_the_rest_is_right(
    post: MailServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return PASSWORD

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("io.StringIO", Terminal)
    monkeypatch.setattr("getpass.getpass", answer)
    start = ("send", *login(post)[:-1], "--from", ADA, "--to", BOB)
    code, _, err = cli(*start, "--attach", "gone.pdf")
    assert (code, asked) == (ExitCode.FAILED, []), err
    code, _, err = cli(*start)
    assert (code, asked) == (ExitCode.OK, [f"Password of {ADA}: "]), err


def test_interrupting_ends_at_once_and_says_so(cli: Cli) -> None:
    """Ctrl-C while a server says nothing."""
    import signal
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        kept: list[socket.socket] = []

        def interrupt() -> None:
            kept.append(silent.accept()[0])
            # A signal that is only simulated (`_thread.interrupt_main`) wakes no waiting loop.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        # Where the tests run in the background of a shell, Ctrl-C is ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        thread = threading.Thread(target=interrupt)
        thread.start()
        code, out, err = cli(*("send", "--server", f"127.0.0.1:{port}", "--from", ADA, "--to", BOB))
        thread.join()
        signal.signal(signal.SIGINT, before)
        kept[0].close()
    assert (code, out) == (ExitCode.INTERRUPTED, ""), err
    assert err.splitlines()[-1] == "error: interrupted"


# --- the library's words in ours ---

NAMES = {*Keywords.__annotations__, *Message.__struct_fields__}
PYTHON = re.compile(r"\b([a-z_]+)=(?=[\"'A-Z\[(])|`([a-z_.]+)`")
FOR_PROGRAMS = re.compile(
    "datetime|gather|may_|host=|Priority|content_type|"
    "`(method|filename|encoding|text_encoding|cid|is_inline|content|alternatives|render)`"
)
"""Nothing that this command asks of the library leads to these."""


def hints() -> set[str]:
    """Every text of the library that is given as a hint."""
    found: set[str] = set()
    for path in SENDING.glob("*.py"):
        if path.stem in ("django", "log_handler", "blocking", "message", "outcomes"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            values: list[ast.expr] = []
            if isinstance(node, ast.Call):
                values = [one.value for one in node.keywords if one.arg == "hint"]
            elif isinstance(node, ast.Assign) and any(
                isinstance(one, ast.Name) and "hint" in one.id.lower() for one in node.targets
            ):
                values = [node.value]
            elif isinstance(node, ast.FunctionDef) and node.name.endswith("_hint"):
                values = [
                    one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value
                ]
            for value in values:
                found.update(_texts(value))
    return found


def _texts(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.IfExp):
        yield from _texts(value.body)
        yield from _texts(value.orelse)
    elif isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.JoinedStr):
        yield "".join(
            str(one.value)
            if isinstance(one, ast.Constant)
            else ("'X'" if getattr(one, "conversion", -1) == ord("r") else "X")
            for one in value.values
        )


def test_no_hint_names_a_keyword_of_python() -> None:
    found = hints()
    assert len(found) > 60
    for hint in sorted(found):
        if FOR_PROGRAMS.search(hint):
            continue
        said = in_options(SendingError("x", hint=hint))[1]
        left = [one for one in PYTHON.finditer(said) if (one[1] or one[2]) in NAMES or one[2]]
        assert not left, f"{hint!r} became {said!r}"


def test_arguments_of_a_command_go_into_a_script(cli: Cli) -> None:
    url = "sendmail:///usr/bin/no-msmtp%20-a%20work"
    code, _, err = cli("send", "--url", url, "--from", ADA, "--to", BOB)
    assert code != ExitCode.OK
    assert err.splitlines()[-1] == "hint: name a script that runs it with them"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OptionError("verify", "has to be True"), "--insecure has to be True"),
        (OptionError("", "the URL cannot be read"), "the URL cannot be read"),
        (MessageError("to[2]: x", field="to[2]"), "--to: x"),
        (MessageError('headers["X-A"]: x', field='headers["X-A"]'), "--header X-A: x"),
        (MessageError("attachments[1].path: x", field="attachments[1].path"), "--inline: x"),
        (MessageError("attachments[0].path: x", field="attachments[0].path"), "--attach: x"),
        (MessageError("template a.txt: x", field="a.txt"), "template a.txt: x"),
        (MessageError("message_id: x", field="message_id"), "--header Message-ID: x"),
    ],
)
def test_an_argument_has_the_name_of_its_option(error: SendingError, text: str) -> None:
    assert in_options(error, attached=1)[0] == text


def test_every_keyword_and_argument_has_an_option_or_cannot_come_up() -> None:
    from posthouse.cli.send import send

    options = {name for one in send.params for name in one.opts}
    without = {
        "headers", "alternatives", "list", "inline_data_urls", "text_encoding", "tag",
        "token", "messages_per_connection_max", "rate_per_s", "idle_s", "pending_max",
        "may_fetch_urls", "may_read_files", "command", "arguments", "watch", "folder",
        "greeting_timeout_s", "command_timeout_s", "ssl_context",
    }  # fmt: skip
    for name in sorted(NAMES - without):
        option = send_words.option_of(name).split()[0].rstrip(",")
        assert option in options, name


def test_the_author_of_a_finished_message_stands_in_its_file() -> None:
    error = MessageError("refused", hint="it is not of the account: change sender")
    assert in_options(error)[1].endswith("or with --eml the From field in that file")
