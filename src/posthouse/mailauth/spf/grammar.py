"""SPF records and explanations: text to values, strict (RFC 7208 §4.6.1, §5, §6, §7.1, §12).

`parse_record` is what `check` calls. Records that many messages bring are parsed once.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from posthouse.kernel.reply import printable
from posthouse.mailauth.results import Result
from posthouse.mailauth.spf.names import fit

RECORD_OCTETS_MAX: Final = 8192
"""RFC 7208 §3.4 wants answers of 512 octets; records that somebody has flattened have up to some
thousand. What is longer is made to cost, not to authorize."""
RECORD_SHORT_OCTETS: Final = 1024
_TERM_SHOWN_MAX: Final = 80

QUALIFIERS: Final = {
    "": Result.PASS,
    "+": Result.PASS,
    "-": Result.FAIL,
    "~": Result.SOFTFAIL,
    "?": Result.NEUTRAL,
}


class Macro(msgspec.Struct, frozen=True):
    """`%{...}` (RFC 7208 §7.1)."""

    letter: str
    """In lower case."""
    parts_max: int
    """Parts to keep, counted from the right; 0 keeps all."""
    is_reversed: bool
    delimiters: str
    """"" for none written: the parts are divided by dots then."""
    is_escaped: bool
    """The letter is upper case: the expansion is URL-escaped."""

    @property
    def is_plain(self) -> bool:
        """Nothing is split, so that the value stays as it is."""
        return not (self.parts_max or self.is_reversed or self.delimiters)


Parts = tuple[str | Macro, ...]


class DomainSpec(msgspec.Struct, frozen=True):
    """Where a term looks, before macros are expanded (RFC 7208 §4.8)."""

    text: str
    parts: Parts
    letters: frozenset[str]
    """Of its macros, in lower case."""
    name: str | None
    """The name when there is nothing to expand."""


class All(msgspec.Struct, frozen=True):
    result: Result
    text: str


class Include(msgspec.Struct, frozen=True):
    result: Result
    text: str
    domain: DomainSpec


class Hosts(msgspec.Struct, frozen=True):
    """`a` and `mx`."""

    result: Result
    text: str
    domain: DomainSpec | None
    is_mx: bool
    bits_4: int
    bits_6: int


class Ptr(msgspec.Struct, frozen=True):
    result: Result
    text: str
    domain: DomainSpec | None


class Network(msgspec.Struct, frozen=True):
    """`ip4` and `ip6`: an address matches when, shifted right, it equals `prefix`."""

    result: Result
    text: str
    version: int
    prefix: int
    shift: int


class Exists(msgspec.Struct, frozen=True):
    result: Result
    text: str
    domain: DomainSpec


Mechanism = All | Include | Hosts | Ptr | Network | Exists


class Record(msgspec.Struct, frozen=True):
    """A record without errors anywhere."""

    text: str
    mechanisms: tuple[Mechanism, ...]
    redirect: DomainSpec | None
    explanation: DomainSpec | None


class BadRecord(msgspec.Struct, frozen=True):
    """A record that is permerror whatever it would have decided (RFC 7208 §4.6)."""

    text: str
    """Printable."""
    reason: str


class _Malformed(Exception):
    """Says what is wrong with the term."""


def is_record(octets: bytes) -> bool:
    """Whether a TXT record is one of SPF (RFC 7208 §4.5); the ABNF's "v=spf1" has no case."""
    return octets[:6].lower() == b"v=spf1" and octets[6:7] in (b"", b" ")


def parse_record(octets: bytes) -> Record | BadRecord:
    """A TXT record that `is_record`, its strings joined without spaces (RFC 7208 §3.3)."""
    if len(octets) <= RECORD_SHORT_OCTETS:
        return _parse_short(octets)
    if len(octets) <= RECORD_OCTETS_MAX:
        return _parse_long(octets)
    shown = printable(octets[:RECORD_SHORT_OCTETS].decode("latin-1"))
    return BadRecord(shown, f"the record has more than {RECORD_OCTETS_MAX} octets")


# Both are bounded in entries and so, as equal terms are one value, in octets: some 30 MiB each when
# somebody fills them on purpose.
@lru_cache(maxsize=1024)
def _parse_short(octets: bytes) -> Record | BadRecord:
    return _parse(octets)


@lru_cache(maxsize=64)
def _parse_long(octets: bytes) -> Record | BadRecord:
    return _parse(octets)


def _parse(octets: bytes) -> Record | BadRecord:
    try:
        text = octets.decode("ascii")  # RFC 7208 §3.1
    except UnicodeDecodeError:
        text = printable(octets.decode("latin-1"))
        return BadRecord(text, "the record has characters outside ASCII")
    try:
        return _read_terms(text)
    except _Malformed as error:
        return BadRecord(printable(text), str(error))


def _read_terms(text: str) -> Record:
    mechanisms: list[Mechanism] = []
    known: dict[str, Mechanism] = {}
    modifiers: dict[str, DomainSpec] = {}
    for term in text[6:].split(" "):
        if not term:
            continue
        if (mechanism := known.get(term)) is not None:
            mechanisms.append(mechanism)
        elif (modifier := _MODIFIER.match(term)) is not None:
            _read_modifier(modifier[1].lower(), term[modifier.end() :], modifiers)
        else:
            mechanism = known[term] = _read_directive(term)
            mechanisms.append(mechanism)
    return Record(text, tuple(mechanisms), modifiers.get("redirect"), modifiers.get("exp"))


_MODIFIER: Final = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*+)=")
_DIRECTIVE: Final = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9]*+)")


def _read_modifier(name: str, value: str, found: dict[str, DomainSpec]) -> None:
    if name not in ("redirect", "exp"):
        _tokens(value, _NAME_TOKENS)  # it means nothing but has to be well formed
        return
    if name in found:  # RFC 7208 §6
        raise _Malformed(f"{name}= appears twice")
    found[name] = _domain_spec(value)


def _read_directive(term: str) -> Mechanism:
    match = _DIRECTIVE.match(term)
    read = _MECHANISMS.get(match[2].lower()) if match is not None else None
    if match is None or read is None:
        raise _Malformed(f"unknown mechanism {_shown(term)}")
    try:
        return read(QUALIFIERS[match[1]], term, term[match.end() :])
    except _Malformed as error:
        raise _Malformed(f"{_shown(term)}: {error}") from None


def _read_all(result: Result, term: str, rest: str) -> Mechanism:
    if rest:
        raise _Malformed('nothing may follow "all"')
    return All(result, term)


def _read_include(result: Result, term: str, rest: str) -> Mechanism:
    return Include(result, term, _needed_domain(rest))


def _read_exists(result: Result, term: str, rest: str) -> Mechanism:
    return Exists(result, term, _needed_domain(rest))


def _read_a(result: Result, term: str, rest: str) -> Mechanism:
    rest, bits_4, bits_6 = _split_lengths(rest)
    return Hosts(result, term, _optional_domain(rest), False, bits_4, bits_6)


def _read_mx(result: Result, term: str, rest: str) -> Mechanism:
    rest, bits_4, bits_6 = _split_lengths(rest)
    return Hosts(result, term, _optional_domain(rest), True, bits_4, bits_6)


def _read_ptr(result: Result, term: str, rest: str) -> Mechanism:
    return Ptr(result, term, _optional_domain(rest))


def _read_ip4(result: Result, term: str, rest: str) -> Mechanism:
    network, bits = _network(rest, 32)
    match = _IP4_NETWORK.fullmatch(network)
    if match is None:
        raise _Malformed("not an IPv4 network")
    first, second, third, fourth = match.groups()
    number = int(first) << 24 | int(second) << 16 | int(third) << 8 | int(fourth)
    return Network(result, term, 4, number >> (32 - bits), 32 - bits)


def _read_ip6(result: Result, term: str, rest: str) -> Mechanism:
    network, bits = _network(rest, 128)
    try:
        if "%" in network:  # a zone, which ipaddress knows and RFC 4291 §2.2 does not
            raise ValueError
        address = ipaddress.IPv6Address(network)
    except ValueError:
        raise _Malformed("not an IPv6 network") from None
    return Network(result, term, 6, int(address) >> (128 - bits), 128 - bits)


_MECHANISMS: Final[dict[str, Callable[[Result, str, str], Mechanism]]] = {
    "all": _read_all,
    "include": _read_include,
    "a": _read_a,
    "mx": _read_mx,
    "ptr": _read_ptr,
    "ip4": _read_ip4,
    "ip6": _read_ip6,
    "exists": _read_exists,
}

_QNUM: Final = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IP4_NETWORK: Final = re.compile(rf"{_QNUM}\.{_QNUM}\.{_QNUM}\.{_QNUM}")
_LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,2}")
_LENGTHS: Final = re.compile(r"(?:/(0|[1-9][0-9]{0,2}))?(?://(0|[1-9][0-9]{0,2}))?\Z")
_LENGTHS_CHARACTERS_MAX: Final = len("/255//255")


def _network(rest: str, bits_max: int) -> tuple[str, int]:
    """RFC 7208 §5.6."""
    if not rest.startswith(":"):
        raise _Malformed("the network is missing")
    network, slash, length = rest[1:].partition("/")
    if not slash:
        return network, bits_max
    if _LENGTH.fullmatch(length) is None or int(length) > bits_max:
        raise _Malformed(f"a prefix length is 0 to {bits_max}")
    return network, int(length)


def _split_lengths(rest: str) -> tuple[str, int, int]:
    """`dual-cidr-length` off the end. A domain-spec cannot end like one: no toplabel has "/"."""
    if "/" not in rest:
        return rest, 32, 128
    begin = max(0, len(rest) - _LENGTHS_CHARACTERS_MAX)
    match = _LENGTHS.search(rest, begin)
    assert match is not None  # it matches nothing at the end
    bits_4 = int(match[1]) if match[1] else 32
    bits_6 = int(match[2]) if match[2] else 128
    if bits_4 > 32 or bits_6 > 128:
        raise _Malformed("a prefix length is 0 to 32, behind // 0 to 128")
    return rest[: match.start()], bits_4, bits_6


def _needed_domain(rest: str) -> DomainSpec:
    if not rest.startswith(":"):
        raise _Malformed("the domain is missing")
    return _domain_spec(rest[1:])


def _optional_domain(rest: str) -> DomainSpec | None:
    return _needed_domain(rest) if rest else None


# --- macro strings ---

# RFC 7208 §7.1. c, r and t are for explanations only (§7.2).
_NAME_TOKENS: Final = re.compile(
    r"([!-$&-~]++)|%(?:([%_-])|\{([slodipvhSLODIPVH])([0-9]*+)([rR]?)([.+,/_=-]*+)\})"
)
_EXPLANATION_TOKENS: Final = re.compile(
    r"([ -$&-~]++)|%(?:([%_-])|\{([slodipvhcrtSLODIPVHCRT])([0-9]*+)([rR]?)([.+,/_=-]*+)\})"
)
_ESCAPES: Final = {"%": "%", "_": " ", "-": "%20"}
_TOP_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_PARTS_MAX: Final = 1000
"""More than anything can be divided into: an address has 254 octets at most, a name 127 labels."""


def _parts_max(digits: str) -> int:
    """RFC 7208 §7.3: any number but 0; "as many as there are" where it is too large to matter."""
    wanted = digits.lstrip("0")
    if digits and not wanted:
        raise _Malformed("a macro that keeps 0 parts")
    if len(wanted) >= len(str(_PARTS_MAX)):
        return _PARTS_MAX
    return int(wanted or 0)


def _tokens(text: str, tokens: re.Pattern[str]) -> list[re.Match[str]]:
    """Every token of a macro-string, or `_Malformed` where there is something else."""
    found: list[re.Match[str]] = []
    at = 0
    while at < len(text):
        match = tokens.match(text, at)
        if match is None:
            where = "macro" if text[at] == "%" else "character"
            raise _Malformed(f"a bad {where} at {_shown(text[at:])}")
        found.append(match)
        at = match.end()
    return found


def _parts(found: list[re.Match[str]]) -> Parts:
    parts: list[str | Macro] = []
    for token in found:
        literal, escape, letter, digits, reverse, delimiters = token.groups()
        if letter is not None:
            divided_by = "".join(sorted(set(delimiters)))
            parts.append(
                Macro(
                    letter.lower(),
                    _parts_max(digits),
                    bool(reverse),
                    divided_by,
                    letter.isupper(),
                )
            )
        else:
            parts.append(literal if literal is not None else _ESCAPES[escape])
    return tuple(parts)


def _domain_spec(text: str) -> DomainSpec:
    """RFC 7208 §7.1: it ends with a toplabel behind a dot, or with a macro."""
    found = _tokens(text, _NAME_TOKENS)
    if not found:
        raise _Malformed("the domain is empty")
    last = found[-1][1]
    if last is not None:
        _, dot, top = last.removesuffix(".").rpartition(".")
        if not dot or _TOP_LABEL.fullmatch(top) is None or top.isdigit():
            raise _Malformed(f"{_shown(text)} does not end like a domain name")
    parts = _parts(found)
    letters = frozenset(part.letter for part in parts if isinstance(part, Macro))
    name = None if letters else fit("".join(part for part in parts if isinstance(part, str)))
    return DomainSpec(text, parts, letters, name)


def parse_explanation(octets: bytes) -> Parts | None:
    """The `explain-string` of a TXT record, or None when it is not one (RFC 7208 §6.2)."""
    if len(octets) > RECORD_OCTETS_MAX:
        return None
    try:
        return _parts(_tokens(octets.decode("ascii"), _EXPLANATION_TOKENS))
    except (UnicodeDecodeError, _Malformed):
        return None


def _shown(text: str) -> str:
    shown = printable(text[:_TERM_SHOWN_MAX])
    return f'"{shown}"' if len(text) <= _TERM_SHOWN_MAX else f'"{shown}..."'
