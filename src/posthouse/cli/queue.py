"""`posthouse queue list|show|retry|hold|release|drop|reroute`.

What is changed is chosen by queue ids or by one or more of --domain, --sender, --recipient, which
all have to fit, or by --all. It is changed in units of some hundred recipients, so that a running
server waits for none of it.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from posthouse.cli.config import config_option
from posthouse.cli.data import configured_store
from posthouse.cli.output import (
    Command,
    CommandError,
    ExitCode,
    NotFound,
    json_option,
    progress,
    say,
    show_json,
    show_table,
)
from posthouse.kernel.ids import RecipientId
from posthouse.queue import admin
from posthouse.queue.item import OPEN_STATES, State
from posthouse.relay.plan import parse_place
from posthouse.store import queue as rows
from posthouse.store.queue_rows import MessageRow, RecipientRow
from posthouse.store.sqlite.engine import SqliteStore
from posthouse.store.transaction import Transaction

SHOWN_MAX: Final = 100
PAGE: Final = 1000
UNIT: Final = 200
"""Recipients changed in one unit of work."""
SUGGESTED_FROM_MAX: Final = 2000
"""Newest messages among which a mistyped id is looked for."""

_STATES: Final = {"waiting": State.QUEUED, "leased": State.LEASED, "held": State.HELD}
STATE_WORDS: Final = {
    State.QUEUED: "waiting",
    State.LEASED: "being tried",
    State.HELD: "held",
    State.STORED: "stored in a mailbox",
    State.RELAYED: "handed to the next host",
    State.RETURNED: "returned to the sender",
    State.DROPPED: "dropped",
}
Change = Callable[[Transaction, admin.Selection], admin.Changed]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which open recipients are meant."""

    ids: tuple[str, ...] = ()
    domain: str | None = None
    sender: str | None = None
    recipient: str | None = None
    state: State | None = None
    is_everything: bool = False

    def fits(self, message: MessageRow, recipient: RecipientRow) -> bool:
        return (
            (not self.ids or message.queue_id in self.ids)
            and self.domain in (None, recipient.domain)
            and (self.sender is None or _same(self.sender, message.reverse_path or ""))
            and (self.recipient is None or _same(self.recipient, recipient.address))
            and self.state in (None, recipient.state)
        )


def _same(wanted: str, address: str) -> bool:
    return wanted.strip("<>").casefold() == address.casefold()


def _filters(command: Command) -> Command:
    for option in (
        click.option("--recipient", metavar="ADDRESS", help="Mail for this address."),
        click.option("--sender", metavar="ADDRESS", help='Mail from this address; "<>" too.'),
        click.option("--domain", metavar="NAME", help="Mail for this domain."),
    ):
        command = option(command)
    return command


def _selection(command: Command) -> Command:
    """Queue ids and filters, as the argument `choice`."""

    def chosen(
        ids: tuple[str, ...],
        domain: str | None,
        sender: str | None,
        recipient: str | None,
        is_everything: bool,
        **rest: Any,
    ) -> Any:
        choice = Choice(
            ids=ids,
            domain=domain.lower().rstrip(".") if domain else None,
            sender=sender,
            recipient=recipient,
            is_everything=is_everything,
        )
        if not (ids or domain or recipient or is_everything) and sender is None:
            raise click.UsageError(
                "nothing is selected: name queue ids, --domain, --sender, --recipient or --all"
            )
        return command(choice=choice, **rest)

    chosen.__doc__ = command.__doc__
    chosen.__name__ = command.__name__
    chosen.__dict__.update(command.__dict__)  # options that stand below this one
    everything = click.option("--all", "is_everything", is_flag=True, help="The whole queue.")
    return click.argument("ids", nargs=-1, metavar="[ID]...")(_filters(everything(chosen)))  # type: ignore[return-value]


@click.group()
def queue() -> None:
    """Mail that is not settled yet: list, show, retry, hold, release, drop, reroute."""


# --- looking ---


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """One open recipient as `queue list --json` shows it. Times are UTC."""

    id: str
    recipient: str
    sender: str
    state: str
    size_octets: int
    accepted: datetime
    next_attempt: datetime | None
    expires: datetime
    attempts: int
    last_reply: str
    route: str


@queue.command("list")
@_filters
@click.option("--state", type=click.Choice(list(_STATES)), help="Only what is in this state.")
@click.option(
    "--limit", type=click.IntRange(1), default=SHOWN_MAX, show_default=True, help="Most lines."
)
@json_option
@config_option
def list_(
    domain: str | None,
    sender: str | None,
    recipient: str | None,
    state: str | None,
    limit: int,
    as_json: bool,
    config_path: str | None,
) -> None:
    """Every recipient that waits, the oldest message first."""
    choice = Choice(
        domain=domain.lower().rstrip(".") if domain else None,
        sender=sender,
        recipient=recipient,
        state=_STATES[state] if state else None,
    )
    found: list[Waiting] = []
    is_more = False
    with configured_store(config_path) as store:
        counts = store.read_now(admin.depth)
        for entry in _entries(store, choice):
            if len(found) >= limit:
                is_more = True
                break
            found.append(_waiting(entry))
    if as_json:
        show_json(found)
        return
    now = datetime.now(UTC)
    if found:
        show_table(
            ("id", "recipient", "sender", "state", "age", "next attempt", "tries", "last reply"),
            [_row(item, now) for item in found],
        )
    total = sum(counts.values())
    if not total:
        say("the queue is empty")
    else:
        words = ", ".join(f"{n} {STATE_WORDS[s]}" for s, n in counts.items() if n)
        say(f"{total} recipient{'s' * (total != 1)}: {words}")
    if is_more:
        say(f"only the first {limit} are shown; see --limit, --domain, --sender, --recipient")


def _waiting(entry: admin.Entry) -> Waiting:
    recipient, message = entry.recipient, entry.message
    return Waiting(
        id=message.queue_id,
        recipient=recipient.address,
        sender=sender_words(message),
        state=STATE_WORDS[recipient.state],
        size_octets=message.size,
        accepted=moment(message.accepted_at),
        next_attempt=moment(recipient.due_at) if recipient.due_at is not None else None,
        expires=moment(recipient.expires_at),
        attempts=recipient.attempts,
        last_reply=recipient.last_reply or "",
        route=recipient.route or "",
    )


def _row(item: Waiting, now: datetime) -> tuple[object, ...]:
    due = "" if item.next_attempt is None else span((item.next_attempt - now).total_seconds())
    if item.next_attempt is not None:
        due = f"in {due}" if item.next_attempt > now else "now"
    return (
        item.id,
        item.recipient,
        item.sender,
        item.state,
        span((now - item.accepted).total_seconds()),
        due,
        item.attempts,
        item.last_reply.replace("\n", " / "),
    )


def sender_words(message: MessageRow) -> str:
    return "<>" if message.reverse_path is None else message.reverse_path


def moment(unix_us: int) -> datetime:
    """Args: unix_us: microseconds since 1970."""
    return datetime.fromtimestamp(unix_us / 1_000_000, UTC)


def span(seconds: float) -> str:
    """A time in its largest two units at most: "3d 4h", "2m 5s", "40s"."""
    left = max(0, round(seconds))
    parts = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


@queue.command("show")
@click.argument("queue_id", metavar="ID")
@json_option
@config_option
def show_command(queue_id: str, as_json: bool, config_path: str | None) -> None:
    """One message with its recipients, settled ones too. `posthouse explain ID` tells the story."""
    with configured_store(config_path) as store:
        history = store.read_now(lambda tx: admin.show(tx, queue_id))
        if history is None:
            raise unknown_id(store, queue_id)
    message = history.message
    if as_json:
        show_json(_history(history))
        return
    say(
        f"{message.queue_id} from {sender_words(message)}, {message.size} octets,"
        f" accepted {moment(message.accepted_at):%Y-%m-%d %H:%M:%S} UTC by {message.origin}"
    )
    now = datetime.now(UTC)
    show_table(
        ("recipient", "state", "tries", "next attempt", "expires", "route", "last reply"),
        [
            (
                r.address,
                STATE_WORDS[r.state],
                r.attempts,
                _due_words(r, now),
                f"{moment(r.expires_at):%Y-%m-%d %H:%M}" if r.state in OPEN_STATES else "",
                r.route or "",
                (r.last_reply or "").replace("\n", " / "),
            )
            for r in history.recipients
        ],
    )


def _due_words(row: RecipientRow, now: datetime) -> str:
    if row.due_at is None:
        return ""
    due = moment(row.due_at)
    return f"in {span((due - now).total_seconds())}" if due > now else "now"


def _history(history: admin.History) -> dict[str, Any]:
    message = history.message
    return {
        "id": message.queue_id,
        "sender": sender_words(message),
        "origin": message.origin,
        "size_octets": message.size,
        "accepted": moment(message.accepted_at),
        "recipients": [
            {
                "recipient": r.address,
                "state": STATE_WORDS[r.state],
                "attempts": r.attempts,
                "next_attempt": None if r.due_at is None else moment(r.due_at),
                "expires": moment(r.expires_at) if r.state in OPEN_STATES else None,
                "route": r.route or "",
                "last_reply": r.last_reply or "",
            }
            for r in history.recipients
        ],
    }


def unknown_id(store: SqliteStore, text: str) -> NotFound:
    """No such message; with those that are spelled nearly the same."""
    from difflib import get_close_matches

    recent = store.read_now(lambda tx: rows.recent_queue_ids(tx, limit=SUGGESTED_FROM_MAX))
    near = get_close_matches(text[:40], recent, n=3, cutoff=0.8)
    hint = "the log and the reply to the sender name it; `posthouse queue list` shows what waits"
    return NotFound(
        f"nothing is known of a message {text!r}",
        hint=f"did you mean {' or '.join(near)}?" if near else hint,
    )


def _entries(store: SqliteStore, choice: Choice) -> Iterator[admin.Entry]:
    """Open recipients that fit, by rising id, read page by page."""
    after = RecipientId(0)
    states = (choice.state,) if choice.state else tuple(_STATES.values())

    def next_page(tx: Transaction) -> list[admin.Entry]:
        return admin.entries(tx, states=states, domain=choice.domain, after=after, limit=PAGE)

    while page := store.read_now(next_page):
        yield from (entry for entry in page if choice.fits(entry.message, entry.recipient))
        after = page[-1].recipient.id


# --- changing ---


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """What a change came to, as `--json` shows it."""

    changed: int
    busy: int
    """Left alone, as an attempt is under way."""


def _chosen(store: SqliteStore, choice: Choice) -> list[RecipientId]:
    found: list[RecipientId] = []
    if not choice.ids:
        return [entry.recipient.id for entry in _entries(store, choice)]
    for queue_id in choice.ids:
        history = store.read_now(lambda tx, q=queue_id: admin.show(tx, q))  # type: ignore[misc]
        if history is None:
            raise unknown_id(store, queue_id)
        found += [
            row.id
            for row in history.recipients
            if row.state in OPEN_STATES and choice.fits(history.message, row)
        ]
    return found


def _apply(
    store: SqliteStore,
    choice: Choice,
    change: Change,
    *,
    done: str,
    as_json: bool,
    ids: list[RecipientId] | None = None,
) -> int:
    """Change what is chosen (or `ids`, where that is known already) in units; the exit code."""
    ids = _chosen(store, choice) if ids is None else ids
    changed = busy = 0
    with progress("recipients", len(ids)) as advance:
        for start in range(0, len(ids), UNIT):
            part = ids[start : start + UNIT]
            results = store.write_now(
                lambda tx, part=part: [  # type: ignore[misc]
                    change(tx, admin.Selection(recipient=recipient)) for recipient in part
                ]
            )
            changed += sum(result.count for result in results)
            busy += sum(result.busy for result in results)
            advance(len(part))
    if as_json:
        show_json(Changed(changed=changed, busy=busy))
    else:
        say(f"{changed} recipient{'s' * (changed != 1)} {done}")
        if busy:
            say(f"{busy} left alone: being tried at this moment")
        if not changed and not busy and not choice.is_everything:
            say("nothing that fits is in a state for it; `posthouse queue list` shows what waits")
    if busy and not changed:
        return ExitCode.TEMPORARY
    return ExitCode.OK if changed or choice.is_everything else ExitCode.NOT_FOUND


def _by() -> str:
    """Who does it, for the ledger."""
    try:
        return f"{getpass.getuser()} on the command line"
    except (KeyError, OSError):
        return "the command line"


@queue.command()
@_selection
@json_option
@config_option
def retry(choice: Choice, as_json: bool, config_path: str | None) -> int:
    """Try waiting recipients now."""
    with configured_store(config_path) as store:
        return _apply(
            store,
            choice,
            lambda tx, selection: admin.retry(tx, selection, by=_by()),
            done="due now",
            as_json=as_json,
        )


@queue.command()
@_selection
@json_option
@config_option
def hold(choice: Choice, as_json: bool, config_path: str | None) -> int:
    """Keep waiting recipients until they are released; they do not expire."""
    with configured_store(config_path) as store:
        return _apply(
            store,
            choice,
            lambda tx, selection: admin.hold(tx, selection, by=_by()),
            done="held",
            as_json=as_json,
        )


@queue.command()
@_selection
@json_option
@config_option
def release(choice: Choice, as_json: bool, config_path: str | None) -> int:
    """Let held recipients go on, due now."""
    with configured_store(config_path) as store:
        return _apply(
            store,
            choice,
            lambda tx, selection: admin.release(tx, selection, by=_by()),
            done="released, due now",
            as_json=as_json,
        )


@queue.command()
@_selection
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@config_option
def drop(choice: Choice, yes: bool, as_json: bool, config_path: str | None) -> int:
    """Give recipients up and tell nobody, not even the sender. This cannot be undone."""
    with configured_store(config_path) as store:
        ids = _chosen(store, choice)
        if ids and not yes:
            words = f"drop {len(ids)} recipient{'s' * (len(ids) != 1)} without telling the sender"
            if not sys.stdin.isatty():
                raise CommandError(f"this would {words}", hint="add --yes")
            click.confirm(f"{words}?", abort=True, err=True)
        return _apply(
            store,
            choice,
            lambda tx, selection: admin.drop(tx, selection, by=_by()),
            done="dropped",
            as_json=as_json,
            ids=ids,
        )


@queue.command()
@_selection
@click.option(
    "--to",
    "place",
    required=True,
    metavar="HOST[:PORT]",
    help='Where to send them instead of their domain\'s hosts; "none" takes that back.',
)
@json_option
@config_option
def reroute(choice: Choice, place: str, as_json: bool, config_path: str | None) -> int:
    """Send waiting recipients to another host, now; held ones stay held."""
    route = ""
    if place != "none":
        try:
            parse_place(place)
        except ValueError:
            raise click.UsageError(
                f"--to takes host, host:port or [address]:port, and {place!r} is none"
            ) from None
        route = place
    with configured_store(config_path) as store:
        return _apply(
            store,
            choice,
            lambda tx, selection: admin.reroute(tx, selection, route, by=_by()),
            done=f"rerouted to {route}" if route else "routed as usual again",
            as_json=as_json,
        )
