"""The message of `posthouse send`: its options as a `Message` of the client library."""

from __future__ import annotations

import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from posthouse.cli.output import CommandError, say_hint
from posthouse.cli.send_options import STDIN, LetterWish, NoticeWish
from posthouse.kernel.envelope import Notify, Ret, TlsDemand
from posthouse.message.dates import parse_date
from posthouse.sending import (
    Attachment,
    CalendarEvent,
    Mailbox,
    Message,
    Priority,
    SendEnvelope,
    Templates,
)
from posthouse.sending.files import CONTENT_OCTETS_MAX
from posthouse.sending.smtp_carrier import own_name
from posthouse.sending.templates import Rendered

__all__ = ["filled", "letter_of", "no_subject", "notice_subject", "put", "variables"]

BODY: Final = "This is a message from `posthouse send`.\n"
SUBJECT: Final = "A message from posthouse send"
NOBODY: Final = ("", "<>")
"""As --from: no reverse-path, as notices have it (RFC 5321 §4.5.5)."""
_NOT_RAW: Final = (
    *("reply_to", "subject", "body", "body_file", "html", "html_body", "attached", "inline"),
    *("inline_files", "calendar", "fields", "in_reply_to", "priority", "template", "data"),
)
_OPTION: Final = {"attached": "--attach", "fields": "--header"}
_VARIABLE: Final = re.compile(r"\{\{[^{}\n]{1,60}\}\}|\{%[^{}\n]{1,60}%\}")
_FILE_OPTIONS: Final = {"--body": "--body-file", "--html-body": "--html"}
_OWN_FIELDS: Final = {
    "from": "sender",
    "sender": "on_behalf",
    "reply-to": "reply_to",
    "to": "to",
    "cc": "cc",
    "subject": "subject",
    "date": "date",
    "message-id": "message_id",
    "in-reply-to": "in_reply_to",
    "references": "references",
}
"""Fields that the library writes itself: --header says what is in them, the envelope stays."""


def letter_of(
    wish: LetterWish, notices: NoticeWish, *, is_many: bool, is_stdin_begun: bool
) -> Message:
    """The message without its template (`filled`).

    Args:
        is_many: it is what the letter of each row is made from.
        is_stdin_begun: a password was read from its first line.

    Raises:
        click.UsageError: options that do not go together.
        CommandError: a file cannot be read.
        MessageError: a template is wrong.
    """
    _check(wish)
    if wish.eml is not None:
        return _whole(wish, notices, is_stdin_begun=is_stdin_begun)
    if wish.sender is None:
        raise click.UsageError('give --from, or "<>" for none')
    text, html = _texts(wish, is_stdin_begun=is_stdin_begun)
    own, more = _fields(wish.fields)
    if wish.subject is not None:
        own.setdefault("subject", wish.subject)
    if is_many:
        if not (text or html or wish.template):
            raise click.UsageError("say what to send: --template, --body, --body-file or --html")
        if "to" in own or "cc" in own:
            raise click.UsageError("--header To and Cc are for a single message")
    elif not wish.template:
        if text is None and html is None and wish.calendar is None:
            text = BODY
        own.setdefault("subject", SUBJECT)
    own.setdefault("subject", "")
    _notice_unfilled(wish, own["subject"], text, html)
    values: dict[str, Any] = {
        "sender": _author(wish.sender),
        "to": list(wish.to),
        "cc": list(wish.cc),
        "bcc": list(wish.bcc),
        "reply_to": list(wish.reply_to),
        "in_reply_to": wish.in_reply_to or "",
        **own,
    }
    return Message(
        **values,
        text=text,
        html=html,
        attachments=_attachments(wish),
        calendar=CalendarEvent(content=Path(wish.calendar)) if wish.calendar else None,
        headers=more,
        priority=Priority(wish.priority or "normal"),
        envelope=_envelope(wish, notices, own),
        inline_files=wish.inline_files if wish.inline_files is not None else False,
    )


def _check(wish: LetterWish) -> None:
    for first, second in (("body", "body_file"), ("html", "html_body")):
        if getattr(wish, first) is not None and getattr(wish, second) is not None:
            raise click.UsageError(f"give {_option(first)} or {_option(second)}, not both")
    if [wish.body_file, wish.html, wish.eml].count(STDIN) > 1:
        raise click.UsageError('"-", which is stdin, can be read once')
    if wish.template and any((wish.body, wish.body_file, wish.html, wish.html_body)):
        raise click.UsageError("--template makes the text: leave out --body and --html")
    if variables(wish.data) and not wish.template:
        raise click.UsageError("--data needs --template")
    if wish.inline_files is not None and not (wish.html or wish.html_body or wish.template):
        raise click.UsageError("--inline-files needs --html, --html-body or --template")


def _option(name: str) -> str:
    return _OPTION.get(name, f"--{name.replace('_', '-')}")


def _author(sender: str) -> str | Mailbox:
    return f"mailer-daemon@{_own_domain()}" if sender in NOBODY else sender


def _own_domain() -> str:
    name = own_name()
    return name if "[" not in name else "localhost.localdomain"


def _whole(wish: LetterWish, notices: NoticeWish, *, is_stdin_begun: bool) -> Message:
    for name in _NOT_RAW:
        if getattr(wish, name):
            raise click.UsageError(f"{_option(name)} is of no use with --eml, which goes as it is")
    assert wish.eml is not None
    is_nobody = wish.sender in NOBODY
    return Message(
        raw=_octets("--eml", wish.eml, is_stdin_begun=is_stdin_begun),
        sender="" if wish.sender is None or is_nobody else wish.sender,
        to=list(wish.to),
        cc=list(wish.cc),
        bcc=list(wish.bcc),
        envelope=_envelope(wish, notices, {}),
    )


# --- contents ---


def _texts(wish: LetterWish, *, is_stdin_begun: bool) -> tuple[str | None, str | None]:
    text, html = _typed("--body", wish.body), _typed("--html-body", wish.html_body)
    if wish.body_file is not None:
        text = _text("--body-file", wish.body_file, is_stdin_begun=is_stdin_begun)
    if wish.html is not None:
        html = _text("--html", wish.html, is_stdin_begun=is_stdin_begun)
    return text, html


def _typed(option: str, text: str | None) -> str | None:
    """Of the arguments, where octets that are no text come as halves of surrogate pairs."""
    try:
        (text or "").encode("utf-8")
    except UnicodeEncodeError:
        raise CommandError(f"{option}: this is not UTF-8 text") from None
    if text and _is_file(text):
        instead = _FILE_OPTIONS[option]
        say_hint(f"{option} is the text itself; to send what is in {text}, say {instead} {text}")
    return text


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or none
        return False


def _text(option: str, name: str, *, is_stdin_begun: bool) -> str:
    octets = _octets(option, name, is_stdin_begun=is_stdin_begun)
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise CommandError(
            f"{option}: {_shown(name)} is not UTF-8 text (line {line})",
            hint="save it as UTF-8, or send it with --attach",
        ) from None


def _octets(option: str, name: str, *, is_stdin_begun: bool) -> bytes:
    try:
        octets = _stdin(is_begun=is_stdin_begun) if name == STDIN else _file(name)
    except FileNotFoundError:
        here = "" if Path(name).is_absolute() else f"; it was looked for in {Path.cwd()}"
        raise CommandError(f"{option}: there is no file {name!r}{here}") from None
    except IsADirectoryError:
        raise CommandError(f"{option}: {name!r} is a folder", hint="name a file") from None
    except UnicodeDecodeError:
        raise CommandError(
            f"{option}: stdin is not UTF-8 text",
            hint="give the password with --password-file, so that stdin is the message alone",
        ) from None
    except OSError as error:
        raise CommandError(f"{option}: {_shown(name)} cannot be read: {error.strerror}") from None
    if len(octets) > CONTENT_OCTETS_MAX:
        raise CommandError(f"{option}: {_shown(name)} is over {CONTENT_OCTETS_MAX >> 20} MiB")
    return octets


def _shown(name: str) -> str:
    return "stdin" if name == STDIN else repr(name)


def _file(name: str) -> bytes:
    """Of a pipe, too: <(command) in a shell is one."""
    with Path(name).open("rb") as file:
        return file.read(CONTENT_OCTETS_MAX + 1)


def _stdin(*, is_begun: bool) -> bytes:
    buffer = getattr(sys.stdin, "buffer", None)
    if buffer is None or is_begun:  # text was read from it, and more than its first line is ahead
        return sys.stdin.read(CONTENT_OCTETS_MAX + 1).encode("utf-8", "surrogateescape")
    octets: bytes = buffer.read(CONTENT_OCTETS_MAX + 1)
    return octets


def _attachments(wish: LetterWish) -> list[Attachment]:
    found = [Attachment(path=path) for path in wish.attached]
    for text in wish.inline:
        cid, _, file = text.partition(":")
        if not (cid and file):
            raise click.UsageError(f"--inline takes CID:FILE, and {text!r} is none")
        found.append(Attachment(path=file, cid=cid))
    return found


# --- fields ---


def _fields(texts: tuple[str, ...]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Those that are arguments of a message, and those that are others."""
    own: dict[str, Any] = {}
    more: list[tuple[str, str]] = []
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon:
            raise click.UsageError(f"--header takes 'NAME: VALUE', and {text!r} has no colon")
        value = value.strip(" \t")
        argument = _OWN_FIELDS.get(name.strip().lower())
        if argument is None:
            more.append((name, value))
        elif argument in own:
            raise click.UsageError(f"--header {name} was given twice, and can stand once")
        else:
            own[argument] = _date(value) if argument == "date" else value
    return own, more


def _date(value: str) -> datetime:
    found = parse_date(value.encode("utf-8", "replace"))
    if found is None:
        raise click.UsageError(
            f"--header Date: {value[:100]!r} is no date; write Thu, 05 Mar 2026 17:00:00 +0100"
        )
    return found


# --- the envelope ---


def _envelope(wish: LetterWish, notices: NoticeWish, own: dict[str, Any]) -> SendEnvelope | None:
    sender = notices.return_path
    if sender is None and wish.sender is not None and ("sender" in own or wish.sender in NOBODY):
        sender = "" if wish.sender in NOBODY else wish.sender
    everybody = [*wish.to, *wish.cc, *wish.bcc]
    made = SendEnvelope(
        sender="" if sender in NOBODY else sender,
        recipients=everybody if "to" in own or "cc" in own else None,
        notify=_notify(notices.notify) if notices.notify is not None else None,
        ret={"full": Ret.FULL, "headers": Ret.HDRS, None: None}[notices.notify_return],
        envelope_id=notices.envelope_id,
        tls_demand=TlsDemand[(notices.tls_demand or "none").upper()],
    )
    return made if made != SendEnvelope() else None


def _notify(text: str) -> Notify:
    names = [name.strip().upper() for name in text.split(",")]
    if names == ["NEVER"]:
        return Notify.NEVER
    found = Notify.NEVER
    for name in names:
        if name == "NEVER" or name not in Notify.__members__:
            raise click.UsageError(
                f"--notify takes never, or some of success,failure,delay, and {text!r} is none"
            )
        found |= Notify[name]
    return found


# --- templates ---


def _notice_unfilled(wish: LetterWish, subject: str, text: str | None, html: str | None) -> None:
    """Places for variables outside of a template: nobody fills them in."""
    for option, content in (
        ("--subject", subject),
        ("--body-file" if wish.body_file is not None else "--body", text),
        ("--html" if wish.html is not None else "--html-body", html),
    ):
        if found := _VARIABLE.search(content or ""):
            say_hint(
                f"{option} has {found[0]}, which goes out as it stands: variables are filled in in"
                " the files of --template only"
            )


def variables(texts: tuple[str, ...]) -> dict[str, str]:
    """Of --data. Raises click.UsageError."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise click.UsageError(f"--data takes NAME=VALUE, and {text!r} is none")
        found[name] = value
    return found


def filled(message: Message, wish: LetterWish) -> Message:
    """The message with its template's text, for one who gets it. Raises MessageError."""
    if not wish.template:
        return message
    made = Templates(wish.template_folder).render(wish.template, **variables(wish.data))
    message = put(made, message)
    return message if message.subject else msgspec.structs.replace(message, subject=SUBJECT)


def notice_subject(message: Message, wish: LetterWish) -> None:
    """Say that it has none of theirs; but where nothing in it is, it only tries the way out."""
    contents = (wish.body, wish.body_file, wish.html, wish.html_body, wish.calendar, wish.template)
    is_theirs = bool(wish.attached) or any(one is not None for one in contents)
    if message.subject == SUBJECT and wish.subject is None and is_theirs:
        say_hint(f'{no_subject(wish.template)}: it has "{SUBJECT}" for one')


def put(made: Rendered, message: Message) -> Message:
    """The message with a template's parts. A subject of its own, from --subject, goes before the
    template's."""
    filled = made.into(message)
    return msgspec.structs.replace(filled, subject=message.subject) if message.subject else filled


def no_subject(template: str | None) -> str:
    """What is missing."""
    other = f" and no {template}.subject.txt" if template else ""
    return f"there is no --subject{other}"
