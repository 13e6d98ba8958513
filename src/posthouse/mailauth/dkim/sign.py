"""Signing a message (RFC 6376 §5), and the keys for it (RFC 8301 §3, RFC 8463).

`sign` costs what RSA costs and little more: the body is hashed once and the header fields are put
into canonical form once, however many keys sign. RSA releases the interpreter's lock, so callers
may use `Workers`.

What is signed has to be what leaves: no field may be added that is signed as absent, and a message
with bare LF or CR has to be made one of CRLF before (RFC 6376 §5.3).
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from posthouse.mailauth.dkim.canonical import (
    Canonicalization,
    Fields,
    hash_body,
    relaxed_value,
)
from posthouse.mailauth.dkim.grammar import ED25519, RSA
from posthouse.mailauth.dkim.keys import HASH, PADDING, key_record
from posthouse.message.fields import HeaderSection

__all__ = [
    "NewKey",
    "SignOptions",
    "SigningKey",
    "generate",
    "key_record",
    "load_private",
    "public_octets",
    "sign",
]

FIELD_NAME: Final = b"DKIM-Signature"
COLUMNS_MAX: Final = 78
_RSA_BITS_MIN: Final = 1024  # RFC 8301 §3.2
_RSA_EXPONENT: Final = 65537

# RFC 6376 §5.4.1, and what decides how a message is shown. Each is signed as often as it stands;
# those of the first two groups are signed once more, so that none can be added (§8.15).
SEALED: Final = (
    *("From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
)
"""Signed also where they are absent."""
SEALED_IF_THERE: Final = ("Sender", "In-Reply-To", "References", "Autocrypt")
"""Mailing lists that otherwise change nothing add a Sender, and hosts add references."""
COVERED: Final = (
    *("Resent-Date", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Message-ID"),
    *("Content-ID", "Content-Description", "Content-Disposition", "Content-Language"),
    *("List-Id", "List-Help", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe"),
    *("List-Post", "List-Owner", "List-Archive", "Feedback-ID"),
)
_FROM: Final = b"from"
_NAMES: Final = tuple(
    (name, name.lower().encode(), more, is_always)
    for names, more, is_always in (
        (SEALED, 1, True),
        (SEALED_IF_THERE, 1, False),
        (COVERED, 0, False),
    )
    for name in names
)
_KNOWN: Final = frozenset(lower for _, lower, _, _ in _NAMES)


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """Signs for a domain; what it prints has nothing of the private key in it."""

    domain: str
    """A-labels in lower case."""
    selector: str
    algorithm: str
    """`grammar.RSA` or `grammar.ED25519`."""
    private: RSAPrivateKey | Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.selector!r} of {self.domain!r}, {self.algorithm})"

    __str__ = __repr__

    def signature(self, digest: bytes) -> bytes:
        """Of a SHA-256 hash."""
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(digest, PADDING, HASH)
        return self.private.sign(digest)


class SignOptions(msgspec.Struct, frozen=True, kw_only=True):
    header_how: Canonicalization = Canonicalization.RELAXED
    body_how: Canonicalization = Canonicalization.RELAXED
    identity: str = ""
    """i=: an address in the key's domain or below it, its domain in A-labels; "" leaves it out."""
    header_fields: tuple[str, ...] = ()
    """Names to sign instead of ours, From among them: each as often as it stands, or as it is
    named here where that is more, so that none can be added."""


DEFAULTS: Final = SignOptions()


def sign(
    section: HeaderSection,
    keys: Sequence[SigningKey],
    *,
    now_unix_s: int,
    expires_s: int | None,
    options: SignOptions = DEFAULTS,
) -> bytes:
    """A DKIM-Signature field for each key, to be put in front of the message of `section`.

    Args:
        expires_s: how long the signatures are good for; None for ever.

    Raises:
        ValueError: the message has no From, or `options.identity` is not within a key's domain.
    """
    names, listed = _names_of(section, options.header_fields)
    how = options.header_how
    chosen, _ = Fields(section).chosen(names, how)
    covered = sha256(b"".join(chosen))
    body = hash_body(section.octets, section.body, options.body_how)[None].digest
    middle = b"\r\n\tt=%d;" % now_unix_s
    if expires_s is not None:
        middle += b" x=%d;" % (now_unix_s + expires_s)
    middle += b"%b\r\n\tbh=%b;\r\n\tb=" % (listed, b64encode(body))
    fields = []
    for key in keys:
        value = _beginning(key, options) + middle
        state = covered.copy()
        if how is Canonicalization.RELAXED:
            state.update(b"dkim-signature:" + relaxed_value(value))
        else:
            state.update(FIELD_NAME + b":" + value)
        fields.append(_field(value, b64encode(key.signature(state.digest()))))
    return b"".join(fields)


def _field(value: bytes, signature: bytes) -> bytes:
    width = COLUMNS_MAX - 4
    lines = [signature[at : at + width] for at in range(0, len(signature), width)]
    return b"%b:%b%b\r\n" % (FIELD_NAME, value, b"\r\n\t ".join(lines))


def _names_of(section: HeaderSection, own: tuple[str, ...]) -> tuple[list[bytes], bytes]:
    if own:
        return _names_chosen(section, own)
    counts = Counter([field.name for field in section.fields if field.name in _KNOWN])
    if not counts[_FROM]:
        raise ValueError("a message without From cannot be signed (RFC 6376 §5.4)")
    return _listed(tuple(counts[lower] for _, lower, _, _ in _NAMES))


@lru_cache(maxsize=1024)
def _listed(counts: tuple[int, ...]) -> tuple[list[bytes], bytes]:
    """The names to sign, in order, and the folded h= of them, for how often each stands."""
    names = []
    for (name, _, more, is_always), count in zip(_NAMES, counts, strict=True):
        if count or is_always:
            names += [name] * (count + more)
    return _folded(names)


def _names_chosen(section: HeaderSection, own: tuple[str, ...]) -> tuple[list[bytes], bytes]:
    wanted = Counter(name.lower().encode() for name in own)
    counts = Counter([field.name for field in section.fields if field.name in wanted])
    if not counts[_FROM] or _FROM not in wanted:
        raise ValueError("From has to be there, and to be signed (RFC 6376 §5.4)")
    spelled = {name.lower().encode(): name for name in own}
    times = {lower: max(counts[lower], wanted[lower]) for lower in spelled}
    return _folded([name for lower, name in spelled.items() for _ in range(times[lower])])


def _folded(names: list[str]) -> tuple[list[bytes], bytes]:
    lines, line = [], "\r\n\th="
    for at, name in enumerate(names):
        item = name + (";" if at == len(names) - 1 else ":")
        if len(line) + len(item) > COLUMNS_MAX:
            lines.append(line)
            line = "\r\n\t "
        line += item
    lines.append(line)
    return [name.lower().encode() for name in names], "".join(lines).encode()


@lru_cache(maxsize=1024)
def _first_tags(algorithm: str, canonicalization: str, domain: str, selector: str) -> bytes:
    line = f" v=1; a={algorithm}; c={canonicalization};"
    lines = [line]
    for tag in (f"d={domain};", f"s={selector};"):
        if len(lines[-1]) + len(tag) + 1 > COLUMNS_MAX - (
            len(FIELD_NAME) + 1 if len(lines) == 1 else 0
        ):
            lines.append(f"\r\n\t{tag}")
        else:
            lines[-1] += f" {tag}"
    return "".join(lines).encode()


def _beginning(key: SigningKey, options: SignOptions) -> bytes:
    canonicalization = f"{options.header_how.value}/{options.body_how.value}"
    first = _first_tags(key.algorithm, canonicalization, key.domain, key.selector)
    if not options.identity:
        return first
    local_part, at, domain = options.identity.rpartition("@")
    if not at or (domain != key.domain and not domain.endswith(f".{key.domain}")):
        raise ValueError(f"i= has to be within {key.domain}")
    return first + b"\r\n\ti=%b@%b;" % (_quoted(local_part), domain.encode())


def _quoted(text: str) -> bytes:
    """dkim-quoted-printable (RFC 6376 §2.11)."""
    return b"".join(
        b"%c" % octet if 0x21 <= octet <= 0x7E and octet not in b";=" else b"=%02X" % octet
        for octet in text.encode()
    )


# --- private keys ---


class NewKey(msgspec.Struct, frozen=True):
    algorithm: str
    private: bytes
    """PKCS #8, DER, in clear."""
    public: bytes
    """What p= holds, before base64."""

    def __repr__(self) -> str:
        return f"NewKey({self.algorithm})"

    __str__ = __repr__


def generate(algorithm: str, rsa_bits: int = 2048) -> NewKey:
    """A new key; RSA takes a tenth of a second and more."""
    private: RSAPrivateKey | Ed25519PrivateKey
    if algorithm == ED25519:
        private = Ed25519PrivateKey.generate()
    elif algorithm == RSA:
        private = generate_private_key(_RSA_EXPONENT, rsa_bits)
    else:
        raise ValueError(f"no algorithm of DKIM's: {algorithm}")
    octets = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return NewKey(algorithm, octets, public_octets(private))


def load_private(pkcs8: bytes) -> RSAPrivateKey | Ed25519PrivateKey:
    """The key object of PKCS #8 in DER.

    Raises:
        ValueError: it is none, or none that DKIM signs with; the text has nothing of the key.
    """
    try:
        private = load_der_private_key(pkcs8, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("no private key in PKCS #8") from None
    if isinstance(private, Ed25519PrivateKey):
        return private
    if not isinstance(private, RSAPrivateKey):
        raise ValueError("a private key that is neither RSA nor Ed25519")
    if private.key_size < _RSA_BITS_MIN:
        raise ValueError(f"an RSA key of {private.key_size} bits, fewer than {_RSA_BITS_MIN}")
    return private


def public_octets(private: RSAPrivateKey | Ed25519PrivateKey) -> bytes:
    """What p= holds, before base64."""
    public = private.public_key()
    if isinstance(private, Ed25519PrivateKey):
        return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
