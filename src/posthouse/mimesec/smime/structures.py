"""The structures of CMS (RFC 5652, RFC 5083, RFC 3274) as frozen values, read from octets.

Everything is read at once and raises `BadStructure` or nothing; what it means is asked elsewhere.
"""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.mimesec.smime import der
from posthouse.mimesec.smime.algorithms import Identifier, identifier
from posthouse.mimesec.smime.der import BadStructure, Element, Fields

DATA: Final = "1.2.840.113549.1.7.1"
SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
ENVELOPED_DATA: Final = "1.2.840.113549.1.7.3"
ENCRYPTED_DATA: Final = "1.2.840.113549.1.7.6"
COMPRESSED_DATA: Final = "1.2.840.113549.1.9.16.1.9"
AUTH_ENVELOPED_DATA: Final = "1.2.840.113549.1.9.16.1.23"

SIGNERS_MAX: Final = 20
CERTIFICATES_MAX: Final = 100
CRLS_MAX: Final = 20
RECIPIENTS_MAX: Final = 2000
ATTRIBUTES_MAX: Final = 50


class IssuerSerial(msgspec.Struct, frozen=True):
    issuer: bytes
    """DER of a Name."""
    serial: int


class KeyId(msgspec.Struct, frozen=True):
    octets: bytes
    """subjectKeyIdentifier."""


Rid = IssuerSerial | KeyId


class Attribute(msgspec.Struct, frozen=True):
    oid: str
    values: tuple[bytes, ...]


class Attributes(msgspec.Struct, frozen=True):
    """Attributes as they came, and in the DER that is signed or authenticated."""

    items: tuple[Attribute, ...]
    as_sent: bytes
    """With the tag of a SET (RFC 5652 §5.4)."""
    sorted: bytes
    """The same in the order of DER, where the sender kept another."""

    def one(self, oid: str) -> bytes | None:
        """The only value of an attribute that may have one only (RFC 5652 §11); None when it is not
        there.

        Raises:
            BadStructure: it is there twice, or with another count of values.
        """
        found = [item for item in self.items if item.oid == oid]
        if not found:
            return None
        if len(found) > 1 or len(found[0].values) != 1:
            raise BadStructure("an attribute that is there more than once")
        return found[0].values[0]


class SignerInfo(msgspec.Struct, frozen=True, kw_only=True):
    signer: Rid
    digest: Identifier
    attributes: Attributes | None
    algorithm: Identifier
    signature: bytes


class SignedData(msgspec.Struct, frozen=True, kw_only=True):
    content_type: str
    content: bytes | None
    """None when it is detached."""
    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    signers: tuple[SignerInfo, ...]


class KeyTransport(msgspec.Struct, frozen=True):
    """KeyTransRecipientInfo."""

    recipient: Rid
    algorithm: Identifier
    key: bytes


class KeyAgreement(msgspec.Struct, frozen=True):
    """One recipient of a KeyAgreeRecipientInfo, with what is common to all of its."""

    recipient: Rid
    originator: bytes
    """OriginatorPublicKey's bits; b"" when the key is named and not there (static ECDH)."""
    originator_curve: bytes
    """Parameters of the originator's algorithm in DER."""
    originator_algorithm: str
    ukm: bytes | None
    algorithm: Identifier
    key: bytes


Recipient = KeyTransport | KeyAgreement


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """EnvelopedData or AuthEnvelopedData."""

    is_authenticated: bool
    recipients: tuple[Recipient, ...]
    others: int
    """Recipients by password or by a key of their own, who are passed over."""
    content_type: str
    algorithm: Identifier
    content: bytes
    attributes: bytes = b""
    """authAttrs with the tag of a SET; b"" when there are none."""
    tag: bytes = b""


class Compressed(msgspec.Struct, frozen=True):
    algorithm: str
    content_type: str
    content: bytes


Structure = SignedData | Sealed | Compressed


def read(octets: bytes) -> Structure:
    """The ContentInfo that some octets are, in BER or DER; octets behind it are not looked at.

    Raises:
        BadStructure: they are none, or of a kind that is not read.
    """
    outer = Fields.of(der.definite(octets))
    kind = der.dotted(outer.take(der.OID).content)
    content = outer.take(der.context(0)).content
    if kind == SIGNED_DATA:
        return _signed(content)
    if kind in (ENVELOPED_DATA, AUTH_ENVELOPED_DATA):
        return _sealed(content, is_authenticated=kind == AUTH_ENVELOPED_DATA)
    if kind == COMPRESSED_DATA:
        return _compressed(content)
    raise BadStructure(f"a CMS content of the kind {kind}")


def rid(value: Element) -> Rid:
    """SignerIdentifier and RecipientIdentifier (RFC 5652 §5.3, §6.2.1)."""
    if value.identifier == der.SEQUENCE:
        fields = Fields(value.content, count_max=2)
        issuer = fields.take(der.SEQUENCE).whole
        return IssuerSerial(issuer, der.integer(fields.take(der.INTEGER)))
    return KeyId(der.string(value))


def _signed(octets: bytes) -> SignedData:
    fields = Fields.of(octets)
    der.small(fields.take(der.INTEGER))
    fields.take(der.SET)
    inner = Fields(fields.take(der.SEQUENCE).content, count_max=2)
    content_type = der.dotted(inner.take(der.OID).content)
    wrapped = inner.take_if(der.context(0))
    content = None
    if wrapped is not None:
        # PKCS #7 had any type here; only strings are mail (RFC 5652 §5.2.1).
        content = der.element(wrapped.content, der.OCTET_STRING).content
    certificates = _certificates(fields.take_if(der.context(0)))
    crls = _certificates(fields.take_if(der.context(1)), count_max=CRLS_MAX)
    signers = der.elements(fields.take(der.SET).content, count_max=SIGNERS_MAX)
    return SignedData(
        content_type=content_type,
        content=content,
        certificates=certificates,
        crls=crls,
        signers=tuple(_signer(one) for one in signers),
    )


def _certificates(value: Element | None, *, count_max: int = CERTIFICATES_MAX) -> tuple[bytes, ...]:
    """Certificates or CRLs; attribute certificates and other formats have tags of their own and
    are passed over."""
    if value is None:
        return ()
    found = (one.whole for one in der.elements(value.content) if one.identifier == der.SEQUENCE)
    return tuple(list(found)[:count_max])


def _signer(value: Element) -> SignerInfo:
    fields = Fields.of(value.whole)
    der.small(fields.take(der.INTEGER))
    signer = rid(fields.take(der.SEQUENCE, der.context(0), der.context(0, is_constructed=False)))
    digest = identifier(fields.take(der.SEQUENCE))
    signed = fields.take_if(der.context(0))
    attributes = None if signed is None else read_attributes(signed.content)
    algorithm = identifier(fields.take(der.SEQUENCE))
    signature = fields.take(der.OCTET_STRING).content
    return SignerInfo(
        signer=signer,
        digest=digest,
        attributes=attributes,
        algorithm=algorithm,
        signature=signature,
    )


def read_attributes(octets: bytes) -> Attributes:
    """Of the content of a SET OF Attribute."""
    values = der.elements(octets, count_max=ATTRIBUTES_MAX)
    items: list[Attribute] = []
    for value in values:
        fields = Fields.of(value.whole)
        oid = der.dotted(fields.take(der.OID).content)
        inner = der.elements(fields.take(der.SET).content, count_max=ATTRIBUTES_MAX)
        items.append(Attribute(oid, tuple(one.whole for one in inner)))
    ordered = der.set_of(one.whole for one in values)
    return Attributes(tuple(items), der.tlv(der.SET, octets), ordered)


# --- encrypted ---


def _sealed(octets: bytes, *, is_authenticated: bool) -> Sealed:
    fields = Fields.of(octets)
    der.small(fields.take(der.INTEGER))
    fields.take_if(der.context(0))  # originatorInfo: certificates that static ECDH would need
    recipients, others = _recipients(fields.take(der.SET))
    inner = Fields(fields.take(der.SEQUENCE).content, count_max=3)
    content_type = der.dotted(inner.take(der.OID).content)
    algorithm = identifier(inner.take(der.SEQUENCE))
    content = inner.take(der.context(0), der.context(0, is_constructed=False))
    attributes, tag = b"", b""
    if is_authenticated:
        if (value := fields.take_if(der.context(1))) is not None:
            attributes = read_attributes(value.content).sorted
        tag = fields.take(der.OCTET_STRING).content
    return Sealed(
        is_authenticated=is_authenticated,
        recipients=recipients,
        others=others,
        content_type=content_type,
        algorithm=algorithm,
        content=der.string(content),
        attributes=attributes,
        tag=tag,
    )


def _recipients(value: Element) -> tuple[tuple[Recipient, ...], int]:
    found: list[Recipient] = []
    others = 0
    for one in der.elements(value.content, count_max=RECIPIENTS_MAX):
        if one.identifier == der.SEQUENCE:
            found.append(_key_transport(one))
        elif one.identifier == der.context(1):
            found += _key_agreement(one)
        else:
            others += 1
        if len(found) > RECIPIENTS_MAX:
            raise BadStructure(f"more than {RECIPIENTS_MAX} recipients")
    return tuple(found), others


def _key_transport(value: Element) -> KeyTransport:
    fields = Fields(value.content, count_max=4)
    der.small(fields.take(der.INTEGER))
    who = rid(fields.take(der.SEQUENCE, der.context(0), der.context(0, is_constructed=False)))
    algorithm = identifier(fields.take(der.SEQUENCE))
    return KeyTransport(who, algorithm, fields.take(der.OCTET_STRING).content)


def _key_agreement(value: Element) -> list[KeyAgreement]:
    fields = Fields(value.content, count_max=5)
    der.small(fields.take(der.INTEGER))
    originator = der.elements(fields.take(der.context(0)).content, count_max=1)
    algorithm, curve, bits = _originator(originator)
    marked = fields.take_if(der.context(1))
    ukm = None if marked is None else der.element(marked.content, der.OCTET_STRING).content
    how = identifier(fields.take(der.SEQUENCE))
    return [
        KeyAgreement(who, bits, curve, algorithm, ukm, how, key)
        for who, key in _wrapped_keys(fields.take(der.SEQUENCE))
    ]


def _originator(values: list[Element]) -> tuple[str, bytes, bytes]:
    """OriginatorIdentifierOrKey (RFC 5652 §6.2.2): only a key, as static ECDH is not read."""
    if len(values) != 1 or values[0].identifier != der.context(1):
        return "", b"", b""
    fields = Fields(values[0].content, count_max=2)
    algorithm = identifier(fields.take(der.SEQUENCE))
    return algorithm.oid, algorithm.parameters, fields.take(der.BIT_STRING).content[1:]


def _wrapped_keys(value: Element) -> list[tuple[Rid, bytes]]:
    found: list[tuple[Rid, bytes]] = []
    for one in der.elements(value.content, count_max=RECIPIENTS_MAX):
        fields = Fields.of(one.whole)
        named = fields.take(der.SEQUENCE, der.context(0))
        if named.identifier == der.SEQUENCE:
            who = rid(named)
        else:
            who = KeyId(Fields(named.content, count_max=3).take(der.OCTET_STRING).content)
        found.append((who, fields.take(der.OCTET_STRING).content))
    return found


def _compressed(octets: bytes) -> Compressed:
    fields = Fields.of(octets)
    der.small(fields.take(der.INTEGER))
    algorithm = identifier(fields.take(der.SEQUENCE))
    inner = Fields(fields.take(der.SEQUENCE).content, count_max=2)
    content_type = der.dotted(inner.take(der.OID).content)
    content = der.element(inner.take(der.context(0)).content, der.OCTET_STRING).content
    return Compressed(algorithm.oid, content_type, content)
