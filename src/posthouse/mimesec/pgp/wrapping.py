"""The MIME entities of OpenPGP (RFC 3156)."""

from __future__ import annotations

from hashlib import sha256

from posthouse.mimesec.pgp import armour
from posthouse.mimesec.pgp.armour import Kind


def multipart_signed(entity: bytes, signature: bytes, hash_name: str) -> bytes:
    """RFC 3156 §5. The line end in front of the delimiter is the delimiter's.

    Args:
        signature: its packets.
        hash_name: "SHA-512".
    """
    boundary = _boundary(entity, signature)
    micalg = f"pgp-{hash_name.replace('-', '').lower()}"
    head = (
        'Content-Type: multipart/signed; protocol="application/pgp-signature";\r\n'
        f' micalg={micalg}; boundary="{boundary}"\r\n'
        "\r\n"
        "This is a message signed by OpenPGP (RFC 9580).\r\n"
        f"--{boundary}\r\n"
    )
    second = (
        f"\r\n--{boundary}\r\n"
        'Content-Type: application/pgp-signature; name="signature.asc"\r\n'
        "Content-Description: OpenPGP digital signature\r\n"
        'Content-Disposition: attachment; filename="signature.asc"\r\n'
        "\r\n"
    )
    tail = f"\r\n--{boundary}--\r\n"
    text = _armoured(signature, Kind.SIGNATURE)
    return b"".join((head.encode(), entity, second.encode(), text, tail.encode()))


def multipart_encrypted(message: bytes) -> bytes:
    """RFC 3156 §4.

    Args:
        message: its packets.
    """
    boundary = _boundary(message, message[-64:])
    head = (
        'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted";\r\n'
        f' boundary="{boundary}"\r\n'
        "\r\n"
        "This is a message encrypted by OpenPGP (RFC 9580).\r\n"
        f"--{boundary}\r\n"
        "Content-Type: application/pgp-encrypted\r\n"
        "Content-Description: PGP/MIME version identification\r\n"
        "\r\n"
        "Version: 1\r\n"
        f"\r\n--{boundary}\r\n"
        'Content-Type: application/octet-stream; name="encrypted.asc"\r\n'
        "Content-Description: OpenPGP encrypted message\r\n"
        'Content-Disposition: inline; filename="encrypted.asc"\r\n'
        "\r\n"
    )
    tail = f"\r\n--{boundary}--\r\n"
    return b"".join((head.encode(), _armoured(message, Kind.MESSAGE), tail.encode()))


def _armoured(octets: bytes, kind: Kind) -> bytes:
    return armour.write(octets, kind).rstrip(b"\n").replace(b"\n", b"\r\n")


def _boundary(entity: bytes, seed: bytes) -> str:
    """Made from what nobody can foresee who wrote the entity."""
    while True:
        seed = sha256(seed).digest()
        boundary = f"=_openpgp_{seed.hex()[:32]}"
        if boundary.encode() not in entity:
            return boundary
