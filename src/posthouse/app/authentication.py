"""Who mail is from: what one node needs to check that of others and to sign its own."""

from __future__ import annotations

from posthouse.accounts.signers import Signers
from posthouse.config import build_mailauth
from posthouse.config.schema import Config
from posthouse.kernel.ports import Clock, Resolver
from posthouse.mailauth.policy import Judgement
from posthouse.mailauth.signer import MailSigner
from posthouse.observe.metrics import Metrics
from posthouse.reception.authentication import Examiner, Report
from posthouse.reporting.collect import Collector
from posthouse.reporting.rows import Override, OverrideType, dmarc_row


class Authentication:
    """`examiner` is what port 25 judges by, `signer` what leaves is signed with."""

    def __init__(
        self,
        config: Config,
        *,
        resolver: Resolver,
        clock: Clock,
        metrics: Metrics,
        signers: Signers,
        collector: Collector,
    ) -> None:
        self._collector = collector
        self.examiner = Examiner(
            build_mailauth.authentication_options(config),
            resolver=resolver,
            clock=clock,
            metrics=metrics,
            on_checked=self._count,
        )
        self.signer = MailSigner(
            build_mailauth.signing_options(config), keys_for=signers.keys_for, clock=clock
        )

    def set_options(self, config: Config) -> None:
        """A reloaded config, for messages from now on."""
        self.examiner.set_options(build_mailauth.authentication_options(config))
        self.signer.set_options(build_mailauth.signing_options(config))

    def _count(self, report: Report) -> None:
        """For the aggregate reports that the authors' domains ask for."""
        checked, judgement = report.checked, report.judgement
        reverse_path = report.reverse_path
        for outcome in checked.dmarc:
            row = dmarc_row(
                outcome,
                source_ip=report.address,
                envelope_from=reverse_path.domain if reverse_path is not None else "",
                envelope_to=report.recipients[0].domain if report.recipients else "",
                spf=checked.spf,
                dkim=checked.dkim,
                disposition=judgement.disposition,
                overrides=_overrides(judgement),
            )
            if row is not None:
                self._collector.add(row)


def _overrides(judgement: Judgement) -> tuple[Override, ...]:
    if judgement.override is None:
        return ()
    return (Override(OverrideType(judgement.override.value), judgement.override_why),)
