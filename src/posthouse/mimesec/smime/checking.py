"""Checking SignedData (RFC 5652 §5.6, RFC 8551 §2.5, RFC 8550 §4.2): each signature by itself, with
a result that promises no more than was proven."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

import msgspec

from posthouse.mimesec.findings import Scheme, Signature, SignatureResult
from posthouse.mimesec.smime import (
    addresses,
    algorithms,
    capabilities,
    certificates,
    der,
    signed,
    structures,
)
from posthouse.mimesec.smime.algorithms import Digest, UnsupportedForm
from posthouse.mimesec.smime.capabilities import Capabilities
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.chain import Trust, check_path
from posthouse.mimesec.smime.der import BadStructure
from posthouse.mimesec.smime.revocation import Crl, read_crls
from posthouse.mimesec.smime.structures import IssuerSerial, KeyId, SignedData, SignerInfo

SKEW: Final = timedelta(hours=1)
"""A signer's clock may be off by this much, beside the dates of a certificate just made."""
SENT_ALONG_MAX: Final = 20
"""Certificates that a `Signature` carries."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A signature, with what can be learnt from it."""

    signature: Signature
    certificate: Certificate | None = None
    offered: tuple[Certificate, ...] = ()
    """What came with it, readable, the signer's first."""
    capabilities: Capabilities | None = None
    preference: Certificate | None = None
    """What the signer asks to be encrypted to (RFC 8551 §2.5.3)."""


class _Wrong(Exception):
    """The check ends here with a result."""

    def __init__(self, result: SignatureResult, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


def check(
    octets: bytes,
    content: bytes | None,
    *,
    trust: Trust,
    expected_addresses: Sequence[str],
    at: datetime,
) -> tuple[Checked, ...]:
    """The signatures of a SignedData; at least one result, whatever the octets are.

    Args:
        content: what a detached signature is on; None takes what is inside.
        expected_addresses: of From; a signature is VALID only when its certificate names them all.
    """
    try:
        found = structures.read(octets)
    except BadStructure as error:
        return (_unreadable(f"the signature cannot be read: {error}"),)
    if not isinstance(found, SignedData):
        return (_unreadable("the signature is a CMS structure of another kind"),)
    return check_structure(
        found, content, trust=trust, expected_addresses=expected_addresses, at=at
    )


def check_structure(
    found: SignedData,
    content: bytes | None,
    *,
    trust: Trust,
    expected_addresses: Sequence[str],
    at: datetime,
) -> tuple[Checked, ...]:
    """As `check`, of a structure that has been read."""
    if content is None:
        content = found.content
    elif found.content is not None and found.content != content:
        return (_unreadable("the signature holds another text than the one it stands beside"),)
    if content is None:
        return (_unreadable("the signature is on a text that is not here"),)
    if not found.signers:
        return (_unreadable("nobody has signed: it only carries certificates"),)
    checks = _Checks(found, content, trust, expected_addresses, at)
    return tuple(checks.check(one) for one in found.signers)


def _unreadable(reason: str) -> Checked:
    return Checked(
        signature=Signature(scheme=Scheme.SMIME, result=SignatureResult.INVALID, reason=reason)
    )


class _Checks:
    """What the signatures of one structure share: digests and certificates are read once."""

    def __init__(
        self,
        found: SignedData,
        content: bytes,
        trust: Trust,
        expected: Sequence[str],
        at: datetime,
    ) -> None:
        self._found = found
        self._content = content
        self._trust = trust
        self._expected = expected
        self._at = at
        self._digests: dict[str, bytes] = {}
        self._offered = certificates.read_all(
            found.certificates, count_max=structures.CERTIFICATES_MAX
        )

    def check(self, info: SignerInfo) -> Checked:
        certificate: Certificate | None = None
        algorithm, made_at = "", None
        learnt = Checked(signature=Signature(scheme=Scheme.SMIME, result=SignatureResult.INVALID))
        result, reason = SignatureResult.VALID, ""
        named: tuple[str, ...] = ()
        try:
            made_at = _signing_time(info)
            certificate = self._signer(info)
            named = certificate.addresses
            digest = algorithms.digest_of(info.digest)
            scheme = algorithms.scheme_of(info.algorithm, digest)
            algorithm = str(scheme)
            self._check_octets(info, certificate, digest, scheme)
            learnt = self._learnt(info)
            # Whoever compares again goes by what is vouched for, and by nothing else it names.
            named = self._vouched(certificate, made_at)
            if not addresses.names_all(named, self._expected):
                raise _Wrong(SignatureResult.MISMATCH, _mismatch(named, self._expected))
        except _Wrong as wrong:
            result, reason = wrong.result, wrong.reason
        except UnsupportedForm as refused:
            result, reason = SignatureResult.UNSUPPORTED, str(refused)
        except BadStructure as error:
            result, reason = SignatureResult.INVALID, f"the signature cannot be read: {error}"
        offered = self._first(certificate)
        found = Signature(
            scheme=Scheme.SMIME,
            result=result,
            reason=reason,
            addresses=tuple(dict.fromkeys(named)),
            key=certificate.fingerprint if certificate else "",
            algorithm=algorithm,
            made_at=made_at,
            certificates=tuple(one.octets for one in offered[:SENT_ALONG_MAX]),
            preferred=learnt.preference.fingerprint if learnt.preference else "",
            reads=learnt.capabilities.words if learnt.capabilities else (),
        )
        return msgspec.structs.replace(
            learnt, signature=found, certificate=certificate, offered=offered
        )

    def _first(self, certificate: Certificate | None) -> tuple[Certificate, ...]:
        if certificate is None:
            return tuple(self._offered)
        return (certificate, *(one for one in self._offered if one != certificate))

    @cached_property
    def _revocations(self) -> tuple[Crl, ...]:
        """CRLs that came with it (RFC 8550 §4.1)."""
        return read_crls(self._found.crls, count_max=structures.CRLS_MAX)

    # --- whose it is ---

    def _signer(self, info: SignerInfo) -> Certificate:
        candidates = [
            one
            for one in (*self._offered, *self._trust.known, *self._trust.roots)
            if is_meant(info.signer, one)
        ]
        candidates = list(dict.fromkeys(candidates))
        named = _named_certificate(info)
        if named is not None:  # it SHALL be used to identify the certificate (RFC 8550 §4.2)
            exact = [one for one in candidates if named.is_of(one)]
            if candidates and not exact:
                raise _Wrong(
                    SignatureResult.INVALID,
                    "the signature names another certificate than the one that came with it",
                )
            candidates = exact
        if not candidates:
            raise _Wrong(SignatureResult.NO_KEY, "the signer's certificate is not at hand")
        return candidates[0]

    # --- that the octets are the signer's ---

    def _check_octets(
        self,
        info: SignerInfo,
        certificate: Certificate,
        digest: Digest,
        scheme: algorithms.Scheme,
    ) -> None:
        key = certificate.public_key
        if key is None:
            raise UnsupportedForm("the key of the certificate is of a kind that is not known")
        if weak := algorithms.why_weak(key):
            raise UnsupportedForm(weak)
        if scheme.kind is algorithms.Kind.RSA and certificate.key_algorithm == algorithms.RSA_PSS:
            raise UnsupportedForm("the certificate is for RSA-PSS only, and it is signed otherwise")
        attributes = info.attributes
        if attributes is None:
            self._check_bare(key, scheme, info)
            return
        self._check_attributes(info, attributes, digest)
        signed_as = dict.fromkeys((attributes.as_sent, attributes.sorted))
        if not any(algorithms.verify(key, scheme, info.signature, one) for one in signed_as):
            raise _Wrong(
                SignatureResult.INVALID, "the signature was not made by the key of its certificate"
            )

    def _check_bare(
        self, key: algorithms.PublicKey, scheme: algorithms.Scheme, info: SignerInfo
    ) -> None:
        """A signature right on the text. Where the text is itself signed attributes, somebody took
        a signature off another message and shows its attributes as the text."""
        if self._found.content_type != structures.DATA:
            raise BadStructure("signed attributes are missing")
        if _are_attributes(self._content):
            raise _Wrong(SignatureResult.INVALID, "the text is a part of another signature")
        if not algorithms.verify(key, scheme, info.signature, self._content):
            raise _Wrong(
                SignatureResult.INVALID,
                "the text was changed after it was signed, or another key signed it",
            )

    def _check_attributes(
        self, info: SignerInfo, attributes: structures.Attributes, digest: Digest
    ) -> None:
        content_type = attributes.one(signed.CONTENT_TYPE)
        written = attributes.one(signed.MESSAGE_DIGEST)
        if content_type is None or written is None:
            raise BadStructure("signed attributes are missing")
        kind = der.dotted(der.element(content_type, der.OID).content)
        if kind != self._found.content_type:
            raise BadStructure("the signature is on another kind of content")
        if der.element(written, der.OCTET_STRING).content != self._digest(digest):
            raise _Wrong(SignatureResult.INVALID, "the text was changed after it was signed")
        _check_protection(info, attributes)

    def _digest(self, digest: Digest) -> bytes:
        if digest.oid not in self._digests:
            self._digests[digest.oid] = digest.of(self._content)
        return self._digests[digest.oid]

    # --- that the certificate may ---

    def _vouched(self, certificate: Certificate, made_at: datetime | None) -> tuple[str, ...]:
        """The addresses that it is believed for."""
        if why := certificate.why_not_signing():
            raise _Wrong(SignatureResult.UNTRUSTED, f"the certificate {why}")
        path = check_path(
            certificate,
            self._trust,
            offered=self._offered,
            revocations=self._revocations,
            at=self._at,
        )
        if path.result is not SignatureResult.VALID:
            raise _Wrong(path.result, path.reason)
        if made_at is not None and not (
            certificate.not_before - SKEW <= made_at <= certificate.not_after + SKEW
        ):
            raise _Wrong(
                SignatureResult.EXPIRED,
                f"it says it was made on {made_at:%Y-%m-%d}, when its certificate was not valid",
            )
        return path.addresses

    # --- what it teaches ---

    def _learnt(self, info: SignerInfo) -> Checked:
        """Only after the attributes have proven to be the signer's."""
        empty = Checked(signature=Signature(scheme=Scheme.SMIME, result=SignatureResult.INVALID))
        if info.attributes is None:
            return empty
        known, preference = None, None
        try:
            if (value := info.attributes.one(signed.SMIME_CAPABILITIES)) is not None:
                known = capabilities.read_capabilities(value)
            if (value := info.attributes.one(signed.ENCRYPTION_KEY_PREFERENCE)) is not None:
                preference = self._preferred(value)
        except BadStructure:  # advice that cannot be read makes a signature no worse
            pass
        return msgspec.structs.replace(empty, capabilities=known, preference=preference)

    def _preferred(self, value: bytes) -> Certificate | None:
        (choice,) = der.elements(value, count_max=1)
        if choice.identifier == der.context(0):
            fields = der.Fields(choice.content, count_max=2)
            issuer = fields.take(der.SEQUENCE).whole
            wanted: structures.Rid = IssuerSerial(issuer, der.integer(fields.take(der.INTEGER)))
        elif choice.identifier == der.context(1):
            wanted = KeyId(der.Fields(choice.content).take(der.OCTET_STRING).content)
        else:
            return None
        return next((one for one in self._offered if is_meant(wanted, one)), None)


def is_meant(who: structures.Rid, certificate: Certificate) -> bool:
    """Whether a message names this certificate."""
    if isinstance(who, KeyId):
        return bool(who.octets) and who.octets == certificate.key_identifier
    return who.serial == certificate.serial and certificates.is_same_name(
        who.issuer, certificate.issuer
    )


def _mismatch(named: Iterable[str], expected: Sequence[str]) -> str:
    if not expected:
        return "the message has no From address to compare with"
    wanted = ", ".join(map(certificates.printable, expected))
    has = ", ".join(map(certificates.printable, named))
    return (
        f"the message is from {wanted}, the certificate is for {has}"
        if has
        else f"the message is from {wanted}, the certificate names no address"
    )


def _signing_time(info: SignerInfo) -> datetime | None:
    if info.attributes is None or (value := info.attributes.one(signed.SIGNING_TIME)) is None:
        return None
    (time,) = der.elements(value, count_max=1) or (None,)
    if time is None or time.identifier not in (der.UTC_TIME, der.GENERALIZED_TIME):
        raise BadStructure("a time that cannot be")
    return der.moment(time)


class _NamedCertificate(msgspec.Struct, frozen=True):
    digest: Digest
    fingerprint: bytes

    def is_of(self, certificate: Certificate) -> bool:
        return self.digest.of(certificate.octets) == self.fingerprint


def _named_certificate(info: SignerInfo) -> _NamedCertificate | None:
    """The signer's of signingCertificateV2 (RFC 5035 §3), or of the older attribute, whose SHA-1
    is no worse here than no attribute."""
    if info.attributes is None:
        return None
    if (value := info.attributes.one(signed.SIGNING_CERTIFICATE_V2)) is not None:
        fields = _first_certificate(value)
        digest = algorithms.SHA256
        if (named := fields.take_if(der.SEQUENCE)) is not None:
            digest = algorithms.digest_of(algorithms.identifier(named), algorithms.ANY_DIGESTS)
        return _NamedCertificate(digest, fields.take(der.OCTET_STRING).content)
    if (value := info.attributes.one(signed.SIGNING_CERTIFICATE)) is not None:
        fields = _first_certificate(value)
        return _NamedCertificate(algorithms.SHA1, fields.take(der.OCTET_STRING).content)
    return None


def _first_certificate(value: bytes) -> der.Fields:
    listed = der.elements(der.Fields.of(value).take(der.SEQUENCE).content)
    if not listed:
        raise BadStructure("a list of certificates without any")
    return der.Fields.of(listed[0].whole)


def _check_protection(info: SignerInfo, attributes: structures.Attributes) -> None:
    """CMSAlgorithmProtection (RFC 6211), where it is: the algorithms are those that were signed."""
    value = attributes.one(signed.ALGORITHM_PROTECTION)
    if value is None:
        return
    fields = der.Fields.of(value)
    digest = algorithms.identifier(fields.take(der.SEQUENCE))
    algorithm = algorithms.identifier(fields.take(der.context(1)))
    if digest.oid != info.digest.oid or algorithm.oid != info.algorithm.oid:
        raise _Wrong(SignatureResult.INVALID, "its algorithms were changed after it was signed")


def _are_attributes(content: bytes) -> bool:
    if content[:1] != bytes((der.SET,)):
        return False
    try:
        return bool(structures.read_attributes(der.element(content, der.SET).content).items)
    except BadStructure:
        return False
