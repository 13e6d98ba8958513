"""What an encrypted message holds, once there is a session key: decrypted, proven unchanged,
unpacked with a bound, and taken apart (RFC 9580 §5.6, §5.9, §5.13, §10.3)."""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha1
from hmac import compare_digest
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from posthouse.mimesec.pgp.packets import BadPackets, Packet, Tag, walk
from posthouse.mimesec.pgp.session import KEY_OCTETS, NotForUs, SessionKey
from posthouse.mimesec.pgp.structure import (
    SIGNATURES_MAX,
    SignaturePacket,
    signature_packets,
)

CONTENT_MAX: Final = 256 * 1024 * 1024
"""Octets of a message when it is unpacked, with what is packed in it once more."""
NESTING_MAX: Final = 3
"""Packings inside each other; programs write one."""
CHUNK_MAX: Final = 16
"""Of 4 MiB (§5.13.2)."""
_MDC_OCTETS: Final = 22
_BLOCK: Final = 16
_TAG_OCTETS: Final = 16
_SALT_OCTETS: Final = 32
_OCB: Final = 2
_NONCES: Final = {_OCB: 15, 3: 12}  # OCB and GCM; EAX is left to the library
# Plain text, and its older names: their content is the message all the same.
_FORMATS: Final = frozenset(b"btuml1")


class Content(msgspec.Struct, frozen=True, kw_only=True):
    octets: bytes
    signatures: tuple[SignaturePacket, ...]
    """On it; nothing is said of their worth."""


def decrypted(container: Packet, key: SessionKey) -> bytes:
    """The packets inside, proven to be what was encrypted.

    Raises:
        NotForUs: it is of algorithms that are not known here.
        BadPackets: it was changed, is cut off, or the key is another one's.
    """
    version = container.body[0]
    if container.tag == Tag.SEIPD and version == 1:
        return _with_mdc(container.body[1:], key)
    if container.tag == Tag.SEIPD and version == 2:
        return _by_aead(container, key)
    if container.tag == Tag.AEAD and version == 1:
        return _by_old_ocb(container, key)
    raise NotForUs


def content(packets: bytes, *, octets_max: int = CONTENT_MAX) -> Content:
    """The one literal of decrypted packets, and the signatures around it.

    Args:
        octets_max: of all that is unpacked.

    Raises:
        BadPackets: there is none, there are several, or it is too large.
    """
    literal: Packet | None = None
    signatures = bytearray()
    count = 0
    for packet in _unpacked(packets, 0, octets_max):
        if packet.tag == Tag.SIGNATURE:
            count += 1
            if count > SIGNATURES_MAX:
                raise BadPackets(f"it has more than {SIGNATURES_MAX} signatures")
            signatures += packet.octets
        elif packet.tag == Tag.LITERAL:
            if literal is not None:
                raise BadPackets("there is more than one text in it")
            literal = packet
        elif packet.tag != Tag.ONE_PASS and not packet.is_filling:
            raise BadPackets("what is in it is no message")
    if literal is None:
        raise BadPackets("there is no text in it")
    found = signature_packets(bytes(signatures)) if signatures else ()
    return Content(octets=_text(literal.body), signatures=found)


# --- decrypting ---


def _with_mdc(sealed: bytes, key: SessionKey) -> bytes:
    """§5.13.1: CFB, and a hash of all in front of it at the end."""
    if key.cipher not in KEY_OCTETS or len(key.octets) != KEY_OCTETS[key.cipher]:
        raise NotForUs
    if len(sealed) < _BLOCK + 2 + _MDC_OCTETS:
        raise BadPackets("it is cut off")
    decryptor = Cipher(AES(key.octets), CFB(bytes(_BLOCK))).decryptor()
    plain = decryptor.update(sealed) + decryptor.finalize()
    hashed, check = plain[:-20], plain[-20:]
    digest = sha1(hashed, usedforsecurity=False).digest()
    # Nothing else of it is looked at before, so nobody learns anything by changing it.
    if not compare_digest(digest, check) or plain[-_MDC_OCTETS:-20] != b"\xd3\x14":
        raise BadPackets("it was changed on its way, or is damaged")
    return plain[_BLOCK + 2 : -_MDC_OCTETS]


def _by_aead(container: Packet, key: SessionKey) -> bytes:
    """§5.13.2: chunks, each with a tag, and one that says how many octets there are in all."""
    head = container.body[:4]
    cipher, mode, chunk = head[1], head[2], head[3]
    if cipher not in KEY_OCTETS or mode not in _NONCES or len(key.octets) != KEY_OCTETS[cipher]:
        raise NotForUs
    if chunk > CHUNK_MAX:
        raise BadPackets("its chunks are larger than RFC 9580 allows")
    salt, sealed = container.body[4 : 4 + _SALT_OCTETS], container.body[4 + _SALT_OCTETS :]
    if len(salt) < _SALT_OCTETS or len(sealed) < 2 * _TAG_OCTETS:
        raise BadPackets("it is cut off")
    about = bytes((0xC0 | Tag.SEIPD,)) + head
    size, nonce_size = KEY_OCTETS[cipher], _NONCES[mode]
    derived = HKDF(algorithm=SHA256(), length=size + nonce_size - 8, salt=salt, info=about).derive(
        key.octets
    )
    aead = AESOCB3(derived[:size]) if mode == _OCB else AESGCM(derived[:size])
    start = derived[size:]
    return _joined(
        aead,
        sealed,
        octets=1 << chunk + 6,
        nonce=lambda number: start + number.to_bytes(8, "big"),
        about=lambda number: about,
    )


def _by_old_ocb(container: Packet, key: SessionKey) -> bytes:
    """The packet 20 that GnuPG and RNP write to keys that ask for it, as drafts of RFC 9580 had it
    and LibrePGP has: the session key itself, and the number of a chunk in nonce and header."""
    head = container.body[:4]
    chunk = head[3]
    # The number of the cipher is said twice, and has to be the same.
    is_key = head[1] == key.cipher and len(key.octets) == KEY_OCTETS.get(head[1], 0)
    if not is_key or head[2] != _OCB:
        raise NotForUs
    if chunk > CHUNK_MAX:
        raise BadPackets("its chunks are larger than is allowed")
    size = _NONCES[_OCB]
    start, sealed = container.body[4 : 4 + size], container.body[4 + size :]
    if len(start) < size or len(sealed) < 2 * _TAG_OCTETS:
        raise BadPackets("it is cut off")
    low = int.from_bytes(start[-8:], "big")
    about = bytes((0xC0 | Tag.AEAD,)) + head
    return _joined(
        AESOCB3(key.octets),
        sealed,
        octets=1 << chunk + 6,
        nonce=lambda number: start[:-8] + (low ^ number).to_bytes(8, "big"),
        about=lambda number: about + number.to_bytes(8, "big"),
    )


def _joined(
    aead: AESOCB3 | AESGCM,
    sealed: bytes,
    *,
    octets: int,
    nonce: Callable[[int], bytes],
    about: Callable[[int], bytes],
) -> bytes:
    """Chunks with their tags, and the tag of nothing that says how many octets there are.

    Args:
        octets: of a chunk.
        nonce, about: of the chunk of a number, from 0.
    """
    step = octets + _TAG_OCTETS
    chunks, last = sealed[:-_TAG_OCTETS], sealed[-_TAG_OCTETS:]
    found: list[bytes] = []
    try:
        for at in range(0, len(chunks), step):
            number = len(found)
            found.append(aead.decrypt(nonce(number), chunks[at : at + step], about(number)))
        plain = b"".join(found)
        number = len(found)
        aead.decrypt(nonce(number), last, about(number) + len(plain).to_bytes(8, "big"))
    except (InvalidTag, ValueError):
        raise BadPackets("it was changed on its way, or is damaged") from None
    return plain


# --- taking apart ---


def _unpacked(packets: bytes, depth: int, octets_max: int) -> Iterator[Packet]:
    is_packed = False
    for packet in walk(packets):
        if packet.tag != Tag.COMPRESSED:
            yield packet
            continue
        if depth == NESTING_MAX:
            raise BadPackets(f"it is packed more than {NESTING_MAX} times")
        if is_packed:  # each of many could be a bomb
            raise BadPackets("it is packed in more than one piece")
        is_packed = True
        inside = _inflated(packet.body, octets_max)
        yield from _unpacked(inside, depth + 1, octets_max - len(inside))


def _inflated(body: bytes, octets_max: int) -> bytes:
    method, packed = body[:1], body[1:]
    if method == b"\x00":
        return packed
    if method not in (b"\x01", b"\x02", b"\x03"):
        raise BadPackets("it is packed in a way that is not known here")
    try:
        if method == b"\x03":
            plain = bz2.BZ2Decompressor().decompress(packed, octets_max + 1)
        else:
            unpacker = zlib.decompressobj(-15 if method == b"\x01" else 15)
            plain = unpacker.decompress(packed, octets_max + 1)
    except (zlib.error, OSError, ValueError):
        raise BadPackets("it cannot be unpacked") from None
    if len(plain) > octets_max:
        raise BadPackets("it is larger when it is unpacked than is taken here")
    return plain


def _text(body: bytes) -> bytes:
    """Behind format, file name and date of a literal, none of which is signed (§5.9)."""
    if len(body) < 6 or body[0] not in _FORMATS or len(body) < 6 + body[1]:
        raise BadPackets("the text in it is malformed")
    return body[6 + body[1] :]
