"""Sizes and durations are read and written the same way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.config.quantity import format_duration, format_size, parse_duration_s, parse_size


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("2048", 2048),
        ("16KiB", 16_384),
        ("50 MiB", 52_428_800),
        ("1GiB", 2**30),
        ("50MB", 50_000_000),
        ("1kB", 1_000),
        ("7B", 7),
        ("", None),
        ("-1", None),
        ("1.5MiB", None),
        ("50mib", None),
        ("MiB", None),
        ("١KiB", None),
        ("9" * 41, None),
    ],
)
def test_a_size_is_read(text: str, octets: int | None) -> None:
    assert parse_size(text) == octets


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("5 min", 300),
        ("4h", 14_400),
        ("5d", 432_000),
        ("2w", 1_209_600),
        ("1d12h", 129_600),
        ("1h 30m", 5_400),
        ("1.5h", 5_400),
        ("", None),
        ("30", None),
        ("h", None),
        ("-5s", None),
        ("5s!", None),
        ("1y", None),
        ("٣s", None),
        ("1s" * 21, None),
    ],
)
def test_a_duration_is_read(text: str, seconds: float | None) -> None:
    assert parse_duration_s(text) == seconds


@given(st.integers(0, 2**50))
def test_a_size_survives_writing_and_reading(octets: int) -> None:
    assert parse_size(format_size(octets)) == octets


@given(st.integers(1, 10**8))
def test_a_duration_survives_writing_and_reading(seconds: int) -> None:
    assert parse_duration_s(format_duration(seconds)) == seconds


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    assert (parse_size(text) or 0) >= 0
    assert (parse_duration_s(text) or 0.0) >= 0.0
