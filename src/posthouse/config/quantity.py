"""Sizes and durations as people write them: "50MiB", "4h", "1d12h"; and back."""

from __future__ import annotations

import re
from typing import Final

from posthouse.config.setting import DAY_S, GIB, HOUR_S, KIB, MIB, MINUTE_S, Unit

TEXT_MAX: Final = 40
"""Characters of a quantity; longer text is none."""

_SIZES: Final = {
    "": 1,
    "B": 1,
    "kB": 1_000,
    "KB": 1_000,
    "MB": 1_000_000,
    "GB": 1_000_000_000,
    "KiB": KIB,
    "MiB": MIB,
    "GiB": GIB,
}
_DURATIONS: Final = {
    "ms": 0.001,
    "s": 1.0,
    "m": MINUTE_S,
    "min": MINUTE_S,
    "h": HOUR_S,
    "d": DAY_S,
    "w": 7 * DAY_S,
}
_SIZE: Final = re.compile(r"([0-9]+) ?([A-Za-z]*)")
_PART: Final = re.compile(r" ?([0-9]+(?:\.[0-9]+)?) ?(ms|min|[smhdw])")


def parse_size(text: str) -> int | None:
    """Octets, or None when the text is no size."""
    if len(text) > TEXT_MAX or (match := _SIZE.fullmatch(text)) is None:
        return None
    unit = _SIZES.get(match[2])
    return None if unit is None else int(match[1]) * unit


def parse_duration_s(text: str) -> float | None:
    """Seconds, or None when the text is no duration; parts with units follow each other."""
    if not text or len(text) > TEXT_MAX:
        return None
    total, at = 0.0, 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            return None
        total += float(match[1]) * _DURATIONS[match[2]]
        at = match.end()
    return total


def format_size(octets: int) -> str:
    """The largest unit that says it exactly; small or odd numbers stay as they are."""
    for name, unit in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if octets >= unit and octets % unit == 0:
            return f"{octets // unit}{name}"
    return str(octets)


def format_duration(seconds: float) -> str:
    """The largest unit that says it exactly, "90s" rather than "1m30s"."""
    for name, unit in (("d", DAY_S), ("h", HOUR_S), ("m", MINUTE_S)):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:.0f}{name}"
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def format_value(value: object, unit: Unit) -> str:
    """A setting's value for people."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() if unit is Unit.OCTETS:
            return format_size(value)
        case int() if unit is Unit.OCTETS_PER_S:
            return f"{format_size(value)}/s"
        case int() if unit is Unit.DAYS:
            return f"{value}d"
        case int() | float() if unit is Unit.SECONDS:
            return format_duration(float(value))
        case int():
            return f"{value:,}" if value >= 10_000 else str(value)
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(str(item) for item in value) if value else "none"
        case None | "":
            return "-"
        case _:
            return str(value)
