"""What a peer's certificate is worth, judged after an opportunistic handshake took any (RFC 7435).

The result is recorded and shown; by itself it stops no mail. Connections that must verify use
`contexts.verifying_client_context`, where OpenSSL ends the handshake.
"""

from __future__ import annotations

import functools
import hashlib
import ssl
import warnings
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from posthouse.tls.names import is_for_any

CHAIN_MAX: Final = 10
"""Certificates looked at; honest chains have two to four."""
RESULTS_MAX: Final = 4096
BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


class Flaw(Enum):
    """What keeps a certificate from being verified, as TLS reports distinguish it (RFC 8460
    §4.3.1)."""

    NONE = "none"
    EXPIRED = "expired"
    NAME = "name"
    UNTRUSTED = "untrusted"


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    is_verified: bool
    reason: str
    """Why not, in words; "" when it is."""
    flaw: Flaw = Flaw.NONE


def _for_servers(
    _policy: Policy, _leaf: x509.Certificate, usage: x509.ExtendedKeyUsage | None
) -> None:
    """RFC 5280 §4.2.1.12: a certificate that lists uses must list this one."""
    if usage is not None and ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        raise ValueError("the certificate is not for servers")


# Authorities by browsers' rules. Leaves by OpenSSL's: private authorities often mark extensions
# critical that browsers want otherwise.
_CA_POLICY: Final = ExtensionPolicy.webpki_defaults_ca()
_LEAF_POLICY: Final = (
    ExtensionPolicy.permit_all()
    .require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _for_servers)
)

NO_PATH: Final = "all candidates exhausted with no interior errors"
UNTRUSTED: Final = "the peer's certificate leads to no authority that is trusted here"
VERIFIED: Final = Verification(is_verified=True, reason="")


class Verifier:
    """Checks chains against one set of roots; remembers results for an hour of wall time."""

    def __init__(self, roots: Sequence[x509.Certificate]) -> None:
        self._store = Store(list(roots)) if roots else None
        self._results: dict[tuple[bytes, str, int], Verification] = {}

    def verify(self, chain: Sequence[bytes], name: str, now: datetime) -> Verification:
        """Whether `chain` (DER, leaf first) proves to be `name` at `now` (aware UTC).

        Never raises for anything a peer sends. About 0.5 ms when the result is not remembered.
        """
        if not chain:
            return _not("the peer sent no certificate")
        if self._store is None:
            return _not("no trusted root certificates are installed")
        digest = hashlib.sha256(b"".join(chain[:CHAIN_MAX])).digest()
        key = (digest, name, int(now.timestamp()) // 3600)
        result = self._results.get(key)
        if result is None:
            result = self._verify(self._store, chain[:CHAIN_MAX], name, now)
            if len(self._results) >= RESULTS_MAX:
                del self._results[next(iter(self._results))]
            self._results[key] = result
        return result

    def _verify(
        self, store: Store, chain: Sequence[bytes], name: str, now: datetime
    ) -> Verification:
        try:
            leaf, *others = [x509.load_der_x509_certificate(item) for item in chain]
            if (plain := _plain_words(leaf, name, now)) is not None:
                return plain
            policy = PolicyBuilder().store(store).time(now)
            policy = policy.extension_policies(ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY)
            policy.build_server_verifier(x509.DNSName(name)).verify(leaf, others)
        except VerificationError as error:
            words = str(error).partition(" (encountered")[0].partition("\n")[0]
            return _not(UNTRUSTED if NO_PATH in words else words)
        except Exception as error:  # the parser's errors have no common class
            return _not(f"the peer's certificate is malformed: {type(error).__name__}")
        return VERIFIED


def system_roots() -> list[x509.Certificate]:
    """The roots this machine trusts; empty when it has none where they usually are."""
    for path in filter(None, (ssl.get_default_verify_paths().cafile, *BUNDLES)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cafile=path)
        except OSError:  # SSLError is one
            continue
        found = [_root(der) for der in context.get_ca_certs(binary_form=True)]
        return [root for root in found if root is not None]
    return []


def _root(der: bytes) -> x509.Certificate | None:
    """Some old roots break rules that the parser holds up; one of them may not cost us the rest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        try:
            return x509.load_der_x509_certificate(der)
        except ValueError:
            return None


def _plain_words(leaf: x509.Certificate, name: str, now: datetime) -> Verification | None:
    """The three commonest reasons, said better than the library does."""
    if now > leaf.not_valid_after_utc:
        at = f"{leaf.not_valid_after_utc:%Y-%m-%d}"
        return _not(f"the peer's certificate expired at {at}", Flaw.EXPIRED)
    if leaf.subject == leaf.issuer:
        return _not("the peer's certificate is self-signed")
    if not is_for_any(leaf, (name,)):
        return _not(f"the peer's certificate is not for {name}", Flaw.NAME)
    return None


def _not(reason: str, flaw: Flaw = Flaw.UNTRUSTED) -> Verification:
    return Verification(is_verified=False, reason=reason, flaw=flaw)


@functools.cache
def verifier_of(ca_file: Path | None) -> Verifier:
    """The verifier of this machine's roots, or of those in a file; made once, as reading a hundred
    and more certificates takes a while. A file that holds none verifies nothing."""
    if ca_file is None:
        return Verifier(system_roots())
    try:
        return Verifier(x509.load_pem_x509_certificates(ca_file.read_bytes()))
    except (OSError, ValueError):
        return Verifier([])
