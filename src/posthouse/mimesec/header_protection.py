"""Header protection (RFC 9788): the fields of a message inside what is signed and encrypted.

`protected_payload` makes a Cryptographic Payload; `read_protected` finds what one protects, in the
form of RFC 9788 and in the two older ones that mail has: a whole message inside (RFC 8551 §3.1) and
`protected-headers="v1"` of the drafts before. Only the root of a Cryptographic Payload is ever to
be read so: the caller knows the layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.message import build, mime, words
from posthouse.message.address import (
    LOCAL_PART_REMOTE_OCTETS_MAX,
    AddressError,
    parse_mailbox,
)
from posthouse.message.address_list import parse_address_list
from posthouse.message.build import BuildError
from posthouse.message.fields import HeaderSection, read_section, unfold
from posthouse.message.mime import Part
from posthouse.message.parameters import Parameters, parse_type
from posthouse.message.transfer import LINE_OCTETS_MAX
from posthouse.mimesec import legacy_display
from posthouse.mimesec.entity import (
    canonical_fields,
    check_is_read,
    field_named,
    field_octets,
    with_parameters,
)
from posthouse.mimesec.header_policy import (
    USER_FACING,
    Hcp,
    Header,
    hcp_baseline,
    hcp_no_confidentiality,
)
from posthouse.mimesec.ports import ProtectionError

HP: Final = b"hp"
CLEAR: Final = b"clear"
CIPHER: Final = b"cipher"
HP_OUTER: Final = b"hp-outer"
DRAFT_PARAMETER: Final = b"protected-headers"
# Written on the way, so not the composer's to protect (RFC 9788 §7); they stay outside.
_OF_TRANSIT: Final = (b"received", b"return-path", b"delivered-to", b"authentication-results")
_OF_TRANSIT_BEGIN: Final = (b"dkim-", b"arc-", b"resent-")
# What people see of a message; where the composer protected its fields, one of these that stands
# outside only is not shown (RFC 9788 §4, §4.6). What only puts a message in its place stays.
_SHOWN: Final = {name for name in USER_FACING - {"date"} if not name.startswith("resent-")} | {
    *("bcc", "comments", "keywords"),
    *("mail-followup-to", "mail-reply-to", "autocrypt", "hp-outer"),
}
# Whoever wrote such a field outside, it is only for what was encrypted.
GOSSIP: Final = b"autocrypt-gossip"
AddressKey = tuple[str, str]


# --- writing ---


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be signed and encrypted, and what stands outside."""

    entity: bytes
    outer: tuple[bytes, ...]
    """Whole fields."""


def protected_payload(
    fields: Iterable[bytes],
    entity: bytes,
    *,
    is_encrypted: bool,
    hcp: Hcp = hcp_baseline,
    response_hcp: Hcp = hcp_no_confidentiality,
    has_legacy_display: bool = True,
) -> Payload:
    """Compose (RFC 9788 §5.2.1) up to the protection itself.

    Args:
        fields: of the message, whole; not Bcc, and no Content- fields.
        entity: Content- fields and body.
        hcp: of an encrypted message.
        response_hcp: `reference_hcp`'s, of a message that answers another.
        has_legacy_display: hidden fields are written above the text, for readers that know nothing
            of this.

    Raises:
        ProtectionError: there is no place for the parameter that says so, or the header section is
            larger than its readers read.
    """
    fields = [one for one in fields if _name(one) != HP_OUTER]
    of_transit = [one for one in fields if _is_of_transit(one)]
    own = canonical_fields(one for one in fields if not _is_of_transit(one))
    if not is_encrypted:
        inner = _with_type_parameters(entity, (HP, CLEAR))
        return _payload(own, (), inner, outer=(*of_transit, *own))
    outer: list[bytes] = []
    hidden: list[Header] = []
    for whole in own:
        header = as_header(whole)
        new = hcp(header.name, header.value)
        if new != header.value and header.name.lower() in USER_FACING:
            hidden.append(header)
        if new == header.value:
            new = response_hcp(header.name, header.value)
        if new == header.value:
            outer.append(whole)
        elif new is not None:
            outer.append(_written(header.name, new))
    entity = legacy_display.unmarked(entity)
    if has_legacy_display:
        entity = legacy_display.add(entity, hidden)
    # Programs that know the drafts only (Thunderbird, for OpenPGP) show the real subject by it.
    inner = _with_type_parameters(entity, (HP, CIPHER), (DRAFT_PARAMETER, b"v1"))
    copies = [_hp_outer(whole) for whole in outer]
    return _payload(own, copies, inner, outer=(*of_transit, *outer))


def _payload(
    own: Sequence[bytes], copies: Sequence[bytes], entity: bytes, *, outer: tuple[bytes, ...]
) -> Payload:
    """First what the body is, then the fields and then the copies: who reads no more than some
    of a long section knows what matters most."""
    at = read_section(entity).end
    content, body = entity[:at], entity[at:]
    check_is_read(read_section(b"".join((content, *own, b"\r\n"))))
    check_is_read(read_section(b"".join((*outer, b"\r\n"))))
    return Payload(entity=b"".join((content, *own, *copies, body)), outer=outer)


def as_header(whole: bytes) -> Header:
    """A whole field as name and unfolded value."""
    name, _, value = whole.partition(b":")
    return Header(name.rstrip(b" \t").decode("ascii", "replace"), unfold(value))


def _name(whole: bytes) -> bytes:
    return whole.partition(b":")[0].rstrip(b" \t").lower()


def _is_of_transit(whole: bytes) -> bool:
    name = _name(whole)
    return name in _OF_TRANSIT or name.startswith(_OF_TRANSIT_BEGIN)


def _written(name: str, value: bytes) -> bytes:
    try:
        return build.field(name, words.to_text(value))
    except BuildError:  # a word that no line can hold
        return field_named(name.encode("ascii"), value)


def _hp_outer(whole: bytes) -> bytes:
    """RFC 9788 §2.2.1, folded where the outer field is, and in front of it where that is needed."""
    name, _, value = whole.partition(b":")
    copy = b"%s: %s" % (name.rstrip(b" \t"), value.lstrip(b" \t\r\n"))
    first_line = copy.partition(b"\r\n")[0]
    is_long = len(first_line) + len(b"HP-Outer: ") > LINE_OCTETS_MAX
    return (b"HP-Outer:\r\n " if is_long else b"HP-Outer: ") + copy


def _with_type_parameters(entity: bytes, *added: tuple[bytes, bytes]) -> bytes:
    """The entity with hp on its Content-Type, and with no other (RFC 9788 §2.1.1)."""
    section = read_section(entity)
    written = section.first(b"content-type")
    parsed = None if written is None else parse_type(written)
    kind, given = "text/plain", Parameters()
    if b"content-transfer-encoding" not in section:  # what is in none is ASCII by now
        given = Parameters(((b"charset", b"us-ascii"),))
    if parsed is not None:
        kind, given = f"{parsed[0].decode('ascii')}/{parsed[1].decode('ascii')}", parsed[2]
    kept = tuple(item for item in given.items if item[0] not in (HP, DRAFT_PARAMETER))
    try:
        new = with_parameters("Content-Type", kind, Parameters((*kept, *added)))
    except BuildError:
        new = b""
    made = parse_type(as_header(new).value)
    if made is None or made[2].raw(b"boundary") != given.raw(b"boundary"):
        raise ProtectionError(
            "the message cannot be protected: its Content-Type cannot be written anew",
            hint="give the multipart a shorter boundary of letters and digits",
        )
    fields = [
        field_octets(section, field) for field in section.fields if field.name != b"content-type"
    ]
    return b"".join((new, *fields, b"\r\n", entity[section.body :]))


# --- reading ---


class FieldState(Enum):
    """How one field is protected (RFC 9788 §4.3)."""

    UNPROTECTED = "unprotected"
    SIGNED_ONLY = "signed-only"
    ENCRYPTED_ONLY = "encrypted-only"
    SIGNED_AND_ENCRYPTED = "signed-and-encrypted"


class HeaderScheme(Enum):
    RFC_9788 = "RFC 9788"
    RFC_8551 = "RFC 8551"  # a message inside
    DRAFT = "protected-headers"


class ProtectedHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What the root of a Cryptographic Payload says of the message's header section."""

    scheme: HeaderScheme
    is_for_encryption: bool
    """The composer meant it to be encrypted: hp="cipher"."""
    protected: tuple[Header, ...]
    outer: tuple[Header, ...]
    """What the composer put outside: HP-Outer, or for the older forms what stands there now."""
    fields: tuple[bytes, ...]
    """`protected` as whole fields."""
    entity: bytes
    """What is to be shown: Content- fields and body."""


class ProtectedField(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    value: str
    """Decoded, on one line."""
    state: FieldState


def header_sets(section: HeaderSection) -> tuple[tuple[Header, ...], tuple[Header, ...]]:
    """HeaderSetsFromMessage (RFC 9788 §4.2.1): the fields that the composer put outside, and those
    that are protected."""
    outer: list[Header] = []
    protected: list[Header] = []
    for field in section.fields:
        if field.name == HP_OUTER:
            name, colon, value = unfold(section.value(field)).partition(b":")
            if colon:
                outer.append(Header(name.strip().decode("ascii", "replace"), value.strip()))
        elif not _is_structural(field.name):
            name = section.octets[field.start : field.start + len(field.name)]
            protected.append(Header(name.decode("ascii"), unfold(section.value(field))))
    return tuple(outer), tuple(protected)


def read_protected(
    payload: bytes, outside: HeaderSection, *, is_encrypted: bool
) -> ProtectedHeader | None:
    """What a Cryptographic Payload protects of the header section; None where it does not say that
    it protects any.

    Args:
        outside: of the message as it came.
        is_encrypted: one of the layers around the payload is an encryption.
    """
    root = mime.scan(payload)
    meant = (root.parameters.raw(HP) or b"").lower()
    if meant in (CLEAR, CIPHER):
        return ProtectedHeader(
            scheme=HeaderScheme.RFC_9788,
            is_for_encryption=meant == CIPHER,
            protected=header_sets(root.section)[1],
            # All fields may have a copy, and whoever has none would count as hidden.
            outer=header_sets(read_section(payload, times=2))[0],
            fields=_whole_fields(root.section),
            # Elements are only in what was composed to be encrypted (RFC 9788 §5.2.1).
            entity=_shown_entity(payload, root, is_encrypted=is_encrypted and meant == CIPHER),
        )
    if root.message is not None and _is_rfc_8551(root.message):
        inside = root.message
        return ProtectedHeader(
            scheme=HeaderScheme.RFC_8551,
            is_for_encryption=is_encrypted,
            protected=header_sets(inside.section)[1],
            outer=header_sets(outside)[1],
            fields=_whole_fields(inside.section),
            entity=_content_only(payload, inside),
        )
    if root.parameters.raw(DRAFT_PARAMETER) == b"v1":
        return ProtectedHeader(
            scheme=HeaderScheme.DRAFT,
            is_for_encryption=is_encrypted,
            protected=header_sets(root.section)[1],
            outer=header_sets(outside)[1],
            fields=_whole_fields(root.section),
            entity=_content_only(payload, _without_legacy_part(root)),
        )
    return None


def field_states(
    header: ProtectedHeader, *, is_encrypted: bool, is_signed: bool
) -> tuple[ProtectedField, ...]:
    """HeaderFieldProtection (RFC 9788 §4.3.1) of each protected field.

    Args:
        is_signed: by a valid signature.
    """
    outside = {one.key for one in header.outer}
    found = []
    for one in header.protected:
        if is_encrypted and header.is_for_encryption and one.key not in outside:
            state = FieldState.SIGNED_AND_ENCRYPTED if is_signed else FieldState.ENCRYPTED_ONLY
        else:
            state = FieldState.SIGNED_ONLY if is_signed else FieldState.UNPROTECTED
        found.append(
            ProtectedField(name=one.name, value=words.decode(one.value).strip(), state=state)
        )
    return tuple(found)


class FromMismatch(msgspec.Struct, frozen=True, kw_only=True):
    """The author inside is another than the one outside (RFC 9788 §4.4.1.1)."""

    outer: tuple[str, ...]
    inner: tuple[str, ...]


def from_mismatch(outside: HeaderSection, header: ProtectedHeader) -> FromMismatch | None:
    """None where both name the same addresses, or nothing inside names one. One outside that can be
    read in several ways names others than the one inside, whatever we read in it."""
    inner = read_authors(header.fields)
    if not inner.addresses:
        return None
    outer = read_authors(field_octets(outside, field) for field in outside.fields)
    if not outer.fault and outer.keys == inner.keys:
        return None
    return FromMismatch(outer=outer.shown, inner=inner.shown)


class Authors(msgspec.Struct, frozen=True):
    """Whom From says a message is from."""

    addresses: tuple[Address, ...]
    fault: str = ""
    """Why others may read somebody else in it, in words that go on "the message …"."""

    @property
    def keys(self) -> frozenset[AddressKey]:
        return frozenset(address_key(one) for one in self.addresses)

    @property
    def shown(self) -> tuple[str, ...]:
        return tuple(map(shown, self.addresses))


def read_authors(fields: Iterable[bytes]) -> Authors:
    """Of the From fields among the whole ones of a header section; domains as A-labels."""
    found: dict[Address, None] = {}
    values = [whole.partition(b":")[2] for whole in fields if _name(whole) == b"from"]
    fault = ""
    for value in values:
        listed = parse_address_list(value)
        addresses = listed.addresses()
        found.update(dict.fromkeys(addresses))
        if listed.is_malformed:
            fault = "has a From field that can be read in more than one way"
        elif listed.is_truncated:
            fault = "has a From field that is longer than what is read of it"
        elif len(addresses) != len(listed.mailboxes()):  # some programs show and answer to them
            fault = "has an address in From that no mail can go to"
    if len(values) != 1:
        fault = "has more than one From field" if values else "has no From field"
    return Authors(tuple(found), fault)


def address_key(address: Address) -> AddressKey:
    """Equal for addresses that match (RFC 9788 §4.4.5)."""
    local_part = address.local_part
    return (local_part.lower() if local_part.isascii() else local_part), address.domain.lower()


def address_keys(texts: Iterable[str]) -> frozenset[AddressKey]:
    """Of those among some texts that are addresses, as keys and certificates name them."""
    return frozenset(key for text in texts if (key := text_key(text)) is not None)


def text_key(text: str) -> AddressKey | None:
    try:
        parsed = parse_mailbox(text, local_part_octets_max=LOCAL_PART_REMOTE_OCTETS_MAX)
    except AddressError:
        return None
    return address_key(parsed)


def shown(address: Address) -> str:
    return f"{address.local_part}@{address.domain}"


def rendered_fields(
    outside: HeaderSection, header: ProtectedHeader, *, has_outer_from: bool
) -> tuple[bytes, ...]:
    """Whole fields for whoever shows the message (RFC 9788 §4): the protected ones, and of those
    outside what was added on the way.

    Args:
        has_outer_from: of the two Froms it is the one outside that the way has checked
            (RFC 9788 §4.4.3).
    """
    inner_names = {_name(one) for one in header.fields}
    added: list[bytes] = []
    outer_from: list[bytes] = []
    for field in outside.fields:
        name = field.name
        if _is_structural(name) or name == GOSSIP:
            continue
        whole = field_octets(outside, field)
        if name == b"from":
            outer_from.append(whole)
            continue
        is_shown = name.decode("ascii") in _SHOWN and header.scheme is not HeaderScheme.DRAFT
        if name not in inner_names and not is_shown:
            added.append(whole)
    inner: Sequence[bytes] = header.fields
    if has_outer_from or b"from" not in inner_names:  # nobody is left without an author
        inner = (*outer_from, *(one for one in inner if _name(one) != b"from"))
    return (*added, *inner)


def _is_structural(name: bytes) -> bool:
    return name.startswith(b"content-") or name == b"mime-version"


def _whole_fields(section: HeaderSection) -> tuple[bytes, ...]:
    return tuple(
        field_octets(section, field)
        for field in section.fields
        if field.name != HP_OUTER and not _is_structural(field.name)
    )


def _is_rfc_8551(message: Part) -> bool:
    """RFC 9788 §4.10.1; that the message is no layer itself is for the caller to see, too."""
    has_layer = message.maintype == b"multipart" and message.subtype in (b"signed", b"encrypted")
    has_layer = has_layer or message.subtype in (b"pkcs7-mime", b"x-pkcs7-mime")
    return not has_layer and message.parameters.raw(HP) is None


def _shown_entity(payload: bytes, root: Part, *, is_encrypted: bool) -> bytes:
    entity = _content_only(payload, root)
    return legacy_display.remove(entity) if is_encrypted else entity


def content_only(entity: bytes) -> bytes:
    """An entity without fields that would be the message's once they stand in its header section:
    only header protection puts them there."""
    return _content_only(entity, mime.scan(entity))


def _content_only(payload: bytes, part: Part) -> bytes:
    """A part as an entity of its own, which claims nothing of protection any more."""
    section = part.section
    kept = [
        _without_claims(field_octets(section, field))
        for field in section.fields
        if field.name.startswith(b"content-")
    ]
    return b"".join((*kept, b"\r\n", payload[part.body : part.end]))


def _without_claims(whole: bytes) -> bytes:
    parsed = parse_type(as_header(whole).value) if _name(whole) == b"content-type" else None
    if parsed is None:
        return whole
    kept = tuple(item for item in parsed[2].items if item[0] not in (HP, DRAFT_PARAMETER))
    if len(kept) == len(parsed[2].items):
        return whole
    kind = f"{parsed[0].decode('ascii')}/{parsed[1].decode('ascii')}"
    try:
        return with_parameters("Content-Type", kind, Parameters(kept))
    except BuildError:
        return whole


def _without_legacy_part(root: Part) -> Part:
    """The drafts put a part of text in front, which shows the fields to other readers."""
    if root.subtype == b"mixed" and len(root.children) == 2:
        first, second = root.children
        kind = (first.maintype, first.subtype)
        is_marked = first.parameters.raw(DRAFT_PARAMETER) == b"v1"
        if is_marked and kind in ((b"text", b"plain"), (b"text", b"rfc822-headers")):
            return second
    return root
