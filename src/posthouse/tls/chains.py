"""A path from a host's certificate to a trust anchor in the DNS (RFC 5280 §6, RFC 7671 §5.2).

For DANE-TA only; public authorities are OpenSSL's business. What private authorities make is taken
as OpenSSL would take it: any key type, few extensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from posthouse.tls.names import presented

X = TypeVar("X", bound=x509.ExtensionType)

SENT_MAX: Final = 10
"""Certificates looked at beside the leaf; honest chains have one to three."""
RSA_BITS_MAX: Final = 8_192
RSA_BITS_MIN: Final = 1_024
ANCHORS_MAX: Final = 20
_KNOWN_CRITICAL: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
    }
)


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """A trust anchor: a certificate, or a bare key."""

    certificate: x509.Certificate | None = None
    key: PublicKeyTypes | None = None
    words: str


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    anchor: str = ""
    """The words of the anchor it leads to."""
    problem: str = ""
    """Why there is no valid path; "" when there is one."""
    is_expired: bool = False


def path_to(
    leaf: x509.Certificate, sent: Sequence[bytes], anchors: Sequence[Issuer], now: datetime
) -> Path:
    """The shortest path from `leaf` through certificates the host sent to one of `anchors`, if all
    of it is valid. At most some hundred signatures are checked, whatever was sent."""
    others = [x509.load_der_x509_certificate(der) for der in sent[:SENT_MAX]]
    known = {one.certificate: one for one in anchors if one.certificate}
    candidates = others + [one.certificate for one in anchors[:ANCHORS_MAX] if one.certificate]
    keys = [one for one in anchors[:ANCHORS_MAX] if one.key is not None]
    paths: list[list[x509.Certificate]] = [[leaf]]
    seen = {leaf}
    while paths:
        path = paths.pop(0)
        for one in keys:
            assert one.key is not None
            if _is_signed_by(path[-1], one.key):
                return _judged(path, one, now)
        for certificate in candidates:
            if certificate in seen or not _is_issued_by(path[-1], certificate):
                continue
            seen.add(certificate)
            longer = [*path, certificate]
            if certificate in known:
                return _judged(longer, known[certificate], now)
            paths.append(longer)
    return Path(problem="the host's certificates lead to no trust anchor of its TLSA records")


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject:
        return False
    try:
        key = issuer.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    return _is_signed_by(certificate, key)


def _is_signed_by(certificate: x509.Certificate, key: PublicKeyTypes) -> bool:
    """RSA keys of absurd size cost too much to try, tiny ones prove nothing."""
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        digest = certificate.signature_hash_algorithm
        if isinstance(key, rsa.RSAPublicKey):
            if not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
                return False
            scheme = certificate.signature_algorithm_parameters
            if not isinstance(scheme, padding.PKCS1v15 | padding.PSS) or not _is_good(digest):
                return False
            key.verify(signature, signed, scheme, _hash(digest))
        elif isinstance(key, ec.EllipticCurvePublicKey):
            if not _is_good(digest):
                return False
            key.verify(signature, signed, ec.ECDSA(_hash(digest)))
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, signed)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _is_good(digest: HashAlgorithm | None) -> bool:
    return digest is not None and digest.name not in ("sha1", "md5")


def _hash(digest: HashAlgorithm | None) -> HashAlgorithm:
    assert digest is not None
    return digest


def _judged(path: list[x509.Certificate], anchor: Issuer, now: datetime) -> Path:
    """RFC 5280 §6.1, as far as it concerns a server of one DNS name. An anchor's own dates do not
    count: the DNS says that it is trusted now."""
    dated = path if anchor.certificate is None else path[:-1]
    for certificate in dated:
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
            what = "the host's certificate" if certificate is path[0] else "a certificate above it"
            return Path(problem=f"{what} is not valid now (until {until})", is_expired=True)
    for problem in _problems(path):
        return Path(problem=problem)
    return Path(anchor=anchor.words)


def _problems(path: list[x509.Certificate]) -> Iterator[str]:
    for depth, certificate in enumerate(path):
        extensions = certificate.extensions
        for extension in extensions:
            if extension.critical and extension.oid not in _KNOWN_CRITICAL:
                yield f"a certificate has a critical extension we do not know ({extension.oid})"
        if depth == 0:
            usage = _value(extensions, x509.ExtendedKeyUsage)
            if usage is not None and ExtendedKeyUsageOID.SERVER_AUTH not in usage:
                yield "the host's certificate is not for servers"
            continue
        basic = _value(extensions, x509.BasicConstraints)
        if basic is None or not basic.ca:
            yield "a certificate above the host's is not of an authority"
        elif basic.path_length is not None and _intermediates(path[:depth]) > basic.path_length:
            yield "the host's certificates are more than an authority among them allows"
        key_usage = _value(extensions, x509.KeyUsage)
        if key_usage is not None and not key_usage.key_cert_sign:
            yield "a certificate above the host's may not sign others"
        constraints = _value(extensions, x509.NameConstraints)
        if constraints is not None and not _is_allowed(path[0], constraints):
            yield "an authority may not make certificates for that name"


def _intermediates(below: Sequence[x509.Certificate]) -> int:
    """Authorities between, without those that only issued themselves anew (RFC 5280 §6.1.4)."""
    return sum(certificate.issuer != certificate.subject for certificate in below[1:])


def _is_allowed(leaf: x509.Certificate, constraints: x509.NameConstraints) -> bool:
    """RFC 5280 §4.2.1.10, for DNS names; the leaf's other names prove nothing to us."""
    permitted = _subtrees(constraints.permitted_subtrees)
    excluded = _subtrees(constraints.excluded_subtrees)
    for name in presented(leaf, has_common_name=True):
        host = name.removeprefix("*.")
        if any(_is_below(host, tree) for tree in excluded):
            return False
        if permitted and not any(_is_below(host, tree) for tree in permitted):
            return False
    return True


def _subtrees(names: Sequence[x509.GeneralName] | None) -> list[str]:
    return [name.value.lower() for name in names or () if isinstance(name, x509.DNSName)]


def _is_below(host: str, tree: str) -> bool:
    tree = tree.removeprefix(".")
    return not tree or host == tree or host.endswith(f".{tree}")


def _value(extensions: x509.Extensions, kind: type[X]) -> X | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
