"""What messages and signatures say of themselves before anything is decrypted or verified
(RFC 9580 §5.1, §5.2, §5.13, §10.3)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from posthouse.mimesec.pgp.packets import BadPackets, Packet, Tag, walk

RECIPIENTS_MAX: Final = 1_000
SIGNATURES_MAX: Final = 20
ANONYMOUS: Final = "0" * 16
"""The key id of a recipient who is not named (§5.1)."""
_OPEN: Final = frozenset({Tag.ONE_PASS, Tag.SIGNATURE, Tag.LITERAL, Tag.COMPRESSED})
CIPHERS: Final = {7: "AES-128", 8: "AES-192", 9: "AES-256", 10: "Twofish", 13: "Camellia-256"}
_AEADS: Final = {1: "EAX", 2: "OCB", 3: "GCM"}
HASHES: Final = {
    1: "MD5", 2: "SHA-1", 3: "RIPEMD-160", 8: "SHA-256", 9: "SHA-384", 10: "SHA-512",
    11: "SHA-224", 12: "SHA3-256", 14: "SHA3-512",
}  # fmt: skip
WEAK_HASHES: Final = frozenset({"MD5", "SHA-1", "RIPEMD-160"})
STRONG_HASHES: Final = frozenset(HASHES.values()) - WEAK_HASHES
_OF_CONTAINERS: Final[dict[tuple[int, int], int]] = {
    (Tag.SEIPD, 1): 3,
    (Tag.SEIPD, 2): 6,
    (Tag.AEAD, 1): 3,
}
"""The version of PKESK that each form of encryption has in front of it (§10.3.2.1)."""
ALGORITHMS: Final = {
    1: "RSA", 2: "RSA", 3: "RSA", 16: "ElGamal", 17: "DSA", 18: "ECDH", 19: "ECDSA", 22: "EdDSA",
    25: "X25519", 26: "X448", 27: "Ed25519", 28: "Ed448", 30: "ML-DSA-65+Ed25519",
    31: "ML-DSA-87+Ed448", 35: "ML-KEM-768+X25519", 36: "ML-KEM-1024+X448",
}  # fmt: skip


class SealedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """An encrypted message, from the outside."""

    recipients: tuple[str, ...]
    """Key ids of subkeys, upper-case hexadecimal; `ANONYMOUS` for who is not named."""
    algorithm: str
    """ "AES-256-OCB", or "CFB with MDC" where only the key tells the cipher."""
    session_keys: tuple[bytes, ...]
    """The bodies of the packets that hold it, one for each recipient."""
    container: Packet


class SignaturePacket(msgspec.Struct, frozen=True, kw_only=True):
    octets: bytes
    """The whole packet."""
    kind: int
    """0 of octets, 1 of text with line ends made CRLF (§5.2.1)."""
    hash_name: str
    algorithm: str
    issuers: tuple[str, ...] = ()
    """Fingerprints (40 or 64 digits) and key ids (16), as the packet names them; nothing proves
    them."""
    made_at: datetime | None = None
    expires_at: datetime | None = None
    why_unread: str = ""
    """In words, of a form that is not known here; then nothing else is told of it."""
    intended: tuple[str, ...] = ()
    """Fingerprints of the keys that the signer encrypted it to (§5.2.3.36); empty where it does not
    say."""
    key_lasts_s: int = 0
    """Since the key was made (§5.2.3.13); 0 for ever."""
    flags: int | None = None
    """What the key is for (§5.2.3.29), the first octet; None where it does not say."""


def is_in_the_open(octets: bytes) -> bool:
    """Whether a message begins with what only signs or packs. Raises BadPackets."""
    first = next((one for one in walk(octets) if not one.is_filling), None)
    return first is not None and first.tag in _OPEN


def sealed_message(octets: bytes) -> SealedMessage:
    """
    Raises:
        BadPackets: it is no encrypted message, or one that is not opened here: unauthenticated
            encryption, something behind it, several messages.
    """
    bodies: list[bytes] = []
    has_password = False
    container: Packet | None = None
    for packet in walk(octets):
        if packet.is_filling:
            continue
        if container is not None:
            raise BadPackets("something stands behind the encrypted message")
        if packet.tag == Tag.PKESK:
            bodies.append(packet.body)
            if len(bodies) > RECIPIENTS_MAX:
                raise BadPackets(f"it has more than {RECIPIENTS_MAX} recipients")
        elif packet.tag == Tag.SKESK:
            has_password = True
        elif packet.tag in (Tag.SEIPD, Tag.SED, Tag.AEAD):
            container = packet
        else:
            raise BadPackets("it is no encrypted message")
    if container is None:
        raise BadPackets("it is no encrypted message")
    algorithm = _container(container)
    version = _OF_CONTAINERS[container.tag, container.body[0]]
    session_keys = tuple(one for one in bodies if one[:1] == bytes((version,)))
    if not session_keys:
        raise BadPackets(
            "it is encrypted with a password" if has_password else "it names no recipient"
        )
    return SealedMessage(
        recipients=tuple(map(_recipient, session_keys)),
        algorithm=algorithm,
        session_keys=session_keys,
        container=container,
    )


def _container(packet: Packet) -> str:
    version = packet.body[0] if packet.body else 0
    if packet.tag == Tag.SED:
        raise BadPackets(
            "its encryption has no protection against changes (no MDC), so it is not opened"
        )
    if packet.tag == Tag.SEIPD and version == 1:
        return "CFB with MDC"
    # The second is what GnuPG and RNP had before RFC 9580 settled on the first.
    if (packet.tag, version) in ((Tag.SEIPD, 2), (Tag.AEAD, 1)) and len(packet.body) > 3:
        cipher, mode = CIPHERS.get(packet.body[1]), _AEADS.get(packet.body[2])
        is_known = mode == "OCB" or (mode is not None and packet.tag == Tag.SEIPD)
        if cipher is not None and is_known:
            return f"{cipher}-{mode}"
    raise BadPackets("its form of encryption is not known here")


def _recipient(body: bytes) -> str:
    """Of a PKESK, version 3 or 6."""
    if len(body) >= 9 and body[0] == 3:
        return body[1:9].hex().upper()
    if len(body) >= 2 and body[0] == 6:
        size = body[1]
        if size == 0:
            return ANONYMOUS
        version, fingerprint = body[2:3], body[3 : 2 + size]
        if len(fingerprint) == size - 1:
            short = fingerprint[:8] if version == b"\x06" else fingerprint[-8:]
            return short.hex().upper().rjust(16, "0")
    raise BadPackets("a recipient of it cannot be read")


def signature_packets(octets: bytes) -> tuple[SignaturePacket, ...]:
    """
    Raises:
        BadPackets: there is something else than signatures, none, or too many.
    """
    found: list[SignaturePacket] = []
    for packet in walk(octets):
        if packet.is_filling:
            continue
        if packet.tag != Tag.SIGNATURE:
            raise BadPackets("it is no signature")
        if len(found) == SIGNATURES_MAX:
            raise BadPackets(f"it has more than {SIGNATURES_MAX} signatures")
        found.append(_signature(packet))
    if not found:
        raise BadPackets("it is no signature")
    return tuple(found)


class _Cursor:
    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    def take(self, size: int) -> bytes:
        if size > len(self._octets) - self._at:
            raise BadPackets("a signature is cut off")
        self._at += size
        return self._octets[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._octets)


def _signature(packet: Packet) -> SignaturePacket:
    cursor = _Cursor(packet.body)
    version = cursor.number(1)
    if version == 3:
        return _old_signature(packet, cursor)
    if version not in (4, 6):  # the others around it count all the same (§5.2)
        why = f"a signature of version {version} is not known here"
        return SignaturePacket(
            octets=packet.octets, kind=0, hash_name="", algorithm="", why_unread=why
        )
    kind, algorithm, hash_number = cursor.number(1), cursor.number(1), cursor.number(1)
    width = 2 if version == 4 else 4
    hashed = cursor.take(cursor.number(width))
    unhashed = cursor.take(cursor.number(width))
    made: int | None = None
    lasts = key_lasts = 0
    flags: int | None = None
    issuers: list[str] = []
    intended: list[str] = []
    for is_hashed, area in ((True, hashed), (False, unhashed)):
        for flagged, value in subpackets(area):
            number = flagged & 0x7F
            # What is not hashed anybody can write; a name of the issuer is but a hint.
            if number == 2 and is_hashed and len(value) == 4:
                made = int.from_bytes(value, "big")
            elif number == 3 and is_hashed and len(value) == 4:
                lasts = int.from_bytes(value, "big")
            elif number == 9 and is_hashed and len(value) == 4:
                key_lasts = int.from_bytes(value, "big")
            elif number == 27 and is_hashed:
                flags = int.from_bytes(value[:1], "big")
            elif number == 16 and len(value) == 8:
                issuers.append(value.hex().upper())
            elif number == 33 and len(value) in (21, 33):
                issuers.append(value[1:].hex().upper())
            elif number == 35 and is_hashed and len(value) in (21, 33):
                intended.append(value[1:].hex().upper())
    return SignaturePacket(
        octets=packet.octets,
        kind=kind,
        hash_name=HASHES.get(hash_number, f"hash {hash_number}"),
        algorithm=ALGORITHMS.get(algorithm, f"algorithm {algorithm}"),
        issuers=tuple(dict.fromkeys(issuers)),
        made_at=None if made is None else datetime.fromtimestamp(made, UTC),
        expires_at=datetime.fromtimestamp(made + lasts, UTC)
        if made is not None and lasts
        else None,
        intended=tuple(intended),
        key_lasts_s=key_lasts,
        flags=flags,
    )


def _old_signature(packet: Packet, cursor: _Cursor) -> SignaturePacket:
    """Version 3, of PGP of before 1998 and some programs since."""
    if cursor.number(1) != 5:
        raise BadPackets("a signature of version 3 is malformed")
    kind, made, issuer = cursor.number(1), cursor.number(4), cursor.take(8)
    algorithm, hash_number = cursor.number(1), cursor.number(1)
    return SignaturePacket(
        octets=packet.octets,
        kind=kind,
        hash_name=HASHES.get(hash_number, f"hash {hash_number}"),
        algorithm=ALGORITHMS.get(algorithm, f"algorithm {algorithm}"),
        issuers=(issuer.hex().upper(),),
        made_at=datetime.fromtimestamp(made, UTC),
        expires_at=None,
    )


def subpackets(area: bytes) -> list[tuple[int, bytes]]:
    """Number, with the flag of a critical one, and value (§5.2.3.7). Raises BadPackets."""
    cursor = _Cursor(area)
    found: list[tuple[int, bytes]] = []
    while not cursor.is_at_end:
        size = cursor.number(1)
        if 192 <= size < 255:
            size = (size - 192 << 8) + cursor.number(1) + 192
        elif size == 255:
            size = cursor.number(4)
        if size == 0:
            raise BadPackets("a signature is malformed")
        whole = cursor.take(size)
        found.append((whole[0], whole[1:]))
    return found
