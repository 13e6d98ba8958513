"""A certificate for one address: what is published tells nothing else (RFC 9580 §10.1)."""

from __future__ import annotations

from posthouse.mimesec.pgp.keys import PublicKey, addresses_in
from posthouse.mimesec.pgp.packets import BadPackets, Packet, Tag, walk
from posthouse.mimesec.pgp.structure import SignaturePacket, signature_packets
from posthouse.mimesec.ports import ProtectionError

_NAMES = frozenset({Tag.USER_ID, Tag.USER_ATTRIBUTE})
_KEYS = frozenset({Tag.PUBLIC_KEY, Tag.PUBLIC_SUBKEY})


def minimal(public: PublicKey, address: str) -> bytes:
    """The primary key, the user ids of that address, all subkeys, and the key's own signatures on
    them: certifications by others are left out.

    Raises:
        ProtectionError: the key does not name the address.
    """
    if address not in public.addresses:
        raise ProtectionError(f"the key {public.fingerprint} does not name {address}")
    kept: list[bytes] = []
    is_kept = True
    for packet in walk(public.octets):
        if packet.tag in _KEYS:
            is_kept = True
        elif packet.tag in _NAMES:
            is_kept = packet.tag == Tag.USER_ID and _names(packet, address)
        elif packet.tag == Tag.SIGNATURE and not _is_own(packet, public):
            continue
        if is_kept:
            kept.append(packet.octets)
    return b"".join(kept)


def _names(packet: Packet, address: str) -> bool:
    return address in addresses_in([packet.body.decode("utf-8", "replace")])


def _is_own(packet: Packet, public: PublicKey) -> bool:
    """By what it names as its issuer: a false one is no good signature, and harms nobody."""
    try:
        [signature] = signature_packets(packet.octets)
    except BadPackets:
        return False
    return _issuer(signature, public.fingerprint)


def _issuer(signature: SignaturePacket, fingerprint: str) -> bool:
    return any(
        one == fingerprint or fingerprint.endswith(one) or fingerprint.startswith(one)
        for one in signature.issuers
    )
