"""A whole message signed and encrypted: `protect` for everybody at once, `protect_each` where some
recipients are hidden from the others.

The signature is inside the encryption (RFC 9787 §5.2), the protected fields inside both (RFC 9788),
and what is signed has the form that nobody on the way changes. A field Bcc never leaves, and since
an encrypted message names the keys that can read it, nobody who is to stay hidden may be one of its
recipients: each of them gets a copy of its own (RFC 9788 §11.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol, runtime_checkable

import msgspec

from posthouse.message import mime
from posthouse.message.address_list import parse_address_list
from posthouse.message.fields import read_section, unfold
from posthouse.mimesec import entity as mime_entity
from posthouse.mimesec import given
from posthouse.mimesec.header_policy import Hcp, Header, HeaderPolicy, hcp_no_confidentiality
from posthouse.mimesec.header_protection import (
    AddressKey,
    Payload,
    address_key,
    address_keys,
    content_only,
    protected_payload,
    read_protected,
)
from posthouse.mimesec.layers import layer_at
from posthouse.mimesec.ports import ProtectionError, Recipient, Sealer, Signer
from posthouse.mimesec.sealed import open_payload

COPIES_MAX: Final = 200
"""Of one message, for hidden recipients."""
_HCP: Final = "give what reference_hcp(…) made, or leave it out"
_VISIBLE: Final = frozenset({b"from", b"sender", b"reply-to", b"to", b"cc"})


@runtime_checkable
class OpaqueSigner(Protocol):
    """A signer that can put what it signs inside its structure, as S/MIME's can."""

    def sign_opaque(self, entity: bytes, *, at: datetime) -> bytes: ...


class Protection(msgspec.Struct, frozen=True, kw_only=True, metaclass=given.Told):
    """How a message is to be protected. With a signer it is signed, with a sealer and recipients it
    is encrypted.

    Raises:
        ProtectionError: something in it is no signer, recipient, sealer or policy.
    """

    signer: Signer | None = None
    recipients: tuple[Recipient, ...] = ()
    """Each of them learns of all the others."""
    hidden: tuple[Recipient, ...] = ()
    """Those of Bcc, for `protect_each`: nobody else learns of them."""
    sealer: Sealer | None = None
    own: Recipient | None = None
    """The sender's key, so that the copy in Sent can be read; it is one of the recipients."""
    allows_other_author: bool = False
    """`posthouse.sending` signs although the signer's key is for another address than From, which
    readers complain of; everything else signs as it is told."""
    is_opaque: bool = False
    """Sign with the text inside the signature: nothing on the way can break it, and readers without
    S/MIME see no text. Of what is encrypted nobody else sees anything anyway."""
    header_policy: HeaderPolicy | None = HeaderPolicy.BASELINE
    """What an encrypted message hides of its header section; None protects no field. Of what is
    signed already no field is hidden that is not protected inside the signature, too."""
    response_hcp: Hcp = hcp_no_confidentiality
    """Of an answer to an encrypted message: `header_policy.reference_hcp`."""
    has_legacy_display: bool = True
    """Hidden fields stand above the text, too, for readers that do not know header protection."""
    keeps_bcc: bool = False
    """For what is stored by its own sender and goes nowhere."""

    def __post_init__(self) -> None:
        if self.signer is not None:
            given.check_signer(self.signer, "signer")
        if self.sealer is not None:
            given.check_sealer(self.sealer, "sealer")
        if self.own is not None:
            given.check_recipient(self.own, "own")
        given.check_recipients(self.recipients, "recipients")
        given.check_recipients(self.hidden, "hidden")
        if self.header_policy is not None:
            given.check_choice(self.header_policy, HeaderPolicy, "header_policy")
        given.check_call(self.response_hcp, "response_hcp", hint=_HCP)

    @property
    def is_encrypting(self) -> bool:
        return self.sealer is not None and bool(self.recipients or self.hidden or self.own)


class ProtectedCopy(msgspec.Struct, frozen=True, kw_only=True):
    """One of the messages that one became."""

    octets: bytes
    recipient: Recipient | None = None
    """The hidden one whom it is for; None for the copy of all others."""


def protect(octets: bytes, protection: Protection, *, at: datetime) -> bytes:
    """The message signed, encrypted or both; its outer header section says what the policy lets.

    Args:
        octets: a whole message; it may be of any form and is made canonical.

    Raises:
        ProtectionError: it cannot be protected as asked, and nothing may be sent instead.
    """
    _check_call(octets, protection, at, "protect")
    if protection.hidden:
        raise ProtectionError(
            "hidden recipients would be named by the encrypted message",
            hint="use protect_each, which makes a copy for each of them",
        )
    return _protected(octets, protection, _visible(protection), at)


def protect_each(
    octets: bytes, protection: Protection, *, at: datetime
) -> tuple[ProtectedCopy, ...]:
    """As `protect`; first the copy for all who are not hidden (where there is anybody, the sender
    counts), then one for each who is.

    Raises:
        ProtectionError: one of the copies cannot be made; then there is none.
    """
    _check_call(octets, protection, at, "protect_each")
    if len(protection.hidden) > COPIES_MAX:
        raise ProtectionError(
            f"more than {COPIES_MAX} hidden recipients",
            hint="send the message in several parts of the recipients",
        )
    if protection.sealer is None:  # then nothing tells of them
        plain = msgspec.structs.replace(protection, hidden=())
        return (ProtectedCopy(octets=protect(octets, plain, at=at)),)
    copies: list[ProtectedCopy] = []
    visible = _visible(protection)
    if visible or not protection.hidden:
        copies.append(ProtectedCopy(octets=_protected(octets, protection, visible, at)))
    for one in _distinct(protection.hidden):
        copies.append(
            ProtectedCopy(octets=_protected(octets, protection, (one,), at), recipient=one)
        )
    return tuple(copies)


def _check_call(octets: object, protection: object, at: object, place: str) -> None:
    given.check_octets(octets, place)
    given.check_kind(protection, Protection, f"the second argument of {place}")
    given.check_time(at, "at")


def _visible(protection: Protection) -> tuple[Recipient, ...]:
    own = () if protection.own is None else (protection.own,)
    return _distinct((*protection.recipients, *own))


def _distinct(recipients: Sequence[Recipient]) -> tuple[Recipient, ...]:
    return tuple({(one.scheme, one.key): one for one in recipients}.values())


def _protected(
    octets: bytes, protection: Protection, recipients: tuple[Recipient, ...], at: datetime
) -> bytes:
    _check(protection, recipients)
    split = mime_entity.split_message(octets)
    if not protection.keeps_bcc and len(recipients) > 1:
        _check_nobody_hidden(split.fields, recipients)
    fields = [one for one in split.fields if protection.keeps_bcc or not _is_bcc(one)]
    payload = _payload(fields, mime_entity.canonical(split.entity), protection)
    entity, signer = payload.entity, protection.signer
    sealer = protection.sealer
    if signer is not None and (sealer is None or _is_signed_first(protection, recipients)):
        entity = _signed(signer, entity, protection, at)
        signer = None
    if sealer is not None:
        entity = sealer.seal(entity, recipients, at=at, signer=signer)
    return mime_entity.join_message(payload.outer, entity)


def _check(protection: Protection, recipients: tuple[Recipient, ...]) -> None:
    if protection.sealer is None:
        if recipients:
            raise ProtectionError(
                "there are keys to encrypt to and nothing that encrypts",
                hint="give a sealer (SmimeSealer, PgpSealer)",
            )
        if protection.signer is None:
            raise ProtectionError(
                "neither a signature nor an encryption is asked for",
                hint="give a signer, or a sealer and recipients",
            )
    elif not recipients:
        raise ProtectionError(
            "there is nobody to encrypt to", hint="give the keys of the recipients"
        )
    schemes = {one.scheme for one in recipients}
    if len(schemes) > 1:
        raise ProtectionError(
            "one message cannot be encrypted by S/MIME and OpenPGP both",
            hint="send it twice, to the recipients of each",
        )


def _check_nobody_hidden(fields: Sequence[bytes], recipients: Sequence[Recipient]) -> None:
    """Who has the message with its Bcc has all that is needed to see the mistake."""
    seen: set[AddressKey] = set()
    hidden: set[AddressKey] = set()
    for whole in fields:
        name, _, value = whole.partition(b":")
        found = seen if name.rstrip(b" \t").lower() in _VISIBLE else hidden
        if found is seen or _is_bcc(whole):
            addresses = parse_address_list(unfold(value)).addresses()
            found.update(address_key(one) for one in addresses)
    for recipient in recipients:
        keys = address_keys(recipient.addresses)
        if keys & hidden and not keys & seen:
            raise ProtectionError(
                f"{recipient.addresses[0]} is in Bcc, and the message would name that key",
                hint="put the key into `hidden` and use protect_each",
            )


def _is_bcc(whole: bytes) -> bool:
    name = whole.partition(b":")[0].rstrip(b" \t").lower()
    return name in (b"bcc", b"resent-bcc")


def _payload(fields: Sequence[bytes], entity: bytes, protection: Protection) -> Payload:
    if protection.header_policy is None:
        # Nor does it say so by a parameter that it brought.
        return Payload(entity=content_only(entity), outer=tuple(fields))
    hcp, response_hcp = protection.header_policy.hcp, protection.response_hcp
    if protection.sealer is not None and layer_at(mime.scan(entity)) is not None:
        # It is encrypted around a layer: its readers take the fields from the payload inside of
        # that, where nothing can be written any more, and never look at the layer's own fields.
        inside = _protected_inside(fields, entity)
        hcp, response_hcp = _hiding_only(inside, hcp), _hiding_only(inside, response_hcp)
    return protected_payload(
        fields,
        entity,
        is_encrypted=protection.sealer is not None,
        hcp=hcp,
        response_hcp=response_hcp,
        has_legacy_display=protection.has_legacy_display,
    )


def _protected_inside(fields: Sequence[bytes], entity: bytes) -> frozenset[tuple[str, bytes]]:
    """The fields (`Header.key`) that what is signed already protects itself.

    Raises:
        ProtectionError: its readers would take text away that everybody saw.
    """
    payload = open_payload(entity)
    if payload is None:
        return frozenset()
    outside = read_section(b"".join((*fields, b"\r\n")))
    found = read_protected(payload, outside, is_encrypted=True)
    if found is None:
        return frozenset()
    in_the_open = read_protected(payload, outside, is_encrypted=False)
    if in_the_open is None or in_the_open.entity != found.entity:
        raise ProtectionError(
            "what is signed says of some of its text that it is not to be shown once it is"
            " encrypted",
            hint="let the signing program leave out hp-legacy-display",
        )
    return frozenset(one.key for one in found.protected)


def _hiding_only(inside: frozenset[tuple[str, bytes]], hcp: Hcp) -> Hcp:
    """That policy for those fields; all others are shown, as they would be lost."""

    def limited(name: str, value: bytes) -> bytes | None:
        # Keys of others are for programs, and those look at the outermost part (Autocrypt §2.2).
        is_found = name.lower() == "autocrypt-gossip" or Header(name, value).key in inside
        return hcp(name, value) if is_found else value

    return limited


def _is_signed_first(protection: Protection, recipients: Sequence[Recipient]) -> bool:
    """Whether the signature is a layer of its own, and not the sealer's affair."""
    signer = protection.signer
    assert signer is not None
    if recipients[0].scheme is not signer.scheme:
        return True
    return protection.is_opaque and isinstance(signer, OpaqueSigner)


def _signed(signer: Signer, entity: bytes, protection: Protection, at: datetime) -> bytes:
    if not protection.is_opaque:
        return signer.sign(entity, at=at)
    if isinstance(signer, OpaqueSigner):
        return signer.sign_opaque(entity, at=at)
    raise ProtectionError(
        f"{signer.scheme.value} has no signature with the text inside",
        hint="leave out is_opaque, or sign by S/MIME",
    )
