"""Authentication-Results: written, read, and taken out where a stranger wrote it in our name
(RFC 8601, RFC 8616).

`render` writes the findings of all checks as one field. `parse` reads what others wrote, ARC's
copies too. `without_forged` gives the octets that are kept of a message from outside: DKIM and ARC
are verified before that, on the octets as they came.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from posthouse.kernel.finding import Finding, Property
from posthouse.message import words
from posthouse.message.address import (
    AddressError,
    domain_to_ascii,
    domain_to_unicode,
    quote_local_part,
)
from posthouse.message.fields import (
    FIELDS_MAX,
    HEADER_OCTETS_MAX,
    Field,
    HeaderSection,
    unfold,
)

FIELD_NAME: Final = b"authentication-results"
METHODS: Final = ("auth", "spf", "dkim", "dmarc", "arc", "iprev", "smime", "x-openpgp")
"""Findings that are results of registered methods; others are not for this field."""

VALUE_OCTETS_MAX: Final = 64 * 1024
"""A longer value is not read."""
RESULTS_MAX: Final = 200
PROPERTIES_MAX: Final = 50
"""Of one result."""
VERSION: Final = 1

_PVALUE_MAX: Final = 320
_REASON_MAX: Final = 200
_LINE_OCTETS: Final = 78

# "Keyword" of RFC 5321 §4.1.2.
_KEYWORD: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_\-]*[A-Za-z0-9])?", re.ASCII)
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~]+", re.ASCII)  # RFC 2045 §5.1
_DOMAIN: Final = re.compile(r"[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]+)*", re.ASCII)
_UNSHOWN: Final = re.compile(r"[^ -~]")


# --- writing ---


def render(authserv_id: str, findings: Iterable[Finding]) -> bytes:
    """A whole field with its CRLF, in ASCII, whatever the values hold; "none" where no finding is
    one of `METHODS` (RFC 8601 §2.2).

    Domains are A-labels in a message of any kind. Other text that is not printable ASCII becomes
    "?", as the decision record keeps it whole.
    """
    entries = [entry for finding in findings if (entry := _entry(finding))]
    identity = _word(_with_a_labels(authserv_id))
    if not entries:
        return f"Authentication-Results: {identity}; none\r\n".encode("ascii")
    lines = [f"Authentication-Results: {identity}"]
    for entry in entries[:RESULTS_MAX]:
        lines[-1] += ";"
        line = "\t"
        for piece in entry:
            if len(line) > 1 and len(line) + len(piece) > _LINE_OCTETS:
                lines.append(line.rstrip(" "))
                line = "\t\t"
            line += f"{piece} "
        lines.append(line.rstrip(" "))
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


def _entry(finding: Finding) -> list[str]:
    """The pieces of a resinfo; nothing for what is none."""
    if finding.name not in METHODS or not _KEYWORD.fullmatch(finding.result):
        return []
    pieces = [f"{finding.name}={finding.result}"]
    if finding.reason:
        pieces.append(f"reason={_quoted(finding.reason[:_REASON_MAX])}")
    for each in finding.properties[:PROPERTIES_MAX]:
        make = _property if len(each.value) <= _PVALUE_MAX else _property.__wrapped__
        if piece := make(each):
            pieces.append(piece)
    return pieces


@lru_cache(maxsize=4096)
def _property(given: Property) -> str:
    """One `ptype.property=pvalue`; most come again with the next message."""
    if not given.value or not (_KEYWORD.fullmatch(given.ptype) and _KEYWORD.fullmatch(given.name)):
        return ""
    return f"{given.ptype}.{given.name}={_value(given.value)}"


def _value(text: str) -> str:
    """A pvalue: a token, an address or `@domain`, or else a quoted string."""
    text = _with_a_labels(text)
    local_part, at, domain = text.rpartition("@")
    if not at or len(text) > _PVALUE_MAX or _DOMAIN.fullmatch(domain) is None:
        return _word(text)
    written = quote_local_part(local_part) if local_part else ""
    # Outside an internationalized message there is no way to write it, so the domain it is.
    return f"{written if written.isascii() else ''}@{domain}"


def _word(text: str) -> str:
    """A token or a quoted string."""
    if len(text) <= _PVALUE_MAX and _TOKEN.fullmatch(text) is not None:
        return text
    return _quoted(text[:_PVALUE_MAX])


def _with_a_labels(text: str) -> str:
    if text.isascii():
        return text
    local_part, at, domain = text.rpartition("@")
    try:
        return f"{local_part}{at}{domain_to_ascii(domain)}"
    except AddressError:
        return text


def _quoted(text: str) -> str:
    shown = _UNSHOWN.sub("?", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{shown}"'


# --- reading ---


class AuthenticationResults(msgspec.Struct, frozen=True, kw_only=True):
    """What one field says; believed only where its writer is (RFC 8601 §4.1)."""

    authserv_id: str
    """In lower case, A-labels where it is a domain, without a final dot."""
    version: int = VERSION
    results: tuple[Finding, ...] = ()
    """None of them for "none", and for a version that is not known (RFC 8601 §2.6)."""
    is_complete: bool = True
    """All of it was understood."""


_BLANKS: Final = re.compile(rb"[ \t\r\n]*+")
_COMMENT: Final = re.compile(rb"(?:[^()\\]|\\.)*+([()])", re.DOTALL)
_QUOTED: Final = re.compile(rb'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_ATOM: Final = re.compile(rb'[^\x00-\x20\x7f()<>@,;:\\"/\[\]?=]++')
_PLAIN: Final = re.compile(rb'[^;("]++')
_BARE_VALUE: Final = re.compile(rb'[^\x00-\x20\x7f();"]++')
_LENIENT_KEY: Final = re.compile(rb"[A-Za-z0-9_\-]++")
_NUMBER: Final = re.compile(rb"[0-9]++")
_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)


class _Malformed(Exception):
    pass


class _Reader:
    """A cursor over one value; never goes back further than a token."""

    __slots__ = ("at", "octets")

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.at = 0

    def skip(self) -> None:
        """Blanks and comments, which nest (RFC 5322 §3.2.2)."""
        self.take(_BLANKS)
        while self.is_at(b"("):
            self._skip_comment()
            self.take(_BLANKS)

    def _skip_comment(self) -> None:
        depth = 0
        while True:
            match = _COMMENT.match(self.octets, self.at)
            if match is None:
                raise _Malformed
            self.at = match.end()
            depth += 1 if match[1] == b"(" else -1
            if not depth:
                return

    def take(self, pattern: re.Pattern[bytes]) -> bytes | None:
        match = pattern.match(self.octets, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match[match.lastindex or 0]

    def quoted(self) -> bytes | None:
        if not self.is_at(b'"'):
            return None
        inner = self.take(_QUOTED)
        if inner is None:
            raise _Malformed
        return _PAIR.sub(rb"\1", inner)

    def is_at(self, octet: bytes) -> bool:
        return self.octets.startswith(octet, self.at)

    def takes(self, octet: bytes) -> bool:
        """Whether that octet was next, blanks and comments around it skipped."""
        self.skip()
        if not self.is_at(octet):
            return False
        self.at += 1
        self.skip()
        return True

    @property
    def is_at_end(self) -> bool:
        return self.at >= len(self.octets)

    def recover(self) -> None:
        """To the next ";" that is in no comment or quoted string."""
        while not self.is_at_end and not self.is_at(b";"):
            if self.take(_PLAIN) is None and self.quoted() is None:
                self.skip()


def parse(value: bytes) -> AuthenticationResults | None:
    """Read a field's value, raw or unfolded; None when it names no writer or is not well formed.

    A result that cannot be read is left out, and so is one of a method's other version
    (RFC 8601 §2.6).
    """
    if len(value) > VALUE_OCTETS_MAX:
        return None
    reader = _Reader(value)
    try:
        identity, version = _read_head(reader)
        results, is_complete = _read_results(reader) if version == VERSION else ((), False)
    except _Malformed:
        return None
    return AuthenticationResults(
        authserv_id=identity, version=version, results=results, is_complete=is_complete
    )


def _read_head(reader: _Reader) -> tuple[str, int]:
    """The writer's name and the version; the cursor is at ";" or the end then."""
    reader.skip()
    identity = reader.quoted()
    if identity is None:
        identity = reader.take(_ATOM)
    if not identity:
        raise _Malformed
    reader.skip()
    version = _version(reader)
    reader.skip()
    if not reader.is_at_end and not reader.is_at(b";"):
        raise _Malformed
    text = identity.decode("utf-8", "replace")
    return normal_id(text), version


def _version(reader: _Reader) -> int:
    """As written, `VERSION` where nothing is; 0 for a number nobody can mean."""
    digits = reader.take(_NUMBER)
    if digits is None:
        return VERSION
    return int(digits) if len(digits) < 10 else 0


def _read_results(reader: _Reader) -> tuple[tuple[Finding, ...], bool]:
    results: list[Finding] = []
    is_complete = True
    while reader.takes(b";"):
        if reader.is_at_end:  # a last ";" is common
            break
        if len(results) == RESULTS_MAX:
            return tuple(results), False
        result, is_whole = _read_result(reader)
        if result is not None:
            results.append(result)
        if not is_whole:
            is_complete = False
            reader.recover()
    return tuple(results), is_complete and reader.is_at_end


def _read_result(reader: _Reader) -> tuple[Finding | None, bool]:
    """One resinfo, and whether all of it was read; nothing for "none"."""
    method = _key(reader)
    version = _version(reader) if method and reader.takes(b"/") else VERSION
    if not reader.takes(b"="):
        return None, method == "none"
    result = _key(reader)
    if not method or not result or version != VERSION:
        return None, False
    reader.skip()
    reason = ""
    properties: list[Property] = []
    is_whole = True
    while not reader.is_at_end and not reader.is_at(b";"):
        name = _key(reader)
        if name == "reason" and not properties and not reason and reader.takes(b"="):
            reason = _pvalue(reader)
            continue
        is_dotted = reader.takes(b".")
        inner = _key(reader) if is_dotted else ""
        if not inner or not reader.takes(b"=") or len(properties) == PROPERTIES_MAX:
            is_whole = False
            break
        properties.append(Property(name, inner, _pvalue(reader)))
    found = Finding(name=method, result=result, reason=reason, properties=tuple(properties))
    return found, is_whole


def _key(reader: _Reader) -> str:
    return (reader.take(_LENIENT_KEY) or b"").decode("ascii").lower()


def _pvalue(reader: _Reader) -> str:
    """Quoted strings and bare text that touch, as in `"a b"@example.org`; bare text may hold what
    only a quoted string should, as others write addresses and base64 so."""
    reader.skip()
    parts = []
    while (part := reader.quoted()) is not None or (part := reader.take(_BARE_VALUE)) is not None:
        parts.append(part)
    reader.skip()
    return b"".join(parts).decode("utf-8", "replace")


# --- taking out ---

# As `message.fields` reads fields.
_FIELD: Final = re.compile(
    rb"^authentication-results[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)(?:\n|\Z)",
    re.MULTILINE | re.IGNORECASE,
)
_BRACKETS: Final = re.compile(rb"([()])")
_UNSEEN: Final = re.compile(
    "[\x00-\x20\x7f-\xa0\xad\"'\\\\\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]++"
)


@lru_cache(maxsize=1_024)
def normal_id(text: str) -> str:
    """One spelling of an authserv-id: A-labels in lower case, without a final dot.

    RFC 8601 §5 compares U-labels, which finds the same ones equal.
    """
    bare = text.strip().rstrip(".\u3002\uff0e\uff61")
    try:
        return domain_to_ascii(bare)
    except AddressError:
        return bare.casefold()


@lru_cache(maxsize=64)
def _normal_ids(own_ids: frozenset[str]) -> frozenset[str]:
    return frozenset(filter(None, map(normal_id, own_ids)))


def is_forged(value: bytes, own_ids: frozenset[str]) -> bool:
    """Whether a field that came from outside has to go: it is in our name, or in a version that
    nobody here can read (RFC 8601 §5), or it is malformed and has our name somewhere in it (H35).

    Args:
        own_ids: the authserv-id of this server and names that were or are used beside it.
    """
    if len(value) > VALUE_OCTETS_MAX:  # nobody has a use for it
        return True
    ours = _normal_ids(own_ids)
    reader = _Reader(value)
    try:
        identity, version = _read_head(reader)
        while reader.takes(b";"):  # comments and quoted strings have to be closed
            reader.recover()
    except _Malformed:
        return _mentions(value, ours)
    return version != VERSION or identity in ours


def _mentions(value: bytes, ours: frozenset[str]) -> bool:
    """Whether one of the names is in the text in any spelling, with or without its comments."""
    text = unfold(value)
    spellings = (
        text.decode("utf-8", "replace"),
        _without_comments(text).decode("utf-8", "replace"),
        words.decode(text),
    )
    names = {spelling for name in ours for spelling in (name, domain_to_unicode(name).casefold())}
    return any(name in seen for seen in map(_squeezed, spellings) for name in names)


def _without_comments(text: bytes) -> bytes:
    kept, depth = [], 0
    for piece in _BRACKETS.split(text):
        if piece == b"(":
            depth += 1
        elif piece == b")":
            depth = max(depth - 1, 0)
        elif not depth:
            kept.append(piece)
    return b"".join(kept)


def _squeezed(text: str) -> str:
    """Only what a reader could see, on one line and in one case."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u3002", ".")
    return _UNSEEN.sub("", text)


def forged(section: HeaderSection, own_ids: frozenset[str]) -> list[Field]:
    """The Authentication-Results fields that have to go, as `is_forged` says."""
    octets = section.octets
    return [
        field
        for field in _fields(section)
        if is_forged(octets[field.value_start : field.end], own_ids)
    ]


def _fields(section: HeaderSection) -> list[Field]:
    """All of that name, also where settings let in more than `section` reads as fields."""
    is_whole = len(section.fields) < FIELDS_MAX and section.end - section.start <= HEADER_OCTETS_MAX
    if is_whole:
        if FIELD_NAME not in section:
            return []
        return [field for field in section.fields if field.name == FIELD_NAME]
    return [
        Field(FIELD_NAME, match.start(), match.start(1), match.end())
        for match in _FIELD.finditer(section.octets, section.start, section.end)
    ]


def without_forged(section: HeaderSection, own_ids: frozenset[str]) -> bytes | None:
    """The octets of the message without the forged fields, or None when there are none.

    Signatures are verified on what came, before this: one that covers a forged field holds there,
    and not in what is kept.
    """
    octets, kept, at = section.octets, [], 0
    for field in forged(section, own_ids):
        kept.append(octets[at : field.start])
        at = field.end
    return b"".join((*kept, octets[at:])) if kept else None
