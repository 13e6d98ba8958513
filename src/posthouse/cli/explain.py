"""`posthouse explain ID`: what became of a message, and why, in order of time.

It is all read from what was recorded: the decision at the door, the ledger of each recipient, and
each attempt with the words of the hosts it met.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import click
import msgspec

from posthouse.cli import explain_report
from posthouse.cli.config import config_option
from posthouse.cli.data import configured_store
from posthouse.cli.output import json_option, show_json, show_text
from posthouse.cli.queue import STATE_WORDS, moment, sender_words, span, unknown_id
from posthouse.kernel.finding import Finding
from posthouse.queue import admin
from posthouse.queue.item import OPEN_STATES, Reason, State
from posthouse.queue.work import AttemptRecord, Exchange
from posthouse.reception.decision import DecisionRecord, decode
from posthouse.store import queue as rows
from posthouse.store import refusals
from posthouse.store.queue_rows import LedgerRow, RecipientRow
from posthouse.store.sqlite.engine import SqliteStore

OF_TRACE_MAX: Final = 1000
"""Messages of one connection that are told of."""

_REASONS: Final = {
    Reason.ACCEPTED.value: "accepted; waits for its first attempt",
    Reason.DELIVERED.value: "stored in the mailbox",
    Reason.DISCARDED.value: "discarded by the user's own rules",
    Reason.LEASED.value: "taken for an attempt",
    Reason.DEFERRED.value: "deferred, to be tried again",
    Reason.HANDED_BACK.value: "handed back untried",
    Reason.LEASE_EXPIRED.value: "back in the queue: whoever tried it is gone",
    Reason.RELAYED.value: "handed to the next host, which owns it now",
    Reason.FAILED.value: "failed; the sender was told",
    Reason.EXPIRED.value: "given up, its time was over; the sender was told",
    Reason.RETRY.value: "due now",
    Reason.REROUTED.value: "sent another way",
    Reason.HELD.value: "held",
    Reason.RELEASED.value: "released",
    Reason.DROPPED_BY_PERSON.value: "dropped",
    Reason.DOUBLE_BOUNCE.value: "given up: a notice of ours, and nobody is told about those",
    Reason.NULL_REVERSE_PATH.value: "given up: a notice, and nobody is told about those",
    Reason.NOTIFY_NEVER.value: "given up: the sender asked not to be told (NOTIFY)",
    Reason.JUNK.value: "given up: it is junk, and nobody is told about that",
    Reason.UNRETURNABLE.value: "given up: the sender's address leads nowhere",
}
_UNTOLD: Final = frozenset({Reason.LEASED.value})
"""Left out of the story: the attempt that follows says it."""


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """One recipient of the message with its ledger."""

    recipient: str
    state: str
    attempts: int
    next_attempt: datetime | None
    expires: datetime | None
    ledger: tuple[Step, ...]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the ledger."""

    at: datetime
    from_state: str
    to_state: str
    reason: str
    detail: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    at: datetime
    record: AttemptRecord


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about one message, as `--json` shows it. Times are UTC."""

    id: str
    sender: str
    origin: str
    size_octets: int
    accepted: datetime
    decision: DecisionRecord | None
    """None for messages made by this server."""
    recipients: tuple[Recipient, ...]
    attempts: tuple[Attempt, ...]
    report: explain_report.ReportSeen | None
    """What was read of it, where a report address got it."""


class _Whole(msgspec.Struct, frozen=True):
    """A message's history with what was read of it."""

    history: admin.History
    decision: DecisionRecord | None
    report: explain_report.ReportSeen | None

    def is_report(self, recipient: RecipientRow) -> bool:
        ledger = self.history.ledger[recipient.id]
        return explain_report.is_kept(recipient, ledger, self.decision)


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was turned down, as `--json` shows it. Times are UTC."""

    id: str
    sender: str
    size_octets: int
    refused: datetime
    reply: str
    """What the other side heard."""
    decision: DecisionRecord | None


@click.command()
@click.argument("message_id", metavar="ID")
@json_option
@config_option
def explain(message_id: str, as_json: bool, config_path: str | None) -> None:
    """What became of a message, and why, in order of time.

    ID is the name that the reply to the sender, the log and `posthouse queue list` give, or the
    trace of a connection, for all messages that came by it.
    """
    name = message_id.strip()
    with configured_store(config_path) as store:
        histories = [_whole(store, history) for history in _histories(store, name)]
        refused = store.read_now(lambda tx: refusals.named(tx, name, limit=OF_TRACE_MAX))
        if not histories and not refused:
            raise unknown_id(store, name)
    if as_json:
        show_json([*map(_explained, histories), *map(_refused, refused)])
        return
    for one in refused:
        for line in _story_of_refusal(_refused(one)):
            show_text(line)
    now = datetime.now(UTC)
    for number, whole in enumerate(histories):
        if number:
            show_text("")
        for line in _story(whole, now):
            show_text(line)


def _histories(store: SqliteStore, name: str) -> list[admin.History]:
    """The message of that name, with the copies of it that wait for one account each, or those of
    that trace."""
    trace = store.read_now(lambda tx: rows.queue_ids_of_trace(tx, name, limit=OF_TRACE_MAX))
    each = [store.read_now(lambda tx, q=q: admin.show(tx, q)) for q in (name, *trace)]  # type: ignore[misc]
    return [history for history in each if history is not None]


def _whole(store: SqliteStore, history: admin.History) -> _Whole:
    decision = _decision(history.decision)
    report = store.read_now(lambda tx: explain_report.look(tx, history, decision))
    return _Whole(history, decision, report)


# --- JSON ---


def _decision(octets: bytes) -> DecisionRecord | None:
    try:
        return decode(octets)
    except msgspec.DecodeError:  # "{}": made here, nobody decided about it at the door
        return None


def _explained(whole: _Whole) -> Explained:
    history = whole.history
    message = history.message
    return Explained(
        id=message.queue_id,
        sender=sender_words(message),
        origin=message.origin,
        size_octets=message.size,
        accepted=moment(message.accepted_at),
        decision=whole.decision,
        recipients=tuple(
            Recipient(
                recipient=row.address,
                state=explain_report.KEPT if whole.is_report(row) else STATE_WORDS[row.state],
                attempts=row.attempts,
                next_attempt=None if row.due_at is None else moment(row.due_at),
                expires=moment(row.expires_at) if row.state in OPEN_STATES else None,
                ledger=tuple(_step(line) for line in history.ledger[row.id]),
            )
            for row in history.recipients
        ),
        attempts=tuple(
            Attempt(at=moment(row.at), record=_attempt(row.record)) for row in history.attempts
        ),
        report=whole.report,
    )


def _refused(row: refusals.RefusalRow) -> Refused:
    return Refused(
        id=row.queue_id,
        sender=row.reverse_path or "<>",
        size_octets=row.size,
        refused=moment(row.at),
        reply=row.reply,
        decision=_decision(row.decision),
    )


def _step(line: LedgerRow) -> Step:
    return Step(
        at=moment(line.at),
        from_state=line.from_state.name.lower(),
        to_state=line.to_state.name.lower(),
        reason=line.reason,
        detail=line.detail,
    )


def _attempt(octets: bytes) -> AttemptRecord:
    return msgspec.json.decode(octets, type=AttemptRecord)


# --- the story ---

_Told = tuple[int, int, tuple[str, ...]]
"""Time in µs, rank among what happened at that time, lines."""


def _story(whole: _Whole, now: datetime) -> Iterator[str]:
    message = whole.history.message
    yield f"{message.queue_id}  from {sender_words(message)}, {message.size} octets"
    told = [(message.accepted_at, 0, tuple(_at_the_door(whole)))]
    told += _told_attempts(whole)
    told += _told_ledgers(whole)
    told.sort(key=lambda item: item[:2])
    day = ""
    for at_us, _, lines in told:
        at = moment(at_us)
        if (today := f"{at:%Y-%m-%d}") != day:
            day = today
            yield f"{day} (UTC)"
        yield f"  {at:%H:%M:%S}.{at.microsecond // 1000:03}  {lines[0]}"
        for more in lines[1:]:
            yield f"                {more}"
    for recipient in whole.history.recipients:
        if whole.report is not None and whole.is_report(recipient):
            yield f"now: {recipient.address}: {explain_report.words(whole.report)}"
        else:
            yield _now(recipient, now)


def _told_attempts(whole: _Whole) -> Iterator[_Told]:
    for number, row in enumerate(whole.history.attempts, 1):
        yield row.at, 2, tuple(_told_attempt(number, _attempt(row.record)))


def _told_ledgers(whole: _Whole) -> Iterator[_Told]:
    """The first line of each stands before an attempt of that same time, the others behind it."""
    for recipient in whole.history.recipients:
        for line in whole.history.ledger[recipient.id]:
            if line.reason not in _UNTOLD:
                rank = 1 if line.from_state is State.NONE else 3
                yield line.at, rank, (_told_step(recipient, line, whole.decision),)


def _at_the_door(whole: _Whole) -> Iterator[str]:
    if whole.decision is None:
        yield f"made by this server ({whole.history.message.origin})"
        return
    yield from _decided(whole.decision, "accepted")


def _decided(decision: DecisionRecord, what: str) -> Iterator[str]:
    """Args: what: was done, "accepted" or "turned down"."""
    session = decision.session
    hello = f", which calls itself {session.hello}" if session.hello else ""
    yield f"{what} by {session.service} from {session.peer}{hello}"
    yield f"trace {session.trace}, {session.tls or 'no TLS'}" + (
        f", logged in as {session.login}" if session.login else ""
    )
    for recipient in decision.recipients:
        leads = [f"the mailbox of {account}" for account in recipient.accounts]
        leads += [f"{address} elsewhere" for address in recipient.relayed]
        leads += ["the reports"] * bool(recipient.reports)
        via = f" by way of {', '.join(recipient.via)}" if recipient.via else ""
        told = f", leads to {' and '.join(leads)}{via}" if leads else ""
        yield f"{recipient.address}: {recipient.reply}{told}"
    for finding in decision.findings:
        yield from finding_lines(finding)
    yield f"verdict: {decision.verdict}" + (f": {decision.why}" if decision.why else "")


def finding_lines(finding: Finding) -> Iterator[str]:
    """A finding for people: the result and why, then what was looked at."""
    properties = "".join(f" {each}" for each in finding.properties)
    reason = f" ({finding.reason})" if finding.reason else ""
    yield f"{finding.name}: {finding.result}{reason}{properties}"
    for each in finding.evidence:
        yield f"  {each.what}: {each.found}"


def _story_of_refusal(refused: Refused) -> Iterator[str]:
    yield f"{refused.id}  from {refused.sender}, {refused.size_octets} octets"
    yield f"{refused.refused:%Y-%m-%d %H:%M:%S} (UTC)"
    if refused.decision is not None:
        for line in _decided(refused.decision, "turned down"):
            yield f"  {line}"
    yield f"now: nothing of it was kept; the other side heard: {refused.reply}"


def _told_attempt(number: int, record: AttemptRecord) -> Iterator[str]:
    tls = record.tls or "no TLS"
    host = f", last host {_place(record.host, record.address)}, {tls}" if record.host else ""
    yield f"attempt {number} {_way(record.destination)}{host}; it took {record.took_s:g} s"
    if record.tls_policy:
        certificate = f", certificate {record.certificate}" if record.certificate else ""
        yield f"  TLS policy: {record.tls_policy}{certificate}"
    for exchange in record.exchanges:
        yield f"  {_exchange(exchange, record)}"


def _way(destination: str) -> str:
    """What sessions are pooled by (`relay.route.destination_of`), in words."""
    match destination.split(" "):
        case ["to", _]:
            return destination
        case ["route", _, domain]:
            return f"by the route for {domain}"
        case ["smart", "host", _]:
            return f"by the {destination}"
    return f"to {destination}"


def _exchange(exchange: Exchange, record: AttemptRecord) -> str:
    said = exchange.reply.replace("\n", " / ")
    if exchange.host and (exchange.host, exchange.address) != (record.host, record.address):
        return f"{exchange.step} at {_place(exchange.host, exchange.address)}: {said}"
    return f"{exchange.step}: {said}"


def _place(host: str, address: str) -> str:
    return f"{host} [{address}]" if address and address != host else host


def _told_step(recipient: RecipientRow, line: LedgerRow, decision: DecisionRecord | None) -> str:
    words = _REASONS.get(line.reason, line.reason)
    said = line.detail.replace("\n", " / ")
    if line.from_state is State.NONE and line.to_state is State.STORED:
        if explain_report.is_kept_by(recipient, line, decision):
            return f"{recipient.address}: {explain_report.KEPT}"
        return f"{recipient.address}: {words}" + (f" {said}" if said else "")
    if said.startswith("stored for "):  # by local delivery, which may have several ends
        return f"{recipient.address}: {said}"
    return f"{recipient.address}: {words}" + (f" ({said})" if said else "")


def _now(recipient: RecipientRow, now: datetime) -> str:
    words = STATE_WORDS[recipient.state]
    if recipient.state is State.QUEUED and recipient.due_at is not None:
        due = moment(recipient.due_at)
        when = f"in {span((due - now).total_seconds())}" if due > now else "now"
        words += f", next attempt {when}"
    if recipient.state in OPEN_STATES:
        words += f", gives up on {moment(recipient.expires_at):%Y-%m-%d %H:%M} UTC"
    return f"now: {recipient.address}: {words}"
