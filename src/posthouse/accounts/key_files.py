"""What somebody gave as a key file, told before anything of it is opened."""

from __future__ import annotations

import re
from typing import Final

from posthouse.mimesec.pgp import keys as pgp_keys
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.smime import der
from posthouse.mimesec.smime.der import BadStructure, Fields
from posthouse.mimesec.smime.identity import read_certificates

WANTED: Final = (
    "give PKCS #12 (.p12), PEM with key and certificate, a certificate, or OpenPGP (.asc)"
)
_CERTIFICATE: Final = re.compile(rb"-----BEGIN (?:(?:X509 )?CERTIFICATE|PKCS7|CMS)-----")
_REQUEST: Final = re.compile(rb"-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----")
_ALONE: Final = "holds a private key without its certificate"
_LONE_PEM: Final = (
    _ALONE,
    "make one file of both: openssl pkcs12 -export -inkey key.pem -in cert.pem -out key.p12",
)
_LONE_DER: Final = (
    _ALONE,
    f"make PEM of it (openssl pkey -in key.der -out key.pem); then {_LONE_PEM[1]}",
)
_PUBLIC_KEY: Final = (
    "is a public key without a certificate, so nothing says whose it is",
    "give the certificate that was made for it, in PEM or DER",
)
_A_REQUEST: Final = "is a request for a certificate, and not the certificate"


def why_no_key(octets: bytes) -> tuple[str, str] | None:
    """What a file is that no key is in, and what to do about it, both in words; None where it may
    hold one, and reading it tells."""
    text = octets.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not text:
        return "is empty", WANTED
    if text.startswith((b"ssh-", b"ecdsa-", b"sk-")) or b"BEGIN OPENSSH PRIVATE KEY" in octets:
        return "is a key for SSH, which cannot sign or encrypt mail", WANTED
    if b"-----BEGIN PGP " in octets and b"KEY BLOCK-----" not in octets:
        return "is a message or a signature of OpenPGP, and no key", WANTED
    if pgp_keys.is_openpgp(octets):
        return None
    if b"-----BEGIN" in octets:
        return _why_no_pem(octets)
    if octets[:1] == bytes((der.SEQUENCE,)):
        return _why_no_der(octets)
    return "is none of the files that keys come in", WANTED


def is_pkcs12(octets: bytes) -> bool:
    """Whether it begins as such a file does: version 3, and what is kept (RFC 7292 §4)."""
    try:
        fields = Fields.of(der.definite(octets))
        return der.integer(fields.take(der.INTEGER)) == 3 and fields.take(der.SEQUENCE) is not None
    except BadStructure:
        return False


def _why_no_pem(octets: bytes) -> tuple[str, str] | None:
    if _CERTIFICATE.search(octets):
        return None
    if b"PRIVATE KEY-----" in octets:
        return _LONE_PEM
    if _REQUEST.search(octets):
        return _A_REQUEST, WANTED
    if b"PUBLIC KEY-----" in octets:
        return _PUBLIC_KEY
    return "holds no key and no certificate", WANTED


def _why_no_der(octets: bytes) -> tuple[str, str] | None:
    """By the tags of what is on top."""
    try:
        whole = der.definite(octets)
        values = der.elements(der.element(whole, der.SEQUENCE).content)
    except BadStructure as error:
        return f"is cut short or damaged: {error}", "copy or export it again, as a binary file"
    tags = tuple(one.identifier for one in values)
    if is_pkcs12(octets):
        return None
    if tags[:2] in (
        (der.INTEGER, der.SEQUENCE),  # PKCS #8
        (der.INTEGER, der.INTEGER),  # RSA's own
        (der.INTEGER, der.OCTET_STRING),  # of elliptic curves
        (der.SEQUENCE, der.OCTET_STRING),  # encrypted
    ):
        return _LONE_DER
    if tags == (der.SEQUENCE, der.BIT_STRING):
        return _PUBLIC_KEY
    try:
        read_certificates(octets)
    except ProtectionError:
        is_request = tags[:1] == (der.SEQUENCE,) and values[0].content[:3] == der.number(0)
        return (_A_REQUEST if is_request else "holds no key and no certificate"), WANTED
    return None
