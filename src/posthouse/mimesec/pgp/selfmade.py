"""Keys of version 4 built here: packets and the signatures that bind them (RFC 9580 §5.2, §5.5,
§10.1).

pysequoia makes keys that ask for encryption by RFC 9580, which GnuPG and Thunderbird cannot open,
and offers no way to say otherwise. These ask for what every program reads: AES with MDC.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha1, sha512
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA512

from posthouse.mimesec.pgp.packets import Tag, encoded

RSA_BITS: Final = 3072
_RSA, _ECDH, _EDDSA = 1, 18, 22
_SHA512: Final = 10
_ED25519_OID: Final = bytes.fromhex("2b06010401da470f01")
_CURVE25519_OID: Final = bytes.fromhex("2b060104019755010501")
_KDF: Final = bytes((3, 1, 8, 7))  # SHA-256 and AES-128, as §11.5.1 has it for this curve
_CERTIFIES_AND_SIGNS, _ENCRYPTS = 0x03, 0x0C
_OF_USER_ID, _OF_SUBKEY, _REVOKES = 0x13, 0x18, 0x20


class _Part(Protocol):
    """One key of a certificate."""

    algorithm: int

    @property
    def public(self) -> bytes:
        """Behind the algorithm octet."""
        ...

    @property
    def secret(self) -> bytes: ...


class _Ed25519:
    algorithm = _EDDSA

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    @property
    def public(self) -> bytes:
        return _oid(_ED25519_OID) + _mpi(b"\x40" + self._key.public_key().public_bytes_raw())

    @property
    def secret(self) -> bytes:
        return _mpi(self._key.private_bytes_raw())

    def sign(self, digest: bytes) -> bytes:
        made = self._key.sign(digest)
        return _mpi(made[:32]) + _mpi(made[32:])


class _X25519:
    algorithm = _ECDH

    def __init__(self) -> None:
        self._key = X25519PrivateKey.generate()

    @property
    def public(self) -> bytes:
        point = b"\x40" + self._key.public_key().public_bytes_raw()
        return _oid(_CURVE25519_OID) + _mpi(point) + _KDF

    @property
    def secret(self) -> bytes:
        octets = bytearray(self._key.private_bytes_raw())
        octets[0] &= 248
        octets[31] = octets[31] & 127 | 64
        return _mpi(bytes(reversed(octets)))  # a number, in the order of numbers (§11.3.2)


class _Rsa:
    algorithm = _RSA

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, RSA_BITS)

    @property
    def public(self) -> bytes:
        numbers = self._key.public_key().public_numbers()
        return _number(numbers.n) + _number(numbers.e)

    @property
    def secret(self) -> bytes:
        """With p < q and the inverse of p, which is not the order of others (§5.5.5.1)."""
        private = self._key.private_numbers()
        p, q = sorted((private.p, private.q))
        return b"".join(map(_number, (private.d, p, q, pow(p, -1, q))))

    def sign(self, digest: bytes) -> bytes:
        made = self._key.sign(digest, padding.PKCS1v15(), Prehashed(SHA512()))
        return _mpi(made)


_Signing = _Ed25519 | _Rsa


def build(
    user_ids: Sequence[str], *, at: datetime, seconds: int | None, is_rsa: bool
) -> tuple[bytes, bytes]:
    """A private key in the open, and its revocation, both as packets.

    Args:
        at: when it is made, and its signatures.
        seconds: how long it is good; None for ever.
    """
    made_at = int(at.timestamp()).to_bytes(4, "big")
    primary: _Signing = _Rsa() if is_rsa else _Ed25519()
    inner: _Part = _Rsa() if is_rsa else _X25519()
    own, sub = _public_body(primary, made_at), _public_body(inner, made_at)
    lasts = b"" if seconds is None else _subpacket(9, seconds.to_bytes(4, "big"))
    parts = [encoded(Tag.SECRET_KEY, own + _open(primary))]
    for at_number, text in enumerate(user_ids):
        octets = text.encode()
        about = _hashed_key(own) + b"\xb4" + len(octets).to_bytes(4, "big") + octets
        more = lasts + _PREFERENCES + (_subpacket(25, b"\x01") if at_number == 0 else b"")
        flags = _subpacket(27, bytes((_CERTIFIES_AND_SIGNS,)))
        parts.append(encoded(Tag.USER_ID, octets))
        parts.append(_signature(primary, own, _OF_USER_ID, about, made_at, flags + more))
    about = _hashed_key(own) + _hashed_key(sub)
    flags = _subpacket(27, bytes((_ENCRYPTS,))) + lasts
    parts.append(encoded(Tag.SECRET_SUBKEY, sub + _open(inner)))
    parts.append(_signature(primary, own, _OF_SUBKEY, about, made_at, flags))
    reason = _subpacket(29, b"\x00")
    revocation = _signature(primary, own, _REVOKES, _hashed_key(own), made_at, reason)
    return b"".join(parts), revocation


def _public_body(part: _Part, made_at: bytes) -> bytes:
    return b"\x04" + made_at + bytes((part.algorithm,)) + part.public


def _open(part: _Part) -> bytes:
    """The secret part, locked by nothing."""
    return b"\x00" + part.secret + (sum(part.secret) & 0xFFFF).to_bytes(2, "big")


def _hashed_key(body: bytes) -> bytes:
    return b"\x99" + len(body).to_bytes(2, "big") + body


def _signature(
    signer: _Signing, own: bytes, kind: int, about: bytes, made_at: bytes, more: bytes
) -> bytes:
    fingerprint = sha1(_hashed_key(own), usedforsecurity=False).digest()
    hashed = _subpacket(2, made_at) + _subpacket(33, b"\x04" + fingerprint) + more
    head = bytes((4, kind, signer.algorithm, _SHA512)) + len(hashed).to_bytes(2, "big") + hashed
    trailer = b"\x04\xff" + len(head).to_bytes(4, "big")
    digest = sha512(about + head + trailer).digest()
    issuer = _subpacket(16, fingerprint[-8:])
    return encoded(
        Tag.SIGNATURE,
        head + len(issuer).to_bytes(2, "big") + issuer + digest[:2] + signer.sign(digest),
    )


def _subpacket(number: int, value: bytes) -> bytes:
    return bytes((len(value) + 1, number)) + value


_PREFERENCES: Final = b"".join(
    (
        _subpacket(11, bytes((9, 8, 7))),  # AES-256, 192, 128
        _subpacket(21, bytes((10, 9, 8))),  # SHA-512, 384, 256
        _subpacket(22, bytes((0,))),  # no compression: it tells of what is inside by its size
        _subpacket(30, b"\x01"),  # encryption with MDC
        _subpacket(23, b"\x80"),  # key servers: nobody but the owner changes it
    )
)


def _oid(octets: bytes) -> bytes:
    return bytes((len(octets),)) + octets


def _number(value: int) -> bytes:
    return _mpi(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _mpi(octets: bytes) -> bytes:
    octets = octets.lstrip(b"\0")
    bits = len(octets) * 8 - (8 - octets[0].bit_length() if octets else 0)
    return bits.to_bytes(2, "big") + octets
