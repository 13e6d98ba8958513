"""Who SMTP is told of: from the message's addresses, or what the caller says instead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from posthouse.kernel.envelope import (
    Address,
    BodyType,
    Envelope,
    ForwardPath,
    Notify,
    Ret,
    TlsDemand,
)
from posthouse.message.address import format_address, needs_smtputf8
from posthouse.sending.addresses import mailboxes_of, one_address, read_names
from posthouse.sending.errors import MessageError
from posthouse.sending.message import SendEnvelope
from posthouse.sending.naming import fault, shown, text_of

__all__ = ["make_envelope"]

_ENVELOPE_ID: Final = re.compile(r"[ -~]{1,100}")  # RFC 3461 §4.4
_DEFAULTS: Final = SendEnvelope()


def make_envelope(
    given: SendEnvelope | None,
    *,
    sender: Address | None,
    recipients: Iterable[Address],
    octets: bytes,
    has_wide_header: bool,
) -> Envelope:
    """What MAIL and RCPT will say.

    Args:
        sender: the author, for where `given` names no reverse-path.
        recipients: of the message, for where `given` names none; each goes in once.
        has_wide_header: a field is not ASCII, so only an SMTPUTF8 host can take the message.

    Raises:
        MessageError: about "envelope.sender" and the like, or "to" where there is nobody.
    """
    given = given or _DEFAULTS
    reverse_path = sender if given.sender is None else _reverse_path(given.sender)
    if given.recipients is not None:
        recipients = _recipients(given)
    unique = tuple(dict.fromkeys(recipients))
    if not unique:
        raise MessageError(
            "there is nobody to send it to", field="to", hint="give `to`, `cc`, `bcc` or `envelope`"
        )
    _check_options(given)
    paths = tuple(_forward_path(one, given.notify) for one in unique)
    is_wide = has_wide_header or any(map(needs_smtputf8, unique))
    return Envelope(
        reverse_path=reverse_path,
        recipients=paths,
        body=BodyType.SEVEN_BIT if octets.isascii() else BodyType.EIGHT_BIT,
        is_smtputf8=is_wide or (reverse_path is not None and needs_smtputf8(reverse_path)),
        ret=given.ret,
        envelope_id=given.envelope_id,
        tls_demand=given.tls_demand,
    )


def _reverse_path(text: str) -> Address | None:
    if text_of("envelope.sender", text) in ("", "<>"):
        return None
    return one_address("envelope.sender", text)


def _recipients(given: SendEnvelope) -> list[Address]:
    found = read_names("envelope.recipients", given.recipients or ())
    addresses = [mailbox.address for mailbox in mailboxes_of(found)]
    if not addresses:
        raise fault("envelope.recipients", "there is nobody in it", hint="None takes To, Cc, Bcc")
    return addresses


def _check_options(given: SendEnvelope) -> None:
    """Types are checked here because a wrong one would only be noticed on the wire."""
    if given.envelope_id is not None and (
        _ENVELOPE_ID.fullmatch(text_of("envelope.envelope_id", given.envelope_id)) is None
    ):
        words = f"{shown(given.envelope_id)} is not 1 to 100 characters of ASCII"
        raise fault("envelope.envelope_id", words)
    if given.notify is not None and not isinstance(given.notify, Notify):
        raise fault("envelope.notify", "this has to be Notify.SUCCESS and the like")
    if given.ret is not None and not isinstance(given.ret, Ret):
        raise fault("envelope.ret", "this has to be Ret.FULL or Ret.HDRS")
    if not isinstance(given.tls_demand, TlsDemand):
        raise fault("envelope.tls_demand", "this has to be a TlsDemand")


def _forward_path(address: Address, notify: Notify | None) -> ForwardPath:
    """With its original recipient where notices are asked for, so that they can be told apart
    when an alias leads elsewhere (RFC 3461 §4.2)."""
    if notify is None:
        return ForwardPath(address=address)
    written = format_address(address)
    kind = "rfc822" if written.isascii() else "utf-8"
    return ForwardPath(address=address, notify=notify, original_recipient=f"{kind};{written}")
