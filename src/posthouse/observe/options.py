"""What the log needs to know; `config` fills it."""

from __future__ import annotations

from enum import Enum

import msgspec


class LogFormat(Enum):
    """How a log line is written."""

    JSON = "json"
    TEXT = "text"


class LogLevel(Enum):
    """How grave an event is, and from where on events are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """Rises with gravity; as in `logging`."""
        return _RANKS[self]


_RANKS = {LogLevel.DEBUG: 10, LogLevel.INFO: 20, LogLevel.WARNING: 30, LogLevel.ERROR: 40}


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The [log] section."""

    format: LogFormat = LogFormat.JSON
    level: LogLevel = LogLevel.INFO
    file: str = ""
    """Path to append to; "" is standard error."""
    field_octets_max: int = 1024
    lines_waiting_max: int = 10_000
