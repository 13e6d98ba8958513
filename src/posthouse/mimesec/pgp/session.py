"""The session key of an encrypted message, got out of it by a private key (RFC 9580 §5.1, §11.5).

RSA, ECDH on Curve25519 and the NIST curves, and X25519; whatever else a message is encrypted by is
left to the library.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import new as new_hash
from hashlib import sha1, sha256
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from posthouse.mimesec.pgp import locking
from posthouse.mimesec.pgp.packets import BadPackets, Tag, walk

_RSA: Final = frozenset({1, 2})
_ECDH, _X25519 = 18, 25
KEY_OCTETS: Final = {7: 16, 8: 24, 9: 32}
"""Of AES-128, 192 and 256; other ciphers are left to the library."""
_CURVE25519: Final = bytes.fromhex("2b060104019755010501")
_CURVES: Final[dict[bytes, ec.EllipticCurve]] = {
    bytes.fromhex("2a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("2b81040022"): ec.SECP384R1(),
    bytes.fromhex("2b81040023"): ec.SECP521R1(),
}
_HASHES: Final = {8: "sha256", 9: "sha384", 10: "sha512"}
_ANONYMOUS_SENDER: Final = b"Anonymous Sender    "  # §11.5


class NotForUs(Exception):
    """The key does not open it, or an algorithm of it is not known here."""


class SessionKey(msgspec.Struct, frozen=True):
    cipher: int | None
    """RFC 9580 §9.3; None where the container says it."""
    octets: bytes

    def __repr__(self) -> str:
        return "SessionKey(***)"


class Subkey(msgspec.Struct, frozen=True, kw_only=True):
    """A private key that may decrypt, unlocked."""

    key_id: str
    algorithm: int
    fingerprint: bytes
    public: bytes
    """Behind the algorithm octet."""
    secret: bytes

    def __repr__(self) -> str:
        return f"Subkey({self.key_id})"


def subkeys(private: bytes) -> Iterator[Subkey]:
    """Of an unlocked private key: all that may decrypt, by their algorithm. Raises BadPackets."""
    for packet in walk(private):
        if packet.tag not in (Tag.SECRET_KEY, Tag.SECRET_SUBKEY) or locking.is_elsewhere(packet):
            continue
        public, secret = locking.halves(packet)
        if public[5] in _RSA or public[5] in (_ECDH, _X25519):
            begin = 10 if public[0] == 6 else 6
            yield Subkey(
                key_id=locking.key_id(public),
                algorithm=public[5],
                fingerprint=_fingerprint(public),
                public=public[begin:],
                secret=secret,
            )


def session_key(body: bytes, key: Subkey) -> SessionKey:
    """What a PKESK holds.

    Args:
        body: of the packet, version 3 or 6.

    Raises:
        NotForUs: it is for another key, damaged, or of an algorithm that is not known here.
    """
    try:
        version, at = body[0], 9 if body[0] == 3 else 2 + body[1]
        if body[at] != key.algorithm:
            raise NotForUs
        sealed = body[at + 1 :]
        if key.algorithm in _RSA:
            return _checked(_by_rsa(sealed, key), version)
        if key.algorithm == _ECDH:
            return _checked(_by_ecdh(sealed, key), version)
        return _by_x25519(sealed, key, version)
    except (IndexError, ValueError, BadPackets, InvalidUnwrap):
        raise NotForUs from None


# --- algorithms ---


def rsa_numbers(public: bytes, secret: bytes) -> rsa.RSAPrivateNumbers:
    """Of a private key, whose halves stand behind the algorithm octet (§5.5.5.1).

    Raises:
        BadPackets, NotForUs: they are none of one key.
    """
    n, e = mpis(public, 2)
    d, p, q, _ = mpis(secret, 4)
    if p * q != n:
        raise NotForUs
    return rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa.rsa_crt_dmp1(d, p),
        dmq1=rsa.rsa_crt_dmq1(d, q),
        iqmp=rsa.rsa_crt_iqmp(p, q),
        public_numbers=rsa.RSAPublicNumbers(e, n),
    )


def _by_rsa(sealed: bytes, key: Subkey) -> bytes:
    """PKCS #1 v1.5. A wrong padding gives octets by chance and no error (implicit rejection), so
    nobody learns anything by sending many."""
    numbers = rsa_numbers(key.public, key.secret)
    n = numbers.public_numbers.n
    [number] = mpis(sealed, 1)
    if number >= n:
        raise NotForUs
    octets = number.to_bytes((n.bit_length() + 7) // 8, "big")
    # Checked as a whole it takes a hundred times as long as its use, for each key that is tried.
    private = numbers.private_key(unsafe_skip_rsa_key_validation=True)
    return private.decrypt(octets, padding.PKCS1v15())


def _by_ecdh(sealed: bytes, key: Subkey) -> bytes:
    """§11.5: a shared secret, hashed with what says whose it is, unwraps the session key."""
    oid = key.public[1 : 1 + key.public[0]]
    at = 1 + len(oid)
    _, behind = _mpi(key.public, at)
    parameters = key.public[behind : behind + 1 + key.public[behind]]
    hash_name, cipher = _HASHES.get(parameters[2]), KEY_OCTETS.get(parameters[3])
    if hash_name is None or cipher is None:
        raise NotForUs
    ephemeral, end = _mpi(sealed, 0)
    wrapped = sealed[end + 1 : end + 1 + sealed[end]]
    shared = _shared(oid, ephemeral, key)
    about = b"".join(
        (bytes((len(oid),)), oid, bytes((_ECDH,)), parameters, _ANONYMOUS_SENDER, key.fingerprint)
    )
    digest = new_hash(hash_name, b"\0\0\0\1" + shared + about).digest()
    padded = aes_key_unwrap(digest[:cipher], wrapped)
    size = padded[-1]
    if not 1 <= size <= 255 or padded[-size:] != bytes((size,)) * size:
        raise NotForUs
    return padded[:-size]


def _shared(oid: bytes, ephemeral: bytes, key: Subkey) -> bytes:
    scalar, _ = _mpi(key.secret, 0)
    if oid == _CURVE25519:
        if ephemeral[:1] != b"\x40":
            raise NotForUs
        own = X25519PrivateKey.from_private_bytes(scalar.rjust(32, b"\0")[::-1])
        return own.exchange(X25519PublicKey.from_public_bytes(ephemeral[1:]))
    curve = _CURVES.get(oid)
    if curve is None:
        raise NotForUs
    point = ec.EllipticCurvePublicKey.from_encoded_point(curve, ephemeral)
    private = ec.derive_private_key(int.from_bytes(scalar, "big"), curve)
    return private.exchange(ec.ECDH(), point)


def _by_x25519(sealed: bytes, key: Subkey, version: int) -> SessionKey:
    """§5.1.6."""
    ephemeral, size = sealed[:32], sealed[32]
    rest = sealed[33 : 33 + size]
    cipher: int | None = None
    if version == 3:
        cipher, rest = rest[0], rest[1:]
    own = X25519PrivateKey.from_private_bytes(key.secret)
    shared = own.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    material = ephemeral + key.public[:32] + shared
    wrapping = HKDF(algorithm=SHA256(), length=16, salt=None, info=b"OpenPGP X25519")
    return SessionKey(cipher, aes_key_unwrap(wrapping.derive(material), rest))


def _checked(octets: bytes, version: int) -> SessionKey:
    """Takes off the cipher's number (version 3) and the sum at the end (§5.1.3)."""
    cipher: int | None = None
    if version == 3:
        cipher, octets = octets[0], octets[1:]
    key, total = octets[:-2], octets[-2:]
    is_sum_right = (sum(key) & 0xFFFF).to_bytes(2, "big") == total
    is_size_right = len(key) == KEY_OCTETS.get(cipher, 0) if cipher is not None else len(key) >= 16
    if not (is_sum_right and is_size_right):
        raise NotForUs
    return SessionKey(cipher, key)


def _fingerprint(public: bytes) -> bytes:
    if public[0] == 6:
        return sha256(b"\x9b" + len(public).to_bytes(4, "big") + public).digest()
    whole = b"\x99" + len(public).to_bytes(2, "big") + public
    return sha1(whole, usedforsecurity=False).digest()


def mpis(octets: bytes, count: int) -> list[int]:
    found: list[int] = []
    at = 0
    for _ in range(count):
        value, at = _mpi(octets, at)
        found.append(int.from_bytes(value, "big"))
    return found


def _mpi(octets: bytes, at: int) -> tuple[bytes, int]:
    if at + 2 > len(octets):
        raise NotForUs
    end = at + 2 + (int.from_bytes(octets[at : at + 2], "big") + 7 >> 3)
    if end > len(octets):
        raise NotForUs
    return octets[at + 2 : end], end
