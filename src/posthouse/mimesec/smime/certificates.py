"""Certificates (RFC 5280, RFC 8550): read once, with all that is asked about them at hand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Final, TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa, x448, x25519
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from posthouse.mimesec.smime import algorithms, der
from posthouse.mimesec.smime.addresses import named_addresses
from posthouse.mimesec.smime.algorithms import Identifier, PublicKey
from posthouse.mimesec.smime.der import BadStructure
from posthouse.mimesec.smime.serials import with_positive_serials

CERTIFICATE_OCTETS_MAX: Final = 64 * 1024
EMAIL_PROTECTION: Final = x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION
ANY_USAGE: Final = x509.oid.ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
_COMMON_NAME: Final = b"\x55\x04\x03"
E = TypeVar("E", bound=x509.ExtensionType)


class SignedOctets(msgspec.Struct, frozen=True):
    """The outer form that certificates, CRLs and OCSP responses share (RFC 5280 §4.1.1)."""

    octets: bytes
    algorithm: Identifier
    signature: bytes

    def is_signed_by(self, key: PublicKey) -> bool:
        """Raises UnsupportedForm for an algorithm that is not accepted."""
        scheme = algorithms.scheme_of(self.algorithm)
        return algorithms.verify(key, scheme, self.signature, self.octets)


def signed_octets(octets: bytes) -> SignedOctets:
    fields = der.Fields.of(octets)
    body = fields.take(der.SEQUENCE).whole
    algorithm = algorithms.identifier(fields.take(der.SEQUENCE))
    bits = fields.take(der.BIT_STRING).content
    return SignedOctets(body, algorithm, bits[1:])


class Certificate:
    """One certificate; `Certificate(octets)` raises BadStructure for what is none."""

    def __init__(self, octets: bytes) -> None:
        if len(octets) > CERTIFICATE_OCTETS_MAX:
            raise BadStructure(f"a certificate of more than {CERTIFICATE_OCTETS_MAX} octets")
        self.octets = octets
        self.signed = signed_octets(octets)
        fields = der.Fields.of(self.signed.octets)
        fields.take_if(der.context(0))
        self.serial: Final = der.integer(fields.take(der.INTEGER))
        inner = algorithms.identifier(fields.take(der.SEQUENCE))
        if inner != self.signed.algorithm:
            raise BadStructure("a certificate with two signature algorithms")
        self.issuer: Final = fields.take(der.SEQUENCE).whole
        fields.take(der.SEQUENCE)
        self.subject: Final = fields.take(der.SEQUENCE).whole
        try:
            self._read()
        except BadStructure:
            raise
        except Exception as error:  # whatever the library says of a stranger's octets
            raise BadStructure("a certificate that cannot be read") from error

    def _read(self) -> None:
        parsed = x509.load_der_x509_certificate(with_positive_serials(self.octets))
        self.not_before = parsed.not_valid_before_utc
        self.not_after = parsed.not_valid_after_utc
        self.extensions = parsed.extensions
        self.subject_name = parsed.subject
        self.issuer_name = parsed.issuer
        self.public_key = _public_key(parsed)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self.octets == other.octets

    def __hash__(self) -> int:
        return hash(self.octets)

    def __repr__(self) -> str:
        return f"Certificate({self.name!r}, {self.fingerprint[:16]})"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in upper-case hexadecimal."""
        return sha256(self.octets).hexdigest().upper()

    @cached_property
    def addresses(self) -> tuple[str, ...]:
        return named_addresses(self.extension(x509.SubjectAlternativeName), self.subject_name)

    @cached_property
    def name(self) -> str:
        """Of the subject, for people: its common name, its first address, or all of it."""
        has_common = self.subject_name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        if self.addresses and not has_common:
            return printable(self.addresses[0])
        return name_for_people(self.subject_name)

    @cached_property
    def label(self) -> str:
        """ "serial of issuer", as messages name a recipient."""
        return label(self.serial, self.issuer_name)

    @cached_property
    def key_identifier(self) -> bytes:
        """subjectKeyIdentifier; b"" when it has none."""
        found = self.extension(x509.SubjectKeyIdentifier)
        return found.digest if found else b""

    @cached_property
    def authority_identifier(self) -> bytes:
        found = self.extension(x509.AuthorityKeyIdentifier)
        return (found.key_identifier or b"") if found else b""

    @cached_property
    def is_self_issued(self) -> bool:
        return self.issuer == self.subject

    @cached_property
    def key_octets(self) -> bytes:
        """SubjectPublicKeyInfo."""
        fields = der.Fields.of(self.signed.octets)
        fields.take_if(der.context(0))
        for _ in range(5):
            fields.take()
        return fields.take(der.SEQUENCE).whole

    @cached_property
    def key_algorithm(self) -> str:
        """The identifier of the key's algorithm; id-RSASSA-PSS keys may only sign by PSS."""
        return algorithms.identifier(der.Fields.of(self.key_octets).take(der.SEQUENCE)).oid

    def extension(self, kind: type[E]) -> E | None:
        try:
            return self.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None

    def is_valid_at(self, at: datetime) -> bool:
        return self.not_before <= at <= self.not_after

    def why_not_valid(self, at: datetime) -> str:
        """ "" when its dates include the time."""
        if at < self.not_before:
            return f"is not valid before {self.not_before:%Y-%m-%d}"
        return f"has expired on {self.not_after:%Y-%m-%d}" if at > self.not_after else ""

    def why_not_mail(self) -> str:
        """Why its extendedKeyUsage does not let it protect mail (RFC 8550 §4.4.4)."""
        usage = self.extension(x509.ExtendedKeyUsage)
        if usage is None or EMAIL_PROTECTION in usage or ANY_USAGE in usage:
            return ""
        return "is not for e-mail (its extended key usage lacks emailProtection)"

    def why_not_signing(self) -> str:
        """RFC 8550 §4.4.2: digitalSignature or nonRepudiation, when keyUsage is there."""
        usage = self.extension(x509.KeyUsage)
        if usage is None or usage.digital_signature or usage.content_commitment:
            return self.why_not_mail()
        return "is not for signatures (its key usage lacks digitalSignature)"

    def why_not_encryption(self) -> str:
        """RFC 8550 §4.4.2: keyEncipherment for RSA, keyAgreement for curves."""
        key, usage = self.public_key, self.extension(x509.KeyUsage)
        if isinstance(key, rsa.RSAPublicKey) and self.key_algorithm == algorithms.RSA_PSS:
            return "is for RSA-PSS signatures only"
        if isinstance(key, rsa.RSAPublicKey):
            if usage is not None and not usage.key_encipherment:
                return "is not for encryption (its key usage lacks keyEncipherment)"
        elif isinstance(key, EllipticCurvePublicKey | x25519.X25519PublicKey | x448.X448PublicKey):
            if usage is not None and not usage.key_agreement:
                return "is not for encryption (its key usage lacks keyAgreement)"
        else:
            return "has a key that cannot be encrypted to"
        return self.why_not_mail() or algorithms.why_weak(key)

    def is_issuer_named(self, issuer: Certificate) -> bool:
        """Whether `issuer` could have issued it, by name and key identifier."""
        if self.issuer != issuer.subject and self.issuer_name != issuer.subject_name:
            return False
        asked, has = self.authority_identifier, issuer.key_identifier
        return not asked or not has or asked == has


def _public_key(parsed: x509.Certificate) -> PublicKey | None:
    """None when the key is of a kind or a curve that is not known."""
    try:
        return algorithms.as_public_key(parsed.public_key())
    except Exception:  # a point off its curve, an unknown curve: a certificate without a use
        return None


def label(serial: int, issuer: x509.Name) -> str:
    return f"{serial:X} of {name_for_people(issuer)}"


def name_for_people(name: x509.Name) -> str:
    common = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return printable(str(common[0].value) if common else name.rfc4514_string())


def printable(text: str, *, characters_max: int = 200) -> str:
    """A stranger's text on one line."""
    shown = text[:characters_max]
    if shown.isprintable():
        return shown
    return "".join(one if one.isprintable() else "?" for one in shown)


def read_all(found: Iterable[bytes], *, count_max: int) -> list[Certificate]:
    """The readable ones among the first `count_max`; the others are passed over."""
    certificates: dict[Certificate, None] = {}
    for number, octets in enumerate(found):
        if number == count_max:
            break
        try:
            certificates[Certificate(octets)] = None
        except BadStructure:
            continue
    return list(certificates)


def is_same_name(one: bytes, other: bytes) -> bool:
    """Whether two Names in DER are the same, also where two programs wrote their strings in
    different types or cases (RFC 5280 §7.1)."""
    if one == other:
        return True
    try:
        return _name_key(one) == _name_key(other)
    except (BadStructure, UnicodeDecodeError):
        return False


def shown_name(name: bytes) -> str:
    """A Name in DER for people: its common name, else all that it says."""
    try:
        pairs = [pair for relative in _name_key(name, is_folded=False) for pair in relative]
    except (BadStructure, UnicodeDecodeError):
        return "an unreadable name"
    common = [text for oid, text in pairs if oid == _COMMON_NAME]
    return printable(common[-1] if common else ", ".join(text for _, text in pairs))


def _name_key(name: bytes, *, is_folded: bool = True) -> list[frozenset[tuple[bytes, str]]]:
    key = []
    for relative in der.elements(der.element(name, der.SEQUENCE).content):
        attributes = []
        for attribute in der.elements(relative.content):
            fields = der.Fields.of(attribute.whole)
            oid, value = fields.take(der.OID).content, fields.take()
            encoding = {0x1C: "utf-32-be", 0x1E: "utf-16-be", 0x14: "latin-1"}
            text = value.content.decode(encoding.get(value.identifier, "utf-8"))
            attributes.append((oid, " ".join(text.casefold().split()) if is_folded else text))
        key.append(frozenset(attributes))
    return key
