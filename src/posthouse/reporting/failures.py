"""Reports about single messages that fail DMARC, for domains that ask for them (RFC 9991).

Off unless the config says "redacted". Reception calls `report` for each failed message; what is
told is made at once, and the message forgotten. Alike incidents within an hour are counted, not
sent (RFC 9991 §8.1), and each organization gets so many reports an hour and no more. A crash loses
what waits: nobody was promised it.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict, deque
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import msgspec

from posthouse import __version__
from posthouse.kernel.envelope import Address
from posthouse.kernel.errors import Fault
from posthouse.kernel.finding import Evidence
from posthouse.kernel.ports import Chance, Clock, Resolver
from posthouse.mailauth.questions import run
from posthouse.mailauth.results import (
    Disposition,
    DkimOutcome,
    DmarcOutcome,
    DmarcPolicy,
    Result,
    SpfOutcome,
)
from posthouse.message import build
from posthouse.message.build import BuildError, Encoding
from posthouse.message.dates import format_date
from posthouse.message.fields import HeaderSection
from posthouse.observe import events
from posthouse.observe.limits import LimitWatch
from posthouse.observe.log import Log
from posthouse.reporting import mail
from posthouse.reporting.destinations import Destinations, Tag, verify
from posthouse.reporting.options import US, Options
from posthouse.reporting.organization import organization_of
from posthouse.reporting.plan import LOOK_UP_S, QUESTIONS_MAX
from posthouse.reporting.post import Sign, Unsigned, accept_mail, new_queue_id, signed
from posthouse.reporting.redact import Redactor
from posthouse.store.transaction import Store, Transaction

WAITING_MAX: Final = 100
KINDS_MAX: Final = 2_000
"""Alike incidents that are told apart."""
HOUR_S: Final = 3600.0
RECIPIENTS_MAX: Final = 10
TEXT_CHARACTERS_MAX: Final = 500
SPF_RECORDS_MAX: Final = 10

_UNSAFE: Final = re.compile(r"[^ -~]")


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A message that failed, as reception knows it. Only a redacted copy outlives the call."""

    outcome: DmarcOutcome
    source_ip: str
    reverse_path: Address | None
    recipients: tuple[Address, ...]
    spf: SpfOutcome | None
    dkim: tuple[DkimOutcome, ...]
    section: HeaderSection
    disposition: Disposition
    """What was done with it."""
    authentication_results: str = ""
    """The value of our field about it."""
    queue_id: str = ""
    arrived_at: int
    """Microseconds since 1970."""


class _Incident(msgspec.Struct, frozen=True, kw_only=True):
    """What waits to be told: redacted already."""

    policy: DmarcPolicy
    domain: str
    source_ip: str
    fields: tuple[tuple[str, str], ...]
    header_section: bytes
    arrived_at: int
    incidents: int


def is_asked(outcome: DmarcOutcome) -> bool:
    """Whether the policy asks for a report about this (RFC 9989 §4.7, fo=).

    "d" and "s" ask for reports about DKIM and SPF alone, which we do not make.
    """
    policy = outcome.policy
    if policy is None or not policy.failure_uris:
        return False
    if policy.public_suffix == "y":  # RFC 9991 §2: never to a public suffix
        return False
    if outcome.result not in (Result.PASS, Result.FAIL):
        return False
    aligned = (outcome.is_spf_aligned, outcome.is_dkim_aligned)
    if "1" in policy.failure_options:
        return not all(aligned)
    return "0" in policy.failure_options and not any(aligned)


class FailureReporter:
    """One for each process."""

    def __init__(
        self,
        options: Options,
        *,
        store: Store,
        resolver: Resolver,
        clock: Clock,
        chance: Chance,
        sign: Sign,
        redaction_key: bytes,
        log: Log | None = None,
        limits: LimitWatch | None = None,
    ) -> None:
        """Args:
        redaction_key: secret, and the same after a restart, so that the same local-part
            becomes the same word in all reports (RFC 6590 §3).
        """
        self._options = options
        self._store = store
        self._resolver = resolver
        self._clock = clock
        self._chance = chance
        self._sign = sign
        self._log = log
        self._limits = limits
        self._redactor = Redactor(redaction_key)
        self._waiting: deque[_Incident] = deque()
        self._has_some = asyncio.Event()
        self._sent: OrderedDict[str, tuple[float, int, bool]] = OrderedDict()
        """Of an organization: when its hour began, reports in it, and whether it wanted more."""
        self._alike: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()
        """Of alike incidents: when one was told last, and how many were not since."""

    def set_options(self, options: Options) -> None:
        """A reloaded config."""
        self._options = options

    def report(self, failed: Failed) -> bool:
        """Whether a report about it is to be sent. Cheap where it is not."""
        if not self._options.sends_failures or not is_asked(failed.outcome):
            return False
        policy = failed.outcome.policy
        assert policy is not None
        now_s = self._clock.monotonic_s()
        key = _kind(failed.outcome, failed.source_ip)
        told_s, untold = self._alike.pop(key, (-HOUR_S, 0))
        is_sent = (
            now_s - told_s >= HOUR_S
            and len(self._waiting) < WAITING_MAX
            and self._may_send(organization_of(policy.domain), now_s)
        )
        if is_sent:
            self._has_some.set()
            self._waiting.append(self._incident(failed, policy, untold + 1))
        self._alike[key] = (now_s, 0) if is_sent else (told_s, untold + 1)
        while len(self._alike) > KINDS_MAX:
            self._alike.popitem(last=False)
        return is_sent

    def _may_send(self, owner: str, now_s: float) -> bool:
        began_s, count, is_told = self._sent.get(owner, (now_s, 0, False))
        if now_s - began_s >= HOUR_S:
            began_s, count, is_told = now_s, 0, False
        most = self._options.failures_per_hour
        if count >= most:
            # Told once an hour: whoever floods us does not flood the log.
            if self._limits is not None and not is_told:
                self._limits.reached(
                    "reports.failures_per_hour", value=most, observed=count + 1, peer=owner
                )
            self._sent[owner] = (began_s, count, True)
            return False
        self._sent[owner] = (began_s, count + 1, False)
        self._sent.move_to_end(owner)
        while len(self._sent) > KINDS_MAX:
            self._sent.popitem(last=False)
        return True

    def _incident(self, failed: Failed, policy: DmarcPolicy, incidents: int) -> _Incident:
        return _Incident(
            policy=policy,
            domain=failed.outcome.from_domain,
            source_ip=failed.source_ip,
            fields=tuple(self._fields(failed, incidents)),
            header_section=self._redactor.section(failed.section),
            arrived_at=failed.arrived_at,
            incidents=incidents,
        )

    def _fields(self, failed: Failed, incidents: int) -> list[tuple[str, str]]:
        """Of the message/feedback-report part (RFC 5965 §3, RFC 6591 §3, RFC 9991 §4)."""
        outcome, redactor = failed.outcome, self._redactor
        unaligned = [
            name
            for name, is_aligned in (
                ("dkim", outcome.is_dkim_aligned),
                ("spf", outcome.is_spf_aligned),
            )
            if not is_aligned
        ]
        fields = [
            ("Feedback-Type", "auth-failure"),
            ("User-Agent", f"Posthouse/{__version__}"),
            ("Version", "1"),
            ("Auth-Failure", "dmarc"),
            ("Identity-Alignment", ", ".join(unaligned) or "none"),
            ("Delivery-Result", _delivery_result(failed.disposition)),
            ("Original-Mail-From", f"<{self._address(failed.reverse_path)}>"),
            ("Arrival-Date", format_date(datetime.fromtimestamp(failed.arrived_at // US, UTC))),
            ("Source-IP", failed.source_ip),
            ("Reported-Domain", outcome.from_domain),
            ("Reporting-MTA", f"dns; {self._options.host}"),
        ]
        fields += [
            ("Original-Rcpt-To", f"<{self._address(each)}>")
            for each in failed.recipients[:RECIPIENTS_MAX]
        ]
        if failed.queue_id:
            fields.append(("Original-Envelope-Id", failed.queue_id))
        if incidents > 1:
            fields.append(("Incidents", str(incidents)))
        if failed.authentication_results:
            fields.append(("Authentication-Results", redactor.text(failed.authentication_results)))
        if not outcome.is_dkim_aligned:
            fields += _dkim_fields(failed.dkim, outcome, redactor)
        if not outcome.is_spf_aligned and failed.spf is not None:
            fields += _spf_fields(failed.spf)
        return [(name, _safe(value)) for name, value in fields]

    def _address(self, address: Address | None) -> str:
        if address is None:
            return ""
        return self._redactor.address(address.local_part, address.domain)

    # --- sending ---

    async def run(self) -> None:
        """Send what waits, for ever."""
        while True:
            await self._has_some.wait()
            self._has_some.clear()
            try:
                await self.send_waiting()
            except Fault as fault:
                if self._log is not None:
                    self._log.write(events.FAULT_MET, kind=type(fault).__name__, detail=str(fault))

    async def send_waiting(self) -> int:
        """How many were sent. Raises Fault when the store fails; that one report is lost."""
        sent = 0
        while self._waiting:
            sent += await self._send(self._waiting.popleft())
        return sent

    async def _send(self, incident: _Incident) -> bool:
        wanted = await self._wanted(incident.policy)
        if not wanted.allowed:
            reason = wanted.failure or "; ".join(each.reason for each in wanted.ignored)
            self._tell(incident, reason or "nobody may be sent it", is_sent=False)
            return False
        to = tuple(target.address for target in wanted.allowed)
        try:
            octets = self._compose(incident, to)
        except BuildError as error:
            self._tell(incident, str(error), is_sent=False)
            return False
        try:
            await self._store.submit(partial(self._accept, octets, to), octets=len(octets))
        except Unsigned as unsigned:
            self._tell(incident, str(unsigned), is_sent=False)
            return False
        self._tell(incident, ", ".join(target.uri for target in wanted.allowed), is_sent=True)
        return True

    async def _wanted(self, policy: DmarcPolicy) -> Destinations:
        check = verify(policy.domain, policy.failure_uris, Tag.FAILURE, most=self._options.uris_max)
        try:
            async with asyncio.timeout(LOOK_UP_S):
                return await run(check, self._resolver, questions_max=QUESTIONS_MAX)
        except TimeoutError:
            return Destinations(failure="the DNS took too long")

    def _compose(self, incident: _Incident, to: Sequence[Address]) -> bytes:
        options = self._options
        when = datetime.fromtimestamp(incident.arrived_at // US, UTC)
        lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in incident.fields)
        entity = build.multipart(
            "report",
            [
                build.text_entity(
                    f"This is an authentication failure report about a message that claims to be"
                    f" from {incident.domain},\nreceived from {incident.source_ip} on"
                    f" {format_date(when)}.\n\nLocal-parts are replaced by words that stand for"
                    f" them; subject and body are left out.\nQuestions: {options.contact}\n"
                ),
                build.octets_entity("message/feedback-report", lines, encoding=Encoding.SEVEN_BIT),
                build.octets_entity(
                    "text/rfc822-headers", incident.header_section, encoding=Encoding.SEVEN_BIT
                ),
            ],
            parameters=("report-type=feedback-report",),
        )
        token = self._chance.token(10).hex()
        letter = mail.Letter(
            sender=options.from_address,
            organization=options.organization,
            to=tuple(to),
            # Deviation: RFC 5965 §2 wants the subject of the message, which is content.
            subject=f"DMARC failure report for {incident.domain}",
            date=datetime.fromtimestamp(self._clock.unix_us() // US, UTC),
            message_id=f"<{token}@{options.submitter}>",
        )
        return mail.letter(letter, entity)

    def _accept(self, octets: bytes, to: Sequence[Address], tx: Transaction) -> None:
        sender = self._options.from_address
        accept_mail(
            tx,
            signed(tx, octets, sender, self._sign),
            sender=sender,
            to=to,
            queue_id=new_queue_id(self._chance),
        )

    def _tell(self, incident: _Incident, detail: str, *, is_sent: bool) -> None:
        if self._log is not None:
            self._log.write(
                events.REPORT_SENT if is_sent else events.REPORT_NOT_SENT,
                kind="failure",
                domain=incident.policy.domain,
                detail=detail,
            )


def _kind(outcome: DmarcOutcome, source_ip: str) -> tuple[str, ...]:
    """What alike incidents have in common."""
    assert outcome.policy is not None
    aligned = f"{outcome.is_spf_aligned} {outcome.is_dkim_aligned}"
    return outcome.policy.domain, outcome.from_domain, source_ip, aligned


def _delivery_result(disposition: Disposition) -> str:
    """RFC 6591 §3.2.2."""
    return {Disposition.REJECT: "reject", Disposition.QUARANTINE: "spam"}.get(
        disposition, "delivered"
    )


def _dkim_fields(
    dkim: Sequence[DkimOutcome], outcome: DmarcOutcome, redactor: Redactor
) -> list[tuple[str, str]]:
    """Of the first signature of the author's organization that failed (RFC 9991 §4)."""
    organization = outcome.organizational_domain or outcome.from_domain
    for one in dkim:
        is_related = one.domain == organization or one.domain.endswith(f".{organization}")
        if is_related and one.result is not Result.PASS:
            return [
                ("DKIM-Domain", one.domain),
                ("DKIM-Identity", redactor.text(one.identity or f"@{one.domain}")),
                ("DKIM-Selector", one.selector),
            ]
    return []


def _spf_fields(spf: SpfOutcome) -> list[tuple[str, str]]:
    """Every record that was used (RFC 6591 §3.2.6)."""
    return [
        ("SPF-DNS", f'txt : {each.what.partition(" ")[2]} : "{_quoted(each.found)}"')
        for each in _spf_records(spf.evidence)[:SPF_RECORDS_MAX]
    ]


def _spf_records(evidence: Sequence[Evidence]) -> list[Evidence]:
    return [
        each
        for each in evidence
        if each.what.startswith("TXT ") and each.found.lower().startswith("v=spf1")
    ]


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _safe(value: str) -> str:
    """On one line, ASCII, bounded: what a stranger said never makes a field of its own."""
    return _UNSAFE.sub("?", value)[:TEXT_CHARACTERS_MAX]
