"""Words for somebody who mistyped: the nearest known name, and what a setting takes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

from posthouse.config.catalogue import Section, Setting, choices, settings
from posthouse.config.quantity import format_value
from posthouse.config.setting import COUNT_MAX, DURATION_MAX_S, OCTETS_MAX, Kind, Unit

NAME_CHARACTERS_MAX: Final = 60
"""Longer names resemble nothing; it also bounds the work of comparing."""
LISTED_MAX: Final = 12
ELSEWHERE_MAX: Final = 3


def nearest(section: Section, name: str) -> str:
    """A hint for an unknown key of a section; "" is never returned."""
    at = f"{section.key}." if section.key else ""
    names = section.names()
    if (near := one_of(name, names)) is not None:
        return f"did you mean {at}{near}?"
    elsewhere = [key for key in settings() if key.rpartition(".")[2] == name]
    if elsewhere:
        return f"did you mean {_either(elsewhere[:ELSEWHERE_MAX])}?"
    last_names = {key.rpartition(".")[2]: key for key in settings()}
    if (near := one_of(name, list(last_names), cutoff=0.75)) is not None:
        return f"did you mean {last_names[near]}?"
    if len(names) <= LISTED_MAX:
        return f"known here: {', '.join(names)}"
    command = " ".join(filter(None, ("posthouse config show", section.key)))
    return f"`{command}` lists what there is"


def one_of(word: str, words: Sequence[str], cutoff: float = 0.6) -> str | None:
    """The nearest of some words, or None when none is near."""
    if len(word) > NAME_CHARACTERS_MAX:
        return None
    folded = word.lower().replace("-", "_")
    matches = difflib.get_close_matches(folded, words, n=1, cutoff=cutoff)
    return matches[0] if matches else None


_EXAMPLES: Final = {
    Unit.SECONDS: 'a duration: seconds, or text like "30s", "5m", "4h", "5d"',
    Unit.DAYS: 'a number of days, or text like "30d"',
    Unit.OCTETS: 'a size: octets, or text like "64KiB", "50MiB"',
    Unit.OCTETS_PER_S: 'a rate: octets a second, or text like "1KiB"',
    Unit.COUNT: "a whole number",
    Unit.NONE: "a number",
}
_KINDS: Final = {
    Kind.TEXT: "text",
    Kind.HOSTNAME: "a host name like mail.example.org",
    Kind.NETWORK: "an IP network like 192.0.2.0/24 or 2001:db8::/32",
}


def allowed(setting: Setting) -> str:
    """What a setting takes, in words."""
    if setting.type is bool:
        return "true or false"
    if words := choices(setting):
        return _either([f'"{word}"' for word in words])
    kind = _KINDS.get(setting.about.kind, setting.about.kind.value)
    if setting.type is tuple:
        return f"a list of texts, each {kind}"
    if setting.type is str:
        return (
            f"text in quotes, {kind}" if setting.about.kind is not Kind.TEXT else "text in quotes"
        )
    return _EXAMPLES[setting.about.unit] + _range(setting)


def _range(setting: Setting) -> str:
    unit, typed = setting.about.unit, setting.type
    open_ended = {COUNT_MAX, OCTETS_MAX, DURATION_MAX_S}
    least = "" if setting.low is None else format_value(typed(setting.low), unit)
    if setting.high is None or setting.high in open_ended:
        return f", at least {least}" if least else ""
    return f", from {least} to {format_value(typed(setting.high), unit)}"


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
