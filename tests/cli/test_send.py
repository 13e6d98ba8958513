"""`posthouse send`: what is shown, what is hidden, and the message that is built."""

from __future__ import annotations

import email
import email.policy
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.cli.dialogue import Dialogue, Submission, Submitted, TlsUse, Trouble
from posthouse.cli.output import ExitCode
from posthouse.cli.send import _message, _tell, _words
from posthouse.kernel.reply import Reply
from posthouse.protocol.smtp.client_events import MessageEnded, Outcome, Result, Stage

from .conftest import Cli

SESSION = (
    (b"<", b"220 hi\r\n"),
    (b">", b"EHLO me\r\n"),
    (b"<", b"250-you\r\n250 AUTH PLAIN LOGIN\r\n"),
    (b">", b"AUTH LOGIN\r\n"),
    (b"<", b"334 VXNlcm5hbWU6\r\n"),
    (b">", b"c2VjcmV0LXVzZXI=\r\n"),
    (b"<", b"334 UGFzc3dvcmQ6\r\n"),
    (b">", b"c2VjcmV0LXBhc3M=\r\n"),
    (b"<", b"235 2.7.0 yes\r\n"),
    (b">", b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"),
    (b"<", b"250 ok\r\n250 ok\r\n354 go\r\n"),
    (b">", b"Subject: private\r\n\r\nAUTH PLAIN x\r\n..\r\nBDAT 9\r\n.\r\n"),
    (b"<", b"250 ok\r\n"),
    (b">", b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 9 LAST\r\nprivate\r\nQUIT\r\n"),
    (b"<", b"250 ok\r\n250 ok\r\n250 ok\r\n221 bye\r\n"),
)
SHOWN = [
    "<- 220 hi",
    "-> EHLO me",
    "<- 250-you",
    "<- 250 AUTH PLAIN LOGIN",
    "-> AUTH LOGIN",
    "<- 334 VXNlcm5hbWU6",
    "-> ***",
    "<- 334 UGFzc3dvcmQ6",
    "-> ***",
    "<- 235 2.7.0 yes",
    "-> MAIL FROM:<a@b>",
    "-> RCPT TO:<c@d>",
    "-> DATA",
    "<- 250 ok",
    "<- 250 ok",
    "<- 354 go",
    "-> (message of 46 octets)",
    "-> .",
    "<- 250 ok",
    "-> MAIL FROM:<a@b>",
    "-> RCPT TO:<c@d>",
    "-> BDAT 9 LAST",
    "-> (message of 9 octets)",
    "-> QUIT",
    "<- 250 ok",
    "<- 250 ok",
    "<- 250 ok",
    "<- 221 bye",
]


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_secrets_and_content_stay_hidden_wherever_the_octets_are_cut(sizes: list[int]) -> None:
    shown: list[str] = []
    dialogue = Dialogue(shown.append)
    turn = 0
    for side, octets in SESSION:
        while octets:
            size = sizes[turn % len(sizes)]
            turn += 1
            part, octets = octets[:size], octets[size:]
            (dialogue.received if side == b"<" else dialogue.sent)(part)
    assert shown == SHOWN


def test_an_initial_response_is_hidden() -> None:
    shown: list[str] = []
    dialogue = Dialogue(shown.append)
    dialogue.sent(b"auth plain AGEAYg==\r\n")
    dialogue.received(b"535 5.7.8 no\r\n")
    dialogue.sent(b"QUIT\r\n")
    assert shown == ["-> auth plain ***", "<- 535 5.7.8 no", "-> QUIT"]


def built(**given: object) -> bytes:
    values: dict[str, object] = {
        "sender": "a@example.org",
        "recipients": ("b@example.org", "<c@example.org>"),
        "subject": None,
        "body": None,
        "fields": (),
        "attached": (),
        "name": "pc.example.org",
    } | given
    return _message(**values).octets  # type: ignore[arg-type]


def test_a_message_has_what_one_needs(tmp_path: Path) -> None:
    (tmp_path / "ü.txt").write_bytes(b"\x00\xff")
    octets = built(subject="Grüße", body="Hällo\n", attached=(str(tmp_path / "ü.txt"),))
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert octets.isascii()
    assert (message["From"], message["To"]) == ("a@example.org", "b@example.org, c@example.org")
    assert message["Subject"] == "Grüße"
    assert message["Date"] and message["Message-ID"].endswith("@pc.example.org>")
    text, attached = message.iter_parts()
    assert text.get_content().splitlines() == ["Hällo"]
    assert attached.get_filename() == "ü.txt"
    assert attached.get_payload(decode=True) == b"\x00\xff"


def test_a_field_given_takes_the_place_of_ours() -> None:
    octets = built(fields=("subject: mine", "X-Other: ü"))
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert message.get_all("Subject") == ["mine"]
    assert message["X-Other"] == "ü"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--header", "nothing"), "--header takes 'NAME: VALUE', and 'nothing' has no colon"),
        (("--header", "X: a\r\nBcc: b@example.org"), "--header X: the character U+000D cannot"),
        (("--header", "X Y: a"), "--header X Y: this is not a field name"),
        (("--subject", "a\nBcc: b"), "Subject: the character U+000A cannot stand in a field"),
        (("--to", "nobody"), "--to 'nobody' is not an address: "),
        (("--server", "a b"), "the address of a b cannot be found: "),
        (("--server", "[x"), "--server takes host, host:port or [address]:port, and '[x' is"),
        (("--body", "x", "--body-file", "-"), "give --body or --body-file, not both"),
        (("--password-stdin",), "--password-stdin needs --user"),
        (("--ca", "gone.pem"), "cannot read gone.pem: No such file"),
    ],
)
def test_mistakes_are_told_before_anybody_is_called(
    arguments: tuple[str, ...], error: str, cli: Cli
) -> None:
    server = () if "--server" in arguments else ("--server", "127.0.0.1:1")
    code, out, err = cli(
        "send", *server, "--from", "a@example.org", "--to", "b@example.org", *arguments
    )
    assert code in (ExitCode.USAGE, ExitCode.FAILED)
    assert out == ""
    assert error in err.splitlines()[0]
    assert "connecting" not in err


def wish(**given: object) -> Submission:
    values: dict[str, object] = {
        "host": "mail.example.org",
        "addresses": ("192.0.2.1",),
        "port": 587,
        "server_name": "mail.example.org",
        "tls": TlsUse.STARTTLS,
        "context": ssl.create_default_context(),
        "name": "pc.example.org",
        "user": "a@example.org",
        "message": _message(
            *("a@example.org", ("b@example.org",), None, None, (), (), "pc.example.org")
        ),
    } | given
    return Submission(**values)  # type: ignore[arg-type]


def ended(stage: Stage, reply: Reply | None, status: str = "", detail: str = "") -> Submitted:
    result = Result.TRANSIENT if reply is not None and reply.is_transient else Result.PERMANENT
    status = status or (reply.status if reply is not None else "") or ""
    outcome = Outcome(result=result, stage=stage, reply=reply, status=status, detail=detail)
    return Submitted(
        ended=MessageEnded(message=wish().message, outcomes=(outcome,), was_tried=True)
    )


NO_LOGIN = Submitted(trouble=Trouble.NO_AUTH)
SIZE = f"the message has {len(wish().message.octets)} octets with all that is attached; the limit"


@pytest.mark.parametrize(
    ("asked", "result", "hint"),
    [
        (
            {},
            ended(Stage.DOT, Reply(550, "5.7.1", "An address in the From field is not yours")),
            (
                "the From field of the message is not of a@example.org:"
                " leave out the --header for it, or give an address of that account"
            ),
        ),
        (
            {},
            ended(Stage.MAIL, Reply(553, "5.7.1", "This sender address is not yours")),
            "a@example.org may not send as a@example.org, or not there",
        ),
        (
            {},
            ended(Stage.MAIL, None, "5.3.4", "the host takes no more than 9 octets"),
            f"{SIZE} is what the server named as its SIZE",
        ),
        ({}, ended(Stage.DOT, Reply(552, "5.3.4", "Too big")), f"{SIZE} is the server's"),
        (
            {"tls": TlsUse.NONE},
            NO_LOGIN,
            "a login needs TLS: leave out --tls none; logins are for port 587 or 465",
        ),
        ({}, NO_LOGIN, "logins are for port 587 or 465; or leave out --user"),
    ],
)
def test_a_refusal_gets_the_hint_that_helps(
    asked: dict[str, object], result: Submitted, hint: str
) -> None:
    assert _words(wish(**asked), result)[1] == hint


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (Submitted(trouble=Trouble.UNREACHABLE), ExitCode.TEMPORARY),
        (Submitted(trouble=Trouble.LOST, reply=Reply(421, "4.3.2", "")), ExitCode.TEMPORARY),
        (Submitted(trouble=Trouble.AUTH, reply=Reply(454, "4.7.0", "")), ExitCode.TEMPORARY),
        (ended(Stage.RCPT, Reply(450, "4.2.0", "grey")), ExitCode.TEMPORARY),
        (Submitted(trouble=Trouble.LOST, reply=Reply(554, "5.7.1", "")), ExitCode.FAILED),
        (Submitted(trouble=Trouble.AUTH, reply=Reply(535, "5.7.8", "")), ExitCode.FAILED),
        (Submitted(trouble=Trouble.CERTIFICATE), ExitCode.FAILED),
        (ended(Stage.RCPT, Reply(550, "5.1.1", "no")), ExitCode.FAILED),
    ],
)
def test_what_may_work_later_ends_with_75(result: Submitted, code: ExitCode) -> None:
    assert _tell(wish(), result, as_json=False) == code
