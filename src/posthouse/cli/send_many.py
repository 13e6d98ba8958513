"""`posthouse send --recipients FILE`: one letter for each row of a table, by the client library.

Every row is looked at before anything is sent. With a journal each letter is written down as it is
handed to the server and again when it has ended, so that a second run goes on where the first one
stopped; a letter whose end is not known is named and not sent again, unless that is asked for.
"""

from __future__ import annotations

import csv
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TextIO, TypeVar

import click
import msgspec

from posthouse.cli.interrupts import Interrupts
from posthouse.cli.output import (
    CommandError,
    ExitCode,
    progress,
    say,
    say_error,
    say_hint,
    show_json,
    show_text,
)
from posthouse.cli.send_letter import variables
from posthouse.cli.send_options import LetterWish
from posthouse.cli.send_server import Way
from posthouse.cli.send_words import command_error, in_options
from posthouse.message.address import AddressError, parse_mailbox
from posthouse.sending import Dkim, Message, SendingError, Sent, Transport
from posthouse.sending.options import Keywords
from posthouse.sending.protecting import check_readers
from posthouse.sending.templates import Templates

Command = TypeVar("Command", bound=Callable[..., Any])

ROWS_MAX: Final = 1_000_000
COLUMNS_MAX: Final = 200
CELL_CHARACTERS_MAX: Final = 100_000
MISTAKES_SHOWN: Final = 20
HINTS_SHOWN: Final = 3
ADDRESS_COLUMNS: Final = ("email", "to", "address", "e-mail")
NAME_COLUMN: Final = "name"


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the options of one run say."""

    recipients: Path
    message: Message
    """What each letter is made from."""
    template: str
    template_folder: Path
    data: Mapping[str, str]
    attached: int
    """How many of the attachments are of --attach."""
    journal: Path | None
    repeats_unknown: bool
    rate: int | None
    connections: int
    is_quiet: bool
    as_json: bool


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    line: int
    address: str
    values: Mapping[str, str]
    key: str
    """What the journal knows the letter by: the address and how often it stood before, so that a
    table may be mended between two runs."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """As `--json` shows it."""

    accepted: int
    failed: int
    skipped: int
    """Accepted in an earlier run."""
    unknown: tuple[str, ...]
    """Whose end is not known, in this run or an earlier one."""
    failures: tuple[dict[str, str], ...]
    not_begun: int = 0
    """After Ctrl-C."""


def many_options(command: Command) -> Command:
    """The options of `posthouse send` that make it send to many."""
    for option in reversed(
        (
            click.option(
                "--recipients",
                "recipients_file",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                metavar="FILE",
                help="A letter for each row of a CSV file with a column email.",
            ),
            click.option(
                "--resume",
                "journal",
                type=click.Path(dir_okay=False, path_type=Path),
                metavar="FILE",
                help="Keep a journal there, and go on where it ends.",
            ),
            click.option(
                "--repeat-unknown",
                is_flag=True,
                help="Send again what may have been sent: some may get it twice.",
            ),
            click.option(
                "--rate",
                type=click.IntRange(1, 100_000),
                metavar="N",
                help="Letters a second at most.",
            ),
            click.option(
                "--connections",
                type=click.IntRange(1, 100),
                default=5,
                show_default=True,
                metavar="N",
                help="Sessions at once at most.",
            ),
        )
    ):
        command = option(command)
    return command


def wish_of(
    given: Mapping[str, Any],
    letter: LetterWish,
    message: Message,
    *,
    is_quiet: bool,
    as_json: bool,
) -> Wish:
    """Args: given: what `many_options` gave."""
    return Wish(
        recipients=given["recipients_file"],
        message=message,
        template=letter.template or "",
        template_folder=letter.template_folder,
        data=variables(letter.data),
        attached=len(letter.attached),
        journal=given["journal"],
        repeats_unknown=given["repeat_unknown"],
        rate=given["rate"],
        connections=given["connections"],
        is_quiet=is_quiet,
        as_json=as_json,
    )


def run(wish: Wish, way: Callable[[], Way], keys: list[Dkim]) -> int:
    """Send to all rows; the exit code.

    Args:
        way: asked when all else is known to be right, as it may ask a person for a password.

    Raises:
        CommandError: the table or a letter is wrong; nothing was sent.
        OptionError: an option is.
    """
    rows = list(_rows(wish.recipients))
    compose = _composer(wish)
    with Journal(wish.journal) as journal:
        skipped = sum(journal.is_accepted(row) for row in rows)
        unknown = [] if wish.repeats_unknown else [r for r in rows if journal.is_unknown(r)]
        for row in unknown:
            say(f"line {row.line}: {row.address} may have got it in an earlier run: left out")
        left_out = {row.key for row in unknown}
        to_send = [r for r in rows if not journal.is_accepted(r) and r.key not in left_out]
        _try_all(wish, compose, to_send, keys)
        asked, interrupts = way(), Interrupts(_stopping)
        with (
            interrupts.caught(),
            _transport(wish, asked) as transport,
            _progress(wish, len(to_send)) as step,
        ):
            summary = _send(
                transport,
                journal,
                to_send,
                compose,
                step,
                interrupts,
                skipped=skipped,
                unknown=unknown,
            )
    return _tell(summary, has_journal=wish.journal is not None, as_json=wish.as_json)


def _stopping() -> None:
    say("stopping: letters under way are waited for; Ctrl-C once more waits for nothing")


def _transport(wish: Wish, way: Way) -> Transport:
    keywords: Keywords = {**way.keywords, "connections_max": wish.connections}
    if wish.rate is not None:
        keywords["rate"] = wish.rate
    return Transport(way.url, service=way.service, **keywords)


def _progress(wish: Wish, total: int) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda done: None) if wish.is_quiet else progress("sending", total)


def _send(
    transport: Transport,
    journal: Journal,
    rows: list[Row],
    compose: Callable[[Row], Message],
    step: Callable[[int], None],
    interrupts: Interrupts,
    *,
    skipped: int,
    unknown: list[Row],
) -> Summary:
    accepted = 0
    failures: list[dict[str, str]] = []
    unsure = [row.address for row in unknown]
    under_way: set[int] = set()
    ended: set[int] = set()

    def begin(index: int) -> None:
        journal.begin(rows[index])
        under_way.add(index)

    letters = (compose(row) for row in rows)
    try:
        for sent in interrupts.steps(transport.send_all(letters, on_begin=begin)):
            row = rows[sent.index]
            journal.end(row, sent)
            ended.add(sent.index)
            step(1)
            if sent.error is None:
                accepted += 1
                continue
            if sent.error.may_have_been_sent:
                unsure.append(row.address)
            failures.append(_failure(row, sent.error))
    except KeyboardInterrupt:
        left = set(range(len(rows))) - ended
        unsure += [rows[index].address for index in sorted(left & under_way)]
        not_begun = len(left - under_way)
    else:
        not_begun = 0
    return Summary(
        accepted=accepted,
        failed=len(failures),
        skipped=skipped,
        unknown=tuple(unsure),
        failures=tuple(failures),
        not_begun=not_begun,
    )


def _failure(row: Row, error: SendingError) -> dict[str, str]:
    text, hint = in_options(error)
    return {
        "line": str(row.line),
        "recipient": row.address,
        "error": text,
        "hint": hint,
        "is_transient": str(error.is_transient).lower(),
    }


def _tell(summary: Summary, *, has_journal: bool, as_json: bool) -> int:
    if as_json:
        show_json(summary)
    else:
        for each in summary.failures:
            show_text(f"line {each['line']}: {each['recipient']}: {each['error']}")
        words = f"{summary.accepted} accepted, {summary.failed} failed"
        if summary.skipped:
            words += f", {summary.skipped} were accepted before"
        if summary.not_begun:
            words += f", {summary.not_begun} not begun"
        show_text(words)
    for hint in list(dict.fromkeys(each["hint"] for each in summary.failures))[:HINTS_SHOWN]:
        say_hint(hint)
    if summary.unknown:
        say_error(f"{len(summary.unknown)} may have been sent or not")
        say_hint("look whether they came; --repeat-unknown sends them once more")
    if summary.not_begun:
        say_hint(
            "the same command with the same --resume goes on"
            if has_journal
            else "with --resume FILE a run that was stopped can go on; this one kept no journal"
        )
        return ExitCode.INTERRUPTED
    if not summary.failures and not summary.unknown:
        return ExitCode.OK
    is_passing = all(each["is_transient"] == "true" for each in summary.failures)
    return ExitCode.TEMPORARY if is_passing and not summary.unknown else ExitCode.FAILED


# --- the table ---


def _rows(path: Path) -> Iterator[Row]:
    """All rows, once each was looked at. Raises CommandError naming the lines that are wrong."""
    mistakes: list[str] = []
    rows: list[Row] = []
    seen: Counter[str] = Counter()
    with _opened(path) as file:
        reader = csv.DictReader(file, restkey="", strict=True)
        try:
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
                f"{path}, line {reader.line_num + 1}: {error}",
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
    yield from rows


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None


def _address_column(path: Path, names: Iterable[str]) -> str:
    known = {name.strip().lower(): name for name in list(names)[:COLUMNS_MAX]}
    for wanted in ADDRESS_COLUMNS:
        if wanted in known:
            return known[wanted]
    raise CommandError(
        f"{path} has no column for the addresses",
        hint='its first line names the columns; call that one "email"',
    )


def _address_trouble(text: str) -> str:
    try:
        parse_mailbox(text.strip())
    except AddressError as error:
        return f"{text.strip()[:100]!r} is no address: {error}"
    return ""


# --- the letters ---


def _composer(wish: Wish) -> Callable[[Row], Message]:
    try:
        templates = Templates(wish.template_folder) if wish.template else None
    except SendingError as error:
        raise command_error(error) from None

    def compose(row: Row) -> Message:
        message = msgspec.structs.replace(wish.message, to=row.address, tag=row.key)
        if templates is None:
            return message
        values = {name.strip(): value for name, value in row.values.items()}
        return templates.render(wish.template, **{**values, **wish.data}).into(message)

    return compose


def _try_all(
    wish: Wish, compose: Callable[[Row], Message], rows: list[Row], keys: list[Dkim]
) -> None:
    """A letter that cannot be made is told before any is sent: of all their templates and whether
    all can read it, of the first one everything else."""
    mistakes: list[str] = []
    hint = ""
    protection = wish.message.protection
    with Transport("memory:", dkim=keys) as transport:
        for at, row in enumerate(rows):
            try:
                message = compose(row)
                if not at or (protection is not None and protection.is_encrypting):
                    letter = transport.prepare(_bare(message) if at else message)
                    if protection is not None:
                        check_readers(letter, protection)
            except SendingError as error:
                text, said = in_options(error, attached=wish.attached)
            else:
                continue
            hint = hint or said
            mistakes.append(f"line {row.line}: {text}")
            if len(mistakes) >= MISTAKES_SHOWN:
                break
    if mistakes:
        raise CommandError("\n".join(("nothing was sent:", *mistakes)), hint=hint)


def _bare(message: Message) -> Message:
    """Enough of it to know who gets it."""
    return msgspec.structs.replace(message, protection=None, attachments=())


class Journal:
    """What became of each letter, a JSON object a line; on the disk before it is handed over, and
    before the next end is told. Beginnings come from another thread."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._states: dict[str, str] = {}
        self._file: TextIO | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Journal:
        if self._path is None:
            return self
        try:
            if self._path.exists():
                if not self._path.is_file():
                    raise CommandError(f"the journal {self._path} is no file")
                self._read(self._path)
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise CommandError(
                f"the journal {self._path} cannot be used: {error.strerror}"
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def is_accepted(self, row: Row) -> bool:
        return self._states.get(row.key) == "accepted"

    def is_unknown(self, row: Row) -> bool:
        """Begun, and nobody wrote down how it ended; or the line broke at the end of it."""
        return self._states.get(row.key) in ("begun", "unknown")

    def begin(self, row: Row) -> None:
        self._write({"letter": row.key, "state": "begun"})

    def end(self, row: Row, sent: Sent) -> None:
        if sent.error is None:
            receipt = sent.receipt
            assert receipt is not None
            record = {"state": "accepted", "message_id": receipt.message_id}
        else:
            state = "unknown" if sent.error.may_have_been_sent else "failed"
            record = {"state": state, "error": sent.error.text}
        self._write({"letter": row.key, **record})

    def _write(self, record: dict[str, str]) -> None:
        if self._file is None:
            return
        try:
            with self._lock:
                self._file.write(json.dumps(record) + "\n")
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise CommandError(
                f"the journal {self._path} cannot be written: {error.strerror}",
                hint="nothing more is sent; make room, then give the same command again",
            ) from None

    def _read(self, path: Path) -> None:
        whole = path.read_bytes()
        # A crash may have cut off the last line: what it was about counts as begun already.
        kept = whole[: whole.rfind(b"\n") + 1]
        if len(kept) < len(whole):
            os.truncate(path, len(kept))
        for number, line in enumerate(kept.splitlines(), start=1):
            try:
                record = json.loads(line)
                self._states[str(record["letter"])] = str(record["state"])
            except (ValueError, KeyError, TypeError):
                raise CommandError(
                    f"{path}, line {number}: this is no journal of `posthouse send`",
                    hint="name another file with --resume",
                ) from None
