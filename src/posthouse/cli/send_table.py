"""The table of `posthouse send --recipients`: a CSV file with a row for each letter."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TextIO

import msgspec

from posthouse.cli.output import CommandError
from posthouse.message.address import AddressError, parse_mailbox

__all__ = ["MISTAKES_SHOWN", "Row", "rows_of"]

ROWS_MAX: Final = 1_000_000
COLUMNS_MAX: Final = 200
MISTAKES_SHOWN: Final = 20
ADDRESS_COLUMNS: Final = ("email", "to", "address", "e-mail")
DELIMITERS: Final = (",", ";", "\t")
"""Spreadsheets write semicolons where the decimal sign is a comma."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    line: int
    address: str
    values: Mapping[str, str]
    key: str
    """What the journal knows the letter by: the address and how often it stood before, so that a
    table may be mended between two runs."""


def rows_of(path: Path) -> list[Row]:
    """All rows, once each was looked at. Raises CommandError naming the lines that are wrong."""
    rows: list[Row] = []
    mistakes: list[str] = []
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
                elif trouble := _address_trouble(values[column]):
                    mistakes.append(f"line {line}: {trouble}")
                else:
                    address = values[column].strip()
                    key = f"{address} {seen[address]}" if seen[address] else address
                    seen[address] += 1
                    rows.append(Row(line=line, address=address, values=values, key=key))
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
            hint="mend these lines, or take them out",
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


def _address_trouble(text: str) -> str:
    try:
        parse_mailbox(text.strip())
    except AddressError as error:
        return f"{text.strip()[:100]!r} is no address: {error}"
    return ""
