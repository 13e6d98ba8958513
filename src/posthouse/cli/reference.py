"""The reference page of the commands, made from the click objects: `python -m
posthouse.cli.reference` writes it, and a test fails when it is stale."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from posthouse.cli import COMMANDS, root
from posthouse.cli.output import ExitCode

PAGE: Final = Path("docs/reference/commands.md")

_HEAD: Final = """\
# Commands

<!-- Made from src/posthouse/cli by `python -m posthouse.cli.reference`; do not edit. -->

Data goes to standard output, words to standard error as `error:` and `hint:`. Most commands take
`--json`. On a terminal lists are tables; elsewhere they are lines with tabs between the fields.
Passwords are asked for, or read with `--password-stdin`; no option takes one.

| Exit code | Meaning |
| --- | --- |
"""
_EXIT_CODES: Final = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "the thing asked for failed",
    ExitCode.USAGE: "wrong usage",
    ExitCode.CONFIG: "the config file has a mistake",
    ExitCode.NOT_FOUND: "what was named does not exist",
    ExitCode.LOCKED: "the data is locked, or the store cannot be opened",
    ExitCode.TEMPORARY: "it may work later",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C",
}


def page() -> str:
    """The whole page in Markdown."""
    context = click.Context(root, info_name="posthouse", help_option_names=["-h", "--help"])
    parts = [_HEAD, *(f"| {code.value} | {text} |\n" for code, text in _EXIT_CODES.items()), "\n"]
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        assert command is not None, name
        parts.extend(_command(command, f"posthouse {name}", context, level=2, short=COMMANDS[name]))
    return "".join(parts).rstrip("\n") + "\n"


def _command(
    command: click.Command, path: str, parent: click.Context, *, level: int, short: str = ""
) -> Iterator[str]:
    context = click.Context(command, info_name=command.name, parent=parent)
    yield f"{'#' * level} {path}\n\n"
    text = inspect.cleandoc(command.help or short).replace("\b\n", "")
    yield f"{text}\n\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None, name
            yield from _command(inner, f"{path} {name}", context, level=level + 1)
        return
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f"```\n{path} {pieces}\n```\n\n"
    options = [line for p in command.get_params(context) if (line := _parameter(p, context))]
    if options:
        yield "".join(options) + "\n"
    if command.epilog:
        yield f"{inspect.cleandoc(command.epilog)}\n\n"


def _parameter(parameter: click.Parameter, context: click.Context) -> str:
    if not isinstance(parameter, click.Option) or "--help" in parameter.opts:
        return ""
    record = parameter.get_help_record(context)
    return f"- `{record[0]}`: {record[1]}\n" if record else ""


def main() -> None:
    """Write the page into the project that the current folder is."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
