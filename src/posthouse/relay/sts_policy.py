"""MTA-STS: the record in the DNS and the policy on the web, as text and as values (RFC 8461 §3).

Pure. What is malformed gives no policy; nothing here raises but `BadPolicy`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

POLICY_OCTETS_MAX: Final = 65_536  # RFC 8461 §3.3
MAX_AGE_S: Final = 31_557_600  # RFC 8461 §3.2
PATTERNS_MAX: Final = 1_000
RECORD_OCTETS_MAX: Final = 4_096
PATH: Final = "/.well-known/mta-sts.txt"

_BEGINS: Final = re.compile(rb"v=STSv1[ \t]*;")
_FIELD: Final = re.compile(
    rb"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]{0,31})=(?P<value>[\x21-\x3a\x3c\x3e-\x7e]+)"
)
_ID: Final = re.compile(rb"[A-Za-z0-9]{1,32}")
_LINE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):[ \t]*(.*)")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DIGITS: Final = re.compile(r"[0-9]{1,10}")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PATTERN: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


class Mode(Enum):
    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


class BadPolicy(ValueError):
    """The text is no policy; `str()` says why, in words."""


class StsPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy as it was published."""

    mode: Mode
    max_age_s: int
    mx: tuple[str, ...] = ()
    """Names and "*." patterns, in lower case."""
    lines: tuple[str, ...] = ()
    """The lines that count, as TLS reports show them (RFC 8460 §4.4)."""

    def allows(self, host: str) -> bool:
        """Whether mail may go to this MX host: equal, or "*" for exactly one label (RFC 8461
        §4.1)."""
        host = host.lower().removesuffix(".")
        first, _, parent = host.partition(".")
        wild = f"*.{parent}" if first and parent else ""
        return any(pattern in (host, wild) for pattern in self.mx)


def record_id(texts: Sequence[bytes]) -> str | None:
    """The id= of the one MTA-STS record among the TXT records of `_mta-sts.DOMAIN`; None when
    there is none, more than one, or one that is malformed (RFC 8461 §3.1)."""
    records = [text for text in texts if _BEGINS.match(text)]
    if len(records) != 1 or len(records[0]) > RECORD_OCTETS_MAX:
        return None
    found: bytes | None = None
    fields = [field.strip(b" \t") for field in records[0].split(b";")[1:]]
    if fields and not fields[-1]:
        fields.pop()  # what stands behind the last ";"
    for field in fields:
        match = _FIELD.fullmatch(field)
        if match is None:
            return None
        if match["name"] == b"id" and found is None:  # of fields that repeat the first counts
            if _ID.fullmatch(match["value"]) is None:
                return None
            found = match["value"]
    return None if found is None else found.decode("ascii")


def parse_policy(octets: bytes) -> StsPolicy:
    """A policy file (RFC 8461 §3.2). A final dot of a name is passed over; empty lines too.

    Raises:
        BadPolicy: a field is missing or malformed.
    """
    if len(octets) > POLICY_OCTETS_MAX:
        raise BadPolicy(f"the policy has more than {POLICY_OCTETS_MAX} octets")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise BadPolicy("the policy is not UTF-8") from None
    first: dict[str, str] = {}
    patterns: list[str] = []
    for line in text.split("\n"):
        stripped = line.removesuffix("\r").strip(" \t")
        if not stripped:
            continue
        match = _LINE.fullmatch(stripped)
        if match is None or _CONTROL.search(stripped):
            raise BadPolicy(f"the policy has a line that is none: {_shown(stripped)}")
        name, value = match[1], match[2]
        if name == "mx":
            patterns.append(_pattern(value))
        else:
            first.setdefault(name, value)
    return _policy(first, patterns)


def _policy(first: dict[str, str], patterns: list[str]) -> StsPolicy:
    if first.get("version") != "STSv1":
        raise BadPolicy("the policy does not say version: STSv1")
    try:
        mode = Mode(first.get("mode", ""))
    except ValueError:
        raise BadPolicy("the policy has no mode we know") from None
    age = first.get("max_age", "")
    if _DIGITS.fullmatch(age) is None:
        raise BadPolicy("the policy has no max_age that is a number of seconds")
    if not patterns and mode is not Mode.NONE:
        raise BadPolicy("the policy names no mx")
    if len(patterns) > PATTERNS_MAX:
        raise BadPolicy(f"the policy has more than {PATTERNS_MAX} mx lines")
    mx = tuple(dict.fromkeys(patterns))
    return StsPolicy(
        mode=mode,
        max_age_s=min(int(age), MAX_AGE_S),
        mx=mx,
        lines=(
            "version: STSv1",
            f"mode: {mode.value}",
            *(f"mx: {pattern}" for pattern in mx),
            f"max_age: {age}",
        ),
    )


def _pattern(value: str) -> str:
    """`*.` may stand in front of a domain once and nowhere else (RFC 8461 §3.2)."""
    pattern = value.lower().removesuffix(".")
    if len(pattern) > 255 or _PATTERN.fullmatch(pattern) is None:
        raise BadPolicy(f"the policy has an mx that is no host name: {_shown(value)}")
    return pattern


def _shown(text: str) -> str:
    return repr(text[:60])
