"""Dates in header fields (RFC 5322 §3.3 and its obsolete forms, §4.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

VALUE_OCTETS_MAX: Final = 1_000
"""Of a Date value that are looked at."""
COMMENT_DEPTH_MAX: Final = 3
YEAR_MIN: Final = 1900  # RFC 5322 §3.3
YEAR_MAX: Final = 9998  # so that no zone leads out of what `datetime` can hold

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
_MONTH_NUMBERS: Final = {name.lower().encode(): at + 1 for at, name in enumerate(_MONTHS)}
# RFC 5322 §4.3. The military letters mean -0000 there, as they were once defined the wrong way.
_ZONES: Final = {
    b"edt": -240, b"est": -300, b"cdt": -300, b"cst": -360,
    b"mdt": -360, b"mst": -420, b"pdt": -420, b"pst": -480,
}  # fmt: skip
_DATE: Final = re.compile(
    rb"\s*+(?:[A-Za-z]{3,9}\s*+,?\s*+)?(\d{1,2})[\s\-]++([A-Za-z]{3,9})[\s\-]++(\d{2,5})\s++"
    rb"(\d{1,2})\s*+:\s*+(\d{1,2})(?:\s*+:\s*+(\d{1,2}))?\s*+"
    rb"(?:([+-])(\d\d)(\d\d)(?!\d)|([A-Za-z]{1,5}))?"
)
_COMMENT: Final = re.compile(rb"\((?:[^()\\]|\\.)*+\)", re.DOTALL)  # an innermost one


def parse_date(value: bytes) -> datetime | None:
    """The moment in a Date field value, aware, with its own zone; None for what is no date (H36).

    A zone that is missing or unknown counts as UTC; day names are not checked.
    """
    value = value[:VALUE_OCTETS_MAX]
    match = _DATE.match(value)
    if match is None and b"(" in value:
        for _ in range(COMMENT_DEPTH_MAX):
            value = _COMMENT.sub(b" ", value)
        match = _DATE.match(value)
    if match is None:
        return None
    day, month_name, year_text, hour, minute, second, sign, zone_h, zone_m, zone_name = (
        match.groups()
    )
    month = _MONTH_NUMBERS.get(month_name[:3].lower())
    year = int(year_text)
    if len(year_text) == 2:  # RFC 5322 §4.3
        year += 2000 if year < 50 else 1900
    elif len(year_text) == 3:
        year += 1900
    if month is None or not YEAR_MIN <= year <= YEAR_MAX:
        return None
    if sign is None:
        offset_min = _ZONES.get((zone_name or b"").lower(), 0)
    else:
        offset_min = int(zone_h) * 60 + int(zone_m)
        offset_min = -offset_min if sign == b"-" else offset_min
    if abs(offset_min) >= 24 * 60:
        return None
    zone = timezone(timedelta(minutes=offset_min)) if offset_min else UTC
    leap = 1 if second == b"60" else 0  # RFC 5322 §3.3 allows a leap second
    try:
        return datetime(
            year, month, int(day), int(hour), int(minute), int(second or 0) - leap, tzinfo=zone
        )
    except ValueError:
        return None


def format_date(moment: datetime) -> str:
    """An aware moment as a Date field value (RFC 5322 §3.3), in its own zone."""
    offset = moment.utcoffset()
    assert offset is not None  # a naive moment is a bug
    minutes = int(offset.total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day} {_MONTHS[moment.month - 1]} {moment.year:04}"
        f" {moment.hour:02}:{moment.minute:02}:{moment.second:02}"
        f" {sign}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    )
