"""Who mail is from: what one node needs to check that of others and to sign its own."""

from __future__ import annotations

from collections.abc import Callable

from posthouse.accounts.signers import Signers
from posthouse.config import build_mailauth
from posthouse.config.schema import Config
from posthouse.kernel.ports import Clock, Resolver, Workers
from posthouse.mailauth.signer import MailSigner
from posthouse.observe.metrics import Metrics
from posthouse.reception.authentication import Examiner, Report


class Authentication:
    """`examiner` is what port 25 judges by, `signer` what leaves is signed with."""

    def __init__(
        self,
        config: Config,
        *,
        resolver: Resolver,
        clock: Clock,
        workers: Workers,
        metrics: Metrics,
        signers: Signers,
        on_checked: Callable[[Report], None],
    ) -> None:
        self.examiner = Examiner(
            build_mailauth.authentication_options(config),
            resolver=resolver,
            clock=clock,
            workers=workers,
            metrics=metrics,
            on_checked=on_checked,
        )
        self.signer = MailSigner(
            build_mailauth.signing_options(config), keys_for=signers.keys_for, clock=clock
        )

    def set_options(self, config: Config) -> None:
        """A reloaded config, for messages from now on."""
        self.examiner.set_options(build_mailauth.authentication_options(config))
        self.signer.set_options(build_mailauth.signing_options(config))
