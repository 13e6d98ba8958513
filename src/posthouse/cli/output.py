"""How commands speak: data to stdout, words to stderr, JSON when asked, tables for people.

Text that came from a peer is shown with its control characters escaped, so that no message can
drive the terminal of who looks at it.
"""

from __future__ import annotations

import getpass
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, Final, TypeVar

import click
import msgspec

from posthouse.kernel.errors import (
    DataUnusable,
    Fault,
    NotKnown,
    StorageBusy,
    StorageFull,
    UserError,
)
from posthouse.kernel.secret import Secret

Command = TypeVar("Command", bound=Callable[..., Any])

PASSWORD_OCTETS_MAX: Final = 1_024


class ExitCode(IntEnum):
    """What a command ends with; scripts may rely on it."""

    OK = 0
    FAILED = 1
    """The thing asked for failed."""
    USAGE = 2
    CONFIG = 3
    """The config file has a mistake."""
    NOT_FOUND = 4
    """What was named does not exist."""
    LOCKED = 5
    """The data is locked, or the store cannot be opened."""
    TEMPORARY = 75
    """It may work later; sysexits' EX_TEMPFAIL."""
    INTERRUPTED = 130


class CommandError(UserError):
    """Something asked for did not work, with the exit code to end with."""

    def __init__(self, text: str, *, hint: str = "", code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(text, hint=hint)
        self.code = code


class NotFound(CommandError):
    """What was named does not exist."""

    def __init__(self, text: str, *, hint: str = "") -> None:
        super().__init__(text, hint=hint, code=ExitCode.NOT_FOUND)


def exit_code_of(error: Exception) -> ExitCode:
    """The exit code for an error that a person is told of in words."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, StorageBusy | StorageFull):
        return ExitCode.TEMPORARY
    if isinstance(error, Fault | DataUnusable):
        return ExitCode.LOCKED
    if isinstance(error, NotKnown):
        return ExitCode.NOT_FOUND
    from posthouse.config.settings import ConfigError  # here, as --help and others start faster

    return ExitCode.CONFIG if isinstance(error, ConfigError) else ExitCode.FAILED


# --- words, to stderr ---


def say_error(text: str) -> None:
    """One `error:` line for each line of the text."""
    for line in text.splitlines() or [""]:
        click.echo(f"error: {escaped(line)}", err=True)


def say_hint(text: str) -> None:
    """What to do next."""
    for line in text.splitlines():
        click.echo(f"hint: {escaped(line)}", err=True)


def say(text: str) -> None:
    """Words about what happens, apart from the data."""
    click.echo(escaped(text), err=True)


# --- data, to stdout ---

_DANGEROUS: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escaped(text: str) -> str:
    """The text without control characters, marks that turn its direction and lone surrogates;
    newlines and tabs stay."""
    return _DANGEROUS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def show_json(value: Any) -> None:
    """Structs, tuples, dates and plain values as JSON."""
    text = json.dumps(msgspec.to_builtins(value, enc_hook=str), indent=2, ensure_ascii=False)
    click.echo(_DANGEROUS.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def show_text(text: str) -> None:
    """A line of data for people."""
    click.echo(escaped(text))


def show_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = ""
) -> None:
    """On a terminal a table, or a block of lines for each row where a table would break words
    apart; elsewhere lines with tabs between fields, without a heading."""
    cells = [["" if cell is None else escaped(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            click.echo("\t".join(_one_line(cell) for cell in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    room = console.width - _BETWEEN * (len(columns) - 1) - _EDGES
    widths = column_widths([columns, *cells], room)
    if widths is None:
        _show_blocks(console, columns, cells, title)
        return
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, overflow="fold", width=width)
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


_BETWEEN: Final = 3
_EDGES: Final = 2
"""Cells that the table takes between two columns, and at its sides."""
_PROSE_MIN: Final = 16
"""A column of words is no narrower: longer ones would run down the page."""


def column_widths(rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """How wide each column may be, so that all have room and no word is broken apart; None where
    there is too little room for that."""
    from rich.cells import cell_len

    whole, least = [], []
    for column in zip(*rows, strict=True):
        widest = max(cell_len(line) for cell in column for line in cell.splitlines() or [""])
        word = max(cell_len(word) for cell in column for word in cell.split() or [""])
        whole.append(max(widest, 1))
        least.append(max(word, min(widest, _PROSE_MIN), 1))
    left = room - sum(least)
    if left < 0:
        return None
    widths = least
    wanting = sorted(range(len(whole)), key=lambda at: whole[at] - least[at])
    for served, at in enumerate(wanting):  # the most modest first; what is left is for the others
        more = min(whole[at] - least[at], left // (len(wanting) - served))
        widths[at] += more
        left -= more
    return widths


def _show_blocks(
    console: Any, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str
) -> None:
    """Each row as lines of name and value, with an empty line in between."""
    from rich.table import Table
    from rich.text import Text

    if title:
        console.print(Text(title))
    for number, row in enumerate(rows):
        if number:
            console.print()
        block = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        block.add_column(no_wrap=True, width=max(map(len, columns)))
        block.add_column(overflow="fold")
        for column, cell in zip(columns, row, strict=True):
            if cell:
                block.add_row(Text(column), Text(cell))
        console.print(block)


def show(
    value: Any,
    *,
    as_json: bool,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    nothing: str = "",
) -> None:
    """The same data as JSON or as a table.

    Args:
        nothing: words for people when there are no rows.
    """
    if as_json:
        show_json(value)
    elif rows:
        show_table(columns, rows)
    elif nothing:
        say(nothing)


def _one_line(cell: str) -> str:
    return cell.replace("\t", "\\t").replace("\n", "\\n")


def json_option(command: Command) -> Command:
    """`--json`, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


# --- progress ---


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show how far long work is, on a terminal's stderr; gives a function that is told of each
    part done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escaped(label), total=total)
        yield lambda done: bar.advance(task, done)


# --- passwords: asked for or read from stdin, never taken in argv ---


def password_option(command: Command) -> Command:
    """`--password-stdin`, as the argument `password_stdin`; give it to `read_password`."""
    return click.option(
        "--password-stdin",
        is_flag=True,
        help="Read the password from the first line of stdin; at a terminal it is asked for.",
    )(command)


def read_password(
    *, password_stdin: bool, prompt: str = "Password", is_new: bool = False
) -> Secret:
    """The password of a person or program. At a terminal it is asked for and not shown, with
    `--password-stdin`, too.

    Args:
        is_new: ask twice on a terminal.

    Raises:
        CommandError: there is nobody to ask, it is empty, too long, or the two differ.
    """
    if password_stdin and not sys.stdin.isatty():
        line = sys.stdin.readline(PASSWORD_OCTETS_MAX + 3)
        return _checked_password(line.removesuffix("\n").removesuffix("\r"))
    if not sys.stdin.isatty():
        raise CommandError(
            "a password is needed, and there is no terminal to ask on",
            hint="use --password-stdin",
            code=ExitCode.USAGE,
        )
    password = _checked_password(getpass.getpass(f"{prompt}: "))
    if is_new and Secret(getpass.getpass("The same again: ")) != password:
        raise CommandError("the two passwords differ; nothing was changed")
    return password


def _checked_password(text: str) -> Secret:
    if not text:
        raise CommandError("the password is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CommandError(
            "the password is not UTF-8 text", hint="send it in the encoding of your terminal, UTF-8"
        ) from None
    if len(text.encode("utf-8", "surrogatepass")) > PASSWORD_OCTETS_MAX:
        raise CommandError(f"the password is longer than {PASSWORD_OCTETS_MAX} octets")
    return Secret(text)
