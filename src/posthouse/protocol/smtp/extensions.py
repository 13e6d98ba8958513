"""What a server offered in its reply to EHLO (RFC 5321 §4.1.1.1), as a client uses it."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from posthouse.kernel.reply import Reply

_LIMIT: Final = re.compile(r"(RCPTMAX|MAILMAX|RCPTDOMAINMAX)=([1-9][0-9]{0,5})")  # RFC 9422 §4
OFFERED_MAX: Final = 100
_SIZE: Final = re.compile(r"[0-9]{1,20}")


class Extensions(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is offered by a server that knew HELO only."""

    host: str = ""
    """What the server calls itself; unverified."""
    is_extended: bool = False
    is_pipelining: bool = False
    is_chunking: bool = False
    is_eight_bit: bool = False
    is_smtputf8: bool = False
    is_dsn: bool = False
    is_starttls: bool = False
    is_requiretls: bool = False
    """RFC 8689; worth something only when it was said behind STARTTLS."""
    is_size: bool = False
    size_octets_max: int | None = None
    """None when it said no number or 0, which is "no fixed limit" (RFC 1870 §4)."""
    mechanisms: tuple[str, ...] = ()
    recipients_max: int | None = None
    domains_max: int | None = None
    """Different ones among the recipients of a transaction."""
    transactions_max: int | None = None
    offered: tuple[str, ...] = ()
    """Its lines as they came, for people."""


def parse_extensions(reply: Reply) -> Extensions:
    """The reply to EHLO; keywords and parameters we do not know are passed over."""
    first, *lines = reply.text.split("\n")
    offered: dict[str, list[str]] = {}
    for line in lines:
        # "AUTH=PLAIN" is how some old servers spell it.
        words = (line.replace("=", " ", 1) if "=" in line[:6] else line).split()
        if words:  # a line of blanks offers nothing
            offered.setdefault(words[0].upper(), words[1:])
    limits = {
        match[1]: int(match[2])
        for word in offered.get("LIMITS", ())
        if (match := _LIMIT.fullmatch(word.upper())) is not None
    }
    size = next(iter(offered.get("SIZE", ())), "")
    return Extensions(
        host=first.partition(" ")[0],
        is_extended=True,
        is_pipelining="PIPELINING" in offered,
        is_chunking="CHUNKING" in offered,
        is_eight_bit="8BITMIME" in offered,
        is_smtputf8="SMTPUTF8" in offered,
        is_dsn="DSN" in offered,
        is_starttls="STARTTLS" in offered,
        is_requiretls="REQUIRETLS" in offered,
        is_size="SIZE" in offered,
        size_octets_max=(int(size) or None) if _SIZE.fullmatch(size) else None,
        mechanisms=tuple(word.upper() for word in offered.get("AUTH", ())),
        recipients_max=limits.get("RCPTMAX"),
        domains_max=limits.get("RCPTDOMAINMAX"),
        transactions_max=limits.get("MAILMAX"),
        offered=tuple(lines[:OFFERED_MAX]),
    )
