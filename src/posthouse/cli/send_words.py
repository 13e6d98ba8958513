"""What the client library says, in the words of the command line.

The library's errors and hints name its own keywords (`tls="starttls"`, `sender`); whoever types
commands knows options. A test looks through all hints of the library for names that are left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from posthouse.cli.output import CommandError, ExitCode
from posthouse.sending import (
    ConnectError,
    MessageError,
    OptionError,
    Rejected,
    SendingError,
    SendTimeout,
)
from posthouse.tls.self_signed import CHAIN_NAME

__all__ = ["command_error", "exit_code", "in_options", "option_of", "rejection", "said"]

_KEYWORDS: Final[Mapping[str, str]] = {
    "verify": "--insecure",
    "password": "--password-file",
    "token": "--token-file",
    "host": "--server",
    "port": "--server",
    "ssl_context": "--ca",
    "connections_max": "--connections",
    "connect_timeout_s": "--timeout",
    "data_timeout_s": "--data-timeout",
    "folder": "--dry-run",
}
"""Of the transport, where the option is not the keyword with dashes."""
_ARGUMENTS: Final[Mapping[str, str]] = {
    "sender": "--from",
    "on_behalf": "--header Sender",
    "text": "--body",
    "headers": "--header",
    "date": "--header Date",
    "message_id": "--header Message-ID",
    "references": "--header References",
    "attachments": "--attach",
    "alternatives": "--html",
    "list": "--header",
    "raw": "--eml",
    "envelope": "--return-path",
    "envelope.sender": "--return-path",
    "envelope.recipients": "--to",
    "envelope.notify": "--notify",
    "envelope.ret": "--notify-return",
    "envelope.envelope_id": "--envelope-id",
    "tls_demand": "--tls-demand",
    "protection": "--sign, --encrypt-to",
    "templates": "--template-folder",
    "cid": "--inline",
    "is_inline": "--inline",
    "url": "--attach",
    "path": "--attach",
}
"""Of a message, likewise."""
_HINTS: Final = (
    (re.compile(r'tls="off"'), "--tls none"),
    (re.compile(r'tls="(\w+)"(?: \([a-z+]+://\))?'), r"--tls \1"),
    (re.compile(r'ca="certificate\.pem"'), "--ca certificate.pem"),
    (re.compile(r"\bverify=False\b"), "--insecure"),
    (re.compile(r'\bserver_name="([^"]*)"'), r"--server-name \1"),
    (re.compile(r"\bmechanism='([^']*)'"), r"--mechanism \1"),
    (re.compile(r"\btls_demand=REQUIRED\b"), "--tls-demand required"),
    (re.compile(r"\blog in with user and password\b"), "log in with --user"),
    (re.compile(r"\bgive a callable that refreshes it\b"), "get a new one"),
    (re.compile(r"\bor give a token \(OAuth 2\)"), "or give a token, with --token-file"),
    (re.compile(r"\bgive a token \(OAuth 2\)"), "give a token, with --token-file"),
    (re.compile(r"\bgive host and port instead\b"), "give --server instead"),
    (re.compile(r", or give an ssl_context of your own\b"), ""),
    (re.compile(r"\bgive it to `render`"), "give it with --data, or as a column of --recipients"),
    (re.compile(r"\bgive `Templates` another folder"), "name their folder with --template-folder"),
    (re.compile(r", or (?:Mailbox|give the content itself)$"), ""),
    (re.compile(r"\bor are given as a list\b"), "or an option each"),
    (re.compile(r"; if the key of .* for_addresses=.*$"), ""),
    (re.compile(r"\buser:secret@"), "user@"),
    (re.compile(r"\bgive it as `url`"), "download it, and name the file"),
    (re.compile(r"\boption (proxy|certificate)\b"), r"option --\1"),
    (re.compile(r"\bchange sender\b"), "change --from, or with --eml the From field in that file"),
    (re.compile(r"\bwrite (?:command=.*, )?arguments=.*$"), "name a script that runs it with them"),
    (
        re.compile(r"\b(server_name|local_address|hello_name|outcome_mailbox|header_fields)\b"),
        lambda found: f"--{found[1].replace('_', '-')}",
    ),
    (re.compile(r"`([a-z_.]+)`"), lambda found: option_of(found[1])),
)
_NODE: Final = f"a Posthouse node keeps its own as tls/{CHAIN_NAME} in its data folder"


def in_options(error: SendingError, *, attached: int | None = None) -> tuple[str, str]:
    """Text and hint of an error, with options in the place of keywords.

    Args:
        attached: how many of a message's attachments came from --attach; those behind are inline.
    """
    hint = error.hint
    for pattern, replacement in _HINTS:
        hint = pattern.sub(replacement, hint)
    if "--ca certificate.pem" in hint:
        hint = f"{hint}\n{_NODE}"
    return _text(error, attached), hint


def option_of(name: str) -> str:
    """The option for a keyword of the transport or an argument of a message."""
    found = _ARGUMENTS.get(name) or _KEYWORDS.get(name)
    return found or f"--{name.replace('_', '-')}"


def _text(error: SendingError, attached: int | None) -> str:
    text = error.text
    if isinstance(error, OptionError) and error.option:
        option = _KEYWORDS.get(error.option) or f"--{error.option.replace('_', '-')}"
        return f"{option} {text.removeprefix(f'the option {error.option} ')}"
    if isinstance(error, MessageError) and error.field and text.startswith(error.field):
        return f"{_argument(error.field, attached)}{text.removeprefix(error.field)}"
    return text


_PLACE: Final = re.compile(r'([a-z_]+)(?:\[([0-9]+)\]|\["(.*)"\])?(\.[a-z_]+)?', re.DOTALL)


def _argument(field: str, attached: int | None) -> str:
    """`attachments[2].path` is --attach, `headers["X-Foo"]` is --header X-Foo."""
    found = _PLACE.match(field)
    if found is None:
        return field
    name, at, key, behind = found.groups()
    if name == "attachments" and at and attached is not None and int(at) >= attached:
        return "--inline"
    whole = f"{name}{behind or ''}"
    option = _ARGUMENTS.get(whole) or option_of(name)
    return f"{option} {key}" if key else option


def command_error(error: SendingError, *, attached: int | None = None) -> CommandError:
    """For what is wrong with the options or the message, before anybody was called."""
    text, hint = in_options(error, attached=attached)
    code = ExitCode.USAGE if isinstance(error, OptionError) else ExitCode.FAILED
    return CommandError(text, hint=hint, code=code)


def rejection(server: str, rejected: Sequence[Rejected]) -> tuple[str, str]:
    """Text and hint for recipients of one kind, where others have the message."""
    first = rejected[0]
    others = f" and {len(rejected) - 1} more" if len(rejected) > 1 else ""
    if first.may_have_been_sent:
        text = (
            f"the line to {server} broke before it said whether it took the message for"
            f" {first.recipient}{others}: {said(first)}"
        )
        return text, "it may have been taken or not: look before you send it again"
    text = f"{server} refused the recipient {first.recipient}{others}: {said(first)}"
    if first.is_transient:
        return text, "it may work later; send it again to those who were refused"
    if first.status in ("5.1.1", "5.1.2", "5.1.3", "5.1.10"):
        return text, f"check the spelling of {first.recipient}"
    return text, "these are the server's words; its administrator can say more"


def said(one: Rejected) -> str:
    """The reply, or what stands for one."""
    return one.response or one.text


def exit_code(error: SendingError) -> ExitCode:
    """75 where the same may work later and cannot arrive twice: the server was not reached, said
    that it will take it another time, or the line broke before it could have taken it."""
    if error.may_have_been_sent or not error.is_transient:
        return ExitCode.FAILED
    is_unreached = error.stage is None and isinstance(error, ConnectError | SendTimeout)
    is_deferred = error.reply is not None or bool(error.rejected)
    return ExitCode.TEMPORARY if is_unreached or is_deferred else ExitCode.FAILED
