"""The MIME entities of S/MIME (RFC 8551 §3): the types, names and parameters readers expect."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from posthouse.message.transfer import Encoding, encode

SIGNATURE_TYPES: Final = frozenset(
    {b"application/pkcs7-signature", b"application/x-pkcs7-signature"}
)
"""Of the second part of a multipart/signed; the names with "x-" are of S/MIME 2 and still sent."""
CMS_TYPES: Final = frozenset({b"application/pkcs7-mime", b"application/x-pkcs7-mime"})


def multipart_signed(entity: bytes, signature: bytes, micalg: str) -> bytes:
    """A multipart/signed of an entity and its detached SignedData (RFC 8551 §3.5.3).

    The line end in front of the delimiter is the delimiter's, so the entity keeps its own octets.
    """
    boundary = _boundary(entity, signature)
    head = (
        'Content-Type: multipart/signed; protocol="application/pkcs7-signature";\r\n'
        f' micalg={micalg}; boundary="{boundary}"\r\n'
        "\r\n"
        "This is a message signed by S/MIME.\r\n"
        f"--{boundary}\r\n"
    )
    second = (
        f"\r\n--{boundary}\r\n"
        'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n'
        "Content-Transfer-Encoding: base64\r\n"
        'Content-Disposition: attachment; filename="smime.p7s"\r\n'
        "\r\n"
    )
    tail = f"\r\n--{boundary}--\r\n"
    return b"".join((head.encode(), entity, second.encode(), _base64(signature), tail.encode()))


def pkcs7_mime(structure: bytes, smime_type: str) -> bytes:
    """An application/pkcs7-mime (RFC 8551 §3.2).

    Args:
        smime_type: "enveloped-data", "authEnveloped-data" or "signed-data".
    """
    head = (
        f"Content-Type: application/pkcs7-mime; smime-type={smime_type};\r\n"
        ' name="smime.p7m"\r\n'
        "Content-Transfer-Encoding: base64\r\n"
        'Content-Disposition: attachment; filename="smime.p7m"\r\n'
        "\r\n"
    )
    return head.encode() + _base64(structure) + b"\r\n"


def _base64(octets: bytes) -> bytes:
    return b"".join(encode(octets, Encoding.BASE64)).removesuffix(b"\r\n")


def _boundary(entity: bytes, signature: bytes) -> str:
    """Made from the signature, which nobody can foresee who wrote the entity."""
    seed = signature
    while True:
        seed = sha256(seed).digest()
        boundary = f"=_smime_{seed.hex()[:32]}"
        if boundary.encode() not in entity:
            return boundary
