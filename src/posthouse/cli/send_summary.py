"""How the letters of `posthouse send --recipients` ended: each, all together, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from posthouse.cli.output import ExitCode, say_error, say_hint, show_json, show_text
from posthouse.cli.send_journal import State
from posthouse.cli.send_table import Row
from posthouse.cli.send_words import in_options, rejection
from posthouse.sending import AuthError, Rejected, SendingError, Sent

__all__ = ["End", "Summary", "Tally", "end_of", "tell"]

HINTS_SHOWN: Final = 3
INTERRUPTED: Final = "it was under way when it was interrupted, and may have been sent"


class End(msgspec.Struct, frozen=True, kw_only=True):
    """Of the letter of one row."""

    state: State
    error: SendingError | None = None
    message_id: str = ""
    server: str = ""
    others: tuple[Rejected, ...] = ()
    """Of --cc and --bcc, who were turned down while somebody has the letter."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """As `--json` shows it."""

    accepted: int
    """By the server."""
    failed: int
    """Known not to have been sent."""
    skipped: int
    """Accepted in an earlier run."""
    unknown: tuple[str, ...]
    """Whose end is not known, in this run or an earlier one."""
    failures: tuple[dict[str, str], ...]
    """With their errors; of this run's unknown ones, too."""
    missed: tuple[dict[str, str], ...] = ()
    """Copies for --cc and --bcc that were not taken, or of which that is not known, of letters that
    others have; likewise."""
    not_begun: int = 0
    """After Ctrl-C."""
    written: int = 0
    folder: str = ""
    """As files, and where, in place of being sent."""


def end_of(sent: Sent) -> End:
    """By the row's own address, the first of the envelope: whether that one has it."""
    if sent.error is not None:
        state = State.UNKNOWN if sent.error.may_have_been_sent else State.FAILED
        return End(state=state, error=sent.error)
    receipt = sent.receipt
    assert receipt is not None
    own = next((one for one in receipt.rejected if one.recipient == receipt.recipients[0]), None)
    end = End(
        state=State.ACCEPTED,
        message_id=receipt.message_id,
        server=receipt.server,
        others=tuple(one for one in receipt.rejected if one is not own),
    )
    if own is None:
        return end
    text, hint = rejection(receipt.server, [own])
    error = SendingError(
        text,
        hint=hint,
        server=receipt.server,
        is_transient=own.is_transient,
        may_have_been_sent=own.may_have_been_sent,
        rejected=[own],
    )
    state = State.UNKNOWN if own.may_have_been_sent else State.FAILED
    return msgspec.structs.replace(end, state=state, error=error)


class Tally:
    """Counts while a run goes on."""

    def __init__(self, unknown: Sequence[Row], *, skipped: int, login_hint: str) -> None:
        """Args: unknown: the rows that an earlier run left in doubt, and this one leaves out."""
        self._accepted = 0
        self._failed = 0
        self._skipped = skipped
        self._unknown = [row.address for row in unknown]
        self._failures: list[dict[str, str]] = []
        self._missed: list[dict[str, str]] = []
        self._login_hint = login_hint
        self.not_begun = 0
        self.folder = ""
        """Where letters are only written to."""

    def add(self, row: Row, end: End) -> None:
        match end.state:
            case State.ACCEPTED:
                self._accepted += 1
            case State.UNKNOWN:
                self._unknown.append(row.address)
            case _:
                self._failed += 1
        if end.error is not None:
            text, hint = in_options(end.error)
            if isinstance(end.error, AuthError):
                hint = f"{hint}\n{self._login_hint}"
            is_transient = end.error.is_transient
            self._failures.append(_told(row, row.address, text, hint, is_transient=is_transient))
        for one in end.others:
            text, hint = rejection(end.server, [one])
            self._missed.append(
                _told(row, one.recipient, text, hint, is_transient=one.is_transient)
            )

    def interrupt(self, row: Row) -> None:
        """It was under way at the second Ctrl-C."""
        self._unknown.append(row.address)
        self._failures.append(_told(row, row.address, INTERRUPTED, "", is_transient=True))

    def summary(self) -> Summary:
        return Summary(
            accepted=0 if self.folder else self._accepted,
            failed=self._failed,
            skipped=self._skipped,
            unknown=tuple(self._unknown),
            failures=tuple(self._failures),
            missed=tuple(self._missed),
            not_begun=self.not_begun,
            written=self._accepted if self.folder else 0,
            folder=self.folder,
        )


def _told(row: Row, recipient: str, error: str, hint: str, *, is_transient: bool) -> dict[str, str]:
    return {
        "line": str(row.line),
        "recipient": recipient,
        "error": error,
        "hint": hint.strip(),
        "is_transient": str(is_transient).lower(),
    }


# --- what to say about it ---


def tell(summary: Summary, *, has_journal: bool, as_json: bool) -> int:
    """Show it; the exit code."""
    told = (*summary.failures, *summary.missed)
    if as_json:
        show_json(summary)
    else:
        for each in told:
            show_text(f"line {each['line']}: {each['recipient']}: {each['error']}")
        show_text(_counts(summary))
    hints = [each["hint"] for each in told if each["hint"]]
    for hint in list(dict.fromkeys(hints))[:HINTS_SHOWN]:
        say_hint(hint)
    is_stopped = bool(summary.not_begun) or any(
        each["error"] == INTERRUPTED for each in summary.failures
    )
    if summary.unknown:
        say_error(f"{len(summary.unknown)} may have been sent or not")
    _tell_how_to_go_on(summary, is_stopped=is_stopped, has_journal=has_journal)
    if is_stopped:
        return ExitCode.INTERRUPTED
    if not told and not summary.unknown:
        return ExitCode.OK
    # A copy that was missed is not made up for by another run.
    is_passing = all(each["is_transient"] == "true" for each in summary.failures)
    is_clear = not summary.unknown and not summary.missed
    return ExitCode.TEMPORARY if is_passing and is_clear else ExitCode.FAILED


def _counts(summary: Summary) -> str:
    words = f"{summary.accepted} accepted, {summary.failed} failed"
    if summary.folder:
        words = f"{summary.written} written to {summary.folder}, {summary.failed} failed"
    for count, what in (
        (len(summary.unknown), "may have been sent"),
        (len(summary.missed), "missed of --cc and --bcc"),
        (summary.not_begun, "not begun"),
        (summary.skipped, "were accepted before"),
    ):
        if count:
            words += f", {count} {what}"
    return words


def _tell_how_to_go_on(summary: Summary, *, is_stopped: bool, has_journal: bool) -> None:
    if not has_journal:
        if is_stopped:
            say_hint(
                "this run kept no journal: the same command sends to all again; with --resume FILE"
                " a run that was stopped goes on where it ended"
            )
        elif summary.unknown:
            say_hint("look whether they came before you send to them again")
        return
    if is_stopped:
        say_hint("the same command with the same --resume goes on")
    if summary.unknown:
        say_hint(
            "look whether they came; --repeat-unknown with the same --resume sends them once more"
        )
