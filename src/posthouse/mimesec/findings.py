"""What is known about the protection of a message, in words that promise no more than was proven
(H65): a signature covers a part, decryption may be unauthenticated, and both are said."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

import msgspec


class Scheme(Enum):
    SMIME = "S/MIME"
    OPENPGP = "OpenPGP"


class SignatureResult(Enum):
    """Only VALID may be shown as a signature of its signer; the others say what is wrong."""

    VALID = "valid"  # the octets are the signer's, the key is trusted and fits From
    MISMATCH = "mismatch"  # good, but of a key that names another address than From does
    UNTRUSTED = "untrusted"  # good, but nobody vouches for the key
    EXPIRED = "expired"  # the key or certificate was not valid then
    REVOKED = "revoked"
    NO_KEY = "no key"  # the signer's key is not at hand, so nothing is known
    INVALID = "invalid"  # the octets were changed, or another key made it
    UNSUPPORTED = "unsupported"  # an algorithm or a form that is not accepted (SHA-1, MD5, …)


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature on a MIME entity."""

    scheme: Scheme
    result: SignatureResult
    reason: str = ""
    """Why it is not VALID, in words for people."""
    addresses: tuple[str, ...] = ()
    """That the key or certificate is for: with VALID and MISMATCH only those that somebody vouches
    for, with other results those that it names."""
    key: str = ""
    """The fingerprint in upper-case hexadecimal: of an OpenPGP primary key, or the SHA-256 of a
    certificate."""
    algorithm: str = ""
    """ "RSA-PSS with SHA-256", "Ed25519"."""
    made_at: datetime | None = None
    """As the signer claims."""
    certificates: tuple[bytes, ...] = ()
    """What came with it: DER certificates, the signer's first; empty for OpenPGP."""
    preferred: str = ""
    """The fingerprint of the one among them that the signer asks to be encrypted to."""
    reads: tuple[str, ...] = ()
    """What the signer's program decrypts, best first, where it says so: "AES-256-GCM"."""


class Encryption(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of encryption, opened or not."""

    scheme: Scheme
    is_opened: bool
    is_authenticated: bool = False
    """AEAD, or OpenPGP's MDC: nobody changed it on its way. CBC of S/MIME is not."""
    reason: str = ""
    """Why it was not opened, in words for people."""
    algorithm: str = ""
    """ "AES-256-GCM"."""
    recipients: tuple[str, ...] = ()
    """Key ids, or "serial of issuer", that the message names."""
