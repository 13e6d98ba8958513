"""`posthouse config check|show`, and how every command finds the config file."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from posthouse.cli.output import (
    Command,
    CommandError,
    ExitCode,
    NotFound,
    json_option,
    say_error,
    say_hint,
    show,
    show_json,
    show_text,
)
from posthouse.config.catalogue import Section, Setting, root
from posthouse.config.catalogue import settings as all_settings
from posthouse.config.files import file_problems
from posthouse.config.limits import limits as all_limits
from posthouse.config.nearest import one_of
from posthouse.config.quantity import format_value
from posthouse.config.settings import ConfigError, Loaded, load_file, read

CONFIG_VARIABLE: Final = "POSTHOUSE_CONFIG"
SYSTEM_CONFIG: Final = Path("/etc/posthouse/posthouse.toml")


def config_option(command: Command) -> Command:
    """`--config FILE`, as the argument `config_path`; give it to `load_config`."""
    return click.option(
        "--config",
        "-c",
        "config_path",
        metavar="FILE",
        envvar=CONFIG_VARIABLE,
        show_envvar=True,
        help="The config file; else posthouse.toml here or in /etc/posthouse, if there is one.",
    )(command)


def find_config(config_path: str | None) -> Path | None:
    """The file to read, or None for the defaults alone."""
    if config_path:
        return Path(config_path)
    return next((path for path in (Path("posthouse.toml"), SYSTEM_CONFIG) if path.exists()), None)


def load_config(config_path: str | None) -> Loaded:
    """The checked config of this run.

    Raises:
        ConfigError: with every mistake in the file.
    """
    path = find_config(config_path)
    return read("") if path is None else load_file(path)


@click.group()
def config() -> None:
    """Check and show the configuration."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of `config check` in JSON."""

    ok: bool
    path: str
    problems: list[dict[str, str | int]]


@config.command()
@config_option
@json_option
def check(config_path: str | None, as_json: bool) -> int:
    """Read the config file and the files it names, and report every mistake in them at once.

    Ends with 0 when a server could start with them, with 3 otherwise.
    """
    try:
        loaded = load_config(config_path)
    except ConfigError as error:
        if not as_json:
            raise
        problems = [msgspec.to_builtins(problem) for problem in error.problems]
        show_json(Checked(ok=False, path=error.path, problems=problems))
        return ExitCode.CONFIG
    found: list[dict[str, str | int]] = [
        {
            "line": _line(loaded.origins.get(each.key, "")),
            "key": each.key,
            "text": each.text,
            "hint": each.hint,
        }
        for each in file_problems(loaded.config, datetime.now(UTC))
    ]
    if as_json:
        show_json(Checked(ok=not found, path=loaded.path, problems=found))
    elif found:
        for problem in found:
            say_error(f"{loaded.path}:{problem['line']}: {problem['key']}: {problem['text']}")
            say_hint(str(problem["hint"]))
    else:
        written = sum(origin.startswith(f"{loaded.path}:") for origin in loaded.origins.values())
        given = f"{written} settings from it" if loaded.path else "no file, defaults only"
        show_text(f"{loaded.path or 'config'}: right ({given})")
    return ExitCode.CONFIG if found else ExitCode.OK


def _line(origin: str) -> int:
    number = origin.rpartition(":")[2]
    return int(number) if number.isdigit() else 1


@config.command(name="show")
@click.argument("section", required=False)
@click.option(
    "--limits", "only_limits", is_flag=True, help="Every limit and what reaching it does."
)
@config_option
@json_option
def show_command(
    section: str | None, only_limits: bool, config_path: str | None, as_json: bool
) -> None:
    """Every setting with its value, default, unit, meaning and where the value comes from.

    SECTION, like `smtp` or `relay.retry`, shows only what is in it.
    """
    loaded = load_config(config_path)
    if only_limits:
        _show_limits(loaded, section, as_json=as_json)
        return
    shown = [item for item in _all_shown(loaded) if _is_within(item.plain_key, section)]
    if not shown and not _is_known(section):
        raise _unknown(section)
    show(
        [item.as_json() for item in shown],
        as_json=as_json,
        columns=("setting", "value", "from", "default", "unit", "meaning"),
        rows=[item.row() for item in shown],
        nothing=f"[[{section}]]: none in the config",
    )


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One setting with its value."""

    key: str
    plain_key: str
    """Without the number of a repeated section."""
    setting: Setting
    value: Any
    origin: str

    def row(self) -> tuple[str, ...]:
        unit = self.setting.about.unit
        return (
            self.key,
            format_value(_plain(self.value), unit),
            self.origin,
            self.default_text(),
            unit.value,
            self.setting.about.meaning,
        )

    def default_text(self) -> str:
        if self.setting.is_required:
            return "must be given"
        if self.setting.about.computed:
            return self.setting.about.computed
        return format_value(_plain(self.setting.default), self.setting.about.unit)

    def as_json(self) -> dict[str, Any]:
        setting = self.setting
        return {
            "setting": self.key,
            "value": _plain(self.value),
            "from": self.origin,
            "default": None if setting.is_required else _plain(setting.default),
            "default_from": setting.about.computed,
            "unit": setting.about.unit.value,
            "least": setting.low,
            "most": setting.high,
            "meaning": setting.about.meaning,
            "when_exceeded": setting.about.reached,
        }


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _all_shown(loaded: Loaded) -> list[Shown]:
    found: list[Shown] = []
    _collect(root(), loaded.config, "", loaded, found)
    return found


def _collect(section: Section, value: Any, at: str, loaded: Loaded, found: list[Shown]) -> None:
    prefix = f"{at}." if at else ""
    for name, setting in section.settings.items():
        key = prefix + name
        found.append(
            Shown(
                key=key,
                plain_key=setting.key,
                setting=setting,
                value=getattr(value, name),
                origin=loaded.origins.get(key, "default"),
            )
        )
    for name, inner in section.sections.items():
        child = getattr(value, name)
        if inner.is_repeated:
            for number, item in enumerate(child, 1):
                _collect(inner, item, f"{prefix}{name}[{number}]", loaded, found)
        else:
            _collect(inner, child, prefix + name, loaded, found)


def _show_limits(loaded: Loaded, section: str | None, *, as_json: bool) -> None:
    shown = [limit for limit in all_limits(loaded.config) if _is_within(limit.name, section)]
    if not shown and not _is_known(section):
        raise _unknown(section)
    value = [
        {
            "name": limit.name,
            "value": limit.value,
            "unit": limit.unit.value,
            "when_exceeded": limit.reached,
            "meaning": limit.meaning,
            "is_fixed": limit.is_fixed,
        }
        for limit in shown
    ]
    show(
        value,
        as_json=as_json,
        columns=("limit", "value", "unit", "when exceeded", "meaning"),
        rows=[(x.name, x.shown, x.unit.value, x.reached, x.meaning) for x in shown],
        nothing=f"{section} has no limits",
    )


def _is_within(key: str, section: str | None) -> bool:
    return not section or key == section or key.startswith(f"{section}.")


def _known_names() -> list[str]:
    return [section.key for section in root().walk() if section.key] + list(all_settings())


def _is_known(section: str | None) -> bool:
    return not section or section in _known_names()


def _unknown(section: str | None) -> CommandError:
    near = one_of(section or "", _known_names())
    hint = f"did you mean {near}?" if near else "`posthouse config show` lists them all"
    return NotFound(f"there is no section or setting {section!r}", hint=hint)
