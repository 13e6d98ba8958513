"""Reports that we owe to others, for `posthouse report send`."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from posthouse.accounts.signers import Signers
from posthouse.cli import domain_keys as key_words
from posthouse.cli.resolver import caching_resolver
from posthouse.config import build_mailauth, build_reports
from posthouse.config.schema import Config
from posthouse.dns import options as dns
from posthouse.mailauth.signer import MailSigner
from posthouse.net.fetch import HttpsFetch
from posthouse.net.workers import ThreadWorkers
from posthouse.net.world import SystemChance, SystemClock
from posthouse.observe.log import Log
from posthouse.observe.options import LogOptions
from posthouse.reporting.job import Sender
from posthouse.reporting.options import US
from posthouse.reporting.plan import Plan
from posthouse.store.sqlite.engine import SqliteStore
from posthouse.tls.contexts import verifying_client_context


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """A report that is due, or was sent just now."""

    kind: str
    domain: str
    begin: datetime
    end: datetime
    due: datetime
    total: int
    to: list[str]
    not_to: list[dict[str, str]]
    outcome: str


async def look(
    config: Config, store: SqliteStore, options: dns.Options, *, is_now: bool
) -> list[Owed]:
    """What is owed; with `is_now` it is sent."""
    clock, chance = SystemClock(), SystemChance()
    resolver = caching_resolver(options)
    workers = ThreadWorkers()
    log = Log(lambda line: None, unix_us=clock.unix_us, options=LogOptions())
    signers = Signers(store, key_words.node_key(config), log=log)
    signer = MailSigner(
        build_mailauth.signing_options(config), keys_for=signers.keys_for, clock=clock
    )
    sender = Sender(
        build_reports.reporting_options(config),
        store=store,
        resolver=resolver,
        clock=clock,
        chance=chance,
        workers=workers,
        fetch=HttpsFetch(resolver, context=verifying_client_context()),
        sign=lambda tx, octets, domain: signer.sign_now(octets),
    )
    try:
        await signers.refresh()
        owed = []
        can_sign = sender.can_sign()
        for kind, row in await sender.due(is_everything=True):
            plan = await sender.plan(kind, row)
            if plan is None:
                continue
            if is_now:
                done = await sender.send(plan)
                outcome = f"sent to {done.outcome}" if done.is_sent else done.outcome
            else:
                outcome = _expected(plan, can_sign=can_sign)
            owed.append(_owed(plan, outcome))
        return owed
    finally:
        signers.close()
        workers.close()


def _expected(plan: Plan, *, can_sign: bool) -> str:
    if plan.targets and not can_sign:
        return "not yet: no DKIM key signs for what reports are sent from; see `domain keys`"
    if plan.targets:
        return "will be sent"
    return f"will not be sent: {plan.reason}" if plan.reason else f"not now: {plan.failure}"


def _owed(plan: Plan, outcome: str) -> Owed:
    return Owed(
        kind=plan.kind.value,
        domain=plan.domain,
        begin=moment(plan.begin_at),
        end=moment(plan.end_at),
        due=moment(plan.due_at),
        total=plan.total,
        to=[target.uri for target in plan.targets],
        not_to=[{"uri": each.uri, "reason": each.reason} for each in plan.ignored],
        outcome=outcome,
    )


def moment(unix_us: int) -> datetime:
    return datetime.fromtimestamp(unix_us // US, UTC)
