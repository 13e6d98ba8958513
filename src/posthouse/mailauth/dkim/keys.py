"""Key records (RFC 6376 §3.6.1, RFC 8463 §4.2): text to a public key, and a public key to text."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from posthouse.mailauth.dkim.grammar import (
    ED25519,
    RSA,
    DkimSyntaxError,
    base64,
    read_tags,
    shown,
    words,
)

RECORD_OCTETS_MAX: Final = 65_535
ED25519_OCTETS: Final = 32
_KEY_OCTETS_MAX: Final = 4096
"""Of a public key, so that nothing huge is given to OpenSSL; RSA of 16,384 bits has 2,100."""
_EXPONENT_BITS_MAX: Final = 32
"""A larger one only makes verifying dear; nearly everybody's is 65537."""
SHOWN_OCTETS_MAX: Final = 1024
_CACHED_OCTETS_MAX: Final = 4096
_CACHE_RECORDS: Final = 2048
_ALGORITHMS: Final = {"rsa": RSA, "ed25519": ED25519}

PADDING: Final = PKCS1v15()
HASH: Final = Prehashed(SHA256())


class Key(msgspec.Struct, frozen=True):
    """A key that may be used for mail; whether it is large enough is the caller's to say."""

    algorithm: str
    """Of the signatures it verifies."""
    public: RSAPublicKey | Ed25519PublicKey
    bits: int
    is_testing: bool
    """t=y"""
    is_strict: bool
    """t=s: i= has to have the very domain of d=."""

    def verifies(self, signature: bytes, digest: bytes) -> bool:
        """Whether `signature` was made of the SHA-256 hash `digest` (RFC 8463 §3 signs the hash,
        too)."""
        try:
            if isinstance(self.public, RSAPublicKey):
                self.public.verify(signature, digest, PADDING, HASH)
            else:
                self.public.verify(signature, digest)
        except InvalidSignature:
            return False
        return True

    def signed_digest(self, signature: bytes) -> bytes | None:
        """The hash that was signed, where the signature tells it: made with this key, of something
        else."""
        if isinstance(self.public, RSAPublicKey):
            try:
                return self.public.recover_data_from_signature(signature, PADDING, SHA256())
            except (InvalidSignature, ValueError, UnsupportedAlgorithm):
                return None
        return None


class Unusable(msgspec.Struct, frozen=True):
    """A record that gives no key, and why."""

    reason: str
    is_testing: bool = False


def read_key(record: bytes, *, octets_max: int = RECORD_OCTETS_MAX) -> Key | Unusable:
    """The key of a TXT record, made once for records that come again."""
    if len(record) > octets_max:
        return Unusable(f"the key record is longer than {octets_max} octets")
    if len(record) > _CACHED_OCTETS_MAX:
        return _read(record)
    return _cached(record)


def _read(record: bytes) -> Key | Unusable:
    try:
        tags = read_tags(record, octets_max=RECORD_OCTETS_MAX)
    except DkimSyntaxError as error:
        return Unusable(f"the key record is no tag list: {error}")
    flags = words(tags.get("t", ""))
    is_testing = "y" in flags
    try:
        return _key(tags, is_testing=is_testing, is_strict="s" in flags)
    except DkimSyntaxError as error:
        return Unusable(str(error), is_testing)


_cached: Final[Callable[[bytes], Key | Unusable]] = lru_cache(maxsize=_CACHE_RECORDS)(_read)


def _key(tags: dict[str, str], *, is_testing: bool, is_strict: bool) -> Key:
    if "v" in tags and (tags["v"] != "DKIM1" or next(iter(tags)) != "v"):
        raise DkimSyntaxError("the record is none of DKIM's: v=DKIM1 has to come first")
    if "p" not in tags:
        raise DkimSyntaxError("the key record has no p=")
    if "h" in tags and "sha256" not in words(tags["h"]):
        raise DkimSyntaxError(f'the key is not for SHA-256: h= is "{shown(tags["h"])}"')
    if "s" in tags and not {"*", "email"}.intersection(words(tags["s"])):
        raise DkimSyntaxError(f'the key is not for mail: s= is "{shown(tags["s"])}"')
    kind = tags.get("k", "rsa")
    if kind not in _ALGORITHMS:
        raise DkimSyntaxError(f'the key is of a kind that is not known: "{shown(kind)}"')
    if not tags["p"]:
        raise DkimSyntaxError("the key is revoked (p= is empty)")
    octets = base64("p", tags["p"])
    public, bits = _ed25519(octets) if kind == "ed25519" else _rsa(octets)
    return Key(_ALGORITHMS[kind], public, bits, is_testing, is_strict)


def _ed25519(octets: bytes) -> tuple[Ed25519PublicKey, int]:
    if len(octets) != ED25519_OCTETS:
        raise DkimSyntaxError(
            f"p= has {len(octets)} octets, an Ed25519 key {ED25519_OCTETS} (RFC 8463 §4.2)"
        )
    try:
        return Ed25519PublicKey.from_public_bytes(octets), 256
    except (ValueError, UnsupportedAlgorithm):
        raise DkimSyntaxError("p= is no Ed25519 key") from None


def _rsa(octets: bytes) -> tuple[RSAPublicKey, int]:
    """Of an RSAPublicKey, or as nearly everybody publishes it, of a SubjectPublicKeyInfo."""
    if len(octets) > _KEY_OCTETS_MAX:
        raise DkimSyntaxError(
            f"p= has {len(octets)} octets, more than any RSA key that is verified"
        )
    try:
        public = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise DkimSyntaxError("p= is no RSA key") from None
    if not isinstance(public, RSAPublicKey):
        raise DkimSyntaxError("p= is a key of another kind than k= says")
    numbers = public.public_numbers()
    if numbers.e < 3 or numbers.e % 2 == 0:
        raise DkimSyntaxError("the exponent of the RSA key is not odd, or less than 3")
    if numbers.e.bit_length() > _EXPONENT_BITS_MAX:
        raise DkimSyntaxError(f"the exponent of the RSA key has over {_EXPONENT_BITS_MAX} bits")
    return public, public.key_size


def _printable(record: bytes) -> str:
    cut = record[: SHOWN_OCTETS_MAX + 1].decode("utf-8", "replace")
    text = "".join(each if each.isprintable() else "?" for each in cut)
    return text if len(text) <= SHOWN_OCTETS_MAX else f"{text[:SHOWN_OCTETS_MAX]}…"


_cached_text: Final[Callable[[bytes], str]] = lru_cache(maxsize=_CACHE_RECORDS)(_printable)


def record_text(record: bytes) -> str:
    """A record as evidence: printable, and cut."""
    return _printable(record) if len(record) > _CACHED_OCTETS_MAX else _cached_text(record)


def key_record(
    algorithm: str, public: bytes, *, is_testing: bool = False, is_revoked: bool = False
) -> str:
    """The text of a TXT record; over 255 octets it has to be cut into several strings.

    Args:
        public: what p= holds before base64: a SubjectPublicKeyInfo for RSA, the 32 octets of an
            Ed25519 key.
    """
    kind = next(kind for kind, each in _ALGORITHMS.items() if each == algorithm)
    flags = "t=y; " if is_testing else ""
    shown_key = "" if is_revoked else b64encode(public).decode()
    return f"v=DKIM1; k={kind}; {flags}p={shown_key}"
