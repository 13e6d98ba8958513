"""`posthouse send --recipients FILE`: one letter for each row of a table, by the client library.

Every row is looked at before anything is sent. With a journal each letter is written down as it is
handed to the server and again when it has ended, so that a second run goes on where the first one
stopped; a letter whose end is not known is named and not sent again, unless that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from posthouse.cli.interrupts import Interrupts
from posthouse.cli.output import CommandError, progress, say, say_hint
from posthouse.cli.send_digests import digests_of
from posthouse.cli.send_journal import Journal
from posthouse.cli.send_letter import no_subject, put, variables
from posthouse.cli.send_options import LetterWish
from posthouse.cli.send_server import Way
from posthouse.cli.send_summary import Tally, end_of, tell
from posthouse.cli.send_table import MISTAKES_SHOWN, Row, rows_of
from posthouse.cli.send_words import command_error, in_options
from posthouse.message.build import BuildError, checked
from posthouse.sending import Dkim, Mailbox, Message, MessageError, SendingError, Transport
from posthouse.sending.options import Keywords
from posthouse.sending.protecting import check_readers
from posthouse.sending.templates import Templates

Command = TypeVar("Command", bound=Callable[..., Any])


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
        MessageError: a file of the letter cannot be read.
    """
    rows = rows_of(wish.recipients)
    templates = _templates(wish)
    compose = _composer(wish, templates)
    digests = {}
    if wish.journal is not None:
        digests = digests_of(wish.message, templates, wish.template, wish.data)
    with Journal(wish.journal, digests) as journal:
        skipped = sum(journal.is_accepted(row.key) for row in rows)
        unknown = [] if wish.repeats_unknown else [r for r in rows if journal.is_unknown(r.key)]
        for row in unknown:
            say(f"line {row.line}: {row.address} may have got it in an earlier run: left out")
        left_out = {row.key for row in unknown}
        to_send = [r for r in rows if not journal.is_accepted(r.key) and r.key not in left_out]
        _try_all(wish, compose, to_send, keys)
        asked, interrupts = way(), Interrupts(_stopping)
        tally = Tally(unknown, skipped=skipped, login_hint=asked.login_hint)
        with (
            interrupts.caught(),
            _transport(wish, asked) as transport,
            _progress(wish, len(to_send)) as step,
        ):
            tally.folder = str(transport.options.folder or "")
            _send(transport, journal, to_send, compose, step, interrupts, tally)
    return tell(tally.summary(), has_journal=wish.journal is not None, as_json=wish.as_json)


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
    tally: Tally,
) -> None:
    under_way: set[int] = set()
    ended: set[int] = set()

    def begin(index: int) -> None:
        journal.begin(rows[index].key)
        under_way.add(index)

    letters = (compose(row) for row in rows)
    try:
        for sent in interrupts.steps(transport.send_all(letters, on_begin=begin)):
            row = rows[sent.index]
            end = end_of(sent)
            journal.end(row.key, end.state, message_id=end.message_id, error=end.error)
            ended.add(sent.index)
            step(1)
            tally.add(row, end)
    except KeyboardInterrupt:
        left = set(range(len(rows))) - ended
        for index in sorted(left & under_way):
            tally.interrupt(rows[index])
        tally.not_begun = len(left - under_way)


# --- the letters ---


def _templates(wish: Wish) -> Templates | None:
    try:
        return Templates(wish.template_folder) if wish.template else None
    except SendingError as error:
        raise command_error(error) from None


def _composer(wish: Wish, templates: Templates | None) -> Callable[[Row], Message]:
    def compose(row: Row) -> Message:
        to = Mailbox(row.address, row.name)
        message = msgspec.structs.replace(wish.message, to=to, tag=row.key)
        if templates is None:
            return message
        return put(templates.render(wish.template, **{**row.values, **wish.data}), message)

    return compose


def _try_all(
    wish: Wish, compose: Callable[[Row], Message], rows: list[Row], keys: list[Dkim]
) -> None:
    """A letter that cannot be made is told before any is sent: of all their templates and whether
    all can read it, of the first one everything else."""
    mistakes: dict[str, list[int]] = {}
    hints: list[str] = []
    bare: list[int] = []
    tried = wrong = 0
    protection = wish.message.protection
    with Transport("memory:", dkim=keys) as transport:
        for tried, row in enumerate(rows, start=1):
            is_first = tried == 1
            try:
                message = compose(row)
                if not wish.message.subject:
                    _check_subject(wish.template, row, message.subject)
                    bare += [] if message.subject else [row.line]
                if is_first or (protection is not None and protection.is_encrypting):
                    letter = transport.prepare(message if is_first else _bare(message))
                    if protection is not None:
                        check_readers(letter, protection)
            except SendingError as error:
                text, hint = in_options(error, attached=wish.attached)
            else:
                continue
            hints.append(hint)
            mistakes.setdefault(text, []).append(row.line)
            wrong += 1
            if wrong >= MISTAKES_SHOWN:
                break
    if mistakes:
        is_of_all = len(mistakes) == 1 and wrong == tried > 1
        shown = [
            text if is_of_all else f"line{'s' * (len(lines) > 1)} {_numbers(lines)}: {text}"
            for text, lines in mistakes.items()
        ]
        raise CommandError(
            "\n".join(("nothing was sent:", *shown)), hint=next(filter(None, hints), "")
        )
    if bare:
        _notice_no_subject(wish.template, bare, is_all=len(bare) == len(rows))


def _check_subject(template: str, row: Row, subject: str) -> None:
    """What came into it with a cell is told by the column. Raises MessageError."""
    try:
        checked("Subject", subject)
    except BuildError as error:
        columns = ", ".join(repr(name) for name, cell in row.values.items() if not _fits(cell))
        cells = f", and there is one in the column {columns}" if columns else ""
        raise MessageError(
            f"template {template}.subject.txt: {error.reason}{cells}",
            hint="mend the table, or leave that out of the subject" if columns else "",
        ) from None


def _fits(cell: str) -> bool:
    try:
        checked("Subject", cell)
    except BuildError:
        return False
    return True


def _notice_no_subject(template: str, lines: list[int], *, is_all: bool) -> None:
    if is_all:
        say_hint(f"the letters have no subject: {no_subject(template)}")
        return
    more = len(lines) - MISTAKES_SHOWN
    rest = f" and {more} more" if more > 0 else ""
    say_hint(f"letters without a subject: line {_numbers(lines[:MISTAKES_SHOWN])}{rest}")


def _numbers(lines: list[int]) -> str:
    return ", ".join(map(str, lines))


def _bare(message: Message) -> Message:
    """Enough of it to know who gets it."""
    return msgspec.structs.replace(message, protection=None, attachments=())
