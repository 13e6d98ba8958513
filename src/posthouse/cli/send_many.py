"""`posthouse send --recipients FILE`: one letter for each row of a table, by the client library.

Every row is looked at before anything is sent. With a journal each letter is written down before
it leaves and again when it has ended, so that a second run goes on where the first one stopped; a
letter whose end is not known is named and not sent again, unless that is asked for.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TextIO, TypeVar

import click
import msgspec

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
from posthouse.message.address import AddressError, parse_mailbox
from posthouse.sending import Dkim, Message, OptionError, SendingError, Sent, Transport
from posthouse.sending.options import Keywords
from posthouse.sending.templates import Templates

Command = TypeVar("Command", bound=Callable[..., Any])

ROWS_MAX: Final = 1_000_000
COLUMNS_MAX: Final = 200
CELL_CHARACTERS_MAX: Final = 100_000
MISTAKES_SHOWN: Final = 20
ADDRESS_COLUMNS: Final = ("email", "to", "address", "e-mail")
NAME_COLUMN: Final = "name"


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the options of one run say."""

    recipients: Path
    sender: str
    subject: str
    body: str
    html: str
    template: str
    template_folder: Path
    data: tuple[str, ...]
    attached: tuple[str, ...]
    dry_run: Path | None
    journal: Path | None
    repeats_unknown: bool
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
                "--template",
                metavar="NAME",
                help="Text from NAME.subject.txt, NAME.txt, NAME.html; columns are variables.",
            ),
            click.option(
                "--template-folder",
                type=click.Path(exists=True, file_okay=False, path_type=Path),
                default=Path(),
                metavar="FOLDER",
                help="Where the templates are.",
            ),
            click.option(
                "--data",
                multiple=True,
                metavar="NAME=VALUE",
                help="A variable of the templates that is the same for all.",
            ),
            click.option("--html", type=click.File("r"), metavar="FILE", help="The body as HTML."),
            click.option("--service", metavar="NAME", help="A well-known server, like gmail."),
            click.option(
                "--dry-run",
                type=click.Path(file_okay=False, path_type=Path),
                metavar="FOLDER",
                help="Write the letters there as .eml files, and send none.",
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
            click.option(
                "--dkim",
                multiple=True,
                metavar="DOMAIN:SELECTOR:FILE",
                help="Sign with the key in FILE.",
            ),
        )
    ):
        command = option(command)
    return command


def wish_of(
    many: Mapping[str, Any],
    *,
    sender: str,
    subject: str | None,
    body: str | None,
    attached: tuple[str, ...],
    as_json: bool,
) -> Wish:
    """Args: many: what `many_options` gave. Raises click.UsageError."""
    html = many["html"].read() if many["html"] is not None else ""
    if many["template"] and (body or html):
        raise click.UsageError("--template makes the text: leave out --body and --html")
    if not (many["template"] or body or html):
        raise click.UsageError("say what to send: --template, --body, --body-file or --html")
    return Wish(
        recipients=many["recipients_file"],
        sender=sender,
        subject=subject or "",
        body=body or "",
        html=html,
        template=many["template"] or "",
        template_folder=many["template_folder"],
        data=many["data"],
        attached=attached,
        dry_run=many["dry_run"],
        journal=many["journal"],
        repeats_unknown=many["repeat_unknown"],
        as_json=as_json,
    )


def run(wish: Wish, keywords: Keywords, *, service: str | None) -> int:
    """Send to all rows; the exit code.

    Raises:
        CommandError: the table, a template or an option is wrong; nothing was sent.
    """
    rows = list(_rows(wish.recipients))
    compose = _composer(wish)
    with Journal(wish.journal) as journal:
        skipped = sum(journal.is_accepted(row) for row in rows)
        unknown = [] if wish.repeats_unknown else [r for r in rows if journal.is_unknown(r)]
        for row in unknown:
            say(f"line {row.line}: {row.address} may have got it in an earlier run: left out")
        left_out = {row.key for row in unknown}
        todo = [r for r in rows if not journal.is_accepted(r) and r.key not in left_out]
        _try_all(compose, todo)
        url = f"folder:{wish.dry_run}" if wish.dry_run is not None else None
        try:
            transport = Transport(url, service=service, **keywords)
        except OptionError as error:
            raise CommandError(error.text, hint=error.hint) from None
        with transport:
            summary = _send(transport, journal, todo, compose, skipped=skipped, unknown=unknown)
    return _tell(summary, as_json=wish.as_json)


def dkim_keys(texts: Iterable[str]) -> list[Dkim]:
    """Of `--dkim`. Raises click.UsageError."""
    keys = []
    for text in texts:
        domain, _, rest = text.partition(":")
        selector, _, file = rest.partition(":")
        if not (domain and selector and file):
            raise click.UsageError(f"--dkim takes DOMAIN:SELECTOR:FILE, and {text!r} is none")
        keys.append(Dkim(domain=domain, selector=selector, key=Path(file)))
    return keys


def _send(
    transport: Transport,
    journal: Journal,
    rows: list[Row],
    compose: Callable[[Row], Message],
    *,
    skipped: int,
    unknown: list[Row],
) -> Summary:
    accepted = 0
    failures: list[dict[str, str]] = []
    unsure = [row.address for row in unknown]

    def letters() -> Iterator[Message]:
        for row in rows:
            journal.begin(row)
            yield compose(row)

    with progress("sending", len(rows)) as step:
        for sent in transport.send_all(letters()):
            row = rows[sent.index]
            journal.end(row, sent)
            step(1)
            if sent.error is None:
                accepted += 1
                continue
            if sent.error.may_have_been_sent:
                unsure.append(row.address)
            failures.append(
                {
                    "line": str(row.line),
                    "recipient": row.address,
                    "error": sent.error.text,
                    "is_transient": str(sent.error.is_transient).lower(),
                }
            )
    return Summary(
        accepted=accepted,
        failed=len(failures),
        skipped=skipped,
        unknown=tuple(unsure),
        failures=tuple(failures),
    )


def _tell(summary: Summary, *, as_json: bool) -> int:
    if as_json:
        show_json(summary)
    else:
        for each in summary.failures:
            show_text(f"line {each['line']}: {each['recipient']}: {each['error']}")
        words = f"{summary.accepted} accepted, {summary.failed} failed"
        if summary.skipped:
            words += f", {summary.skipped} were accepted before"
        show_text(words)
    if summary.unknown:
        say_error(f"{len(summary.unknown)} may have been sent or not")
        say_hint("look whether they came; --repeat-unknown sends them once more")
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
    shared = dict(_pair(text) for text in wish.data)
    try:
        templates = Templates(wish.template_folder) if wish.template else None
    except SendingError as error:
        raise CommandError(error.text, hint=error.hint) from None

    def compose(row: Row) -> Message:
        message = Message(
            sender=wish.sender,
            to=row.address,
            subject=wish.subject,
            text=wish.body or None,
            html=wish.html or None,
            attachments=[Path(path) for path in wish.attached],
            tag=row.key,
        )
        if templates is None:
            return message
        values = {name.strip(): value for name, value in row.values.items()}
        return templates.render(wish.template, **{**values, **shared}).into(message)

    return compose


def _try_all(compose: Callable[[Row], Message], rows: list[Row]) -> None:
    """A letter that cannot be made is told before any is sent: of all their templates, of the
    first one everything else."""
    mistakes: list[str] = []
    hint = ""
    with Transport("memory:") as transport:
        for at, row in enumerate(rows):
            try:
                message = compose(row)
                if not at:
                    transport.prepare(message)
            except SendingError as error:
                hint = hint or error.hint
                mistakes.append(f"line {row.line}: {error.text}")
                if len(mistakes) >= MISTAKES_SHOWN:
                    break
    if mistakes:
        raise CommandError("\n".join(("nothing was sent:", *mistakes)), hint=hint)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise click.UsageError(f"--data takes NAME=VALUE, and {text!r} is none")
    return name, value


# --- the journal ---


class Journal:
    """What became of each letter, a JSON object a line; on the disk before the next is begun."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._states: dict[str, str] = {}
        self._file: TextIO | None = None

    def __enter__(self) -> Journal:
        if self._path is None:
            return self
        try:
            if self._path.exists():
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
        if self._file is not None:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

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
