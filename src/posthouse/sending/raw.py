"""A whole message that was made elsewhere, sent as it is (RFC 5322).

What changes: line ends become CRLF, Bcc goes, a missing Date or Message-ID is put in front. All
else stays octet for octet, as signatures may cover it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import takewhile
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address, TlsDemand
from posthouse.message import build
from posthouse.message.address_list import ADDRESSES_MAX, parse_address_list
from posthouse.message.fields import (
    Field,
    HeaderSection,
    exceeded,
    from_fault,
    read_section,
    without,
)
from posthouse.message.transfer import with_crlf
from posthouse.sending.addresses import mailboxes_of, one_mailbox, read_names
from posthouse.sending.attachments import octets_of
from posthouse.sending.carrier import Letter
from posthouse.sending.compose import TLS_OPTIONAL, new_message_id
from posthouse.sending.envelope import make_envelope
from posthouse.sending.message import Message
from posthouse.sending.naming import fault

__all__ = ["compose_raw"]

_BLIND: Final = frozenset({b"bcc", b"resent-bcc"})
_RESENT: Final = b"resent-"
_ENVELOPE_HINT: Final = "or say with `envelope` from whom to whom it goes"
_TAKEN: Final = frozenset({"raw", "envelope", "sender", "to", "cc", "bcc", "dkim", "tag"})
_DEFAULTS: Final = Message()
_OTHERS: Final = tuple(
    (name, getattr(_DEFAULTS, name))
    for name in Message.__struct_fields__
    if name not in _TAKEN and name not in ("protection",)
)


def compose_raw(
    message: Message, *, now: datetime, token: Callable[[int], bytes], host_name: str
) -> Letter:
    """As `compose`, of `message.raw`. Raises MessageError about "raw" and the like."""
    _check_alone(message)
    octets = with_crlf(octets_of("raw", message.raw or b""))
    section = read_section(octets)
    _check(section)
    sender, recipients = _named_in(message, section)
    head, message_id = _missing(section, now, token, sender, host_name)
    demand = message.envelope.tls_demand if message.envelope is not None else TlsDemand.NONE
    if demand is TlsDemand.OPTIONAL and b"tls-required" not in section:
        head = [*head, TLS_OPTIONAL]  # RFC 8689 §5
    kept = without(section, _BLIND)
    octets = b"".join((*head, kept, b"" if kept.endswith(b"\r\n") else b"\r\n"))
    envelope = make_envelope(
        message.envelope,
        sender=sender,
        recipients=recipients,
        octets=octets,
        has_wide_header=not section.octets[: section.end].isascii(),
    )
    return Letter(message_id=message_id, envelope=envelope, octets=octets, tag=message.tag)


def _check_alone(message: Message) -> None:
    for name, default in _OTHERS:
        if getattr(message, name) != default:
            words = "this cannot be given with `raw`, which is sent as it is"
            raise fault(name, words, hint="write it into the message, or leave `raw` out")


def _check(section: HeaderSection) -> None:
    """What every reader has to understand alike, and Bcc must not hide in."""
    octets = section.octets
    if not section.fields:
        hint = "it begins with its header fields, then an empty line, then the body"
        raise fault("raw", "this is no message", hint=hint)
    limit = exceeded(section)
    if limit is not None:
        raise fault("raw", f"its header section is over {limit.limit.value} ({limit.observed})")
    if sum(one.end - one.start for one in section.fields) != section.end:
        line = _stray_line(section)
        raise fault(
            "raw", f"line {line} of its header section is no field", hint=_stray_hint(octets)
        )
    if octets.find(b"\0") >= 0:
        raise fault("raw", "it has a NUL, which mail cannot carry", hint="encode that part")
    wrong = from_fault(section)
    if wrong is not None:
        hint = 'its fields have one "From: ada@example.org"'
        raise fault("raw", wrong.value, hint=hint)


def _stray_line(section: HeaderSection) -> int:
    at = section.start
    for field in section.fields:
        if field.start != at:
            break
        at = field.end
    return section.octets.count(b"\n", 0, at) + 1


def _stray_hint(octets: bytes) -> str:
    if octets.startswith(b"From "):
        return "the first line is an mbox's; leave it out"
    return "each line is `Name: value`, or goes on with a blank in front"


# --- who ---


class _Who(msgspec.Struct, frozen=True):
    """The fields that say from whom to whom: the newest Resent- ones, where there are any
    (RFC 5322 §3.6.6)."""

    prefix: str
    fields: tuple[Field, ...]


def _named_in(message: Message, section: HeaderSection) -> tuple[Address | None, list[Address]]:
    """Who sends it to whom, by the arguments first, then by its own fields; what `envelope`
    overrides is not read at all."""
    given = message.envelope
    who = _who(section)
    sender: Address | None = None
    if message.sender != "":
        sender = one_mailbox("sender", message.sender).address
    elif given is None or given.sender is None:
        sender = _sender(section, who)
    recipients = [
        mailbox.address
        for field, names in (("to", message.to), ("cc", message.cc), ("bcc", message.bcc))
        for mailbox in mailboxes_of(read_names(field, names))
    ]
    if not recipients and (given is None or given.recipients is None):
        recipients = _addresses(section, who, ("to", "cc", "bcc"))
    return sender, recipients


def _who(section: HeaderSection) -> _Who:
    """Blocks of Resent- fields stand one above the other, the newest first; a name that comes
    again begins the one before."""
    fields = section.fields
    first = next((at for at, one in enumerate(fields) if one.name.startswith(_RESENT)), None)
    if first is None:
        return _Who("", tuple(fields))
    block: dict[bytes, Field] = {}
    for one in takewhile(lambda one: one.name.startswith(_RESENT), fields[first:]):
        if one.name in block:
            break
        block[one.name] = one
    return _Who("resent-", tuple(block.values()))


def _sender(section: HeaderSection, who: _Who) -> Address | None:
    """The author, or the one of several who sent it."""
    for name in ("from", "sender"):
        found = _addresses(section, who, (name,))
        if len(found) == 1:
            return found[0]
    words = f"its {_title(who, 'from')} names not one address that could get notices"
    raise fault("raw", words, hint=_ENVELOPE_HINT)


def _addresses(section: HeaderSection, who: _Who, names: tuple[str, ...]) -> list[Address]:
    wanted = {f"{who.prefix}{name}".encode(): name for name in names}
    found: list[Address] = []
    for field in who.fields:
        name = wanted.get(field.name)
        if name is None:
            continue
        listed = parse_address_list(section.value(field))
        addresses = listed.addresses()
        if listed.is_truncated:
            words = f"its {_title(who, name)} names more than {ADDRESSES_MAX} addresses"
            raise fault("raw", words, hint=_ENVELOPE_HINT)
        if listed.is_malformed or len(addresses) != len(listed.mailboxes()):
            words = f"its {_title(who, name)} can be read in more than one way"
            raise fault("raw", words, hint=_ENVELOPE_HINT)
        found += addresses
    return found


def _title(who: _Who, name: str) -> str:
    return f"{who.prefix}{name}".title()


# --- what is missing ---


def _missing(
    section: HeaderSection,
    now: datetime,
    token: Callable[[int], bytes],
    sender: Address | None,
    host_name: str,
) -> tuple[list[bytes], str]:
    """Fields to put in front, and the Message-ID it has or gets."""
    head = [] if b"date" in section else [build.date_field(now)]
    known = (section.first(b"message-id") or b"").decode("utf-8", "replace").strip()
    if known:
        return head, known
    message_id = new_message_id(token, sender.domain if sender else "", host_name)
    if b"message-id" not in section:
        head.append(build.message_id_field(message_id))
    return head, message_id
