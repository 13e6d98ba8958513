"""The table of `posthouse send --recipients`: a CSV file with a row for each letter."""

from __future__ import annotations

import csv
import io
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

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
COLUMNS_TOLD: Final = 5
NEAR_OCTETS: Final = 20
UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_BRACKETS: Final = re.compile(r"<([^<>]*)>\s*$")
_SEVERAL: Final = "is more than one address"
_SEVERAL_HINT: Final = "give each address a row of its own"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    line: int
    """Where it begins: a cell in quotation marks may have line breaks."""
    address: str
    """As it is written, without the name."""
    name: str = ""
    """That stands with it: `Eve <eve@example.net>`."""
    values: Mapping[str, str]
    """By the names of the columns; one without a name is left out."""
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
        records = _records(path, file)
        _, names = next(records, (1, []))
        column = _address_column(path, names)
        for line, cells in records:
            if len(rows) + len(mistakes) >= ROWS_MAX:
                raise CommandError(f"{path} has more than {ROWS_MAX} rows")
            if len(cells) != len(names):
                mistakes.append(f"line {line}: more or fewer cells than the first line")
                continue
            values = {name: cell for name, cell in zip(names, cells, strict=True) if name}
            try:
                address, name = _named(values[column])
            except _NoAddress as doubt:
                mistakes.append(f"line {line}: {doubt}")
                hints.append(doubt.hint)
                continue
            key = f"{address} {seen[address]}" if seen[address] else address
            seen[address] += 1
            rows.append(Row(line=line, address=address, name=name, values=values, key=key))
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


# --- reading ---


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None


def _records(path: Path, file: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """The line where each begins, and its cells; the names of the columns, stripped, are the first.
    By the first line it is seen what stands between cells. The file may be a pipe."""
    lines = _lines(path, file)
    first = next(lines, "")
    chosen = DELIMITERS[0]
    for delimiter in DELIMITERS:
        if _addresses(next(csv.reader([first], delimiter=delimiter), [])) is not None:
            chosen = delimiter
            break
    reader = csv.reader(itertools.chain([first], lines), strict=True, delimiter=chosen)
    is_head = True
    while True:
        begins = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            text, hint = _said(error)
            raise CommandError(f"{path}, line {begins}: {text}", hint=hint) from None
        if cells is None:
            return
        if cells:
            yield begins, [cell.strip() for cell in cells] if is_head else cells
            is_head = False


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """As text. A line feed, a carriage return or both end one."""
    number = 0
    for octets in file:
        try:
            text = octets.decode("utf-8")
        except UnicodeDecodeError as error:
            before = octets[: error.start].count(b"\r")
            raise _no_utf8(path, number + before + 1, octets, error.start) from None
        if "\0" in text:
            raise _no_utf8(path, number + 1, octets, octets.index(b"\0"))
        for line in io.StringIO(text if number else text.removeprefix("\ufeff"), newline=""):
            number += 1
            yield line


def _no_utf8(path: Path, line: int, octets: bytes, at: int) -> CommandError:
    is_utf16 = (line == 1 and octets.startswith(UTF16_MARKS)) or octets[at : at + 1] == b"\0"
    encoding = "UTF-16" if is_utf16 else "WINDOWS-1252"
    near = octets[max(at - NEAR_OCTETS, 0) : at + NEAR_OCTETS].decode("ascii", "replace").strip()
    shown = "" if is_utf16 else f", near {near!r}"
    file = shlex.quote(str(path))
    return CommandError(
        f"{path}, line {line}: the file is not UTF-8 text{shown}",
        hint='save it as UTF-8, which spreadsheets call "CSV UTF-8"\n'
        f"or convert it: iconv -f {encoding} -t UTF-8 {file} > utf-8.csv",
    )


def _said(error: csv.Error) -> tuple[str, str]:
    """What is wrong with the quotation marks, which nothing else can be, and what to do."""
    words = str(error)
    if "field larger" in words or "end of data" in words:
        return (
            'a quotation mark (") opens a cell here, and none closes it',
            'close it, or write it twice ("") where it is part of the cell',
        )
    if "expected after" in words:
        return (
            'something stands behind the quotation mark (") that closes a cell',
            'write it twice ("") where it is part of the cell',
        )
    return words, "save it as CSV in UTF-8, with commas between the cells"


def _addresses(names: Iterable[str]) -> str | None:
    """The name of the column that has them."""
    known = {name.strip().lower(): name for name in list(names)[:COLUMNS_MAX]}
    return next((known[wanted] for wanted in ADDRESS_COLUMNS if wanted in known), None)


def _address_column(path: Path, names: Sequence[str]) -> str:
    if (column := _addresses(names)) is None:
        raise CommandError(
            f"{path} has no column for the addresses",
            hint="its first line names the columns, with commas, semicolons or tabs between them;"
            ' call that one "email"',
        )
    # Of two that differ by capitals only, nobody knows which has the addresses.
    counted = Counter(column if _is_same(name, column) else name for name in names if name)
    if twice := [name for name, count in counted.items() if count > 1]:
        raise CommandError(
            f"{path} has more than one column {', '.join(map(repr, twice[:COLUMNS_TOLD]))}",
            hint="give each column in its first line a name of its own",
        )
    return column


def _is_same(name: str, column: str) -> bool:
    return name.lower() == column.lower()


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
