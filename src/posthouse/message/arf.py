"""Feedback reports about one message: ARF (RFC 5965), of authentication failures (RFC 6591) and of
DMARC (RFC 9991). Read leniently: what is malformed or unknown is left out."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from posthouse.message import mime
from posthouse.message.address_list import parse_address_list
from posthouse.message.dates import parse_date
from posthouse.message.fields import HeaderSection, read_section
from posthouse.message.mime import Part

FIELDS_OCTETS_MAX: Final = 256 * 1024
HEADER_OCTETS_MAX: Final = 16 * 1024
"""Of the message's own header section, that are kept."""
VALUE_CHARACTERS_MAX: Final = 1_000
VALUES_MAX: Final = 100
INCIDENTS_MAX: Final = 2**32 - 1  # RFC 5965 §3.2

_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}")


class FeedbackReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A feedback report about one message (RFC 5965, RFC 6591, RFC 9991)."""

    feedback_type: str
    user_agent: str = ""
    version: str = ""
    auth_failure: str = ""
    identity_alignment: str = ""
    delivery_result: str = ""
    arrival_s: int | None = None
    incidents: int = 1
    source_ip: str = ""
    source_port: int | None = None
    reporting_mta: str = ""
    original_mail_from: str | None = None
    original_recipients: tuple[str, ...] = ()
    envelope_id: str = ""
    reported_domains: tuple[str, ...] = ()
    reported_uris: tuple[str, ...] = ()
    authentication_results: tuple[str, ...] = ()
    dkim_domain: str = ""
    dkim_identity: str = ""
    dkim_selector: str = ""
    spf_dns: tuple[str, ...] = ()
    header_section: str = ""
    """Of the message it is about, cut."""
    reporter: str = ""
    """Domain of the report's own From."""
    report_id: str = ""
    """The report's own Message-ID."""


def find(root: Part) -> Part | None:
    """The message/feedback-report part of a mail, or None."""
    for part in root.own_parts():
        if part.maintype == b"message" and part.subtype == b"feedback-report":
            return part
    return None


def read(root: Part, report: Part) -> FeedbackReport | None:
    """What the report says; None when it does not even say what kind of report it is.

    Args:
        root: the whole mail.
        report: what `find` found in it.
    """
    body = mime.content(report, octets_max=FIELDS_OCTETS_MAX)
    # A blank line or two before the first field is a mistake that reports have.
    section = read_section(body.lstrip(b"\r\n"))
    feedback_type = _first(section, b"feedback-type").lower()
    if not feedback_type:
        return None
    arrival = section.first(b"arrival-date") or section.first(b"received-date")
    moment = None if arrival is None else parse_date(arrival)
    address = _ADDRESS.match(_first(section, b"source-ip").lower().removeprefix("ipv6:"))
    mail_from = section.first(b"original-mail-from")
    return FeedbackReport(
        feedback_type=feedback_type,
        user_agent=_first(section, b"user-agent"),
        version=_first(section, b"version"),
        auth_failure=_word(section, b"auth-failure"),
        identity_alignment=_first(section, b"identity-alignment").lower(),
        delivery_result=_word(section, b"delivery-result"),
        arrival_s=None if moment is None else int(moment.timestamp()),
        incidents=_number(section, b"incidents", INCIDENTS_MAX) or 1,
        source_ip="" if address is None else address[0],
        source_port=_number(section, b"source-port", 65_535),
        reporting_mta=_first(section, b"reporting-mta").partition(";")[2].strip(),
        original_mail_from=None if mail_from is None else _text(mail_from).strip("<>"),
        original_recipients=tuple(
            each.strip("<>") for each in _every(section, b"original-rcpt-to")
        ),
        envelope_id=_first(section, b"original-envelope-id"),
        reported_domains=tuple(
            each.lower().rstrip(".") for each in _every(section, b"reported-domain")
        ),
        reported_uris=_every(section, b"reported-uri"),
        authentication_results=_every(section, b"authentication-results"),
        dkim_domain=_first(section, b"dkim-domain").lower(),
        dkim_identity=_first(section, b"dkim-identity"),
        dkim_selector=_first(section, b"dkim-selector"),
        spf_dns=_every(section, b"spf-dns"),
        header_section=_header_section(root, report),
        reporter=_reporter(root.section),
        report_id=_first(root.section, b"message-id"),
    )


def _header_section(root: Part, report: Part) -> str:
    """Of the message that the report is about: the part behind the report (RFC 5965 §2)."""
    is_behind = False
    for part in root.walk():
        if part is report:
            is_behind = True
        elif is_behind and part.message is not None:
            section = part.message.section
            octets = section.octets[section.start : section.end]
            return octets[:HEADER_OCTETS_MAX].decode("utf-8", "replace")
        elif is_behind and part.subtype in (b"rfc822-headers", b"rfc822"):
            octets = mime.content(part, octets_max=HEADER_OCTETS_MAX)
            return octets.decode("utf-8", "replace")
    return ""


def _reporter(section: HeaderSection) -> str:
    value = section.first(b"from")
    for listed in parse_address_list(value or b"", addresses_max=10).items:
        if listed.domain:
            return listed.domain.decode("utf-8", "replace").lower()[:255]
    return ""


def _text(value: bytes) -> str:
    return (
        value[: VALUE_CHARACTERS_MAX * 4].decode("utf-8", "replace").strip()[:VALUE_CHARACTERS_MAX]
    )


def _first(section: HeaderSection, name: bytes) -> str:
    value = section.first(name)
    return "" if value is None else _text(value)


def _every(section: HeaderSection, name: bytes) -> tuple[str, ...]:
    return tuple(_text(value) for value in section.every(name)[:VALUES_MAX] if value)


def _word(section: HeaderSection, name: bytes) -> str:
    """Without the comment that may stand behind it (RFC 6591 §3.3)."""
    return _first(section, name).partition("(")[0].strip().lower()


def _number(section: HeaderSection, name: bytes, most: int) -> int | None:
    text = _first(section, name)
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    number = int(text)
    return number if number <= most else None
