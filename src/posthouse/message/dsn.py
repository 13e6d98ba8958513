"""Delivery status notifications: composing ours, reading everybody's (RFC 3464, 6522, 6533).

The envelope around one is the queue's: `MAIL FROM:<>` and one recipient. Whatever a remote host
said is made safe here, so a DSN can always be composed.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import Enum
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address, Ret
from posthouse.message import build, mime, words
from posthouse.message.build import Encoding, Entity, Mailbox
from posthouse.message.dates import format_date, parse_date
from posthouse.message.dsn_text import explanation, subject
from posthouse.message.fields import HeaderSection, read_section
from posthouse.message.mime import Part

RETURN_OCTETS_MAX: Final = 64 * 1024
"""`dsn.return_octets_max`: longer messages are not returned whole."""
DIAGNOSTIC_CHARACTERS_MAX: Final = 4_096
STATUS_OCTETS_MAX: Final = 256 * 1024
"""Of a delivery-status part that are read."""
RECIPIENTS_MAX: Final = 1_000
"""Recipients read from one DSN."""

_STATUS: Final = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)", re.ASCII)
_REPLY_CHARACTERS: Final = 20  # where an enhanced code stands in a reply
_ATOM: Final = re.compile(r"[A-Za-z0-9_\-]{1,40}")
_MESSAGE_ID: Final = re.compile(rb"<[!-;=?-~]{1,900}>")
_BLANK_LINES: Final = re.compile(rb"(?:[ \t]*+\r?\n)++")


class Action(Enum):
    """What happened to a recipient (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


class RecipientReport(msgspec.Struct, frozen=True, kw_only=True):
    """One recipient's fields (RFC 3464 §2.3)."""

    final_recipient: str
    """The address, without its type."""
    action: Action
    status: str
    """Like "5.1.1"; "" where a DSN that was read had none."""
    original_recipient: str | None = None
    """ORCPT decoded, as "type;address"."""
    remote_mta: str | None = None
    """Its name or address literal, without the type."""
    diagnostic: str | None = None
    """The remote's words, code included, on one or several lines."""
    last_attempt_at: datetime | None = None
    will_retry_until: datetime | None = None
    """For DELAYED."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a DSN says (RFC 3464 §2.2)."""

    reporting_mta: str
    recipients: tuple[RecipientReport, ...]
    arrival_at: datetime | None = None
    envelope_id: str | None = None
    """The original ENVID, decoded."""


# --- composing ---


def compose(
    report: Report,
    *,
    sender: Mailbox,
    to: Address,
    date: datetime,
    message_id: str,
    original: bytes,
    ret: Ret | None = None,
    return_octets_max: int = RETURN_OCTETS_MAX,
) -> bytes:
    """A whole DSN about `original`, to be sent from the null reverse-path (RFC 3464 §2).

    Args:
        sender: what From shows, our MAILER-DAEMON.
        to: the reverse-path of the original.
        message_id: with its angle brackets.
        ret: RET of the original; the whole message is returned only where it is FULL, something
            failed (RFC 3461 §4.3) and it is no longer than `return_octets_max`.

    The octets have 8-bit ones where the original's body or an address has, so MAIL needs
    BODY=8BITMIME then, and SMTPUTF8 where `to` needs it.
    """
    fields = [
        build.address_field("From", [sender]),
        build.address_field("To", [Mailbox(to)]),
        build.text_field("Subject", subject([one.action.value for one in report.recipients])),
        build.date_field(date),
        build.message_id_field(message_id),
        *_references(original),
        build.field("Auto-Submitted", "auto-replied"),  # RFC 3834 §5
    ]
    has_failed = any(one.action is Action.FAILED for one in report.recipients)
    is_whole = has_failed and ret is Ret.FULL and len(original) <= return_octets_max
    parts = [
        build.text_entity(_human_text(report, is_whole=is_whole)),
        _status_entity(report),
        _whole(original) if is_whole else _header_only(original, return_octets_max),
    ]
    parameters = ("report-type=delivery-status",)
    return build.message(fields, build.multipart("report", parts, parameters=parameters))


def _references(original: bytes) -> list[bytes]:
    """So that a reader's program shows the notice beside the message it is about."""
    found = _MESSAGE_ID.search(read_section(original).first(b"message-id") or b"")
    if found is None:
        return []
    message_id = found[0].decode("ascii")
    return [
        build.message_id_field(message_id, "In-Reply-To"),
        build.message_id_field(message_id, "References"),
    ]


def _human_text(report: Report, *, is_whole: bool) -> str:
    paragraphs = [
        explanation(
            recipient=_safe(one.final_recipient),
            action=one.action.value,
            status=one.status,
            remote_mta=_safe(one.remote_mta or ""),
            diagnostic=_safe(one.diagnostic or ""),
            last_attempt=_date(one.last_attempt_at),
            retry_until=_date(one.will_retry_until),
        )
        for one in report.recipients
    ]
    returned = "Your message is" if is_whole else "The header fields of your message are"
    return "\n".join(
        [
            f"This is the mail system at {_safe(report.reporting_mta)}.",
            "",
            *paragraphs,
            f"{returned} attached below.",
            "A program wrote this notice. Nobody reads answers to it.",
        ]
    )


def _date(moment: datetime | None) -> str:
    return "" if moment is None else format_date(moment)


def _status_entity(report: Report) -> Entity:
    """RFC 3464 §2.1: a group for the message, one for each recipient, empty lines between."""
    lines = [_line("Reporting-MTA", f"dns; {_safe(report.reporting_mta)}")]
    if report.envelope_id is not None:
        lines.insert(0, _line("Original-Envelope-Id", _safe(report.envelope_id)))
    if report.arrival_at is not None:
        lines.append(_line("Arrival-Date", format_date(report.arrival_at)))
    for one in report.recipients:
        lines.append(b"\r\n")
        lines += _recipient_lines(one)
    octets = b"".join(lines)
    if octets.isascii():
        return build.octets_entity("message/delivery-status", octets, encoding=Encoding.SEVEN_BIT)
    # An address outside ASCII can be written in this type only (RFC 6533 §3).
    return build.octets_entity(
        "message/global-delivery-status", octets, encoding=Encoding.EIGHT_BIT
    )


def _recipient_lines(one: RecipientReport) -> list[bytes]:
    lines = []
    if one.original_recipient is not None:
        lines.append(_line("Original-Recipient", _typed(one.original_recipient)))
    final = _safe(one.final_recipient)
    kind = "rfc822" if final.isascii() else "utf-8"
    lines.append(_line("Final-Recipient", f"{kind}; {final}"))
    lines.append(_line("Action", one.action.value))
    lines.append(_line("Status", one.status if _STATUS.fullmatch(one.status) else _default(one)))
    if one.remote_mta:
        lines.append(_line("Remote-MTA", f"dns; {_safe(one.remote_mta)}"))
    if one.diagnostic:
        shown_words = "".join(
            character if " " <= character <= "~" else "?" for character in _safe(one.diagnostic)
        )
        # RFC 3464 §2.3.6: "smtp" stands for a host's reply; what we say ourselves is no SMTP.
        kind = "smtp" if one.remote_mta else "X-Posthouse"
        lines.append(_line("Diagnostic-Code", f"{kind}; {shown_words}"))
    if one.last_attempt_at is not None:
        lines.append(_line("Last-Attempt-Date", format_date(one.last_attempt_at)))
    if one.will_retry_until is not None and one.action is Action.DELAYED:
        lines.append(_line("Will-Retry-Until", format_date(one.will_retry_until)))
    return lines


def _default(one: RecipientReport) -> str:
    return {Action.FAILED: "5.0.0", Action.DELAYED: "4.0.0"}.get(one.action, "2.0.0")


def _typed(original_recipient: str) -> str:
    """ "type;address" with the blank that RFC 3464 §2.3.1 shows, made safe."""
    kind, semicolon, address = _safe(original_recipient).partition(";")
    if not semicolon or _ATOM.fullmatch(kind.strip()) is None:
        return f"rfc822; {kind}{semicolon}{address}"
    return f"{kind.strip()}; {address.strip()}"


def _line(name: str, value: str) -> bytes:
    """A field whose value is cut into pieces where even a fold would leave it too long."""
    pieces = [word[at : at + 700] for word in value.split(" ") for at in range(0, len(word), 700)]
    return build.field(name, " ".join(pieces))


def _safe(text: str) -> str:
    """Somebody else's words on one line, without control characters, of bounded length (H20)."""
    shown = words.shown(" ".join(text[:DIAGNOSTIC_CHARACTERS_MAX].split()))
    return shown.encode("utf-8", "replace").decode("utf-8")


def _whole(original: bytes) -> Entity:
    encoding = Encoding.SEVEN_BIT if original.isascii() else Encoding.EIGHT_BIT
    section = read_section(original)
    is_global = not original[: section.end].isascii()
    kind = "message/global" if is_global else "message/rfc822"  # RFC 6533 §4
    return build.octets_entity(kind, original, encoding=encoding)


def _header_only(original: bytes, octets_max: int) -> Entity:
    """The header section, as many whole fields of it as fit."""
    section = read_section(original)
    octets = original[section.start : section.end]
    if len(octets) > octets_max:
        ends = [one.end for one in section.fields if one.end <= octets_max]
        octets = original[section.start : ends[-1] if ends else section.start]
    if octets and not octets.endswith(b"\n"):
        octets += b"\r\n"
    if octets.isascii():
        return build.octets_entity("text/rfc822-headers", octets, encoding=Encoding.SEVEN_BIT)
    # 8-bit octets in header fields (RFC 6533 §5), in a form that any host can carry.
    return build.octets_entity("message/global-headers", octets, encoding=Encoding.QUOTED_PRINTABLE)


# --- reading ---


def parse(octets: bytes) -> Report | None:
    """What a DSN from anybody says, or None when it has no delivery-status part. Never raises."""
    return parse_part(mime.scan(octets))


def parse_part(root: Part) -> Report | None:
    """As `parse`, for one who has scanned already."""
    for part in root.own_parts():
        if part.maintype == b"message" and part.subtype in _STATUS_TYPES:
            return _read(mime.content(part, octets_max=STATUS_OCTETS_MAX))
    return None


_STATUS_TYPES: Final = frozenset({b"delivery-status", b"global-delivery-status"})


def _read(octets: bytes) -> Report | None:
    """Groups of fields with empty lines between, some of which senders leave out or double."""
    message: HeaderSection | None = None
    recipients: list[RecipientReport] = []
    at = 0
    while at < len(octets) and len(recipients) < RECIPIENTS_MAX:
        blank = _BLANK_LINES.match(octets, at)
        at = blank.end() if blank is not None else at
        section = read_section(octets, at)
        at = max(section.body, at + 1)
        if message is None:
            message = section
        if _RECIPIENT_FIELDS.isdisjoint(one.name for one in section.fields):
            continue
        recipients.append(_read_recipient(section))
    if message is None or not recipients:
        return None
    return Report(
        reporting_mta=_value(message, b"reporting-mta") or "",
        recipients=tuple(recipients),
        arrival_at=parse_date(message.first(b"arrival-date") or b""),
        envelope_id=_text(message, b"original-envelope-id"),
    )


_RECIPIENT_FIELDS: Final = frozenset({b"final-recipient", b"original-recipient", b"action"})


def _read_recipient(section: HeaderSection) -> RecipientReport:
    original = _text(section, b"original-recipient")
    final = _value(section, b"final-recipient")
    if final is None:
        final = (original or "").rpartition(";")[2].strip()
    diagnostic = _value(section, b"diagnostic-code")
    found = _STATUS.search(_text(section, b"status") or "")
    found = found or _STATUS.search(diagnostic or "", 0, _REPLY_CHARACTERS)
    status = "" if found is None else found[1]
    return RecipientReport(
        final_recipient=final.strip("<> "),
        action=_action(_text(section, b"action") or "", status),
        status=status,
        original_recipient=original,
        remote_mta=_value(section, b"remote-mta"),
        diagnostic=diagnostic,
        last_attempt_at=parse_date(section.first(b"last-attempt-date") or b""),
        will_retry_until=parse_date(section.first(b"will-retry-until") or b""),
    )


def _action(text: str, status: str) -> Action:
    """The action named, or what the status makes likely: senders write "failure", "error" …"""
    word = text.strip().lower().split(" ")[0]
    for action in Action:
        if action.value == word:
            return action
    return {"2": Action.DELIVERED, "4": Action.DELAYED}.get(status[:1], Action.FAILED)


def _text(section: HeaderSection, name: bytes) -> str | None:
    value = section.first(name)
    return None if value is None else words.decode(value)


def _value(section: HeaderSection, name: bytes) -> str | None:
    """The value without its type ("rfc822;", "dns;", "smtp;")."""
    text = _text(section, name)
    if text is None:
        return None
    kind, semicolon, value = text.partition(";")
    is_typed = bool(semicolon) and _ATOM.fullmatch(kind.strip()) is not None
    return value.strip() if is_typed else text
