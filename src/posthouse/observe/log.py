"""One structured line for each event: what happened, when, in which connection or message.

A line stays one line whatever a peer said (H25): everything outside 0x20-0x7E is escaped and each
field is bounded. It holds no message content and no secret. Writing it is one encode and an append
to the sink's queue; nothing here waits for a disk or pipe.
"""

from __future__ import annotations

import json
import logging
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

import msgspec

from posthouse.kernel.secret import Secret
from posthouse.observe import events
from posthouse.observe.events import Event
from posthouse.observe.options import LogFormat, LogLevel, LogOptions
from posthouse.observe.sink import ThreadSink

LIST_ITEMS_MAX: Final = 100
"""Of a list in a field; the field's octets bound it too."""
ELLIPSIS: Final = "..."
"""Ends a field that was cut; ASCII, like the rest of a line."""

_MICROSECONDS: Final = 1_000_000

Field = str | int | float | bool | Enum | Secret | Sequence[str] | None
"""What a line can hold. Octets are decoded by who knows what they are."""

Put = Callable[[bytes], None]
"""Takes a line with its newline; never blocks, never raises. `sink.ThreadSink.put` is one."""


class Log:
    """Writes events to a sink. One for a process, handed down by `app`."""

    __slots__ = (
        "_encode",
        "_field_octets_max",
        "_is_json",
        "_put",
        "_rank",
        "_stamp",
        "_unix_us",
    )

    def __init__(self, put: Put, *, unix_us: Callable[[], int], options: LogOptions) -> None:
        """
        Args:
            unix_us: wall time in microseconds since 1970, `Clock.unix_us`.
        """
        self._put = put
        self._unix_us = unix_us
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._stamp = (-1, b"")  # one attribute, as threads share it
        self.configure(options)

    def configure(self, options: LogOptions) -> None:
        """Format, level and bound from now on; the file is the sink's affair."""
        self._rank = options.level.rank
        self._is_json = options.format is LogFormat.JSON
        self._field_octets_max = options.field_octets_max

    def is_written(self, event: Event) -> bool:
        """Whether the level lets it through; for callers whose fields are dear to make."""
        return event.rank >= self._rank

    def write(self, event: Event, /, **fields: Field) -> None:
        """Leave one line.

        Args:
            fields: `trace` is the id of the connection or transaction; None is written as null.
        """
        if event.rank >= self._rank:
            self._put(self.line(event, fields))

    def line(self, event: Event, fields: Mapping[str, Field]) -> bytes:
        """The line of an event, whatever its level."""
        now_us = self._unix_us()
        second = now_us // _MICROSECONDS
        stamp = self._stamp
        if second != stamp[0]:
            self._stamp = stamp = (second, _stamped(second))
        time = b"%b%06d" % (stamp[1], now_us - second * _MICROSECONDS)
        if not self._is_json:
            return time + event.text_head + _text_fields(self._bounded_fields(fields))
        if not fields:
            return b'{"at":"%b%b}\n' % (time, event.json_head)
        try:
            body = self._encode(fields)
        except (ValueError, OverflowError):  # a lone surrogate, a number of too many digits
            body = self._slow_json(fields)
        else:
            # A line shorter than one field's bound has no field beyond it.
            if len(body) > self._field_octets_max or not body.isascii() or b"\x7f" in body:
                body = self._slow_json(fields)
        return b'{"at":"%b%b,%b\n' % (time, event.json_head, body[1:])

    def bug(self, event: Event, error: BaseException, /, **fields: Field) -> None:
        """An event with an exception's traceback in `detail`, its end rather than its start."""
        text = "".join(traceback.format_exception(error))
        self.write(event, **fields, detail=text[-self._field_octets_max // 2 :])

    def _slow_json(self, fields: Mapping[str, Field]) -> bytes:
        text = json.dumps(self._bounded_fields(fields), ensure_ascii=True, separators=(",", ":"))
        return text.replace("\x7f", "\\u007f").encode("ascii")

    def _bounded_fields(self, fields: Mapping[str, Field]) -> dict[str, Any]:
        return {name: self._bounded(value) for name, value in fields.items()}

    def _bounded(self, value: Any) -> Any:
        """A value of any type as something plain that fits the bound."""
        match value:
            case str():
                return cut(value, self._field_octets_max)
            case Enum():
                return self._bounded(value.value)
            case list() | tuple():
                return self._bounded_list(value)
            case bool() | None:
                return value
            case int():
                return value if -(2**63) <= value < 2**64 else "a number beyond 64 bits"
            case float():
                return value if math.isfinite(value) else None
            case _:
                return cut(str(value), self._field_octets_max)

    def _bounded_list(self, values: list[Any] | tuple[Any, ...]) -> list[str]:
        """As many items as fit; what is left out is counted in a last item."""
        left = self._field_octets_max
        shown: list[str] = []
        for value in values[:LIST_ITEMS_MAX]:
            item = cut(str(self._bounded(value)), self._field_octets_max)
            left -= len(_escaped(item)) + 3  # its quotes and comma
            if left < 0:
                break
            shown.append(item)
        if len(shown) < len(values):
            shown.append(f"{ELLIPSIS} {len(values) - len(shown)} more")
        return shown


def open_log(options: LogOptions, *, unix_us: Callable[[], int]) -> tuple[Log, ThreadSink]:
    """The log of a process and its sink, which the caller closes at the end.

    Raises:
        UserError: the file cannot be opened.
    """
    sink = ThreadSink(options.file, lines_waiting_max=options.lines_waiting_max)
    log = Log(sink.put, unix_us=unix_us, options=options)
    sink.report = lambda name, fields: log.line(events.EVENTS[name], fields)
    return log, sink


def _stamped(second: int) -> bytes:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.".encode("ascii")


def cut(text: str, octets_max: int) -> str:
    """The text, or as much of it as fits `octets_max` once escaped, with an ellipsis."""
    head = text[: octets_max + 1]
    if len(_escaped(head)) <= octets_max and len(text) <= octets_max:
        return text
    left = octets_max - len(ELLIPSIS)
    for at, character in enumerate(head):
        left -= len(_escaped(character))
        if left < 0:
            return head[:at] + ELLIPSIS
    return head + ELLIPSIS


def _escaped(text: str) -> str:
    """As JSON writes it in ASCII, without the quotes."""
    return json.dumps(text)[1:-1].replace("\x7f", "\\u007f")


def _text_fields(fields: dict[str, Field]) -> bytes:
    """` name=value` for each, quoted and escaped where a value is more than a plain word."""
    parts = []
    for name, value in fields.items():
        match value:
            case str():
                shown = _word(value)
            case bool() | None:
                shown = json.dumps(value)
            case list():
                shown = "[" + ",".join(_word(item) for item in value) + "]"
            case _:
                shown = f"{value:g}" if isinstance(value, float) else str(value)
        parts.append(f" {name}={shown}")
    return ("".join(parts) + "\n").encode("ascii")


_PLAIN_WORD_ENDERS: Final = frozenset(' "\\=,[]')


def _word(text: str) -> str:
    is_plain = text and text.isascii() and text.isprintable()
    if is_plain and _PLAIN_WORD_ENDERS.isdisjoint(text):
        return text
    return f'"{_escaped(text)}"'


class ForwardHandler(logging.Handler):
    """Puts the records of libraries (asyncio, aiohttp, apsw) into our log, as our lines."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception as error:  # a library's wrong format string must not become our failure
            text = f"{record.msg!r} cannot be formatted: {error}"
        fields: dict[str, Field] = {"logger": record.name, "text": text}
        if record.exc_info and record.exc_info[1] is not None:
            self._log.bug(_library_event(record.levelno), record.exc_info[1], **fields)
        else:
            self._log.write(_library_event(record.levelno), **fields)


def _library_event(level: int) -> Event:
    if level >= LogLevel.ERROR.rank:
        return events.LIBRARY_SPOKE_ERROR
    if level >= LogLevel.WARNING.rank:
        return events.LIBRARY_SPOKE_WARNING
    return events.LIBRARY_SPOKE_INFO if level >= LogLevel.INFO.rank else events.LIBRARY_SPOKE_DEBUG
