"""`posthouse report dmarc|tls|failures|read|list|send`: what others say of us, and what we owe."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from posthouse.accounts.admin import parse_typed_domain
from posthouse.cli import report_owed
from posthouse.cli.config import config_option, load_config
from posthouse.cli.data import configured_store, open_store
from posthouse.cli.output import (
    ExitCode,
    NotFound,
    json_option,
    say,
    show_json,
    show_table,
    show_text,
)
from posthouse.cli.resolver import caching_resolver, dns_options, resolver_option
from posthouse.config import build_reports
from posthouse.config.schema import Config
from posthouse.dns import options as dns
from posthouse.mailauth import iprev
from posthouse.mailauth.questions import run as run_check
from posthouse.message.arf import FeedbackReport
from posthouse.net.world import SystemClock
from posthouse.reporting import keep, summary
from posthouse.reporting.model import AggregateReport, Read, TlsReport, Unread
from posthouse.reporting.options import US
from posthouse.reporting.read import kind_of, read_report
from posthouse.store import accounts as account_rows
from posthouse.store import reports as rows
from posthouse.store.reports import ReportKind, ReportRow
from posthouse.store.sqlite.engine import SqliteStore
from posthouse.store.transaction import Transaction

DAY_US: Final = 86_400 * US
PAGE: Final = 200
SHOWN_MAX: Final = 200
FOREIGN_MAX: Final = 20
"""Domains not ours that are named one by one."""
NAMES_MAX: Final = 100
"""Sources whose names are asked for."""
NAMES_S: Final = 5.0


@click.group()
def report() -> None:
    """DMARC and TLS reports: what others say about your domains, and those you send."""


def _days(command: Any) -> Any:
    return click.option(
        "--days",
        type=click.IntRange(1, 3650),
        default=7,
        show_default=True,
        help="How far back.",
    )(command)


def _everything(command: Any) -> Any:
    return click.option(
        "--all",
        "is_everything",
        is_flag=True,
        help="Count reports too whose mail did not prove whom it is from.",
    )(command)


# --- what others say ---


@report.command()
@click.argument("domain")
@_days
@_everything
@click.option("--names/--no-names", default=True, help="Ask the DNS for names of sources.")
@resolver_option
@json_option
@config_option
def dmarc(
    domain: str,
    days: int,
    is_everything: bool,
    names: bool,
    resolver: str | None,
    as_json: bool,
    config_path: str | None,
) -> None:
    """Who sends mail as DOMAIN: per source and result, from the DMARC reports that came."""
    config = load_config(config_path).config
    name = parse_typed_domain(domain)
    with open_store(config) as store:
        found = summary.dmarc(
            name, _reports(store, ReportKind.DMARC, name, days), is_everything=is_everything
        )
        ours = _ours(store, name)
    if names and found.sources:
        _find_names(found.sources, dns_options(config, resolver))
    if as_json:
        show_json(found)
        return
    if found.sources:
        show_table(
            ("source", "name", "messages", "SPF", "DKIM", "what was done", "author", "reported by"),
            [
                (
                    each.source_ip,
                    each.name,
                    each.messages,
                    each.spf,
                    each.dkim,
                    _disposition(each),
                    ", ".join(each.header_from[:3]),
                    ", ".join(each.reporters[:3]),
                )
                for each in found.sources
            ],
        )
        share = 100 * found.passed / found.messages if found.messages else 0
        say(
            f"{found.messages} messages in {_count(found.reports, 'report')} of the last"
            f" {_count(days, 'day')}: {share:.1f} % pass DMARC"
        )
    else:
        _say_nothing("DMARC", name, days, found.left_out, config, ours=ours)
    _say_left_out(found.left_out, found.damaged, "did not pass DMARC")


def _disposition(source: summary.Source) -> str:
    words = {"none": "nothing", "pass": "nothing", "": "not said"}.get(
        source.disposition, source.disposition
    )
    return f"{words} ({'; '.join(source.reasons[:2])})" if source.reasons else words


@report.command()
@click.argument("domain")
@_days
@_everything
@json_option
@config_option
def tls(
    domain: str, days: int, is_everything: bool, as_json: bool, config_path: str | None
) -> None:
    """How TLS went for others who sent mail to DOMAIN, from the TLS reports that came."""
    config = load_config(config_path).config
    name = parse_typed_domain(domain)
    with open_store(config) as store:
        found = summary.tls(
            name, _reports(store, ReportKind.TLS, name, days), is_everything=is_everything
        )
        ours = _ours(store, name)
    if as_json:
        show_json(found)
        return
    if found.lines:
        show_table(
            ("domain", "policy", "result", "sessions", "host", "reason", "reported by"),
            [
                (
                    each.domain,
                    each.policy,
                    each.result,
                    each.sessions,
                    each.host,
                    each.reason,
                    ", ".join(each.reporters[:3]),
                )
                for each in found.lines
            ],
        )
        say(
            f"{found.sessions} sessions in {_count(found.reports, 'report')} of the last"
            f" {_count(days, 'day')}: {found.failed} failed"
        )
    else:
        _say_nothing("TLS", name, days, found.left_out, config, ours=ours)
    _say_left_out(found.left_out, found.damaged, "had no signature of the reporter")


class FailureShown(msgspec.Struct, frozen=True, kw_only=True):
    at: datetime
    source_ip: str
    failure: str
    result: str
    mail_from: str
    incidents: int
    reporter: str
    is_authenticated: bool
    header_section: str


@report.command()
@click.argument("domain")
@_days
@json_option
@config_option
def failures(domain: str, days: int, as_json: bool, config_path: str | None) -> None:
    """Single messages that others told of because they failed as DOMAIN's."""
    config = load_config(config_path).config
    name = parse_typed_domain(domain)
    with open_store(config) as store:
        found = summary.failures(_reports(store, ReportKind.FAILURE, name, days))
        ours = _ours(store, name)
    shown = [_failure(row, each) for row, each in found]
    if as_json:
        show_json(shown)
        return
    if shown:
        show_table(
            ("time", "source", "failure", "what was done", "from", "times", "reported by"),
            [
                (
                    f"{each.at:%Y-%m-%d %H:%M}",
                    each.source_ip,
                    each.failure,
                    each.result,
                    each.mail_from,
                    each.incidents,
                    each.reporter + ("" if each.is_authenticated else " (not proved)"),
                )
                for each in shown
            ],
        )
    else:
        _say_nothing("failure", name, days, 0, config, ours=ours)


def _failure(row: ReportRow, each: FeedbackReport) -> FailureShown:
    return FailureShown(
        at=_moment(row.begin_at),
        source_ip=each.source_ip,
        failure=each.auth_failure or each.feedback_type,
        result=each.delivery_result,
        mail_from="<>" if each.original_mail_from == "" else each.original_mail_from or "",
        incidents=each.incidents,
        reporter=each.reporter,
        is_authenticated=row.is_authenticated,
        header_section=each.header_section,
    )


# --- files ---


@report.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--store", "stores", is_flag=True, help="Keep what is read, as if it had come.")
@json_option
@config_option
def read(files: tuple[str, ...], stores: bool, as_json: bool, config_path: str | None) -> int:
    """Show what report files say: XML, JSON, gzip, zip or a saved mail; "-" is stdin."""
    config = load_config(config_path).config
    options = build_reports.reporting_options(config)
    found = []
    for name in files:
        octets = _octets(name, options.limits.packed_octets_max)
        found.append((name, read_report(octets, options.limits)))
    if as_json:
        show_json([{"file": name, "kind": _kind(each), "report": each} for name, each in found])
    else:
        for name, each in found:
            _show_report(name, each)
    if stores:
        _store(found, config)
    return ExitCode.FAILED if any(isinstance(each, Unread) for _, each in found) else ExitCode.OK


def _octets(name: str, most: int) -> bytes:
    """One octet more than may be read, so that the reader says what is wrong."""
    if name == "-":
        return sys.stdin.buffer.read(most * 2 + 1)
    try:
        with Path(name).open("rb") as file:
            return file.read(most * 2 + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {name}") from None


def _store(found: Sequence[tuple[str, Read]], config: Config) -> None:
    """Whoever gives us a file vouches for it."""
    now = SystemClock().unix_us()
    kept = [
        keep.row(
            each,
            keep.Origin(
                name=Path(name).name, received_at=now, sender="file", is_authenticated=True
            ),
        )
        for name, each in found
        if not isinstance(each, Unread)
    ]
    with open_store(config) as store:
        stored = store.write_now(lambda tx: sum(rows.add_report(tx, row) for row in kept))
        foreign = sorted({row.domain for row in kept if not _ours(store, row.domain)})
    say(f"{_count(stored, 'report')} kept, {len(kept) - stored} were there already")
    for domain in foreign[:FOREIGN_MAX]:
        say(f"a report is about {domain or 'no domain'}, which is no domain of this server")
    if len(foreign) > FOREIGN_MAX:
        say(f"so are those about {len(foreign) - FOREIGN_MAX} more domains")


def _kind(read: Read) -> str:
    return "unread" if isinstance(read, Unread) else kind_of(read)


def _show_report(name: str, read: Read) -> None:
    match read:
        case Unread():
            show_text(f"{name}: {read.reason}")
        case AggregateReport():
            show_text(
                f"{name}: a DMARC report of {read.organization or 'nobody named'} about"
                f" {read.policy.domain}, {_period(read.begin_s, read.end_s)},"
                f" {_count(read.messages, 'message')}"
            )
            policy = read.policy
            show_text(f"  policy p={policy.p} sp={policy.sp} adkim={policy.adkim}"
                      f" aspf={policy.aspf}, id {read.report_id}")  # fmt: skip
            show_table(
                ("source", "messages", "SPF", "DKIM", "what was done", "author"),
                [
                    (r.source_ip, r.messages, r.spf, r.dkim, r.disposition, r.header_from)
                    for r in read.records[:SHOWN_MAX]
                ],
            )
            _say_more(len(read.records))
        case TlsReport():
            show_text(
                f"{name}: a TLS report of {read.organization or 'nobody named'},"
                f" {_period(read.begin_s, read.end_s)}, {_count(read.sessions, 'session')}"
            )
            show_table(
                ("domain", "policy", "successes", "failures", "how"),
                [
                    (
                        p.domain,
                        p.type,
                        p.successes,
                        p.failures,
                        ", ".join(f"{d.sessions} {d.result}" for d in p.details[:5]),
                    )
                    for p in read.policies[:SHOWN_MAX]
                ],
            )
            _say_more(len(read.policies))
        case FeedbackReport():
            show_text(
                f"{name}: a failure report of {read.reporter or 'nobody named'} about"
                f" {', '.join(read.reported_domains) or 'a message'} from {read.source_ip}:"
                f" {read.auth_failure or read.feedback_type}"
            )
            for line in read.authentication_results[:5]:
                show_text(f"  {line}")


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    kind: str
    domain: str
    reporter: str
    begin: datetime
    end: datetime
    total: int
    is_authenticated: bool
    sender: str
    reason: str = ""
    """Of an unread one."""


@report.command("list")
@click.option("--unread", is_flag=True, help="Only mail that no report could be read of.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=SHOWN_MAX, show_default=True, help="Lines."
)
@json_option
@config_option
def list_(unread: bool, limit: int, as_json: bool, config_path: str | None) -> None:
    """Reports that came, the newest last."""
    kind = ReportKind.UNREAD if unread else None
    with configured_store(config_path) as store:
        found: list[ReportRow] = []
        after = 0
        while page := store.read_now(partial(_heads, kind, after)):
            found = (found + page)[-limit:]
            after = page[-1].id
        reasons = {row.id: _reason(store, row.id) for row in found if row.kind is ReportKind.UNREAD}
        waiting = len(store.read_now(lambda tx: rows.inbox(tx, limit=PAGE)))
    shown = [
        Listed(
            id=row.id,
            kind=row.kind.value,
            domain=row.domain,
            reporter=row.reporter,
            begin=_moment(row.begin_at),
            end=_moment(row.end_at),
            total=row.total,
            is_authenticated=row.is_authenticated,
            sender=row.sender,
            reason=reasons.get(row.id, ""),
        )
        for row in found
    ]
    if as_json:
        show_json(shown)
        return
    if shown:
        show_table(
            ("id", "kind", "about", "reported by", "from", "to", "total", "proved by"),
            [
                (
                    each.id,
                    each.kind,
                    each.reason or each.domain,
                    each.reporter,
                    f"{each.begin:%Y-%m-%d %H:%M}",
                    f"{each.end:%Y-%m-%d %H:%M}",
                    each.total,
                    each.sender if each.is_authenticated else "nobody",
                )
                for each in shown
            ],
        )
    else:
        say("no report has come yet; `posthouse dns records DOMAIN` shows the records that ask")
    if waiting:
        say(f"{_count(waiting, 'mail')} waiting to be read; a running server does it in seconds")


def _heads(kind: ReportKind | None, after: int, tx: Transaction) -> list[ReportRow]:
    return rows.reports(tx, kind=kind, after=after, limit=PAGE)


def _reason(store: SqliteStore, report_id: int) -> str:
    row = store.read_now(lambda tx: rows.report_by_id(tx, report_id))
    return "" if row is None else keep.unread(row).reason


# --- what we owe ---


@report.command()
@click.option("--now", "is_now", is_flag=True, help="Send them, those of this day too.")
@resolver_option
@json_option
@config_option
def send(is_now: bool, resolver: str | None, as_json: bool, config_path: str | None) -> None:
    """Show the reports that we owe to others: to whom they go, to whom not, and why.

    A running server sends them by itself, some hours after midnight UTC. With --now they are sent
    at once, also of the day that is not over; the rest of that day gets a report of its own. What
    the server counted in the last minute is not among it yet.
    """
    config = load_config(config_path).config
    options = dns_options(config, resolver)
    with open_store(config) as store:
        owed = asyncio.run(report_owed.look(config, store, options, is_now=is_now))
    if as_json:
        show_json(owed)
        return
    if not owed:
        say("no report is owed to anybody")
        return
    show_table(
        ("kind", "domain", "from", "to", "total", "due", "goes to", "outcome"),
        [
            (
                each.kind,
                each.domain,
                f"{each.begin:%Y-%m-%d %H:%M}",
                f"{each.end:%Y-%m-%d %H:%M}",
                each.total,
                f"{each.due:%Y-%m-%d %H:%M}",
                ", ".join(each.to),
                each.outcome,
            )
            for each in owed
        ],
    )
    for each in owed:
        for one in each.not_to:
            say(f"{each.domain}: nothing goes to {one['uri']}: {one['reason']}")
    if not is_now:
        say("nothing was sent; `posthouse report send --now` does it")


# --- words ---


def _reports(store: SqliteStore, kind: ReportKind, domain: str, days: int) -> Iterator[ReportRow]:
    """With their content; a page at a time, as a report may be large."""
    since = SystemClock().unix_us() - days * DAY_US
    after = 0
    while page := store.read_now(partial(_page, kind, domain, since, after)):
        yield from page
        after = page[-1].id


def _page(
    kind: ReportKind, domain: str, since: int, after: int, tx: Transaction
) -> list[ReportRow]:
    return rows.reports(
        tx, kind=kind, domain=domain, since=since, after=after, limit=PAGE, has_content=True
    )


def _find_names(sources: Sequence[summary.Source], options: dns.Options) -> None:
    """Names that lead back to the address, as many as the DNS tells in time."""
    wanted = list(dict.fromkeys(each.source_ip for each in sources))[:NAMES_MAX]

    async def ask() -> dict[str, str]:
        resolver = caching_resolver(options)
        names: dict[str, str] = {}

        async def one(address: str) -> None:
            names[address] = (await run_check(iprev.check(address), resolver)).name

        tasks = [asyncio.ensure_future(one(address)) for address in wanted]
        _, late = await asyncio.wait(tasks, timeout=NAMES_S)
        for task in late:
            task.cancel()
        return names

    names = asyncio.run(ask())
    for each in sources:
        each.name = names.get(each.source_ip, "")


def _ours(store: SqliteStore, domain: str) -> str:
    """The domain of this server that it is or lies below, or ""."""
    ours = {row.name for row in store.read_now(account_rows.domains)}
    while domain and domain not in ours:
        domain = domain.partition(".")[2]
    return domain


def _say_nothing(
    kind: str, domain: str, days: int, left_out: int, config: Config, *, ours: str
) -> None:
    say(f"no {kind} report about {domain} came in the last {_count(days, 'day')}")
    if left_out:
        return
    if not ours:
        say(f"{domain} is no domain of this server; `posthouse domain list` shows those that are")
    elif not config.reports.is_enabled:
        say("reports are not taken: reports.is_enabled is false")
    else:
        say(f"`posthouse dns records {ours}` shows the record that asks others for reports")


def _say_left_out(left_out: int, damaged: int, why: str) -> None:
    if left_out:
        say(
            f"{_count(left_out, 'report')} left out, as the mail {why}: anybody could have"
            " written it; --all counts them too"
        )
    if damaged:
        say(f"{_count(damaged, 'report')} could not be read from the database")


def _say_more(total: int) -> None:
    if total > SHOWN_MAX:
        say(f"only the first {SHOWN_MAX} of {total} are shown; --json has all")


def _period(begin_s: int, end_s: int) -> str:
    return f"{_moment(begin_s * US):%Y-%m-%d %H:%M} to {_moment(end_s * US):%Y-%m-%d %H:%M}"


def _moment(unix_us: int) -> datetime:
    """What a stranger's report says may be no time at all."""
    try:
        return datetime.fromtimestamp(unix_us // US, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime(1970, 1, 1, tzinfo=UTC)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
