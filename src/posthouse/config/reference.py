"""The reference page of the configuration, made from the schema: `python -m
posthouse.config.reference` writes it, and a test fails when it is stale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from posthouse.config.catalogue import Section, Setting, choices, root
from posthouse.config.limits import FIXED
from posthouse.config.quantity import format_value

PAGE: Final = Path("docs/reference/configuration.md")

_HEAD: Final = """\
# Configuration

<!-- Made from src/posthouse/config by `python -m posthouse.config.reference`; do not edit. -->

Posthouse reads one file, `posthouse.toml`. All of it is optional: an empty file is a safe server.
Domains, accounts and aliases are not in it; they live in the database and are changed with
`posthouse domain`, `posthouse account` and `posthouse alias`.

- `posthouse config check` reads the file and reports every mistake in it at once.
- `posthouse config show` prints each setting with its value and where that comes from,
  `posthouse config show --limits` every limit and what happens when it is reached.
- A running server reads the file again on SIGHUP. Either all of it applies or, after a mistake,
  nothing.

Durations are seconds (`90`) or text with units (`"500ms"`, `"30s"`, `"5m"`, `"4h"`, `"5d"`, `"2w"`,
`"1d12h"`). Sizes are octets (`2048`) or text (`"64KiB"`, `"50MiB"`, `"2GiB"`, `"50MB"`). A list of
one may be written without brackets. No limit can be switched off: 0 never means unlimited, and
`inf` is refused. Paths that are not absolute start at the folder of the file.
"""


def page() -> str:
    """The whole page in Markdown."""
    parts = [_HEAD]
    for section in root().walk():
        if section.settings:
            parts.append("\n".join(_section(section)))
    parts.append("\n".join(_fixed()))
    return "\n".join(parts)


def _section(section: Section) -> Iterator[str]:
    brackets = f"[[{section.key}]]" if section.is_repeated else f"[{section.key}]"
    yield f"## `{brackets}`"
    yield ""
    yield section.meaning
    yield ""
    for setting in section.settings.values():
        yield from _setting(setting)
    if not section.settings:
        yield ""


def _setting(setting: Setting) -> Iterator[str]:
    yield f"### `{setting.key}`"
    yield ""
    yield setting.about.meaning
    yield ""
    yield f"- Default: {default_text(setting)}"
    if unit := setting.about.unit.value:
        yield f"- Unit: {unit}"
    if words := choices(setting):
        yield "- Allowed: " + ", ".join(f'`"{word}"`' for word in words)
    elif allowed_range := _range(setting):
        yield f"- Allowed: {allowed_range}"
    if setting.about.reached:
        yield f"- When exceeded: {setting.about.reached}"
    yield ""


def default_text(setting: Setting) -> str:
    """The default in Markdown."""
    if setting.is_required:
        return "none, it must be given"
    if setting.about.computed:
        return setting.about.computed
    if words := choices(setting):
        assert setting.default.value in words
        return f'`"{setting.default.value}"`'
    if isinstance(setting.default, str):
        return f'`"{setting.default}"`'
    if setting.default == ():
        return "none"
    return f"`{format_value(setting.default, setting.about.unit)}`"


def _range(setting: Setting) -> str:
    if setting.low is None or setting.high is None or setting.type not in (int, float):
        return ""
    unit = setting.about.unit
    low, high = setting.type(setting.low), setting.type(setting.high)
    return f"{format_value(low, unit)} to {format_value(high, unit)}"


def _fixed() -> Iterator[str]:
    yield "## Fixed limits"
    yield ""
    yield "Set by the standards or the machine; no setting changes them."
    yield ""
    for limit in FIXED:
        yield f"- `{limit.name}` {limit.value} {limit.unit.value}: {limit.meaning}"
        yield f"  When exceeded: {limit.reached}"
    yield ""


def main() -> None:
    """Write the page into the project that the current folder is."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
