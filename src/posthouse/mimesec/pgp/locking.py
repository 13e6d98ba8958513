"""Secret parts of keys locked by a password, and unlocked (RFC 9580 §3.7, §5.5.3).

Keys lie here without a password, sealed as a whole; files for other programs may have one. Read are
the forms that programs of today write; what is written is the one that all of them read: AES-256,
an iterated and salted SHA-256, a SHA-1 that tells a wrong password from a right one (RFC 4880
§5.5.3 has it already).

GnuPG writes a note in place of a secret part that is elsewhere, offline or on a card (a private
form of §3.7.1: kind 101). Such notes stay as they are: the other parts are used without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import new as new_hash
from hashlib import sha1, sha256
from hmac import compare_digest
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from posthouse.kernel.secret import Secret
from posthouse.mimesec.pgp.packets import BadPackets, Packet, Tag, encoded, walk
from posthouse.mimesec.ports import ProtectionError

SALT_OCTETS: Final = 24
"""8 of the password's hash and 16 to begin the cipher with."""
LOCKED_MAX: Final = 64
"""Locked parts of one key, each of which costs the hashing of a password."""
ARGON2_KIB_MAX: Final = 2 << 20
ARGON2_WORK_KIB_MAX: Final = 8 << 20
"""Passes times memory."""

_OPEN, _AEAD, _CHECKED, _SUMMED = 0, 253, 254, 255
_AES_OCTETS: Final = {7: 16, 8: 24, 9: 32}
_HASHES: Final = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}
_CODED_COUNT: Final = 0xE0  # 16 MiB of hashing for each key
_SECRET: Final = (Tag.SECRET_KEY, Tag.SECRET_SUBKEY)
# How much of a public key is there for each algorithm: numbers (multi-precision integers), with an
# object identifier in front, key derivation parameters behind, or octets as they are.
_MPIS: Final = {1: 2, 2: 2, 3: 2, 16: 3, 17: 4}
_BY_OID: Final = {18: True, 19: False, 22: False}
_PLAIN: Final = {25: 32, 26: 56, 27: 32, 28: 57, 30: 1984, 31: 2649, 35: 1216, 36: 1624}
_WRONG: Final = "the password is wrong"
_ELSEWHERE: Final = 101


class _Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret-key packet taken apart."""

    tag: int
    public: bytes
    """The body of the public-key packet."""
    usage: int
    rest: bytes
    """Behind the usage octet."""


def key_id(public: bytes) -> str:
    """Of the body of a public-key packet, in upper-case hexadecimal (§5.5.4)."""
    if public[:1] == b"\x06":
        whole = b"\x9b" + len(public).to_bytes(4, "big") + public
        return sha256(whole).digest()[:8].hex().upper()
    whole = b"\x99" + len(public).to_bytes(2, "big") + public
    return sha1(whole, usedforsecurity=False).digest()[-8:].hex().upper()


def public_packet(packet: Packet) -> bytes:
    """The public half of a secret-key packet. Raises BadPackets."""
    tag = Tag.PUBLIC_KEY if packet.tag == Tag.SECRET_KEY else Tag.PUBLIC_SUBKEY
    return encoded(tag, _apart(packet).public)


def halves(packet: Packet) -> tuple[bytes, bytes]:
    """Of a secret-key packet in the open: the body of its public half, and its secret numbers.

    Raises:
        BadPackets: it is malformed, or locked.
    """
    apart = _apart(packet)
    if apart.usage != _OPEN:
        raise BadPackets("the private key is locked")
    return apart.public, apart.rest if apart.public[0] == 6 else apart.rest[:-2]


def is_locked(packet: Packet) -> bool:
    """Whether it is a secret part with a password. Raises BadPackets."""
    if packet.tag not in _SECRET:
        return False
    apart = _apart(packet)
    return apart.usage != _OPEN and not _is_note(apart)


def is_elsewhere(packet: Packet) -> bool:
    """Whether it stands for a secret part that is elsewhere. Raises BadPackets."""
    return packet.tag in _SECRET and _is_note(_apart(packet))


def without_notes(octets: bytes) -> bytes:
    """A private key with a public half where a secret part is elsewhere. Raises BadPackets."""
    return b"".join(public_packet(one) if is_elsewhere(one) else one.octets for one in walk(octets))


def unlocked(octets: bytes, password: Secret | None) -> bytes:
    """A private key with its secret parts in the open.

    Raises:
        BadPackets: it is malformed.
        ProtectionError: the password is missing or wrong, or the form is not known here.
    """
    return b"".join(_unlocked_packets(octets, password))


def _unlocked_packets(octets: bytes, password: Secret | None) -> Iterator[bytes]:
    count = 0
    for packet in walk(octets):
        if packet.tag == Tag.TRUST:  # a note of the program that kept it
            continue
        if not is_locked(packet):
            yield packet.octets
            continue
        if not password:
            raise ProtectionError("the private key has a password", hint="give its password")
        count += 1
        if count > LOCKED_MAX:
            raise BadPackets(f"it has more than {LOCKED_MAX} locked parts")
        yield _opened(_apart(packet), password.reveal().encode())


def locked(octets: bytes, password: Secret, salt: bytes) -> bytes:
    """A private key in the open, locked.

    Args:
        salt: SALT_OCTETS by chance; each secret part has its own made of it.

    Raises:
        ValueError: a salt of another length.
    """
    if len(salt) != SALT_OCTETS:
        raise ValueError(f"a salt has {SALT_OCTETS} octets")
    found: list[bytes] = []
    for packet in walk(octets):
        if packet.tag not in _SECRET or is_elsewhere(packet):
            found.append(packet.octets)
            continue
        apart = _apart(packet)
        own = sha256(salt + apart.public).digest()[:SALT_OCTETS]
        found.append(_closed(apart, password.reveal().encode(), own))
    return b"".join(found)


# --- taking apart ---


def _apart(packet: Packet) -> _Secret:
    body = packet.body
    size = _public_size(body)
    if len(body) <= size:
        raise BadPackets("a key is cut off")
    return _Secret(tag=packet.tag, public=body[:size], usage=body[size], rest=body[size + 1 :])


def _is_note(apart: _Secret) -> bool:
    """A cipher's number, the kind, a hash's number, "GNU"; usage 253 to 255 has none of it in other
    places."""
    head = apart.rest[:6]
    return (
        apart.usage in (_CHECKED, _SUMMED)
        and head[1:2] == bytes((_ELSEWHERE,))
        and (head[3:] == b"GNU")
    )


def _public_size(body: bytes) -> int:
    if len(body) < 10:
        raise BadPackets("a key is cut off")
    version, algorithm = body[0], body[5]
    if version == 6:
        return 10 + int.from_bytes(body[6:10], "big")
    if version != 4:
        raise BadPackets(f"keys of version {version} are not known here")
    at = 6
    if algorithm in _PLAIN:
        return at + _PLAIN[algorithm]
    if algorithm in _BY_OID:
        at = _behind_mpi(body, at + 1 + body[at])
        return at + 1 + body[at] if _BY_OID[algorithm] and at < len(body) else at
    if algorithm not in _MPIS:
        raise BadPackets(f"keys of algorithm {algorithm} are not known here")
    for _ in range(_MPIS[algorithm]):
        at = _behind_mpi(body, at)
    return at


def _behind_mpi(body: bytes, at: int) -> int:
    if at + 2 > len(body):
        raise BadPackets("a key is cut off")
    return at + 2 + (int.from_bytes(body[at : at + 2], "big") + 7 >> 3)


# --- opening ---


class _Cursor:
    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    def take(self, size: int) -> bytes:
        if size > len(self._octets) - self._at:
            raise BadPackets("a key is cut off")
        self._at += size
        return self._octets[self._at - size : self._at]

    def octet(self) -> int:
        return self.take(1)[0]

    def rest(self) -> bytes:
        return self.take(len(self._octets) - self._at)


def _opened(apart: _Secret, word: bytes) -> bytes:
    cursor = _Cursor(apart.rest)
    is_new = apart.public[0] == 6
    if is_new:
        cursor.octet()  # the size of all that describes the lock
    if apart.usage not in (_AEAD, _CHECKED, _SUMMED):
        raise _not_known()
    cipher = cursor.octet()
    mode = cursor.octet() if apart.usage == _AEAD else 0
    if is_new and apart.usage != _SUMMED:
        cursor.octet()  # the size of what says how the password is hashed
    if cipher not in _AES_OCTETS:
        raise _not_known()
    key = _hashed(cursor, word, _AES_OCTETS[cipher])
    if apart.usage == _AEAD:
        secret = _by_aead(apart, cursor, cipher, mode, key)
    else:
        start = cursor.take(16)
        decryptor = Cipher(AES(key), CFB(start)).decryptor()
        secret = _verified(decryptor.update(cursor.rest()) + decryptor.finalize(), apart.usage)
    return encoded(apart.tag, _in_the_open(apart.public, secret))


def _in_the_open(public: bytes, secret: bytes) -> bytes:
    if public[0] == 6:
        return public + bytes((_OPEN,)) + secret
    return public + bytes((_OPEN,)) + secret + (sum(secret) & 0xFFFF).to_bytes(2, "big")


def _verified(octets: bytes, usage: int) -> bytes:
    if usage == _CHECKED:
        secret, check = octets[:-20], octets[-20:]
        is_right = compare_digest(sha1(secret, usedforsecurity=False).digest(), check)
    else:
        secret, check = octets[:-2], octets[-2:]
        is_right = (sum(secret) & 0xFFFF).to_bytes(2, "big") == check
    if not is_right:
        raise ProtectionError(_WRONG, hint="give the password of the private key")
    return secret


def _by_aead(apart: _Secret, cursor: _Cursor, cipher: int, mode: int, key: bytes) -> bytes:
    sizes = {2: 15, 3: 12}
    if mode not in sizes:
        raise _not_known()
    nonce, rest = cursor.take(sizes[mode]), cursor.rest()
    about = bytes((0xC0 | apart.tag, apart.public[0], cipher, mode))
    derived = HKDF(algorithm=SHA256(), length=len(key), salt=None, info=about).derive(key)
    aead = AESOCB3(derived) if mode == 2 else AESGCM(derived)
    try:
        return aead.decrypt(nonce, rest, bytes((0xC0 | apart.tag,)) + apart.public)
    except (InvalidTag, ValueError):
        raise ProtectionError(_WRONG, hint="give the password of the private key") from None


def _hashed(cursor: _Cursor, word: bytes, size: int) -> bytes:
    """The key that a password makes (§3.7.1)."""
    kind = cursor.octet()
    if kind == 4:
        return _by_argon2(cursor, word, size)
    if kind not in (0, 1, 3):
        raise _not_known()
    name = _HASHES.get(cursor.octet())
    if name is None:
        raise _not_known()
    salt = cursor.take(8) if kind else b""
    count = 0
    if kind == 3:
        coded = cursor.octet()
        count = 16 + (coded & 15) << (coded >> 4) + 6
    return _iterated(name, salt + word, count, size)


def _iterated(name: str, salted: bytes, count: int, size: int) -> bytes:
    """Hashes of salt and password over and over, up to `count` octets (§3.7.1.3); each further one
    with one more zero in front."""
    total = max(count, len(salted))
    block = salted * (4096 // len(salted) + 1)
    key = b""
    round_ = 0
    while len(key) < size:
        digest = new_hash(name, bytes(round_), usedforsecurity=False)
        left = total
        while left > 0:
            piece = block[:left]
            digest.update(piece)
            left -= len(piece)
        key += digest.digest()
        round_ += 1
    return key[:size]


def _by_argon2(cursor: _Cursor, word: bytes, size: int) -> bytes:
    salt, passes, lanes, exponent = (
        cursor.take(16), cursor.octet(), cursor.octet(), cursor.octet()
    )  # fmt: skip
    is_bounded = exponent < 32 and 1 << exponent <= ARGON2_KIB_MAX
    if not (is_bounded and lanes and 0 < passes << exponent <= ARGON2_WORK_KIB_MAX):
        raise ProtectionError(
            "its password is made into a key with more work than is done here",
            hint="export the private key with another form of its lock",
        )
    try:
        return Argon2id(
            salt=salt, length=size, iterations=passes, lanes=lanes, memory_cost=1 << exponent
        ).derive(word)
    except MemoryError:
        raise ProtectionError(
            "there is not enough memory to open it with its password",
            hint="export the private key with another form of its lock",
        ) from None
    except (UnsupportedAlgorithm, ValueError):
        raise _not_known() from None


def _not_known() -> ProtectionError:
    return ProtectionError(
        "the private key is locked in a form that is not known here",
        hint="export it without a password, or lock it with AES",
    )


# --- closing ---


def _closed(apart: _Secret, word: bytes, salt: bytes) -> bytes:
    if apart.usage != _OPEN:
        raise ValueError("it is locked already")
    is_new = apart.public[0] == 6
    secret = apart.rest if is_new else apart.rest[:-2]
    hashing = bytes((3, 8)) + salt[:8] + bytes((_CODED_COUNT,))
    key = _hashed(_Cursor(hashing), word, 32)
    start = salt[8:]
    encryptor = Cipher(AES(key), CFB(start)).encryptor()
    check = sha1(secret, usedforsecurity=False).digest()
    sealed = encryptor.update(secret + check) + encryptor.finalize()
    about = bytes((9,)) + (bytes((len(hashing),)) if is_new else b"") + hashing + start
    size = bytes((len(about),)) if is_new else b""
    return encoded(apart.tag, apart.public + bytes((_CHECKED,)) + size + about + sealed)
