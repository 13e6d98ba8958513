"""DKIM for what the library sends, by the server's own signer (RFC 6376, RFC 8463).

A key is read once and kept; a file that has changed is read again. Nothing of a key is ever in an
error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from posthouse.mailauth.dkim.grammar import ED25519, RSA
from posthouse.mailauth.dkim.sign import SigningKey, SignOptions, load_private, sign
from posthouse.message.address import AddressError, domain_to_ascii
from posthouse.message.fields import read_section
from posthouse.sending.errors import MessageError
from posthouse.sending.options import Dkim

__all__ = ["dkim_fields", "load_key"]

KEYS_KEPT: Final = 1_024
KEY_OCTETS_MAX: Final = 64 << 10
_FIELD: Final = "dkim"
_PEM: Final = b"-----BEGIN "
_SELECTOR: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.\-]{0,61}[A-Za-z0-9])?")
_FIELD_NAME: Final = re.compile(r"[!-9;-~]{1,76}")


def dkim_fields(octets: bytes, keys: Sequence[Dkim], *, now_unix_s: int) -> bytes:
    """The DKIM-Signature fields of a whole message, one for each key, to be put in front of it.

    An RSA key takes a third of a millisecond, and lets other threads run meanwhile.

    Raises:
        MessageError: a key cannot be read or used; the text names selector and domain.
    """
    section = read_section(octets)
    fields = []
    for (names, expires_s), group in groupby(keys, key=_how):
        loaded = [load_key(one) for one in group]
        options = SignOptions(header_fields=names)
        fields.append(
            sign(section, loaded, now_unix_s=now_unix_s, expires_s=expires_s, options=options)
        )
    return b"".join(fields)


def load_key(given: Dkim) -> SigningKey:
    """The key, checked; transports call it when they are made, so that a wrong one is known then.

    Raises:
        MessageError: as `dkim_fields`.
    """
    try:
        domain = domain_to_ascii(given.domain.rstrip("."))
    except AddressError:
        raise _fault(given, f"{given.domain!r} is no domain") from None
    if _SELECTOR.fullmatch(given.selector) is None:
        raise _fault(given, f"{given.selector!r} is no selector")
    names = [name.lower() for name in given.header_fields]
    if names and "from" not in names:
        raise _fault(given, "header_fields has to have From in it (RFC 6376 §5.4)")
    for name in given.header_fields:
        if _FIELD_NAME.fullmatch(name) is None or ";" in name:
            raise _fault(given, f"{name!r} in header_fields is no field name")
    if given.expires_s is not None and given.expires_s <= 0:
        raise _fault(given, "expires_s has to be more than 0")
    private = _private(given)
    algorithm = ED25519 if isinstance(private, Ed25519PrivateKey) else RSA
    return SigningKey(domain=domain, selector=given.selector, algorithm=algorithm, private=private)


def _how(key: Dkim) -> tuple[tuple[str, ...], int | None]:
    return tuple(key.header_fields), key.expires_s


def _private(given: Dkim) -> RSAPrivateKey | Ed25519PrivateKey:
    key = given.key
    try:
        if isinstance(key, str) and key.lstrip().startswith(_PEM.decode()):
            return _parsed(key.strip().encode())
        if isinstance(key, bytes):
            return _parsed(key)
        if not isinstance(key, (str, Path)):
            raise _fault(given, f"the key is {type(key).__name__}")
        path = Path(key)
        state = path.stat()
        return _from_file(path, state.st_mtime_ns, state.st_size)
    except FileNotFoundError:
        raise _fault(given, f"there is no key file {str(key)[:200]!r}") from None
    except OSError as error:
        said = error.strerror or type(error).__name__
        raise _fault(given, f"the key file cannot be read: {said}") from None
    except (ValueError, UnicodeError) as error:
        raise _fault(given, f"{error}") from None


@lru_cache(maxsize=KEYS_KEPT)
def _from_file(path: Path, _mtime_ns: int, _size: int) -> RSAPrivateKey | Ed25519PrivateKey:
    with path.open("rb") as file:
        return _parsed(file.read(KEY_OCTETS_MAX + 1))


@lru_cache(maxsize=KEYS_KEPT)
def _parsed(octets: bytes) -> RSAPrivateKey | Ed25519PrivateKey:
    """Raises ValueError, with nothing of the key in it."""
    if len(octets) > KEY_OCTETS_MAX:
        raise ValueError("this is too big for a key")
    if _PEM not in octets:
        return load_private(octets)
    try:
        found = load_pem_private_key(octets, None)
    except TypeError:
        raise ValueError("the key is encrypted; give one without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("there is no private key in this PEM") from None
    # Through the server's own check of kinds and sizes.
    return load_private(found.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


_HINT: Final = (
    "a key is PEM or DER, or the path of a file with it: RSA of 1024 bits or more, or Ed25519"
)


def _fault(given: Dkim, words: str) -> MessageError:
    where = f"the DKIM key of selector {given.selector!r}, domain {given.domain!r}"
    return MessageError(f"{where}: {words}", field=_FIELD, hint=_HINT)
