"""The table of `posthouse send --recipients`: a CSV file with a row for each letter."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TextIO

import msgspec

from posthouse.cli.output import CommandError
from posthouse.cli.send_words import in_options
from posthouse.message.address import AddressError, format_address, parse_mailbox
from posthouse.message.build import Mailbox
from posthouse.sending import MessageError
from posthouse.sending.addresses import read_names

__all__ = ["MISTAKES_SHOWN", "Row", "rows_of"]

ROWS_MAX: Final = 1_000_000
COLUMNS_MAX: Final = 200
MISTAKES_SHOWN: Final = 20
ADDRESS_COLUMNS: Final = ("email", "to", "address", "e-mail")
DELIMITERS: Final = (",", ";", "\t")
"""Spreadsheets write semicolons where the decimal sign is a comma."""
CELL_SHOWN: Final = 100
_BRACKETS: Final = re.compile(r"<([^<>]*)>\s*$")
_SEVERAL: Final = "is more than one address"
_SEVERAL_HINT: Final = "give each address a row of its own"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    line: int
    address: str
    """As it is written, without the name."""
    name: str = ""
    """That stands with it: `Eve <eve@example.net>`."""
    values: Mapping[str, str]
    key: str
    """What the journal knows the letter by: the address and how often it stood before, so that a
    table may be mended between two runs."""


def rows_of(path: Path) -> list[Row]:
    """All rows, once each was looked at. Raises CommandError naming the lines that are wrong."""
    rows: list[Row] = []
    mistakes: list[str] = []
    hints: list[str] = []
    seen: Counter[str] = Counter()
    with _opened(path) as file:
        line = 0
        try:
            reader = _reader(file)
            line = reader.line_num
            column = _address_column(path, reader.fieldnames or ())
            for values in reader:
                line = reader.line_num
                if len(rows) + len(mistakes) >= ROWS_MAX:
                    raise CommandError(f"{path} has more than {ROWS_MAX} rows")
                if "" in values or None in values.values():
                    mistakes.append(f"line {line}: more or fewer cells than the first line")
                    continue
                try:
                    address, name = _named(values[column])
                except _NoAddress as doubt:
                    mistakes.append(f"line {line}: {doubt}")
                    hints.append(doubt.hint)
                    continue
                key = f"{address} {seen[address]}" if seen[address] else address
                seen[address] += 1
                rows.append(Row(line=line, address=address, name=name, values=values, key=key))
        except (csv.Error, UnicodeDecodeError) as error:
            raise CommandError(
                f"{path}, line {line + 1}: {error}",
                hint="save it as CSV in UTF-8, with commas between the cells",
            ) from None
    if mistakes:
        shown = "\n".join(mistakes[:MISTAKES_SHOWN])
        more = len(mistakes) - MISTAKES_SHOWN
        rest = f"\nand {more} more" if more > 0 else ""
        raise CommandError(
            f"{path} cannot be used as it is, and nothing was sent:\n{shown}{rest}",
            hint="\n".join(("mend these lines, or take them out", *filter(None, hints[:1]))),
        )
    if not rows:
        raise CommandError(f"{path} has no rows behind its first line")
    return rows


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None


def _reader(file: TextIO) -> csv.DictReader[str]:
    """By the first line it is seen what stands between cells. The file may be a pipe."""
    first = file.readline()
    chosen = DELIMITERS[0]
    for delimiter in DELIMITERS:
        names = next(csv.reader([first], delimiter=delimiter), [])
        if _addresses(names) is not None:
            chosen = delimiter
            break
    lines = itertools.chain([first] if first else [], file)
    return csv.DictReader(lines, restkey="", strict=True, delimiter=chosen)


def _addresses(names: Iterable[str]) -> str | None:
    """The name of the column that has them."""
    known = {name.strip().lower(): name for name in list(names)[:COLUMNS_MAX]}
    return next((known[wanted] for wanted in ADDRESS_COLUMNS if wanted in known), None)


def _address_column(path: Path, names: Iterable[str]) -> str:
    if (column := _addresses(names)) is None:
        raise CommandError(
            f"{path} has no column for the addresses",
            hint="its first line names the columns, with commas, semicolons or tabs between them;"
            ' call that one "email"',
        )
    return column


class _NoAddress(ValueError):
    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


def _named(cell: str) -> tuple[str, str]:
    """The address in a cell and the name with it, as the library reads one of To.

    Raises:
        _NoAddress: there is none, or more than one.
    """
    cell = cell.strip()
    shown = repr(cell[:CELL_SHOWN])
    try:
        found = read_names("to", cell)
    except MessageError as error:
        if ";" in cell and cell.count("@") > 1:
            raise _NoAddress(f"{shown} {_SEVERAL}", _SEVERAL_HINT) from None
        text, hint = in_options(error)
        raise _NoAddress(text.removeprefix("--to: "), hint) from None
    if not found:
        raise _NoAddress("there is no address")
    if len(found) > 1 or not isinstance(found[0], Mailbox):
        raise _NoAddress(f"{shown} {_SEVERAL}", _SEVERAL_HINT)
    return _written(cell, found[0]), found[0].display_name


def _written(cell: str, mailbox: Mailbox) -> str:
    """The address with the case and the alphabet of the cell, as a name that comes later makes no
    other letter of it for the journal."""
    inside = _BRACKETS.search(cell)
    written = inside[1].strip() if inside is not None else cell
    try:
        is_same = parse_mailbox(written) == mailbox.address
    except AddressError:
        is_same = False
    return written if is_same else format_address(mailbox.address, unicode=True)
