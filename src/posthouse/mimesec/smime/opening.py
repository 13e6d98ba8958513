"""Reading EnvelopedData and AuthEnvelopedData with private keys of ours, and CompressedData.

Whoever sends a message can learn nothing from how it fails (Bleichenbacher's and the padding
attacks): a key that does not come out right is replaced by a random one, and all that follows ends
with one and the same reason.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from posthouse.mimesec.smime import algorithms, certificates, ciphers, key_agreement
from posthouse.mimesec.smime.algorithms import UnsupportedForm
from posthouse.mimesec.smime.capabilities import Cipher
from posthouse.mimesec.smime.checking import is_meant
from posthouse.mimesec.smime.ciphers import Undecipherable
from posthouse.mimesec.smime.identity import Identity
from posthouse.mimesec.smime.structures import (
    Compressed,
    IssuerSerial,
    KeyAgreement,
    KeyTransport,
    Recipient,
    Sealed,
)

TRIED_MAX: Final = 5
"""Private key operations for one message; a sender may name one recipient many times."""
NAMED_MAX: Final = 100
"""Recipients that are listed."""
UNPACKED_OCTETS_MAX: Final = 100 * 1024 * 1024
UNPACKED_RATIO_MAX: Final = 200
UNPACKED_OCTETS_FREE: Final = 1024 * 1024
"""Up to here no ratio is looked at."""
ZLIB: Final = "1.2.840.113549.1.9.16.3.8"

FAILED: Final = "it was changed on its way, or was not made for the key that it names"
NO_KEY: Final = "it is not encrypted to any of the keys at hand"


class CannotOpen(Exception):
    """`str()` says why in plain words."""


def open_sealed(sealed: Sealed, cipher: Cipher, identities: Sequence[Identity]) -> bytes:
    """The content.

    Raises:
        CannotOpen: with one reason for everything that depends on a private key.
    """
    fitting = _fitting(sealed, identities)
    if not fitting:
        raise CannotOpen(NO_KEY)
    refused = ""
    for recipient, identity in fitting:
        try:
            key = _content_key(recipient, identity, cipher.key_octets)
            return ciphers.decrypt(sealed, cipher, key)
        except Undecipherable:
            continue
        except UnsupportedForm as error:  # what everybody sees who has the message
            refused = str(error)
    raise CannotOpen(refused or FAILED)


def _fitting(sealed: Sealed, identities: Sequence[Identity]) -> list[tuple[Recipient, Identity]]:
    """Each recipient that is one of ours, in the order of the message; serial numbers and key ids
    lead there, so the cost is not their product."""
    by_serial: dict[int | bytes, list[Identity]] = {}
    for identity in identities:
        by_serial.setdefault(identity.certificate.serial, []).append(identity)
        by_serial.setdefault(identity.certificate.key_identifier, []).append(identity)
    found: list[tuple[Recipient, Identity]] = []
    for recipient in sealed.recipients:
        who = recipient.recipient
        asked = who.serial if isinstance(who, IssuerSerial) else who.octets
        for identity in by_serial.get(asked, ()):
            if is_meant(who, identity.certificate) and len(found) < TRIED_MAX:
                found.append((recipient, identity))
    return found


def _content_key(recipient: Recipient, identity: Identity, key_octets: int) -> bytes:
    """The key of the content, or random octets of the same length.

    Raises:
        UnsupportedForm: for the algorithms that are named, whatever the key is.
    """
    other = ciphers.fresh(key_octets)  # made in any case, so that time says nothing
    try:
        if isinstance(recipient, KeyAgreement):
            key = key_agreement.unwrap(identity.key, recipient)
        else:
            key = _transported(recipient, identity)
    except (ValueError, TypeError, InvalidUnwrap):
        return other
    return key if len(key) == key_octets else other


def _transported(recipient: KeyTransport, identity: Identity) -> bytes:
    key = identity.key
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("another kind of key")
    if len(recipient.key) != (key.key_size + 7) // 8:
        raise ValueError("another length than the key's")
    how: padding.AsymmetricPadding
    if recipient.algorithm.oid == algorithms.RSA_OAEP:
        digest, mask = algorithms.oaep_digests(
            recipient.algorithm.parameters or b"\x30\0"  # defaults are SHA-1
        )
        how = padding.OAEP(padding.MGF1(mask.hash()), digest.hash(), None)
    elif recipient.algorithm.oid == algorithms.RSA_ENCRYPTION:
        how = padding.PKCS1v15()
    else:
        raise UnsupportedForm(f"the key transport {recipient.algorithm.oid} is not known")
    return key.decrypt(recipient.key, how)


def why_no_recipient(sealed: Sealed) -> str:
    if sealed.others and not sealed.recipients:
        return "it is encrypted to a password or a secret key, which is not read"
    return "" if sealed.recipients else "it names no recipient"


def recipients_named(sealed: Sealed) -> tuple[str, ...]:
    """Key ids, or "serial of issuer"."""
    named: dict[str, None] = {}
    for recipient in sealed.recipients[:NAMED_MAX]:
        who = recipient.recipient
        if isinstance(who, IssuerSerial):
            named[f"{who.serial:X} of {certificates.shown_name(who.issuer)}"] = None
        else:
            named[who.octets[:64].hex().upper()] = None
    return tuple(named)


def unpacked(found: Compressed, *, octets_max: int = UNPACKED_OCTETS_MAX) -> bytes:
    """The content of CompressedData (RFC 3274), as far as it is no bomb.

    Raises:
        CannotOpen: it is one, or is no such data.
    """
    if found.algorithm != ZLIB:
        raise CannotOpen(f"it is packed by {found.algorithm}, which is not known")
    most = max(UNPACKED_OCTETS_FREE, len(found.content) * UNPACKED_RATIO_MAX)
    most = min(most, UNPACKED_OCTETS_MAX, octets_max)
    unpacker = zlib.decompressobj()
    try:
        octets = unpacker.decompress(found.content, most + 1)
    except zlib.error:
        raise CannotOpen("what is packed in it is damaged") from None
    if len(octets) > most:
        raise CannotOpen("it unpacks to far more than it is")
    if not unpacker.eof:
        raise CannotOpen("what is packed in it is not whole")
    return octets
