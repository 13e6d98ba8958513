"""The public key of a certificate as the exact octets it is there.

A TLSA record is a digest of the certificate's public key as it stands there (RFC 6698 §1.1.3);
decoding it and writing it again may give other octets, and keys that the library does not know
could not be matched at all.
"""

from __future__ import annotations

from typing import Final

SEQUENCE: Final = 0x30
VERSION: Final = 0xA0
FIELDS_BEFORE_KEY: Final = 5
"""Serial number, signature, issuer, validity, subject (RFC 5280 §4.1)."""
LENGTH_OCTETS_MAX: Final = 4


class BadDer(ValueError):
    """It is no DER, or not what it should be."""


def public_key_info(certificate: bytes) -> bytes:
    """The subjectPublicKeyInfo of a certificate in DER, as it stands there.

    Raises:
        BadDer: it has none.
    """
    outer, _, _ = _element(certificate, 0, SEQUENCE)
    at, _, _ = _element(certificate, outer, SEQUENCE)
    if certificate[at : at + 1] == bytes((VERSION,)):
        _, at, _ = _element(certificate, at, VERSION)
    for _ in range(FIELDS_BEFORE_KEY):
        _, at, _ = _element(certificate, at, None)
    _, end, start = _element(certificate, at, SEQUENCE)
    return certificate[start:end]


def _element(octets: bytes, at: int, tag: int | None) -> tuple[int, int, int]:
    """Where the content of the element at `at` begins, where it ends, and `at`."""
    head = octets[at : at + 2]
    if len(head) < 2 or (tag is not None and head[0] != tag):
        raise BadDer("no element of that kind is there")
    start, length = at + 2, head[1]
    if length & 0x80:
        size = length & 0x7F
        if not 0 < size <= LENGTH_OCTETS_MAX:
            raise BadDer("a length without end, or too long")
        length = int.from_bytes(octets[start : start + size])
        start += size
    if start + length > len(octets):
        raise BadDer("an element goes on behind the end")
    return start, start + length, at
