"""TLS reports: the JSON of RFC 8460 §4.4, leniently: counts as text, one host for a list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from posthouse.reporting.model import Overrun, TlsFailure, TlsPolicy, TlsReport, Unreadable

JSON_OCTETS_MAX: Final = 10 * 1024 * 1024
"""It is read as a whole, so its bound is less than that of XML."""
TEXT_CHARACTERS_MAX: Final = 1_000
STRINGS_MAX: Final = 200
COUNT_MAX: Final = 2**53

Texts = list[str] | str | None


class _Lenient(msgspec.Struct, rename="kebab"):
    """Fields that are not known are passed over (RFC 8460 §4.3: the list will grow)."""


class _Range(_Lenient):
    start_datetime: str = ""
    end_datetime: str = ""


class _Policy(_Lenient):
    policy_type: str = ""
    policy_string: Texts = None
    policy_domain: str = ""
    mx_host: Texts = None


class _Summary(_Lenient):
    total_successful_session_count: int | float | str | None = None
    total_failure_session_count: int | float | str | None = None


class _Failure(_Lenient):
    result_type: str = ""
    sending_mta_ip: str | None = None
    receiving_mx_hostname: str | None = None
    receiving_mx_helo: str | None = None
    receiving_ip: str | None = None
    failed_session_count: int | float | str | None = None
    additional_information: str | None = None
    failure_reason_code: str | None = None


class _Part(_Lenient):
    policy: _Policy = msgspec.field(default_factory=_Policy)
    summary: _Summary = msgspec.field(default_factory=_Summary)
    failure_details: list[_Failure] | None = None


class _Report(_Lenient):
    policies: list[_Part]
    organization_name: str | None = ""
    date_range: _Range = msgspec.field(default_factory=_Range)
    contact_info: str | None = ""
    report_id: str | None = ""


_DECODER: Final = msgspec.json.Decoder(_Report)
_DATE: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.\d{1,9})?([Zz]|[+-]\d\d:?\d\d)?"
)


def read(pieces: Iterable[bytes], *, records_max: int) -> TlsReport:
    """Raises Unreadable."""
    octets = _joined(pieces)
    # Each object costs a hundred octets or so; they are counted before any is made.
    parts = octets.count(b"{")
    if parts > records_max:
        raise Unreadable(
            f"the report has more than {records_max} parts",
            Overrun(name="reports.records_max", value=records_max, observed=parts),
        )
    try:
        found = _DECODER.decode(octets)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Unreadable(f"it is no TLS report: {error}") from error
    if not found.policies:
        raise Unreadable("the report tells of no policy")
    return TlsReport(
        organization=_text(found.organization_name),
        contact=_text(found.contact_info),
        report_id=_text(found.report_id),
        begin_s=_seconds(found.date_range.start_datetime),
        end_s=_seconds(found.date_range.end_datetime),
        policies=tuple(_policy(part) for part in found.policies),
    )


def _joined(pieces: Iterable[bytes]) -> bytes:
    kept: list[bytes] = []
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > JSON_OCTETS_MAX:
            raise Unreadable(f"the JSON is larger than {JSON_OCTETS_MAX} octets")
        kept.append(piece)
    return b"".join(kept).removeprefix(b"\xef\xbb\xbf")


def _policy(part: _Part) -> TlsPolicy:
    policy, summary = part.policy, part.summary
    return TlsPolicy(
        type=_text(policy.policy_type).lower(),
        domain=_text(policy.policy_domain).lower().rstrip("."),
        strings=_texts(policy.policy_string),
        mx_hosts=_texts(policy.mx_host),
        successes=_count(summary.total_successful_session_count),
        failures=_count(summary.total_failure_session_count),
        details=tuple(_failure(each) for each in part.failure_details or ()),
    )


def _failure(failure: _Failure) -> TlsFailure:
    return TlsFailure(
        result=_text(failure.result_type).lower(),
        sessions=_count(failure.failed_session_count),
        sending_ip=_text(failure.sending_mta_ip),
        receiving_host=_text(failure.receiving_mx_hostname),
        receiving_hello=_text(failure.receiving_mx_helo),
        receiving_ip=_text(failure.receiving_ip),
        more=_text(failure.additional_information),
        reason=_text(failure.failure_reason_code),
    )


def _text(value: str | None) -> str:
    return (value or "")[:TEXT_CHARACTERS_MAX].strip()


def _texts(value: Texts) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value or []
    return tuple(_text(each) for each in listed[:STRINGS_MAX])


def _count(value: Any) -> int:
    """0 for what is no number of anything."""
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) <= 16 else 0
    if isinstance(value, float):
        value = int(value) if 0 <= value <= COUNT_MAX else 0
    return min(max(value or 0, 0), COUNT_MAX)


def _seconds(text: str) -> int:
    """Of an RFC 3339 §5.6 date-time; 0 for what is none."""
    match = _DATE.fullmatch(text.strip()[:60])
    if match is None:
        return 0
    zone = "+00:00" if match[3] in (None, "Z", "z") else match[3]
    try:
        moment = datetime.fromisoformat(f"{match[1]}T{match[2]}{zone}")
        return max(0, int(moment.astimezone(UTC).timestamp()))
    except (ValueError, OverflowError):
        return 0
