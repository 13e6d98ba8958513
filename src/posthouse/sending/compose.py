"""A message as a caller says it, made into octets and an envelope: the one place that checks (H66).

What was given may come from strangers (a name typed into a form, a file's name): whatever it holds,
it becomes no field, recipient or command of its own, or `MessageError` names the argument before
anything is sent. Contents have been gathered (`sources`): no files, clock or chance are read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address, TlsDemand
from posthouse.message import build
from posthouse.sending.addresses import Named, mailboxes_of, one_mailbox, read_names
from posthouse.sending.carrier import Letter
from posthouse.sending.envelope import make_envelope
from posthouse.sending.errors import MessageError
from posthouse.sending.fields import extra_fields, message_ids, priority_fields, reference_fields
from posthouse.sending.list_fields import list_fields
from posthouse.sending.message import ListFields, Message, Priority, SendEnvelope
from posthouse.sending.naming import fault, named, one_of, shown, text_of
from posthouse.sending.parts import body

__all__ = ["compose", "new_message_id"]

TOKEN_OCTETS: Final = 16
_HOST: Final = re.compile(r"[A-Za-z0-9_.\-]{1,253}")
TLS_OPTIONAL: Final = build.field("TLS-Required", "No")


class _People(msgspec.Struct, frozen=True, kw_only=True):
    sender: build.Mailbox
    on_behalf: build.Mailbox | None
    to: tuple[Named, ...]
    cc: tuple[Named, ...]
    bcc: tuple[Named, ...]
    reply_to: tuple[Named, ...]

    def recipients(self) -> list[Address]:
        everybody = (*self.to, *self.cc, *self.bcc)
        return [mailbox.address for mailbox in mailboxes_of(everybody)]


def compose(
    message: Message, *, now: datetime, token: Callable[[int], bytes], host_name: str
) -> Letter:
    """The letter that a message becomes.

    Args:
        message: with its contents gathered: text and octets only.
        now: aware; the Date where the message has none.
        token: that many octets of chance, for Message-ID and boundaries.
        host_name: for the Message-ID, where the author's domain cannot stand in it.

    Raises:
        MessageError: `field` names the argument that is wrong.
    """
    if message.envelope is not None:
        one_of("envelope", message.envelope, SendEnvelope)
    if message.raw is not None:
        from posthouse.sending.raw import compose_raw  # most messages are none

        return compose_raw(message, now=now, token=token, host_name=host_name)
    people = _people(message)
    message_id = _message_id(message, people.sender.address.domain, token, host_name)
    fields = _fields(message, people, message_id, now)
    octets = build.message(fields, body(message, token))
    envelope = make_envelope(
        message.envelope,
        sender=people.sender.address,
        recipients=people.recipients(),
        octets=octets,
        has_wide_header=not all(field.isascii() for field in fields),
    )
    return Letter(message_id=message_id, envelope=envelope, octets=octets, tag=message.tag)


def new_message_id(token: Callable[[int], bytes], domain: str, host_name: str) -> str:
    """A new one (RFC 5322 §3.6.4), with its angle brackets; at the author's domain, as filters do
    not like `localhost`."""
    place = next((one for one in (domain, host_name) if _HOST.fullmatch(one)), "localhost")
    return f"<{token(TOKEN_OCTETS).hex()}@{place}>"


def _people(message: Message) -> _People:
    if message.sender == "":
        raise MessageError("there is no sender", field="sender", hint="give `sender`, an address")
    is_other = message.on_behalf != ""
    return _People(
        sender=one_mailbox("sender", message.sender),
        on_behalf=one_mailbox("on_behalf", message.on_behalf) if is_other else None,
        to=read_names("to", message.to),
        cc=read_names("cc", message.cc),
        bcc=read_names("bcc", message.bcc),
        reply_to=read_names("reply_to", message.reply_to),
    )


def _message_id(
    message: Message, domain: str, token: Callable[[int], bytes], host_name: str
) -> str:
    if not message.message_id:
        return new_message_id(token, domain, host_name)
    found = message_ids("message_id", text_of("message_id", message.message_id))
    if len(found) != 1:
        raise fault("message_id", f"{shown(message.message_id)} is not one id")
    return found[0]


def _fields(message: Message, people: _People, message_id: str, now: datetime) -> list[bytes]:
    fields = [
        build.date_field(_date(message.date) if message.date is not None else now),
        named("sender", build.address_field, "From", [people.sender]),
    ]
    if people.on_behalf is not None:
        fields.append(named("on_behalf", build.address_field, "Sender", [people.on_behalf]))
    for argument, name, found in (
        ("reply_to", "Reply-To", people.reply_to),
        ("to", "To", people.to),
        ("cc", "Cc", people.cc),
    ):
        if found:
            fields.append(named(argument, build.address_field, name, found))
    if message.subject:
        subject = text_of("subject", message.subject)
        fields.append(named("subject", build.text_field, "Subject", subject))
    fields.append(build.message_id_field(message_id))
    fields += reference_fields(message)
    fields += priority_fields(_priority(message))
    if message.list is not None:
        fields += list_fields(one_of("list", message.list, ListFields))
    if message.envelope is not None and message.envelope.tls_demand is TlsDemand.OPTIONAL:
        fields.append(TLS_OPTIONAL)  # RFC 8689 §5
    return fields + extra_fields(message)


def _date(moment: datetime) -> datetime:
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        hint = "use datetime.now(UTC), or another one with a zone"
        raise fault("date", "this is no moment with a time zone", hint=hint)
    return moment


def _priority(message: Message) -> Priority:
    if not isinstance(message.priority, Priority):
        raise fault("priority", "this has to be Priority.HIGH, NORMAL or LOW")
    return message.priority
