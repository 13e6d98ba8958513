"""A private key's own signatures made anew with another end: on its user ids, on itself and on its
subkeys (RFC 9580 §5.2.1, §5.2.3.13, §5.2.4).

The library gives another end to the primary key alone, and to none that has ended. Only signatures
that the primary key has proven are made anew: whoever slips a subkey of theirs into a certificate
would else have it bound for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from hashlib import new as new_hash
from hashlib import sha512
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA224, SHA256, SHA384, SHA512, HashAlgorithm

from posthouse.mimesec.pgp import locking
from posthouse.mimesec.pgp.packets import BadPackets, Packet, Tag, encoded, walk
from posthouse.mimesec.pgp.session import NotForUs, mpis, rsa_numbers
from posthouse.mimesec.pgp.structure import subpackets

_ED25519_OID: Final = bytes.fromhex("092b06010401da470f01")
_CURVES: Final[dict[bytes, ec.EllipticCurve]] = {
    bytes.fromhex("082a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("052b81040022"): ec.SECP384R1(),
    bytes.fromhex("052b81040023"): ec.SECP521R1(),
}
_HASHES: Final[dict[int, tuple[str, HashAlgorithm]]] = {
    8: ("sha256", SHA256()),
    9: ("sha384", SHA384()),
    10: ("sha512", SHA512()),
    11: ("sha224", SHA224()),
}
_SHA512: Final = 10
_SALT_OCTETS: Final = 32  # of version 6 with SHA-512, §9.5
_MADE, _KEY_LASTS, _FLAGS = 2, 9, 27
_NEVER: Final = 1 << 40
_ON_USER_ID: Final = frozenset({0x10, 0x11, 0x12, 0x13})
_ON_KEY, _BINDS, _REVOKES_SUBKEY, _REVOKES_USER_ID = 0x1F, 0x18, 0x28, 0x30
_USER_IDS: Final = frozenset({Tag.USER_ID, Tag.USER_ATTRIBUTE})
_SUBKEYS: Final = frozenset({Tag.SECRET_SUBKEY, Tag.PUBLIC_SUBKEY})


class TooSoon(BadPackets):
    """It is not a second old."""


class OwnSignature(msgspec.Struct, frozen=True):
    """One that the primary key has made."""

    packet: Packet
    kind: int
    hashed: tuple[tuple[int, bytes], ...]
    """Types with the flag of critical ones, and values."""
    unhashed: bytes

    def number(self, kind: int) -> int:
        values = [value for at, value in self.hashed if at & 0x7F == kind]
        return int.from_bytes(values[-1][:4], "big") if values else 0


class Group(msgspec.Struct):
    """A key or user id, with the signatures behind it."""

    packet: Packet
    about: bytes
    """What a signature on it is made over."""
    signatures: list[Packet]
    newest: OwnSignature | None = None
    """What gives it its end; of nothing that was revoked."""


def with_end(private: bytes, *, at: datetime, now: datetime) -> bytes:
    """A private key with that end, and its parts that are in use with it.

    Args:
        private: in the open.

    Raises:
        BadPackets: `str()` says why it cannot be done.
    """
    primary = Primary(next(walk(private)))
    found = list(groups(private, primary))
    for group in found:
        group.newest = _newest(group.packet, primary.proven(group))
    lasting = list(_lasting(found, now))
    octets: list[bytes] = []
    count = 0
    for group in found:
        octets.append(group.packet.octets)
        old = group.newest
        is_subkey = group.packet.tag in _SUBKEYS
        if old is None or (is_subkey and not any(one is group for one in lasting)):
            octets += [one.octets for one in group.signatures]
            continue
        count += not is_subkey
        lasts_s = max(1, int(at.timestamp()) - _made_s(group.packet, primary))
        octets.append(primary.renewed(old, group.about, lasts_s, int(now.timestamp())))
        octets += [one.octets for one in group.signatures if one is not old.packet]
    if not count:
        raise BadPackets("none of its own signatures is good")
    return b"".join(octets)


def groups(private: bytes, primary: Primary) -> Iterator[Group]:
    group: Group | None = None
    for packet in walk(private):
        if packet.tag == Tag.SIGNATURE and group is not None:
            group.signatures.append(packet)
            continue
        if group is not None:
            yield group
        group = Group(packet, primary.about(packet), [])
    if group is not None:
        yield group


def _newest(packet: Packet, proven: Sequence[OwnSignature]) -> OwnSignature | None:
    """Of those that give it its end; None of what was revoked."""
    if packet.tag in _SUBKEYS:
        kinds, revokes = frozenset({_BINDS}), _REVOKES_SUBKEY
    elif packet.tag in _USER_IDS:
        kinds, revokes = _ON_USER_ID, _REVOKES_USER_ID
    else:
        kinds, revokes = frozenset({_ON_KEY}), None
    if any(one.kind == revokes for one in proven):
        return None
    found = [one for one in proven if one.kind in kinds]
    return max(found, key=lambda one: one.number(_MADE), default=None)


def _lasting(found: Sequence[Group], now: datetime) -> Iterator[Group]:
    """The subkeys that get the new end: of each use those that have not ended, as they have taken
    the place of others; where all have, the last to end."""
    ends: dict[int, list[tuple[int, Group]]] = {}
    for one in found:
        if one.packet.tag in _SUBKEYS and one.newest is not None:
            lasts_s = one.newest.number(_KEY_LASTS)
            end = int.from_bytes(_public(one.packet)[1:5], "big") + lasts_s if lasts_s else _NEVER
            ends.setdefault(one.newest.number(_FLAGS), []).append((end, one))
    for of_use in ends.values():
        since = min(max(end for end, _ in of_use), int(now.timestamp()) + 1)
        yield from (one for end, one in of_use if since <= end < _NEVER)


def _made_s(packet: Packet, primary: Primary) -> int:
    body = _public(packet) if packet.tag in _SUBKEYS else primary.body
    return int.from_bytes(body[1:5], "big")


def _public(packet: Packet) -> bytes:
    """The body of the public half."""
    if packet.tag in (Tag.SECRET_KEY, Tag.SECRET_SUBKEY):
        [public] = walk(locking.public_packet(packet))
        return public.body
    return packet.body


class Primary:
    """The primary key, which signs all that is bound to it."""

    def __init__(self, packet: Packet) -> None:
        if locking.is_elsewhere(packet) or packet.tag != Tag.SECRET_KEY:
            raise BadPackets("its primary part, which all is signed by, is elsewhere")
        self.body, self._secret = locking.halves(packet)
        self._is_new = self.body[0] == 6
        try:
            self.sign, self._verify = _algorithm(self.body, self._secret)
        except (IndexError, NotForUs, OverflowError, ValueError) as error:
            why = str(error) if isinstance(error, BadPackets) else "its numbers are malformed"
            raise BadPackets(why) from None

    def about(self, packet: Packet) -> bytes:
        own = self._hashed(self.body)
        if packet.tag in _SUBKEYS:
            return own + self._hashed(_public(packet))
        if packet.tag in _USER_IDS:
            mark = b"\xb4" if packet.tag == Tag.USER_ID else b"\xd1"
            return own + mark + len(packet.body).to_bytes(4, "big") + packet.body
        return own

    def _hashed(self, body: bytes) -> bytes:
        if self._is_new:
            return b"\x9b" + len(body).to_bytes(4, "big") + body
        return b"\x99" + len(body).to_bytes(2, "big") + body

    def proven(self, group: Group) -> list[OwnSignature]:
        found = (self._proven(one, group.about) for one in group.signatures)
        return [one for one in found if one is not None]

    def _proven(self, packet: Packet, about: bytes) -> OwnSignature | None:
        body, width = packet.body, 4 if self._is_new else 2
        if len(body) < 10 or body[0] != self.body[0] or body[2] != self.body[5]:
            return None
        if body[3] not in _HASHES:  # by a weak one anybody might have made it
            return None
        behind = 4 + width + int.from_bytes(body[4 : 4 + width], "big")
        unhashed = int.from_bytes(body[behind : behind + width], "big")
        rest = behind + width + unhashed
        salt, made = b"", body[rest + 2 :]
        if self._is_new:
            size = made[0] if made else 0
            salt, made = made[1 : 1 + size], made[1 + size :]
        name, algorithm = _HASHES[body[3]]
        digest = new_hash(name, salt + about + body[:behind] + self._trailer(behind)).digest()
        try:
            self._verify(made, digest, algorithm)
            hashed = tuple(subpackets(body[4 + width : behind]))
        except (InvalidSignature, ValueError, OverflowError):
            return None
        return OwnSignature(packet, body[1], hashed, body[behind + width : rest])

    def _trailer(self, size: int) -> bytes:
        return self.body[:1] + b"\xff" + size.to_bytes(4, "big")

    def renewed(self, old: OwnSignature, about: bytes, lasts_s: int, now_s: int) -> bytes:
        """The same with another end, made now.

        Raises:
            TooSoon: that is not later than the old one.
        """
        if now_s <= old.number(_MADE):  # of two as old as each other either may count
            raise TooSoon("it was changed this very second, or by a clock that is ahead")
        has_end = not self._is_new or old.kind in (_ON_KEY, _BINDS)  # §5.2.3.10
        parts = [_subpacket(_MADE | 0x80, now_s.to_bytes(4, "big"))]
        parts += [_subpacket(_KEY_LASTS | 0x80, lasts_s.to_bytes(4, "big"))] if has_end else []
        parts += [
            _subpacket(kind, value)
            for kind, value in old.hashed
            if kind & 0x7F not in (_MADE, _KEY_LASTS)
        ]
        hashed, width = b"".join(parts), 4 if self._is_new else 2
        head = bytes((self.body[0], old.kind, self.body[5], _SHA512))
        head += len(hashed).to_bytes(width, "big") + hashed
        # Nobody can tell the salt beforehand, which is all it has to be.
        salt = sha512(self._secret + about + head).digest()[:_SALT_OCTETS] if self._is_new else b""
        digest = sha512(salt + about + head + self._trailer(len(head))).digest()
        behind = len(old.unhashed).to_bytes(width, "big") + old.unhashed + digest[:2]
        behind += bytes((len(salt),)) + salt if self._is_new else b""
        return encoded(Tag.SIGNATURE, head + behind + self.sign(digest))


_Sign = Callable[[bytes], bytes]
_Verify = Callable[[bytes, bytes, HashAlgorithm], None]


def _algorithm(body: bytes, secret: bytes) -> tuple[_Sign, _Verify]:
    number = body[5]
    public = body[10 if body[0] == 6 else 6 :]
    if number in (1, 3):
        return _rsa(public, secret)
    if number == 27:
        return _ed25519(secret, is_raw=True)
    if number == 22 and public.startswith(_ED25519_OID):
        [seed] = mpis(secret, 1)
        return _ed25519(seed.to_bytes(32, "big"), is_raw=False)
    curve = _CURVES.get(public[: 1 + public[0]])
    if number == 19 and curve is not None:
        [scalar] = mpis(secret, 1)
        return _ecdsa(ec.derive_private_key(scalar, curve))
    raise BadPackets("nothing can be signed here by keys of its algorithm")


def _rsa(public: bytes, secret: bytes) -> tuple[_Sign, _Verify]:
    key = rsa_numbers(public, secret).private_key()

    def sign(digest: bytes) -> bytes:
        made = key.sign(digest, padding.PKCS1v15(), Prehashed(SHA512()))
        return _number(int.from_bytes(made, "big"))

    def verify(made: bytes, digest: bytes, algorithm: HashAlgorithm) -> None:
        octets = _mpis(made, 1)[0].to_bytes(key.key_size + 7 >> 3, "big")
        key.public_key().verify(octets, digest, padding.PKCS1v15(), Prehashed(algorithm))

    return sign, verify


def _ed25519(seed: bytes, *, is_raw: bool) -> tuple[_Sign, _Verify]:
    key = Ed25519PrivateKey.from_private_bytes(seed)

    def sign(digest: bytes) -> bytes:
        made = key.sign(digest)
        if is_raw:
            return made
        return b"".join(_number(int.from_bytes(one, "big")) for one in (made[:32], made[32:]))

    def verify(made: bytes, digest: bytes, _: HashAlgorithm) -> None:
        octets = made if is_raw else b"".join(one.to_bytes(32, "big") for one in _mpis(made, 2))
        key.public_key().verify(octets, digest)

    return sign, verify


def _ecdsa(key: ec.EllipticCurvePrivateKey) -> tuple[_Sign, _Verify]:
    def sign(digest: bytes) -> bytes:
        made = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(SHA512()))))
        return b"".join(map(_number, made))

    def verify(made: bytes, digest: bytes, algorithm: HashAlgorithm) -> None:
        r, s = _mpis(made, 2)
        octets = encode_dss_signature(r, s)
        key.public_key().verify(octets, digest, ec.ECDSA(Prehashed(algorithm)))

    return sign, verify


def _mpis(octets: bytes, count: int) -> list[int]:
    """Of a signature. Raises ValueError."""
    try:
        return mpis(octets, count)
    except (NotForUs, OverflowError):
        raise ValueError("a signature is malformed") from None


def _number(value: int) -> bytes:
    bits = value.bit_length()
    return bits.to_bytes(2, "big") + value.to_bytes(bits + 7 >> 3, "big")


def _subpacket(kind: int, value: bytes) -> bytes:
    size = len(value) + 1
    if size < 192:
        return bytes((size, kind)) + value
    if size < 8384:
        return bytes(((size - 192 >> 8) + 192, size - 192 & 0xFF, kind)) + value
    return b"\xff" + size.to_bytes(4, "big") + bytes((kind,)) + value
