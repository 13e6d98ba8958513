"""What a setting is: a typed field with bounds, a unit, a meaning, and what reaching it causes.

Everything said here is read back by the loader, `config show` and the reference page, so that a
setting is described in one place. Every bound is finite and above zero unless a setting says
otherwise: no limit may be none, and 0 never means unlimited (RELIABILITY section 2).
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import msgspec

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0

COUNT_MAX: Final = 1_000_000_000
OCTETS_MAX: Final = 2**50
"""1 PiB: a bound on bounds, far inside what the database's integers hold."""
DURATION_MAX_S: Final = 3650 * DAY_S


class Unit(Enum):
    """What the number of a setting counts."""

    OCTETS = "octets"
    OCTETS_PER_S = "octets a second"
    SECONDS = "seconds"
    DAYS = "days"
    COUNT = "count"
    NONE = ""


class Kind(Enum):
    """What the text of a setting must be, beyond being text."""

    TEXT = "text"
    PATH = "a path"
    HOSTNAME = "a host name"
    ADDRESS = "an IP address"
    NETWORK = "an IP network like 192.0.2.0/24"
    HOST_PORT = "HOST:PORT or HOST"
    ADDRESS_PORT = "ADDRESS:PORT or ADDRESS"
    MAIL_ADDRESS = "a mail address like you@example.org"
    HTTPS_URL = "a URL like https://ca.example.org/directory"
    DOMAIN_PATTERN = "a domain, or *.domain for everything below it"


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a setting beside its type, bounds and default."""

    meaning: str
    unit: Unit = Unit.NONE
    kind: Kind = Kind.TEXT
    reached: str = ""
    """For a limit: the reply or what else happens when it is exceeded. "" for other settings."""
    computed: str = ""
    """Where the default comes from, when it is worked out on the machine at start."""


EXTRA_KEY: Final = "setting"


def _meta(about: About, **bounds: Any) -> msgspec.Meta:
    return msgspec.Meta(description=about.meaning, extra={EXTRA_KEY: about}, **bounds)


def count(
    meaning: str, *, low: int = 1, high: int = COUNT_MAX, reached: str = "", computed: str = ""
) -> msgspec.Meta:
    """A number of things."""
    about = About(meaning=meaning, unit=Unit.COUNT, reached=reached, computed=computed)
    return _meta(about, ge=low, le=high)


def octets(
    meaning: str,
    *,
    low: int = 1,
    high: int = OCTETS_MAX,
    reached: str = "",
    computed: str = "",
    unit: Unit = Unit.OCTETS,
) -> msgspec.Meta:
    """A size, or with `unit` a rate, in octets."""
    about = About(meaning=meaning, unit=unit, reached=reached, computed=computed)
    return _meta(about, ge=low, le=high)


def seconds(
    meaning: str, *, low: float = 0.001, high: float = DURATION_MAX_S, reached: str = ""
) -> msgspec.Meta:
    """A duration in seconds."""
    return _meta(About(meaning=meaning, unit=Unit.SECONDS, reached=reached), ge=low, le=high)


def days(
    meaning: str, *, low: int = 1, high: int = 3650, reached: str = "", computed: str = ""
) -> msgspec.Meta:
    """A duration in whole days."""
    about = About(meaning=meaning, unit=Unit.DAYS, reached=reached, computed=computed)
    return _meta(about, ge=low, le=high)


def factor(meaning: str, *, low: float, high: float) -> msgspec.Meta:
    """A plain number without a unit."""
    return _meta(About(meaning=meaning), ge=low, le=high)


def text(meaning: str, *, kind: Kind = Kind.TEXT, computed: str = "") -> msgspec.Meta:
    """Text, or a list of texts, of one kind."""
    return _meta(About(meaning=meaning, kind=kind, computed=computed))


def choice(meaning: str, *, computed: str = "") -> msgspec.Meta:
    """True or false, or one of a closed set of words."""
    return _meta(About(meaning=meaning, computed=computed))
