"""What a certificate says of one of its keys: that it ended, was revoked, is too weak or too large.

None of it is proven here. It is asked why a signature was not taken by whoever proves them, and
never whether one is good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from posthouse.mimesec.pgp import locking
from posthouse.mimesec.pgp.packets import BadPackets, Packet, Tag, walk
from posthouse.mimesec.pgp.structure import ALGORITHMS, SignaturePacket, signature_packets

BITS_MIN: Final = 2048
"""Of RSA and DSA; the library takes no smaller ones."""
BODY_OCTETS_MAX: Final = 0xFFFF
"""Of a public key: there is no fingerprint of a larger one of version 4 (§5.5.4.2)."""
BITS_MAX: Final = 8192
EXPONENT_BITS_MAX: Final = 33
ORDER_BITS_MAX: Final = 512
"""Larger numbers only make strangers' signatures dear to check."""
_SECOND_BITS_MAX: Final = {
    1: EXPONENT_BITS_MAX,
    2: EXPONENT_BITS_MAX,
    3: EXPONENT_BITS_MAX,
    16: BITS_MAX,
    17: ORDER_BITS_MAX,
}
"""Of each algorithm whose keys begin with two numbers: modulus or prime, then this."""
_KEYS: Final = frozenset({Tag.PUBLIC_KEY, Tag.PUBLIC_SUBKEY})
_FOR_ENCRYPTION: Final = frozenset({1, 2, 16, 18, 25, 26, 35, 36})
_ENCRYPTS: Final = 0x0C
"""Of the key flags (§5.2.3.29): messages, and what is stored."""
_SIZED: Final = frozenset({1, 3, 17})
BINDS, REVOKES = 0x18, 0x28


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The primary key or a subkey."""

    key_id: str
    is_revoked: bool
    """By itself; of a subkey only."""
    expires_at: datetime | None
    """By itself; of a subkey only."""
    why_weak: str
    """In words; "" when it is not."""
    encrypts: bool
    """By its algorithm, and by what it says of its uses."""


def part_named(certificate: bytes, issuers: Sequence[str]) -> Part | None:
    """The key that one of the fingerprints or key ids names. Linear in the certificate.

    Args:
        certificate: of a `PublicKey`.
    """
    named = {short_id(one) for one in issuers}
    for key, around in divided(certificate):
        if locking.key_id(key.body) in named:
            return part(key, around)
    return None


def short_id(issuer: str) -> str:
    """The key id in a fingerprint: its end, and of version 6 its beginning (RFC 9580 §5.5.4)."""
    return issuer[:16] if len(issuer) == 64 else issuer[-16:]


def why_dear(body: bytes) -> str:
    """Why a public key is not even looked at, in words; "" where it is: numbers that take seconds.

    Args:
        body: of its packet.
    """
    if len(body) > BODY_OCTETS_MAX:
        return "a key in it is larger than keys can be"
    if len(body) < 10 or body[5] not in _SECOND_BITS_MAX:
        return ""
    at = 10 if body[0] == 6 else 6
    first = int.from_bytes(body[at : at + 2], "big")
    behind = at + 2 + (first + 7 >> 3)
    second = int.from_bytes(body[behind : behind + 2], "big")
    is_small = first <= BITS_MAX and second <= _SECOND_BITS_MAX[body[5]]
    return "" if is_small else f"its numbers ({ALGORITHMS[body[5]]}) are larger than any in use"


def divided(certificate: bytes) -> Iterator[tuple[Packet, list[Packet]]]:
    """Keys, each with the signatures behind it."""
    key: Packet | None = None
    around: list[Packet] = []
    for packet in walk(certificate):
        if packet.tag in _KEYS:
            if key is not None:
                yield key, around
            key, around = packet, []
        elif packet.tag == Tag.SIGNATURE:
            around.append(packet)
    if key is not None:
        yield key, around


def part(key: Packet, around: Sequence[Packet]) -> Part:
    signatures = list(read(around)) if key.tag == Tag.PUBLIC_SUBKEY else []
    bindings = [one for one in signatures if one.kind == BINDS and one.made_at is not None]
    newest = max(bindings, key=made_s, default=None)
    return Part(
        key_id=locking.key_id(key.body),
        is_revoked=any(one.kind == REVOKES for one in signatures),
        expires_at=end(key, newest) if newest is not None else None,
        why_weak=_why_weak(key.body),
        encrypts=may_encrypt(key.body) and _is_for_encryption(newest),
    )


def end(key: Packet, binding: SignaturePacket) -> datetime | None:
    """Of a key, as a signature on it says; None for never."""
    if not binding.key_lasts_s:
        return None
    made_at = int.from_bytes(key.body[1:5], "big")
    return datetime.fromtimestamp(made_at + binding.key_lasts_s, UTC)


def may_encrypt(body: bytes) -> bool:
    """Whether a public key can be encrypted to, by its algorithm."""
    return body[5] in _FOR_ENCRYPTION


def _is_for_encryption(binding: SignaturePacket | None) -> bool:
    return binding is None or binding.flags is None or bool(binding.flags & _ENCRYPTS)


def made_s(signature: SignaturePacket) -> float:
    return signature.made_at.timestamp() if signature.made_at is not None else 0.0


def read(packets: Sequence[Packet]) -> Iterator[SignaturePacket]:
    for packet in packets:
        try:
            yield from signature_packets(packet.octets)
        except BadPackets:
            continue


def _why_weak(body: bytes) -> str:
    if body[0] != 4 or body[5] not in _SIZED:
        return ""
    bits = int.from_bytes(body[6:8], "big")
    if bits >= BITS_MIN:
        return ""
    return f"its key is {ALGORITHMS[body[5]]} of {bits} bits, which is too weak"
