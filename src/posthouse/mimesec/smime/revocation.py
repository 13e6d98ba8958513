"""Whether a certificate has been revoked: by CRLs (RFC 5280 §5, §6.3) and OCSP responses (RFC 6960)
that somebody else has fetched, and where they are. What is not signed by the right key counts for
nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import sha1
from itertools import islice
from typing import Final, TypeAlias

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from posthouse.mimesec.smime import algorithms, certificates, der
from posthouse.mimesec.smime.algorithms import UnsupportedForm
from posthouse.mimesec.smime.certificates import Certificate, signed_octets
from posthouse.mimesec.smime.der import BadStructure

CRL_OCTETS_MAX: Final = 32 * 1024 * 1024
OCSP_OCTETS_MAX: Final = 64 * 1024
RESPONSES_MAX: Final = 20
RESPONDERS_MAX: Final = 5
"""Certificates looked at in one OCSP response."""
BASIC_RESPONSE: Final = "1.3.6.1.5.5.7.48.1.1"
_KNOWN_CRITICAL: Final = frozenset({x509.oid.ExtensionOID.ISSUING_DISTRIBUTION_POINT})


class Revoked(msgspec.Struct, frozen=True):
    """Since when, and why as its issuer says."""

    since: datetime
    why: str

    def __str__(self) -> str:
        why = "" if self.why in ("", "unspecified") else f" ({self.why})"
        return f"was revoked on {self.since:%Y-%m-%d}{why}"


class Crl:
    """A certificate revocation list; `Crl(octets)` raises BadStructure for what is none."""

    def __init__(self, octets: bytes) -> None:
        if len(octets) > CRL_OCTETS_MAX:
            raise BadStructure(f"a CRL of more than {CRL_OCTETS_MAX} octets")
        self.octets = octets
        self._signed = signed_octets(octets)
        self._known_issuers: dict[bytes, bool] = {}
        try:
            self._list = x509.load_der_x509_crl(octets)
            self.issuer = self._list.issuer
            self.next_update = self._list.next_update_utc
            self._is_usable = _is_plain(self._list.extensions)
            self._scope = _scope(self._list.extensions)
        except Exception as error:  # whatever the library says of a stranger's octets
            raise BadStructure("a CRL that cannot be read") from error

    def covers(self, certificate: Certificate, issuer: Certificate) -> bool:
        """Whether it is the issuer's word about such a certificate."""
        if not self._is_usable or self.issuer != certificate.issuer_name:
            return False
        if self._scope is not None and self._scope != _is_authority(certificate):
            return False
        usage = issuer.extension(x509.KeyUsage)
        if usage is not None and not usage.crl_sign:
            return False
        # A list may have megabytes, and is asked about many certificates of one issuer.
        known = self._known_issuers.get(issuer.octets)
        if known is None:
            known = self._known_issuers[issuer.octets] = _is_signed(self._signed, issuer)
        return known

    def revoked(
        self, certificate: Certificate, issuer: Certificate, at: datetime
    ) -> Revoked | None:
        """None when it does not say so, or is not the issuer's."""
        if not self.covers(certificate, issuer):
            return None
        try:
            found = self._list.get_revoked_certificate_by_serial_number(certificate.serial)
        except ValueError:  # entries are read only now
            return None
        # A list past its next update still says who had been revoked when it was made.
        if found is None or found.revocation_date_utc > at:
            return None
        return _entry(found)


def _entry(found: x509.RevokedCertificate) -> Revoked | None:
    try:
        reason = found.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except Exception:  # no reason, or one that cannot be read: it is revoked all the same
        return Revoked(found.revocation_date_utc, "")
    if reason is x509.ReasonFlags.remove_from_crl:
        return None
    return Revoked(found.revocation_date_utc, reason.value)


def _is_plain(extensions: x509.Extensions) -> bool:
    """Whether it is about its own issuer's certificates and says nothing that is not understood."""
    for one in extensions:
        if isinstance(one.value, x509.IssuingDistributionPoint) and one.value.indirect_crl:
            return False
        if one.critical and one.oid not in _KNOWN_CRITICAL:
            return False
    return True


def _scope(extensions: x509.Extensions) -> bool | None:
    """Whether it is about authorities only (True), all others only (False), or everybody."""
    for one in extensions:
        if isinstance(one.value, x509.IssuingDistributionPoint):
            if one.value.only_contains_ca_certs:
                return True
            if one.value.only_contains_user_certs:
                return False
    return None


def _is_authority(certificate: Certificate) -> bool:
    basic = certificate.extension(x509.BasicConstraints)
    return basic is not None and basic.ca


def _is_signed(signed: certificates.SignedOctets, issuer: Certificate) -> bool:
    if issuer.public_key is None:
        return False
    try:
        return signed.is_signed_by(issuer.public_key)
    except (UnsupportedForm, BadStructure):
        return False


class OcspResponse:
    """An OCSP response; `OcspResponse(octets)` raises BadStructure for what is none."""

    def __init__(self, octets: bytes) -> None:
        if len(octets) > OCSP_OCTETS_MAX:
            raise BadStructure(f"an OCSP response of more than {OCSP_OCTETS_MAX} octets")
        self.octets = octets
        self._signed = signed_octets(_basic_response(octets))
        try:
            response = ocsp.load_der_ocsp_response(octets)
            self._singles = _singles(response)
            self.next_update = response.next_update_utc
            self._responders = _responders(octets)
        except BadStructure:
            raise
        except Exception as error:  # as above
            raise BadStructure("an OCSP response that cannot be read") from error

    def covers(self, certificate: Certificate, issuer: Certificate, at: datetime) -> bool:
        """Whether it is the issuer's or its delegate's word about the certificate."""
        is_meant = any(one.is_about(certificate, issuer) for one in self._singles)
        return is_meant and self._is_signed(issuer, at)

    def revoked(
        self, certificate: Certificate, issuer: Certificate, at: datetime
    ) -> Revoked | None:
        """None when it does not say so, or is not the issuer's or its delegate's."""
        for single in self._singles:
            found = single.revoked
            if found is None or found.since > at or not single.is_about(certificate, issuer):
                continue
            if self._is_signed(issuer, at):
                return found
        return None

    def _is_signed(self, issuer: Certificate, at: datetime) -> bool:
        """By the issuer, or by whom it certified for that (RFC 6960 §4.2.2.2)."""
        if _is_signed(self._signed, issuer):
            return True
        for responder in self._responders:
            usage = responder.extension(x509.ExtendedKeyUsage)
            is_meant = (
                usage is not None
                and x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING in usage
                and responder.is_valid_at(at)
                and responder.is_issuer_named(issuer)
            )
            if is_meant and _is_signed(responder.signed, issuer):
                return _is_signed(self._signed, responder)
        return False


Revocation: TypeAlias = Crl | OcspResponse


def read_crls(found: Iterable[bytes], *, count_max: int) -> tuple[Crl, ...]:
    """The readable ones among the first `count_max`."""
    lists: list[Crl] = []
    for octets in islice(found, count_max):
        try:
            lists.append(Crl(octets))
        except BadStructure:
            continue
    return tuple(lists)


def _basic_response(octets: bytes) -> bytes:
    """The BasicOCSPResponse inside (RFC 6960 §4.2.1)."""
    fields = der.Fields.of(octets)
    if der.small(fields.take(der.ENUMERATED)) != 0:
        raise BadStructure("an OCSP response without an answer")
    inner = der.Fields.of(fields.take(der.context(0)).content)
    if der.dotted(inner.take(der.OID).content) != BASIC_RESPONSE:
        raise BadStructure("an OCSP response of another kind")
    return inner.take(der.OCTET_STRING).content


class _Single(msgspec.Struct, frozen=True):
    """About one certificate; the hashes only say which one is meant, so SHA-1 does no harm in
    them."""

    serial: int
    hash_name: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    revoked: Revoked | None

    def is_about(self, certificate: Certificate, issuer: Certificate) -> bool:
        return (
            self.serial == certificate.serial
            and self.issuer_name_hash == _digest(self.hash_name, certificate.issuer)
            and self.issuer_key_hash == _digest(self.hash_name, _key_bits(issuer))
        )


def _singles(response: ocsp.OCSPResponse) -> list[_Single]:
    """One with a hash that is not known raises UnsupportedAlgorithm."""
    found: list[_Single] = []
    singles: Iterator[ocsp.OCSPSingleResponse] = response.responses
    for single in islice(singles, RESPONSES_MAX):
        since, reason = single.revocation_time_utc, single.revocation_reason
        one = _Single(
            single.serial_number,
            single.hash_algorithm.name,
            single.issuer_name_hash,
            single.issuer_key_hash,
            Revoked(since, reason.value if reason else "") if since is not None else None,
        )
        found.append(one)
    return found


def _responders(octets: bytes) -> list[Certificate]:
    fields = der.Fields.of(_basic_response(octets))
    for _ in range(3):
        fields.take()
    listed = fields.take_if(der.context(0))
    if listed is None:
        return []
    values = der.elements(der.element(listed.content, der.SEQUENCE).content)
    return certificates.read_all((one.whole for one in values), count_max=RESPONDERS_MAX)


def list_urls(certificate: Certificate) -> tuple[str, ...]:
    """Where its issuer shows its list (RFC 5280 §4.2.1.13): those for all reasons, by HTTP."""
    points = certificate.extension(x509.CRLDistributionPoints) or ()
    return _http(
        name
        for point in points
        if point.reasons is None and point.crl_issuer is None
        for name in point.full_name or ()
    )


def ocsp_urls(certificate: Certificate) -> tuple[str, ...]:
    """Whom its issuer lets answer (RFC 5280 §4.2.2.1)."""
    places = certificate.extension(x509.AuthorityInformationAccess) or ()
    return _http(
        place.access_location
        for place in places
        if place.access_method == x509.oid.AuthorityInformationAccessOID.OCSP
    )


def _http(names: Iterable[x509.GeneralName]) -> tuple[str, ...]:
    found = (one.value for one in names if isinstance(one, x509.UniformResourceIdentifier))
    return tuple(dict.fromkeys(one for one in found if one.startswith(("http://", "https://"))))


def ocsp_request(certificate: Certificate, issuer: Certificate) -> bytes:
    """In DER (RFC 6960 §4.1.1); by SHA-1, as some responders know nothing else, and it only says
    whom it is about."""
    built = ocsp.OCSPRequestBuilder().add_certificate(
        x509.load_der_x509_certificate(certificate.octets),
        x509.load_der_x509_certificate(issuer.octets),
        hashes.SHA1(),  # noqa: S303
    )
    return built.build().public_bytes(Encoding.DER)


def _digest(name: str, octets: bytes) -> bytes:
    if name == "sha1":
        return sha1(octets, usedforsecurity=False).digest()
    for digest in algorithms.DIGESTS.values():
        if digest.hash().name == name:
            return digest.of(octets)
    return b""


def _key_bits(issuer: Certificate) -> bytes:
    """The public key without tag, length and unused bits (RFC 6960 §4.1.1)."""
    fields = der.Fields.of(issuer.key_octets)
    fields.take(der.SEQUENCE)
    return fields.take(der.BIT_STRING).content[1:]


def revoked(
    certificate: Certificate, issuer: Certificate, known: Sequence[Revocation], at: datetime
) -> Revoked | None:
    for one in known:
        if (found := one.revoked(certificate, issuer, at)) is not None:
            return found
    return None
