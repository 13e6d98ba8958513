"""The parts of a certificate that can be encrypted to, and until when each is good.

The library says which parts are bound to the key by good signatures, are for encryption and not
revoked; it does not say when one ends, and takes those that have ended where there are no others.
So the end is read here, from the newest of the signatures that the library takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.mimesec.pgp import locking, parts, sequoia
from posthouse.mimesec.pgp.packets import BadPackets, Packet, Tag, walk
from posthouse.mimesec.pgp.structure import SignaturePacket, sealed_message

if TYPE_CHECKING:
    from pysequoia import Cert

_PARTS_MAX: Final = 20
"""Of one key that are encrypted to: whoever has more made them to annoy."""


class Encrypting(msgspec.Struct, frozen=True, kw_only=True):
    """A part that the library encrypts to."""

    key_id: str
    ends_at: datetime | None
    """By itself; None of the primary key, too."""


def parts_of(certificate: bytes, cert: Cert) -> tuple[Encrypting, ...]:
    """Those that are good now; where all have ended, those that were.

    Args:
        certificate: of a `PublicKey`, and the same as the library has it.
    """
    taken = _taken(cert)[:_PARTS_MAX]
    if not taken:
        return ()
    head = _head(certificate)
    return tuple(
        Encrypting(key_id=key_id, ends_at=_ends_at(head, key, around))
        for key, around in parts.divided(certificate)
        if (key_id := locking.key_id(key.body)) in taken
    )


def good(found: Sequence[Encrypting], at: datetime) -> tuple[Encrypting, ...]:
    return tuple(one for one in found if one.ends_at is None or one.ends_at > at)


def only(certificate: bytes, kept: Sequence[Encrypting]) -> bytes:
    """A certificate with no other subkeys than these."""
    ids = {one.key_id for one in kept}
    octets: list[bytes] = []
    is_kept = True
    for packet in walk(certificate):
        if packet.tag == Tag.PUBLIC_SUBKEY:
            is_kept = locking.key_id(packet.body) in ids
        if is_kept:
            octets.append(packet.octets)
    return b"".join(octets)


def why_none(certificate: bytes, ended: Sequence[Encrypting]) -> str:
    """Why none of its parts can be encrypted to, in words.

    Args:
        ended: all that the library would take.
    """
    ends = [one.ends_at for one in ended if one.ends_at is not None]
    if ends:
        return f"the part of the key that encrypts ended on {max(ends):%Y-%m-%d}"
    # The library takes none, so nothing of this is proven, and nothing but the words is by it.
    said = [
        one
        for key, around in parts.divided(certificate)
        if key.tag == Tag.PUBLIC_SUBKEY and (one := parts.part(key, around)).encrypts
    ]
    if any(one.is_revoked for one in said):
        return "the part of the key that encrypts was revoked"
    if weak := [one.why_weak for one in said if one.why_weak]:
        return f"the part of the key that encrypts is of no use: {weak[0]}"
    return "the key has no part to encrypt to"


def _taken(cert: Cert) -> tuple[str, ...]:
    """The key ids of what the library encrypts to."""
    try:
        return sealed_message(sequoia.encrypted_to(cert)).recipients
    except BadPackets:
        return ()


def _head(certificate: bytes) -> bytes:
    """All in front of the first subkey."""
    octets: list[bytes] = []
    for packet in walk(certificate):
        if packet.tag == Tag.PUBLIC_SUBKEY:
            break
        octets.append(packet.octets)
    return b"".join(octets)


def _ends_at(head: bytes, key: Packet, around: Sequence[Packet]) -> datetime | None:
    if key.tag != Tag.PUBLIC_SUBKEY:
        return None
    bindings = sorted(
        (one for one in parts.read(around) if one.kind == parts.BINDS),
        key=parts.made_s,
        reverse=True,
    )
    if not bindings:
        return None
    newest = _newest_good(head + key.octets, bindings)
    ends = (parts.end(key, newest), newest.expires_at)
    return min((one for one in ends if one is not None), default=None)


def _newest_good(octets: bytes, bindings: Sequence[SignaturePacket]) -> SignaturePacket:
    """The first that the library takes, by halving: anybody can put thousands of false ones in
    front of it. It takes one of them, as it took the whole.

    Args:
        octets: the certificate with that one subkey, as far as the signatures on it.
        bindings: the newest first.
    """
    low, high = 1, len(bindings)
    while low < high:
        middle = (low + high) // 2
        if _is_taken(octets + b"".join(one.octets for one in bindings[:middle])):
            high = middle
        else:
            low = middle + 1
    return bindings[low - 1]


def _is_taken(certificate: bytes) -> bool:
    """Of a certificate with one subkey; the primary key may encrypt, too."""
    try:
        taken = _taken(sequoia.certificate(certificate))
    except sequoia.Failed:
        return False
    subkeys = (one for one in walk(certificate) if one.tag == Tag.PUBLIC_SUBKEY)
    return any(locking.key_id(one.body) in taken for one in subkeys)
