"""Reports of one node: what is counted while mail moves, what is sent of it, and what comes in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from posthouse.accounts.sealing import NodeKey
from posthouse.app.world import World
from posthouse.config import build_reports
from posthouse.config.schema import Config
from posthouse.kernel.ports import Fetch, Resolver
from posthouse.kernel.tls_result import ResultType
from posthouse.mailauth.policy import Judgement
from posthouse.mailauth.results import DmarcOutcome
from posthouse.mailauth.signer import MailSigner
from posthouse.message.fields import unfold
from posthouse.observe.limits import LimitWatch
from posthouse.observe.log import Log
from posthouse.reception.authentication import Report
from posthouse.relay.tls_result import TlsResult
from posthouse.reporting.collect import Collector
from posthouse.reporting.failures import Failed, FailureReporter, is_asked
from posthouse.reporting.intake import Intake
from posthouse.reporting.job import Sender
from posthouse.reporting.rows import (
    Override,
    OverrideType,
    dmarc_row,
    tls_row,
)
from posthouse.store.transaction import Store, Transaction

REDACTION: Final = b"failure-reports"


class Reports:
    """`jobs` are to be run as long as the node lives; `close` writes what is still in memory."""

    def __init__(
        self,
        config: Config,
        *,
        world: World,
        store: Store,
        resolver: Resolver,
        fetch: Fetch,
        signer: MailSigner,
        node_key: NodeKey,
        log: Log,
        limits: LimitWatch,
    ) -> None:
        options = build_reports.reporting_options(config)
        clock, chance, workers = world.clock, world.chance, world.workers

        def sign(tx: Transaction | None, octets: bytes, domain: str) -> bytes:
            return signer.sign_now(octets)

        self.collector = Collector(options, store=store, clock=clock, log=log, limits=limits)
        self.intake = Intake(
            options,
            store=store,
            clock=clock,
            workers=workers,
            log=log,
            limits=limits,
            leisure=world.leisure,
        )
        self.sender = Sender(
            options,
            store=store,
            resolver=resolver,
            clock=clock,
            chance=chance,
            workers=workers,
            fetch=fetch,
            sign=sign,
            log=log,
            limits=limits,
            leisure=world.leisure,
        )
        self.failures = FailureReporter(
            options,
            store=store,
            resolver=resolver,
            clock=clock,
            chance=chance,
            sign=sign,
            redaction_key=node_key.derive(REDACTION),
            log=log,
            limits=limits,
        )

    def set_options(self, config: Config) -> None:
        """A reloaded config."""
        options = build_reports.reporting_options(config)
        self.collector.set_options(options)
        self.intake.set_options(options)
        self.sender.set_options(options)
        self.failures.set_options(options)

    def jobs(self) -> tuple[tuple[str, Callable[[], Coroutine[Any, Any, None]]], ...]:
        return (
            ("results for reports", self.collector.run),
            ("reports that came", self.intake.run),
            ("reports to send", self.sender.run),
            ("failure reports", self.failures.run),
        )

    async def close(self) -> None:
        await self.collector.flush()

    def checked(self, report: Report) -> None:
        """A message was judged."""
        checked, judgement = report.checked, report.judgement
        reverse_path, recipients = report.reverse_path, report.recipients
        for outcome in checked.dmarc:
            row = dmarc_row(
                outcome,
                source_ip=report.address,
                envelope_from=reverse_path.domain if reverse_path is not None else "",
                envelope_to=recipients[0].domain if recipients else "",
                spf=checked.spf,
                dkim=checked.dkim,
                disposition=judgement.disposition,
                overrides=_overrides(judgement),
            )
            if row is not None:
                self.collector.add(row)
            if is_asked(outcome):
                self.failures.report(_failed(report, outcome))

    def tls_ended(self, result: TlsResult) -> None:
        """The relay tried TLS with a host."""
        is_success = result.result is ResultType.SUCCESS
        self.collector.add_tls(
            tls_row(
                result.domain,
                type=result.policy_type,
                strings=result.policy_strings,
                policy_domain=result.policy_domain,
                mx_hosts=result.mx_patterns,
                trouble=None if is_success else result.result,
                sending_ip=result.sending_ip,
                receiving_host=result.mx_host,
                receiving_hello=result.helo,
                receiving_ip=result.receiving_ip,
                reason=result.reason,
            )
        )


def _failed(report: Report, outcome: DmarcOutcome) -> Failed:
    field = report.authentication_results.partition(b":")[2]
    return Failed(
        outcome=outcome,
        source_ip=report.address,
        reverse_path=report.reverse_path,
        recipients=report.recipients,
        spf=report.checked.spf,
        dkim=report.checked.dkim,
        section=report.section,
        disposition=report.judgement.disposition,
        authentication_results=unfold(field).decode("ascii"),
        queue_id=report.queue_id,
        arrived_at=report.arrived_at,
    )


def _overrides(judgement: Judgement) -> tuple[Override, ...]:
    if judgement.override is None:
        return ()
    return (Override(OverrideType(judgement.override.value), judgement.override_why),)
