"""Tag lists (RFC 6376 §3.2) and the signature fields made of them (§3.5, RFC 8617 §4.1).

Strict, as RFC 6376 §6.1.1 asks, and bounded: a field of any octets gives a value or one error whose
text says what is wrong with it, in linear time. U-labels and UTF-8 are taken as RFC 8616 §5 says.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable
from enum import Enum, auto
from functools import lru_cache
from typing import Final

import msgspec

from posthouse.mailauth.dkim.canonical import Canonicalization
from posthouse.message.address import AddressError, domain_to_ascii

RSA: Final = "rsa-sha256"
ED25519: Final = "ed25519-sha256"
ALGORITHMS: Final = frozenset({RSA, ED25519})

FIELD_OCTETS_MAX: Final = 64 * 1024
TAGS_MAX: Final = 64
NAMES_MAX: Final = 2000
"""In h=; twice the fields that a header section may have."""
IDENTITY_MAX: Final = 512
NUMBER_DIGITS_MAX: Final = 12
LENGTH_DIGITS_MAX: Final = 76
_CACHED_NAMES_MAX: Final = 1024
DIGEST_OCTETS: Final = 32
_DNS_NAME_MAX: Final = 253
_SHOWN_MAX: Final = 40

_TAG_NAMES: Final = frozenset(("v", "a", "b", "bh", "c", "d", "h", "i", "l", "q", "s", "t", "x"))
"""The usual ones, which need no expression."""
_TAG: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HEX_OCTET: Final = re.compile(rb"=(?:([0-9A-F]{2}))?")
_METHOD: Final = "dns/txt"


class DkimSyntaxError(ValueError):
    """What is wrong, in words; does not leave `mailauth`.

    `is_unknown` marks what is well formed and that we know nothing of (an algorithm, a
    canonicalization, a way to ask for keys): to be ignored, not to be faulted.
    """

    def __init__(self, text: str, *, is_unknown: bool = False) -> None:
        super().__init__(text)
        self.is_unknown = is_unknown


def shown(text: str) -> str:
    """Something a stranger wrote, short and printable, for a reason."""
    cut = text[:_SHOWN_MAX] + ("…" if len(text) > _SHOWN_MAX else "")
    return "".join(each if each.isprintable() else "?" for each in cut)


# --- tag lists ---


def read_tags(octets: bytes, *, octets_max: int = FIELD_OCTETS_MAX) -> dict[str, str]:
    """The tags of a list, blanks around names and values taken off, folds unfolded.

    Raises:
        DkimSyntaxError: it is no tag list.
    """
    if len(octets) > octets_max:
        raise DkimSyntaxError(f"longer than {octets_max} octets")
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise DkimSyntaxError("8-bit octets that are not UTF-8") from None
    if "\n" in text:
        text = "".join(text.split("\r\n"))
        if "\n" in text:
            text = text.replace("\n", "")
    if "\t" in text:
        text = text.replace("\t", " ")
    if not text.isprintable() and _CONTROL.search(text):
        raise DkimSyntaxError("a control character")
    specs = text.split(";", TAGS_MAX + 1)
    if len(specs) > 1 and not specs[-1].strip(" "):
        specs.pop()
    if len(specs) > TAGS_MAX:
        raise DkimSyntaxError(f"more than {TAGS_MAX} tags")
    parts = [spec.partition("=") for spec in specs]
    tags = {name.strip(" "): value.strip(" ") for name, _, value in parts}
    for name, equals, _ in parts:
        if not equals:
            raise DkimSyntaxError(f'"{shown(name.strip(" "))}" is no tag')
    if len(tags) < len(parts):
        raise DkimSyntaxError(f"{_twice(specs)}= stands twice")
    if not tags.keys() <= _TAG_NAMES:
        for name in tags:
            if not _TAG.fullmatch(name):
                raise DkimSyntaxError(f'"{shown(name)}" is no name of a tag')
    return tags


def _twice(specs: list[str]) -> str:
    names = [spec.partition("=")[0].strip(" ") for spec in specs]
    return shown(next(name for at, name in enumerate(names) if name in names[:at]))


def base64(name: str, value: str) -> bytes:
    """Octets of a base64 value; blanks count for nothing, padding may be left out."""
    if " " in value:
        value = value.replace(" ", "")
    if not value:
        raise DkimSyntaxError(f"{name}= is empty")
    try:
        return a2b_base64(value + "=" * (-len(value) % 4), strict_mode=True)
    except ValueError:
        raise DkimSyntaxError(f"{name}= is no base64") from None


def number(name: str, value: str, digits_max: int = NUMBER_DIGITS_MAX) -> int:
    if not (value.isdecimal() and value.isascii() and len(value) <= digits_max):
        raise DkimSyntaxError(f"{name}= is no number of up to {digits_max} digits")
    return int(value)


def words(value: str) -> list[str]:
    """The items of a list with colons, blanks around them taken off."""
    if " " not in value:
        return value.split(":")
    return [item.strip(" ") for item in value.split(":")]


# --- signature fields ---


class Kind(Enum):
    """Which field a signature is; what its name and its i= are depends on that."""

    DKIM = auto()
    ARC_MESSAGE = auto()


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """A DKIM-Signature (RFC 6376 §3.5) or ARC-Message-Signature (RFC 8617 §4.1.2) field."""

    algorithm: str
    domain: str
    """d=, A-labels in lower case."""
    selector: str
    signature: bytes
    body_hash: bytes
    header_how: Canonicalization
    body_how: Canonicalization
    names: tuple[bytes, ...]
    """h=, in lower case."""
    identity: str
    """i= of DKIM, decoded, or `@d=`."""
    identity_domain: str
    body_limit: int | None = None
    signed_at: int | None = None
    expires_at: int | None = None
    start_of_b: str = ""
    """8 characters (RFC 6008 §3), or as many as make it out."""

    @property
    def key_name(self) -> str:
        return key_name(self.selector, self.domain)


def key_name(selector: str, domain: str) -> str:
    """Where the key record lies (RFC 6376 §3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


_REQUIRED: Final = {
    Kind.DKIM: frozenset({"v", "a", "b", "bh", "d", "h", "s"}),
    Kind.ARC_MESSAGE: frozenset({"a", "b", "bh", "d", "h", "s"}),
}
_CANONICALIZATIONS: Final = {
    "relaxed/relaxed": (Canonicalization.RELAXED, Canonicalization.RELAXED),
    "relaxed/simple": (Canonicalization.RELAXED, Canonicalization.SIMPLE),
    "relaxed": (Canonicalization.RELAXED, Canonicalization.SIMPLE),
    "simple/relaxed": (Canonicalization.SIMPLE, Canonicalization.RELAXED),
    "simple/simple": (Canonicalization.SIMPLE, Canonicalization.SIMPLE),
    "simple": (Canonicalization.SIMPLE, Canonicalization.SIMPLE),
}


def read_signature(value: bytes, kind: Kind = Kind.DKIM) -> Signature:
    """The field's value; `Kind.ARC_MESSAGE` knows no v= and has an instance for i=, which the
    caller reads.

    Raises:
        DkimSyntaxError: it is not to be verified, and why.
    """
    return signature_of(read_tags(value), kind)


def signature_of(tags: dict[str, str], kind: Kind = Kind.DKIM) -> Signature:
    if not tags.keys() >= _REQUIRED[kind]:
        raise DkimSyntaxError(f"{min(_REQUIRED[kind].difference(tags))}= is missing")
    if kind is Kind.DKIM and tags["v"] != "1":
        raise DkimSyntaxError(f'v= is "{shown(tags["v"])}" and not 1')
    algorithm = read_algorithm(tags["a"])
    domain, selector = read_key_place(tags["d"], tags["s"])
    signature = base64("b", tags["b"])
    body_hash = base64("bh", tags["bh"])
    if len(body_hash) != DIGEST_OCTETS:
        raise DkimSyntaxError(f"bh= has {len(body_hash)} octets, a SHA-256 hash {DIGEST_OCTETS}")
    how = tags.get("c", "simple/simple")
    if how not in _CANONICALIZATIONS:
        raise DkimSyntaxError(f'c= is "{shown(how)}", which is not known', is_unknown=bool(how))
    header_how, body_how = _CANONICALIZATIONS[how]
    if "q" in tags and tags["q"] != _METHOD and _METHOD not in words(tags["q"]):
        raise DkimSyntaxError(
            f'q= is "{shown(tags["q"])}", which is not known', is_unknown=bool(tags["q"])
        )
    identity, identity_domain = f"@{domain}", domain
    if kind is Kind.DKIM and "i" in tags:
        identity, identity_domain = _identity(tags["i"], domain)
    limit = number("l", tags["l"], LENGTH_DIGITS_MAX) if "l" in tags else None
    signed_at = number("t", tags["t"]) if "t" in tags else None
    expires_at = number("x", tags["x"]) if "x" in tags else None
    if signed_at is not None and expires_at is not None and expires_at <= signed_at:
        raise DkimSyntaxError("x= is not after t=")
    return Signature(
        algorithm=algorithm,
        domain=domain,
        selector=selector,
        signature=signature,
        body_hash=body_hash,
        header_how=header_how,
        body_how=body_how,
        names=_names(tags["h"]),
        identity=identity,
        identity_domain=identity_domain,
        body_limit=limit,
        signed_at=signed_at,
        expires_at=expires_at,
        start_of_b=start_of_b(tags["b"]),
    )


def start_of_b(written: str) -> str:
    """What tells signatures of one domain apart (RFC 6008 §3)."""
    return written[:72].replace(" ", "")[:8]


def required(tags: dict[str, str], name: str) -> str:
    try:
        return tags[name]
    except KeyError:
        raise DkimSyntaxError(f"{name}= is missing") from None


def read_algorithm(algorithm: str) -> str:
    """a=, as it is."""
    if algorithm in ALGORITHMS:
        return algorithm
    if algorithm == "rsa-sha1":
        raise DkimSyntaxError("rsa-sha1 proves nothing any more (RFC 8301 §3.1)")
    raise DkimSyntaxError(
        f'a= is "{shown(algorithm)}", which is not known', is_unknown=bool(algorithm)
    )


def read_key_place(domain: str, selector: str) -> tuple[str, str]:
    """d= and s= in A-labels."""
    domain, selector = _name("d", domain), _name("s", selector)
    if "." not in domain:  # RFC 6376 §3.5: two labels at least
        raise DkimSyntaxError(f'd= is "{shown(domain)}", which is no domain that can sign')
    if len(domain) + len(selector) + len("._domainkey.") > _DNS_NAME_MAX:
        raise DkimSyntaxError("s= and d= make a name longer than the DNS has")
    return domain, selector


def _name(tag: str, value: str) -> str:
    try:
        return domain_to_ascii(value)
    except AddressError:
        raise DkimSyntaxError(f'{tag}= is "{shown(value)}", which is no name') from None


def _names(value: str) -> tuple[bytes, ...]:
    return _read_names(value) if len(value) > _CACHED_NAMES_MAX else _cached_names(value)


def _read_names(value: str) -> tuple[bytes, ...]:
    names = ":".join(words(value)) if " " in value else value
    if not names:
        raise DkimSyntaxError("h= is empty")
    if not names.isascii() or " " in names or "::" in f":{names}:":
        raise DkimSyntaxError("h= is no list of field names")
    if names.count(":") >= NAMES_MAX:
        raise DkimSyntaxError(f"h= has more than {NAMES_MAX} names")
    found = tuple(names.lower().encode().split(b":"))
    if b"from" not in found:
        raise DkimSyntaxError("h= does not cover From")
    return found


_cached_names: Final[Callable[[str], tuple[bytes, ...]]] = lru_cache(maxsize=1024)(_read_names)
"""Whoever signs has the same h= in all its mail, or nearly."""


def _identity(value: str, domain: str) -> tuple[str, str]:
    """i= decoded, and its domain in A-labels."""
    if len(value) > IDENTITY_MAX:
        raise DkimSyntaxError(f"i= is longer than {IDENTITY_MAX} characters")
    try:
        text = _decoded(value.replace(" ", "").encode()).decode()
    except UnicodeDecodeError:
        raise DkimSyntaxError("i= is not UTF-8") from None
    local_part, at, written = text.rpartition("@")
    if not at or _CONTROL.search(text):
        raise DkimSyntaxError(f'i= is "{shown(text)}", which is no identity')
    found = _name("i", written)
    if found != domain and not found.endswith(f".{domain}"):
        raise DkimSyntaxError(f"i= is of {shown(found)}, which is not within d= ({shown(domain)})")
    return f"{local_part}@{found}", found


def _decoded(octets: bytes) -> bytes:
    """dkim-quoted-printable without its blanks (RFC 6376 §2.11)."""
    if b"=" not in octets:
        return octets

    def octet(match: re.Match[bytes]) -> bytes:
        if match[1] is None:
            raise DkimSyntaxError("i= has a = that encodes nothing")
        return bytes.fromhex(match[1].decode())

    return _HEX_OCTET.sub(octet, octets)
