"""The `_smtp._tls` record, by which a domain asks for TLS reports (RFC 8460 §3)."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from posthouse.kernel.ports import DnsStatus, RecordType
from posthouse.mailauth.questions import Question, Questions
from posthouse.reporting.uris import Https, Ignored, MailTo, targets

RECORD_OCTETS_MAX: Final = 4_096
FIELDS_MAX: Final = 50
URIS_MAX: Final = 10

_VERSION: Final = re.compile(rb"v=TLSRPTv1[ \t]*;")


class TlsReporting(msgspec.Struct, frozen=True, kw_only=True):
    """Who is to be sent TLS reports about a domain."""

    targets: tuple[MailTo | Https, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    reason: str = ""
    """Why there is nobody, in words."""
    failure: str = ""
    """The question failed: another time it may be answered."""


def find(domain: str, *, most: int = URIS_MAX) -> Questions[TlsReporting]:
    question = Question(f"_smtp._tls.{domain}", RecordType.TXT)
    (answer,) = yield (question,)
    if answer.status is DnsStatus.TEMPFAIL:
        return TlsReporting(failure=f"{question} failed: {answer.detail or 'no answer'}")
    # RFC 8460 §3: others are discarded, and with more or less than one there is no TLSRPT.
    records = [record for record in answer.records if _VERSION.match(record)]
    if len(records) != 1:
        return TlsReporting(
            reason=f"{question}: {'several records' if records else 'no record'} of TLSRPT"
        )
    return parse(records[0], most=most)


def parse(record: bytes, *, most: int = URIS_MAX) -> TlsReporting:
    """Fields that are not known are ignored; rua= counts the first time."""
    if _VERSION.match(record) is None:
        return TlsReporting(reason="the record does not begin with v=TLSRPTv1;")
    text = record[:RECORD_OCTETS_MAX].decode("ascii", "replace")
    for field in text.split(";", FIELDS_MAX)[1:]:
        name, equals, value = field.strip(" \t").partition("=")
        if equals and name == "rua":
            uris = [uri.strip(" \t") for uri in value.split(",", most * 10)]
            found, ignored = targets(uris, most=most, takes_https=True)
            reason = "" if found else "no address in rua= can be served"
            return TlsReporting(targets=found, ignored=ignored, reason=reason)
    return TlsReporting(reason="the record has no rua=")
