"""PEM (RFC 7468): the armour of certificates and private keys."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from posthouse.kernel.secret import Secret
from posthouse.mimesec.smime import structures
from posthouse.mimesec.smime.algorithms import PrivateKey
from posthouse.mimesec.smime.der import BadStructure

CERTIFICATES_MAX: Final = 1000
"""Of one file; bundles of roots have some 150."""
LINE: Final = 64  # RFC 7468 §2
OCTETS_MAX: Final = 8 * 1024 * 1024
_BLOCK: Final = re.compile(
    rb"-----BEGIN (?:(?:X509 )?CERTIFICATE|PKCS7|CMS)-----([A-Za-z0-9+/=\s]*+)-----END"
)


def certificates(octets: bytes) -> list[bytes]:
    """The DER of each certificate, those inside of PKCS #7 bundles (.p7b) too; octets without
    armour are one of either.

    Raises:
        BadStructure: there is none, too many, or what is in the armour is no base64.
    """
    if len(octets) > OCTETS_MAX:
        raise BadStructure(f"more than {OCTETS_MAX} octets")
    if octets[:1] == b"\x30":
        return _unbundled(octets)
    found: list[bytes] = []
    for match in _BLOCK.finditer(octets):
        if len(found) == CERTIFICATES_MAX:
            raise BadStructure(f"more than {CERTIFICATES_MAX} certificates")
        try:
            found += _unbundled(binascii.a2b_base64(match[1]))
        except binascii.Error:
            raise BadStructure("a certificate that is no base64") from None
    if not found:
        raise BadStructure("no certificate is there")
    return found


def _unbundled(octets: bytes) -> list[bytes]:
    """Those of a SignedData without signers (RFC 8551 §3.8), or the octets as they are."""
    try:
        bundle = structures.read(octets)
    except BadStructure:
        return [octets]
    return list(bundle.certificates) if isinstance(bundle, structures.SignedData) else [octets]


def certificates_pem(found: Iterable[bytes]) -> bytes:
    """With LF ends, as files have them."""
    return b"".join(_armoured(one) for one in found)


def _armoured(octets: bytes) -> bytes:
    text = binascii.b2a_base64(octets, newline=False)
    lines = (text[at : at + LINE] + b"\n" for at in range(0, len(text), LINE))
    head, tail = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
    return b"".join((head, *lines, tail))


def key_pem(key: PrivateKey, password: Secret | None) -> bytes:
    """PKCS #8."""
    how: KeySerializationEncryption = NoEncryption()
    if password:
        how = BestAvailableEncryption(password.reveal().encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)
