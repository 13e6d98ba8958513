"""A log line is one line, bounded, in ASCII, whatever is put into it."""

from __future__ import annotations

import json
import logging
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.secret import Secret
from posthouse.observe import events
from posthouse.observe.log import ForwardHandler, Log, cut
from posthouse.observe.options import LogFormat, LogLevel, LogOptions

AT_US = 1_767_225_600_000_042
"""2026-01-01T00:00:00.000042Z."""


class Colour(Enum):
    RED = "red"


def log_of(lines: list[bytes], **options: Any) -> Log:
    return Log(lines.append, unix_us=lambda: AT_US, options=LogOptions(**options))


def written(event: events.Event = events.SESSION_CLOSED, /, **fields: Any) -> bytes:
    lines: list[bytes] = []
    log_of(lines).write(event, **fields)
    assert len(lines) == 1
    return lines[0]


def test_a_line_has_time_level_event_and_fields_in_order() -> None:
    assert written(trace="abc.1", octets=5, is_tls=True, host=None, seconds=0.5) == (
        b'{"at":"2026-01-01T00:00:00.000042Z","level":"info","event":"session.closed",'
        b'"trace":"abc.1","octets":5,"is_tls":true,"host":null,"seconds":0.5}\n'
    )


def test_an_event_without_fields_is_a_whole_line() -> None:
    line = written(events.STRESS_LEFT)
    assert json.loads(line)["event"] == "stress.left"
    assert line.endswith(b"}\n")


def test_text_lines_quote_what_is_more_than_a_word() -> None:
    lines: list[bytes] = []
    log_of(lines, format=LogFormat.TEXT).write(
        events.LOGIN_REFUSED, trace="t", name='a "b"', empty="", items=["x", "y z"], n=1, s=0.25
    )
    (line,) = lines
    assert line == (
        b"2026-01-01T00:00:00.000042Z warning login.refused"
        b' trace=t name="a \\"b\\"" empty="" items=[x,"y z"] n=1 s=0.25\n'
    )


def test_the_time_of_a_line_follows_the_clock() -> None:
    now = AT_US
    lines: list[bytes] = []
    log = Log(lines.append, unix_us=lambda: now, options=LogOptions())
    for _ in range(3):
        log.write(events.STRESS_LEFT)
        now += 999_999
    assert [json.loads(line)["at"] for line in lines] == [
        "2026-01-01T00:00:00.000042Z",
        "2026-01-01T00:00:01.000041Z",
        "2026-01-01T00:00:02.000040Z",
    ]


HOSTILE = [
    "\t\r\n",
    "\x1b[2J\x1b]0;title\x07",
    "${jndi:ldap://x}",
    "%n%s",
    '"} {"event":"message.accepted"',
    "\x7f\x80\x9b31m",
    "\u2028\u2029\u202e\ufeff",
    "\ud800",
    "é" * 600,
    "a" * 5_000,
    "\x00" * 5_000,
]


# H25
@pytest.mark.parametrize("form", LogFormat)
@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_a_line(name: str, form: LogFormat) -> None:
    lines: list[bytes] = []
    log_of(lines, format=form).write(events.CLIENT_NAMED, name=name)
    assert lines == []  # it is a debug event
    log_of(lines, format=form, level=LogLevel.DEBUG).write(events.CLIENT_NAMED, name=name)
    (line,) = lines
    assert line.endswith(b"\n")
    assert all(0x20 <= octet <= 0x7E for octet in line[:-1])
    assert len(line) < 1_200
    if form is LogFormat.JSON:
        said = json.loads(line)
        assert set(said) == {"at", "level", "event", "name"}
        assert said["name"] == name or said["name"].endswith("...")


# H25
@given(
    name=st.text(max_size=3_000),
    items=st.lists(st.text(max_size=50), max_size=200),
    number=st.integers() | st.floats() | st.none() | st.booleans(),
    form=st.sampled_from(LogFormat),
)
def test_every_line_is_one_bounded_line_of_printable_ascii(
    name: str, items: list[str], number: object, form: LogFormat
) -> None:
    lines: list[bytes] = []
    log = log_of(lines, format=form, field_octets_max=256)
    log.write(events.SESSION_CLOSED, name=name, items=items, number=number)  # type: ignore[arg-type]
    (line,) = lines
    assert line.endswith(b"\n")
    assert all(0x20 <= octet <= 0x7E for octet in line[:-1])
    assert len(line) < 900
    if form is LogFormat.JSON:
        assert json.loads(line)["event"] == "session.closed"


# P9
@given(st.text(max_size=300), st.integers(10, 200))
def test_a_field_is_cut_to_its_octets_once_escaped(text: str, octets_max: int) -> None:
    shown = cut(text, octets_max)
    assert len(json.dumps(shown)) - 2 <= octets_max or "\x7f" in shown
    assert shown == text or (shown.endswith("...") and text.startswith(shown[:-3]))


def test_a_field_at_the_bound_is_whole() -> None:
    assert cut("a" * 64, 64) == "a" * 64
    assert cut("a" * 65, 64) == "a" * 61 + "..."
    assert cut("\n" * 32, 64) == "\n" * 32
    assert cut("\n" * 33, 64) == "\n" * 30 + "..."


def test_a_list_says_how_many_items_it_left_out() -> None:
    said = json.loads(written(items=[f"user{at}@example.org" for at in range(1_000)]))
    assert said["items"][0] == "user0@example.org"
    assert said["items"][-1] == f"... {1_000 - len(said['items']) + 1} more"


def test_values_of_all_kinds_become_plain_ones() -> None:
    line = written(colour=Colour.RED, huge=10**5_000, nan=float("nan"), key=Secret("hunter2"))
    said = json.loads(line)
    assert (said["colour"], said["nan"], said["key"]) == ("red", None, "***")
    assert said["huge"] == "a number beyond 64 bits"


@pytest.mark.parametrize("form", LogFormat)
@pytest.mark.parametrize("filler", ["", "é" * 2_000])
def test_a_secret_is_in_no_line(form: LogFormat, filler: str) -> None:
    lines: list[bytes] = []
    secret = Secret("correct horse")
    log_of(lines, format=form).write(
        events.LOGIN_REFUSED, a=secret, b=f"{secret}", c=[str(secret)], d=repr([secret]), e=filler
    )
    assert b"horse" not in lines[0]
    assert lines[0].count(b"***") == 4


def test_levels_below_the_one_set_are_not_written() -> None:
    lines: list[bytes] = []
    log = log_of(lines, level=LogLevel.WARNING)
    log.write(events.SERVER_STARTED)
    log.write(events.LIMIT_REACHED)
    log.write(events.FAULT_MET)
    assert [json.loads(line)["level"] for line in lines] == ["warning", "error"]
    assert not log.is_written(events.SERVER_STARTED)
    log.configure(LogOptions(level=LogLevel.DEBUG))
    assert log.is_written(events.CLIENT_NAMED)


def test_a_bug_keeps_the_end_of_its_traceback() -> None:
    lines: list[bytes] = []

    def deep(depth: int) -> None:
        if depth == 0:
            raise ValueError("the reason")
        deep(depth - 1)

    with pytest.raises(ValueError, match="the reason") as caught:
        deep(50)
    log_of(lines).bug(events.SESSION_FAILED, caught.value, trace="t")
    said = json.loads(lines[0])
    assert said["detail"].rstrip("\n").endswith("ValueError: the reason")
    assert said["trace"] == "t"


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (logging.DEBUG, "library.debug"),
        (logging.INFO, "library.info"),
        (logging.WARNING, "library.warning"),
        (logging.CRITICAL, "library.error"),
    ],
)
def test_what_libraries_say_becomes_a_line_of_ours(level: int, name: str) -> None:
    lines: list[bytes] = []
    handler = ForwardHandler(log_of(lines, level=LogLevel.DEBUG))
    handler.handle(logging.LogRecord("aiohttp", level, "f", 1, "got %s\n", ("\x1b",), None))
    said = json.loads(lines[0])
    assert (said["event"], said["logger"], said["text"]) == (name, "aiohttp", "got \x1b\n")


def test_a_library_that_cannot_format_its_record_does_not_break_us() -> None:
    lines: list[bytes] = []
    handler = ForwardHandler(log_of(lines))
    handler.handle(logging.LogRecord("x", logging.ERROR, "f", 1, "%d", ("no number",), None))
    assert "cannot be formatted" in json.loads(lines[0])["text"]


def test_an_exception_of_a_library_is_told_with_its_traceback() -> None:
    lines: list[bytes] = []
    handler = ForwardHandler(log_of(lines))
    error = RuntimeError("lost")
    record = logging.LogRecord(
        "asyncio", logging.ERROR, "f", 1, "task died", (), (RuntimeError, error, None)
    )
    handler.handle(record)
    assert "RuntimeError: lost" in json.loads(lines[0])["detail"]


def test_every_event_has_a_level_and_a_meaning() -> None:
    for name, event in events.EVENTS.items():
        assert name == event.name
        assert event.meaning.endswith(".")
        assert name.replace(".", "").replace("_", "").isalpha()
