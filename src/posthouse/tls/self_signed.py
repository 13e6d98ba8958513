"""A certificate of our own making, so that TLS works from the first start on."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from posthouse.kernel.errors import UserError
from posthouse.tls.certificates import CertificateFiles
from posthouse.tls.files import write_whole

VALID_DAYS: Final = 3650
BACKDATED: Final = timedelta(hours=1)
"""For clients whose clocks are a little behind."""
COMMON_NAME_CHARACTERS_MAX: Final = 64  # RFC 5280 appendix A.1, ub-common-name
KEY_NAME: Final = "self-signed.key"
CHAIN_NAME: Final = "self-signed.pem"


def ensure_self_signed(directory: Path, names: Sequence[str], now: datetime) -> CertificateFiles:
    """The self-signed pair in `directory`, made if it is not there whole or has expired.

    Args:
        names: A-labels or IP addresses the server goes by, the main one first.

    Raises:
        UserError: no name was given or the directory cannot be written.
    """
    files = CertificateFiles(chain=directory / CHAIN_NAME, key=directory / KEY_NAME)
    if files.key.exists() and files.chain.exists() and not _has_expired(files.chain, now):
        return files
    chain, key = make_self_signed(names, now)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(files.key, key, mode=0o600)
        write_whole(files.chain, chain, mode=0o644)
    except OSError as error:
        words = f"cannot keep a certificate in {directory}: {error.strerror}"
        raise UserError(words) from error
    return files


def make_self_signed(
    names: Sequence[str], now: datetime, *, valid_days: int = VALID_DAYS
) -> tuple[bytes, bytes]:
    """Certificate and key as PEM. ECDSA on P-256: a handshake costs a third of RSA's.

    Raises:
        UserError: without names, or for one that cannot stand in a certificate.
    """
    if not names:
        raise UserError("a certificate needs at least one name")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, names[0][:COMMON_NAME_CHARACTERS_MAX])]
    )
    try:
        alternatives = [_general_name(name) for name in names]
    except ValueError as error:
        raise UserError(f"a certificate cannot carry these names: {error}") from error
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=valid_days))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key_pem


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _has_expired(path: Path, now: datetime) -> bool:
    """True also for what cannot be read: it is ours to replace."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc < now
    except (OSError, ValueError):
        return True
