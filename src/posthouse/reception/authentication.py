"""Who a message from a stranger is really from: the checks, and what is written about them.

`Examiner` is what sessions share. `begin` answers at once where the DNS is known; `go_on` asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.kernel.finding import Finding
from posthouse.kernel.ports import Clock, Resolver, Workers
from posthouse.mailauth import authres, check, policy
from posthouse.mailauth.check import Checked, Checks, Mail, Prepared
from posthouse.mailauth.findings import for_readers
from posthouse.mailauth.policy import Judgement, Rules
from posthouse.mailauth.results import Result
from posthouse.mailauth.spf.received_spf import received_spf
from posthouse.message.fields import HeaderSection, read_section, without
from posthouse.mimesec.pgp import autocrypt
from posthouse.observe.metrics import Metrics

VERDICT_FIELD: Final = b"x-posthouse-verdict"
WHY_OCTETS_MAX: Final = 300


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Of section `mailauth`."""

    is_enabled: bool = True
    host: str
    """Ours: the authserv-id (RFC 8601 §2.5)."""
    rules: Rules = Rules()
    checks: check.Options
    adds_received_spf: bool = False
    questions_per_session_max: int = 500


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What reception does with a message because of who it is from."""

    judgement: Judgement = policy.PLAIN
    findings: tuple[Finding, ...] = ()
    octets: bytes
    """Of the message, without fields that claim to be ours."""
    fields: bytes = b""
    """To be put in front of it."""
    authentication_results: bytes = b""
    """One of them."""
    checked: Checked | None = None
    """None for mail that is not checked."""

    @property
    def is_author_proven(self) -> bool:
        return self.checked is not None and self.checked.counted.result is Result.PASS

    @property
    def is_autocrypt_proven(self) -> bool:
        """Whether the author wrote the Autocrypt field: DMARC also passes for a signed message that
        somebody sends again with a field of theirs in front."""
        return self.checked is not None and check.is_field_proven(
            self.checked, read_section(self.octets), autocrypt.FIELD
        )


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One checked message, for whoever keeps the statistics that domains ask for."""

    checked: Checked
    judgement: Judgement
    address: str
    reverse_path: Address | None
    recipients: tuple[Address, ...]
    section: HeaderSection
    """For a failure report, which tells of it after redaction."""
    authentication_results: bytes
    """Our field about it."""
    queue_id: str
    arrived_at: int
    """Microseconds since 1970."""


class Examiner:
    """The checks of all sessions."""

    def __init__(
        self,
        options: Options,
        *,
        resolver: Resolver,
        clock: Clock,
        workers: Workers,
        metrics: Metrics,
        on_checked: Callable[[Report], None],
    ) -> None:
        self.options = options
        self.resolver = resolver
        self.on_checked = on_checked
        self._clock = clock
        self._workers = workers
        self._results = metrics.mailauth_results

    def set_options(self, options: Options) -> None:
        """A reloaded config, for messages from now on."""
        self.options = options

    def prepare(self, mail: Mail) -> Prepared:
        """The part for the CPU: on a worker where the message is large."""
        return check.prepare(mail, self.options.checks)

    def begin(self, mail: Mail, prepared: Prepared) -> Checks:
        now_unix_s = self._clock.unix_us() // 1_000_000
        return Checks(mail, prepared, self.options.checks, now_unix_s=now_unix_s)

    async def go_on(self, checks: Checks) -> Checked:
        return await checks.finish(self.resolver, self._clock.sleep, self._workers)

    def examined(self, mail: Mail, checked: Checked) -> Examined:
        """The judgement and the fields that tell of it."""
        options = self.options
        judged = check.judged(checked, options.rules, address=mail.address)
        judgement, findings = judged.judgement, judged.findings
        for one in findings:
            self._results[f"{one.name} {one.result}"].add()
        told = authres.render(options.host, for_readers(findings))
        fields = told + _verdict_field(judgement)
        if options.adds_received_spf:
            fields += received_spf(
                checked.spf, ip=mail.address, helo=mail.hello, receiver=options.host
            )
        return Examined(
            judgement=judgement,
            findings=findings,
            octets=self.without_forged(mail.section),
            fields=fields,
            authentication_results=told,
            checked=checked,
        )

    def without_forged(self, section: HeaderSection) -> bytes:
        """The message without Authentication-Results that claim to be ours, and without
        X-Posthouse-Verdict (RFC 8601 §5, H35). Signatures were checked before."""
        octets = section.octets
        if VERDICT_FIELD in section:
            octets = without(section, frozenset({VERDICT_FIELD}))
            section = read_section(octets)
        left = authres.without_forged(section, frozenset({self.options.host}))
        return octets if left is None else left


def _verdict_field(judgement: Judgement) -> bytes:
    """X-Posthouse-Verdict: what became of the message, and why where that is not plain."""
    why = "".join(c if " " <= c <= "~" else "?" for c in judgement.why[:WHY_OCTETS_MAX])
    words = f"{judgement.verdict.value};\r\n\t{why}" if why else judgement.verdict.value
    return f"X-Posthouse-Verdict: {words}\r\n".encode("ascii")
