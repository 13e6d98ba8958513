"""From the text of `posthouse.toml` to a checked `Config`, or to every mistake in it at once.

A mistake names file, line and key, what is allowed and the nearest known name. Nothing of a file
with a mistake is used, so a reload applies all or nothing (fault F36).
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from posthouse.config import consistency
from posthouse.config.catalogue import Section, Setting, choices, root
from posthouse.config.host import Host, ThisHost
from posthouse.config.kinds import checked_text
from posthouse.config.lines import KeyPath, key_lines, line_of
from posthouse.config.nearest import allowed, nearest, one_of
from posthouse.config.quantity import format_value, parse_duration_s, parse_size
from posthouse.config.schema import Config
from posthouse.config.setting import DAY_S, MIB, Kind, Unit
from posthouse.kernel.errors import UserError

FILE_OCTETS_MAX: Final = 4 * MIB
LIST_ITEMS_MAX: Final = 10_000
PROBLEMS_SHOWN_MAX: Final = 20
SHOWN_CHARACTERS_MAX: Final = 60
"""Of what somebody wrote, in a message."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One mistake in a config file."""

    line: int
    """0 for the file as a whole."""
    key: str
    """As written, "listener[2].port" for the second [[listener]]; "" where no key is at fault."""
    text: str
    hint: str = ""

    def __str__(self) -> str:
        said = f"{self.key}: {self.text}" if self.key else self.text
        return f"{said}; {self.hint}" if self.hint else said


class ConfigError(UserError):
    """A config file cannot be used; `problems` holds every mistake found in it."""

    def __init__(self, path: str, problems: tuple[Problem, ...], *, hint: str = "") -> None:
        shown = [f"{_place(path, p)}: {p}" for p in problems[:PROBLEMS_SHOWN_MAX]]
        if len(problems) > PROBLEMS_SHOWN_MAX:
            shown.append(f"{path}: and {len(problems) - PROBLEMS_SHOWN_MAX} more")
        super().__init__("\n".join(shown), hint=hint)
        self.path = path
        self.problems = problems


def _place(path: str, problem: Problem) -> str:
    return f"{path}:{problem.line}" if problem.line else path


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A config and where each of its values comes from."""

    config: Config
    path: str
    """"" when there is no file."""
    origins: Mapping[str, str]
    """By key: "FILE:LINE", or "this machine" for a default that was worked out. All others have
    the default that the schema gives."""


def load(text: str, path: str = "", host: Host | None = None) -> Config:
    """The checked config. `path` is what messages call the file, and its folder is where relative
    paths in it start.

    Raises:
        ConfigError: with every mistake in it.
    """
    return read(text, path, host).config


def load_file(path: str | Path, host: Host | None = None) -> Loaded:
    """Like `read`, from a file.

    Raises:
        ConfigError: also when the file cannot be read, is too large or not UTF-8.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            octets = file.read(FILE_OCTETS_MAX + 1)
    except OSError as error:
        said = f"cannot be read: {error.strerror or error}"
        raise ConfigError(name, (Problem(line=0, key="", text=said),)) from None
    if len(octets) > FILE_OCTETS_MAX:
        said = f"is larger than {FILE_OCTETS_MAX // MIB} MiB"
        raise ConfigError(name, (Problem(line=0, key="", text=said),))
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise ConfigError(name, (Problem(line=line, key="", text="is not UTF-8"),)) from None
    return read(text, name, host)


def read(text: str, path: str = "", host: Host | None = None) -> Loaded:
    """Like `load`, and tells where each value comes from."""
    name = path or "posthouse.toml"
    text = text.removeprefix("\ufeff")  # what some editors put before UTF-8
    reader = _Reader(name, _parsed(text, name), key_lines(text))
    config = reader.config(host or ThisHost())
    if reader.problems:
        ordered = sorted(reader.problems, key=lambda problem: problem.line)
        raise ConfigError(
            name,
            tuple(ordered),
            hint="`posthouse config show` lists every setting with its meaning",
        )
    return Loaded(config=config, path=path, origins=reader.origins)


_TOML_PLACE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_TOML_HINTS: Final = (
    ("Invalid value", 'text stands in quotes: key = "value"; true and false in small letters'),
    ("Expected '=' after a key", "a line is `key = value`, `[section]` or a # comment"),
    ("Cannot overwrite a value", "a key may be set only once"),
    ("Cannot declare", "a section may be opened only once; put its settings together"),
    ("Unescaped '\\'", "write \\\\ for a backslash, or use 'single quotes'"),
    ("Expected newline or end of document", "one setting on a line; text stands in quotes"),
    ("Unclosed array", "a list ends with ]"),
    ("Invalid statement", "a line is `key = value`, `[section]` or a # comment"),
    ("Illegal character '\\n'", "text must end with a quote on the same line"),
)


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
    except (RecursionError, ValueError):  # brackets without end, or a number of a million digits
        said = "Brackets too deep or a number too long (at line 1, column 1)"
    place = _TOML_PLACE.search(said)
    last = text.count("\n") + (not text.endswith("\n"))
    line = int(place[1]) if place is not None and place[1] else last
    said = said[: place.start()] if place is not None else said
    hint = next((hint for start, hint in _TOML_HINTS if said.startswith(start)), "")
    problem = Problem(line=line, key="", text=f"this is not TOML: {said}", hint=hint)
    raise ConfigError(name, (problem,))


class _Reader:
    """Walks a parsed file along the schema, collecting values, origins and mistakes."""

    def __init__(self, name: str, values: dict[str, Any], lines: dict[KeyPath, int]) -> None:
        self._name = name
        self._folder = Path(name).absolute().parent
        self._values = values
        self._lines = lines
        self.problems: list[Problem] = []
        self.origins: dict[str, str] = {}

    def config(self, host: Host) -> Config:
        config: Config = self._table(root(), self._values, ())
        config = self._computed(config, host)
        wrong = {problem.key for problem in self.problems}
        for conflict in consistency.conflicts(config):
            if wrong.isdisjoint(show_path(path) for path in conflict.paths):
                self._add(conflict.paths[0], conflict.text, conflict.hint)
        return config

    def _add(self, path: KeyPath, text: str, hint: str = "") -> None:
        line = line_of(self._lines, path)
        self.problems.append(Problem(line=line, key=show_path(path), text=text, hint=hint))

    def _table(self, section: Section, values: dict[str, Any], path: KeyPath) -> Any:
        """The section's struct; on a mistake its other values, or None if one is missing."""
        found: dict[str, Any] = {}
        for name, value in values.items():
            here = (*path, name)
            if (setting := section.settings.get(name)) is not None:
                self._setting(setting, value, here, found)
            elif (inner := section.sections.get(name)) is not None:
                self._section(inner, value, here, found)
            else:
                self._add(here, "there is no such setting", nearest(section, name))
        is_whole = True
        for setting in section.settings.values():
            if setting.is_required and setting.name not in found:
                is_whole = False
                if setting.name not in values:
                    self._add(path, f"`{setting.name}` is missing", f"allowed: {allowed(setting)}")
        return section.struct(**found) if is_whole else None

    def _section(self, inner: Section, value: Any, path: KeyPath, found: dict[str, Any]) -> None:
        name = str(path[-1])
        if not inner.is_repeated:
            if isinstance(value, dict):
                found[name] = self._table(inner, value, path)
            else:
                self._add(path, "this is a section, not a setting", f"write [{inner.key}] above it")
            return
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            hint = f"write [[{inner.key}]] with two brackets, once for each"
            self._add(path, "this is a list of sections", hint)
            return
        tables = [self._table(inner, item, (*path, at)) for at, item in enumerate(value)]
        found[name] = tuple(table for table in tables if table is not None)
        self.origins[inner.key] = f"{self._name}:{line_of(self._lines, path)}"

    def _setting(self, setting: Setting, value: Any, path: KeyPath, found: dict[str, Any]) -> None:
        if setting.type is tuple and isinstance(value, str | list):
            whole = self._list(setting, value, path)
            if whole is None:
                return
            found[setting.name] = whole
        else:
            try:
                found[setting.name] = self._value(setting, value)
            except ValueError as error:
                self._refuse(setting, value, path, str(error))
                return
        self.origins[show_path(path)] = f"{self._name}:{line_of(self._lines, path)}"

    def _list(self, setting: Setting, value: Any, path: KeyPath) -> tuple[str, ...] | None:
        """One text stands for a list of it. None when a part of it is wrong; each such is told."""
        items = [value] if isinstance(value, str) else value
        if len(items) > LIST_ITEMS_MAX:
            self._refuse(setting, value, path, "it is too long")
            return None
        found: list[str] = []
        for item in items:
            if not isinstance(item, str):
                self._refuse(setting, item, path, "each is a text in quotes")
                continue
            try:
                found.append(self._text(setting, item))
            except ValueError as error:
                self._refuse(setting, item, path, str(error))
        return tuple(found) if len(found) == len(items) else None

    def _refuse(self, setting: Setting, value: Any, path: KeyPath, why: str) -> None:
        text = f"{_shown(value)} is not allowed" + (f": {why}" if why else "")
        self._add(path, text, f"allowed: {allowed(setting)}{_suggestion(setting, value)}")

    def _value(self, setting: Setting, value: Any) -> Any:
        """The value as its type.

        Raises:
            ValueError: with the reason, or with "" where `allowed` says enough.
        """
        kind = setting.type
        if kind is bool:
            if not isinstance(value, bool):
                raise ValueError("")
            return value
        if kind in (int, float):
            return self._number(setting, value)
        if not isinstance(value, str):
            raise ValueError("")
        if kind is str:
            return self._text(setting, value)
        if value not in choices(setting):
            raise ValueError("")
        return kind(value)

    def _text(self, setting: Setting, text: str) -> str:
        kind = setting.about.kind
        if not text and setting.type is str and setting.default == "":
            return ""
        if not text:
            raise ValueError("it is empty")
        checked = checked_text(text, kind)
        return str(self._folder / checked) if kind is Kind.PATH else checked

    def _number(self, setting: Setting, value: Any) -> int | float:
        unit = setting.about.unit
        if isinstance(value, str):
            number = _quantity(value, unit)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("")
        elif setting.type is int and isinstance(value, float):
            raise ValueError("it must be a whole number")
        else:
            number = value
        if isinstance(number, float) and not math.isfinite(number):
            raise ValueError("no limit may be without end")
        if setting.low is not None and number < setting.low:
            zero = "; 0 does not mean unlimited" if number == 0 else ""
            raise ValueError(
                f"the least is {format_value(_typed(setting, setting.low), unit)}{zero}"
            )
        if setting.high is not None and number > setting.high:
            raise ValueError(f"the most is {format_value(_typed(setting, setting.high), unit)}")
        return float(number) if setting.type is float else int(number)

    def _computed(self, config: Config, host: Host) -> Config:
        """The config with the defaults that depend on the machine."""
        node, net, workers, store = config.node, config.net, config.workers, config.store
        replace = msgspec.structs.replace
        if self._is_default("node.hostname"):
            node = replace(node, hostname=_usable_name(host.name()))
        if self._is_default("net.connections_max"):
            net = replace(net, connections_max=min(10_000, max(1, host.open_files() * 8 // 10)))
        if self._is_default("workers.hash_max"):
            workers = replace(workers, hash_max=max(1, host.cores()))
        if self._is_default("store.free_octets_min"):
            least = max(500 * MIB, 2 * config.smtp.message_octets_max)
            store = replace(store, free_octets_min=least)
        return replace(config, node=node, net=net, workers=workers, store=store)

    def _is_default(self, key: str) -> bool:
        if key in self.origins:
            return False
        self.origins[key] = "this machine"
        return True


def _usable_name(name: str) -> str:
    """The system's name, unless no host may be called so."""
    try:
        return checked_text(name, Kind.HOSTNAME)
    except ValueError:
        return "localhost"


def show_path(path: KeyPath) -> str:
    """("listener", 1, "port") as "listener[2].port": people count from 1."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part + 1}]"
        else:
            name = part if _BARE_KEY.fullmatch(part) else _shown(part)
            shown += f".{name}" if shown else name
    return shown


_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")


def _shown(value: Any) -> str:
    """What somebody wrote, short and on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        cut = value if len(value) <= SHOWN_CHARACTERS_MAX else value[:SHOWN_CHARACTERS_MAX] + "…"
        return '"' + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut) + '"'
    if isinstance(value, int) and abs(value) >= 10**SHOWN_CHARACTERS_MAX:
        return "a number of more than 60 digits"
    return str(value)


def _quantity(text: str, unit: Unit) -> int | float:
    """The number that text like "5d" or "50MiB" means in the setting's unit."""
    seconds = parse_duration_s(text)
    if unit is Unit.SECONDS and seconds is not None:
        return seconds
    if unit is Unit.DAYS and seconds is not None:
        if seconds % DAY_S:
            raise ValueError("it must be whole days")
        return int(seconds / DAY_S)
    size = parse_size(text.removesuffix("/s") if unit is Unit.OCTETS_PER_S else text)
    if unit in (Unit.OCTETS, Unit.OCTETS_PER_S) and size is not None:
        return size
    raise ValueError("a number stands without quotes" if unit is Unit.COUNT else "")


def _typed(setting: Setting, bound: float) -> int | float:
    return float(bound) if setting.type is float else int(bound)


def _suggestion(setting: Setting, value: Any) -> str:
    words = choices(setting)
    if isinstance(value, str) and words and (word := one_of(value, words, cutoff=0.8)):
        return f'; did you mean "{word}"?'
    return ""
