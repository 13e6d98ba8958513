"""Reports as values: what is read of others' and what ours are written from. JSON in the store."""

from __future__ import annotations

import msgspec

from posthouse.message.arf import FeedbackReport


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a policy was not followed (RFC 9990 §3.1.6); `type` as the report writes it."""

    type: str
    comment: str = ""


class DkimResult(msgspec.Struct, frozen=True, omit_defaults=True):
    domain: str
    selector: str
    result: str
    human_result: str = ""


class SpfResult(msgspec.Struct, frozen=True, omit_defaults=True):
    domain: str
    result: str
    scope: str = ""
    human_result: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of an aggregate report (RFC 9990 §3.1.1.7)."""

    source_ip: str
    messages: int
    disposition: str = ""
    dkim: str = ""
    """The aligned result: "pass" or "fail"."""
    spf: str = ""
    reasons: tuple[Reason, ...] = ()
    header_from: str = ""
    envelope_from: str | None = None
    """ "" says that the reverse-path was null."""
    envelope_to: str = ""
    dkim_results: tuple[DkimResult, ...] = ()
    spf_results: tuple[SpfResult, ...] = ()


class PublishedPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The policy that the reporter saw; "" where it says nothing (RFC 9990 §3.1.1.5)."""

    domain: str
    p: str = ""
    sp: str = ""
    np: str = ""
    adkim: str = ""
    aspf: str = ""
    discovery_method: str = ""
    fo: str = ""
    testing: str = ""
    pct: str = ""
    """Of RFC 7489, gone since."""


class AggregateReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """DMARC (RFC 9990, RFC 7489)."""

    version: str = ""
    organization: str
    email: str = ""
    contact: str = ""
    report_id: str
    begin_s: int
    end_s: int
    errors: tuple[str, ...] = ()
    generator: str = ""
    policy: PublishedPolicy
    records: tuple[Record, ...]

    @property
    def messages(self) -> int:
        return sum(record.messages for record in self.records)


class TlsFailure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sessions that failed in one way (RFC 8460 §4.4)."""

    result: str
    sessions: int
    sending_ip: str = ""
    receiving_host: str = ""
    receiving_hello: str = ""
    receiving_ip: str = ""
    more: str = ""
    reason: str = ""


class TlsPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One policy with what came of sessions under it."""

    type: str
    domain: str
    strings: tuple[str, ...] = ()
    mx_hosts: tuple[str, ...] = ()
    successes: int = 0
    failures: int = 0
    details: tuple[TlsFailure, ...] = ()


class TlsReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """SMTP TLS reporting (RFC 8460)."""

    organization: str
    contact: str = ""
    report_id: str
    begin_s: int
    end_s: int
    policies: tuple[TlsPolicy, ...]

    @property
    def sessions(self) -> int:
        return sum(policy.successes + policy.failures for policy in self.policies)


class Overrun(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that was reached: what `LimitWatch.reached` wants to know of it."""

    name: str
    """The setting, "reports.ratio_max"."""
    value: int
    observed: int


class Unread(msgspec.Struct, frozen=True, omit_defaults=True):
    """What could not be read as a report, and why, in words for people."""

    reason: str
    overrun: Overrun | None = None
    """The setting that ended the reading, if one did."""


Report = AggregateReport | TlsReport | FeedbackReport
Read = Report | Unread


class Unreadable(Exception):
    """Why something is not the report it was tried as; `str()` is for people."""

    def __init__(self, reason: str, overrun: Overrun | None = None) -> None:
        super().__init__(reason)
        self.overrun = overrun

    def unread(self) -> Unread:
        return Unread(str(self), self.overrun)
