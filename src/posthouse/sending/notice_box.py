"""The mailbox where notices about letters arrive, as an option names it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from posthouse.kernel.secret import Secret

__all__ = ["NoticeBox", "read_notice_box"]

IMAPS_PORT: Final = 993
IMAP_PORT: Final = 143
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class NoticeBox(msgspec.Struct, frozen=True, kw_only=True):
    """A mailbox where notices arrive."""

    host: str
    port: int
    is_tls: bool
    """From the first octet; else by STARTTLS, without which no password leaves this machine."""
    is_local: bool
    user: str
    password: Secret
    mailbox: str = "INBOX"


def read_notice_box(url: str) -> NoticeBox:
    """Of "imaps://user:secret@host:993/INBOX". Raises OptionError, which shows nothing of it."""
    from posthouse.sending.errors import OptionError

    hint = "write imaps://user:secret@mail.example.org"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise OptionError("outcome_mailbox", "cannot be read", hint=hint) from None
    if parts.scheme not in ("imaps", "imap") or not host:
        raise OptionError("outcome_mailbox", "is no URL of a mailbox", hint=hint)
    if not parts.username or not parts.password:
        raise OptionError("outcome_mailbox", "has no user or no password", hint=hint)
    is_tls = parts.scheme == "imaps"
    mailbox = unquote(parts.path.lstrip("/")) or "INBOX"
    for what, value in (("user", unquote(parts.username)), ("mailbox", mailbox)):
        if _CONTROL.search(value):
            raise OptionError("outcome_mailbox", f"has a control character in the {what}")
    return NoticeBox(
        host=host,
        port=port or (IMAPS_PORT if is_tls else IMAP_PORT),
        is_tls=is_tls,
        is_local=host in _LOOPBACK,
        user=unquote(parts.username),
        password=Secret(unquote(parts.password)),
        mailbox=mailbox,
    )
