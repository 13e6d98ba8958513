"""What happened to a letter after it was taken, from the notices (DSNs, RFC 3464) that reach a
mailbox which the program may read.

Only notices about this very letter count: those that bring back its Message-ID or its ENVID, or,
where the mailbox keeps mail encrypted, name it in the open. What such a notice says nobody can read
here, so that it only tells that there is one. The mailbox is only looked into; nothing in it is
changed, not even what was read.
"""

from __future__ import annotations

import asyncio
import imaplib
import re
import ssl
from datetime import UTC, datetime, timedelta
from typing import Final

from posthouse.message.address import AddressError, fold_local_part, parse_mailbox
from posthouse.message.dsn import Action, RecipientReport
from posthouse.message.reading import ReceivedMessage, read
from posthouse.protocol.imap.utf7 import encode
from posthouse.sending.errors import ConnectError
from posthouse.sending.notice_box import NoticeBox
from posthouse.sending.receipt import Outcome, OutcomeState, Receipt, outcome_of
from posthouse.sending.threads import in_thread

__all__ = ["ask"]

NOTICES_MAX: Final = 50
NOTICE_OCTETS_MAX: Final = 1 << 20
LOOK_EVERY_S: Final = 2.0
CONNECT_S: Final = 30.0
_STATES: Final = {
    Action.FAILED: OutcomeState.RETURNED,
    Action.DELAYED: OutcomeState.DEFERRED,
    Action.DELIVERED: OutcomeState.DELIVERED,
    Action.RELAYED: OutcomeState.DELIVERED,
    Action.EXPANDED: OutcomeState.DELIVERED,
}
_ENDS: Final = frozenset({OutcomeState.RETURNED, OutcomeState.DELIVERED, OutcomeState.UNKNOWN})
_MAIL_SYSTEMS: Final = frozenset({"mailer-daemon", "postmaster"})
"""Who notices are from, as those say that a mail system sends."""
SEALED_WORDS: Final = "a notice came, and it is encrypted: open it to see what it says"
_HEADERS: Final = frozenset(
    {"text/rfc822-headers", "message/rfc822-headers", "message/global-headers"}
)
_SAFE_ID: Final = re.compile(r"[!#-\[\]-~]{3,900}")


async def ask(
    box: NoticeBox, context: ssl.SSLContext, receipt: Receipt, timeout_s: float
) -> tuple[Outcome, ...]:
    """How things stand with each recipient; waits up to `timeout_s` until all have an end.

    Raises:
        ConnectError: the mailbox cannot be read.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    while True:
        notices = await in_thread(_look, box, context, receipt)
        outcomes = _outcomes(receipt, notices)
        has_ended = all(one.state in _ENDS for one in outcomes)
        left = until - loop.time()
        if has_ended or left <= 0:
            return outcomes
        await asyncio.sleep(min(LOOK_EVERY_S, left))


def _look(box: NoticeBox, context: ssl.SSLContext, receipt: Receipt) -> list[ReceivedMessage]:
    """On a thread: the notices in the mailbox that speak of the letter, the oldest first."""
    bare = receipt.message_id.strip("<>")
    if _SAFE_ID.fullmatch(bare) is None:
        return []
    # A day before it was sent, as dates of mailboxes have zones of their own.
    since = ((receipt.sent_at or datetime.now(UTC)) - timedelta(days=1)).strftime("%d-%b-%Y")
    try:
        with _connected(box, context) as client:
            _log_in(client, box)
            _open(client, box)
            _, found = client.uid("SEARCH", f"SINCE {since} {_asked(bare)}")
            uids = found[0].split()[-NOTICES_MAX:] if found and found[0] else []
            return [one for uid in uids if (one := _fetched(client, uid, bare)) is not None]
    except (OSError, imaplib.IMAP4.error) as error:
        said = str(error)
        if isinstance(error, OSError):
            said = error.strerror or said
        elif error.args and isinstance(error.args[0], bytes):
            said = error.args[0].decode("utf-8", "replace")
        raise ConnectError(
            f"the mailbox of {box.user} at {box.host} cannot be read: {said}",
            hint="check outcome_mailbox: host, user and password",
            server=f"{box.host}:{box.port}",
        ) from None


def _asked(bare: str) -> str:
    """What to search by: an encrypted notice has no body that could be searched, and answers from
    people are not read."""
    by_field = f'OR HEADER In-Reply-To "{bare}" HEADER References "{bare}"'
    first, second = sorted(_MAIL_SYSTEMS)
    return f'OR (BODY "{bare}") (({by_field}) (OR FROM "{first}" FROM "{second}"))'


def _connected(box: NoticeBox, context: ssl.SSLContext) -> imaplib.IMAP4:
    if box.is_tls:
        return imaplib.IMAP4_SSL(box.host, box.port, ssl_context=context, timeout=CONNECT_S)
    client = imaplib.IMAP4(box.host, box.port, timeout=CONNECT_S)
    if not box.is_local or "LOGINDISABLED" in client.capabilities:
        client.starttls(context)
    return client


def _log_in(client: imaplib.IMAP4, box: NoticeBox) -> None:
    password = box.password.reveal()
    if (box.user + password).isascii():
        client.login(box.user, password)
    else:  # LOGIN has no other letters (RFC 3501 §9)
        client.authenticate("PLAIN", lambda _: f"\0{box.user}\0{password}".encode())


def _open(client: imaplib.IMAP4, box: NoticeBox) -> None:
    name = encode(box.mailbox).decode("ascii").replace("\\", "\\\\").replace('"', '\\"')
    state, _ = client.select(f'"{name}"', readonly=True)
    if state != "OK":
        raise ConnectError(
            f"{box.user} has no mailbox {box.mailbox} at {box.host}",
            hint="name it at the end of outcome_mailbox: imaps://user:secret@mail.example.org/INBOX",
            server=f"{box.host}:{box.port}",
        )


def _fetched(client: imaplib.IMAP4, uid: bytes, bare: str) -> ReceivedMessage | None:
    _, data = client.uid("FETCH", uid.decode(), f"(BODY.PEEK[]<0.{NOTICE_OCTETS_MAX}>)")
    for item in data:
        if isinstance(item, tuple) and isinstance(item[1], bytes):
            notice = read(item[1])
            if notice.delivery_report is None:
                return notice if _is_sealed_about(notice, item[1], bare) else None
            if _is_about(notice, bare):
                return notice
    return None


def _is_sealed_about(notice: ReceivedMessage, octets: bytes, bare: str) -> bool:
    """It can only be a notice about the letter, and is encrypted."""
    from posthouse.mimesec.sealed import is_sealed

    named = {one.strip("<>") for one in (*notice.in_reply_to, *notice.references)}
    author = notice.sender.address if notice.sender is not None else ""
    return (
        bare in named and author.partition("@")[0].casefold() in _MAIL_SYSTEMS and is_sealed(octets)
    )


def _is_about(notice: ReceivedMessage, bare: str) -> bool:
    """It brings the letter, or its header section, back."""
    if any(one.message_id.strip("<>") == bare for one in notice.messages):
        return True
    for attachment in notice.attachments:
        if attachment.content_type in _HEADERS:
            return read(attachment.octets).message_id.strip("<>") == bare
    report = notice.delivery_report
    return report is not None and report.envelope_id == bare


def _outcomes(receipt: Receipt, notices: list[ReceivedMessage]) -> tuple[Outcome, ...]:
    reports: dict[str, RecipientReport] = {}
    has_sealed = any(notice.delivery_report is None for notice in notices)
    unsaid, words = OutcomeState.ACCEPTED, receipt.response
    if has_sealed:
        unsaid, words = OutcomeState.UNKNOWN, SEALED_WORDS
    for notice in notices:
        report = notice.delivery_report
        for one in report.recipients if report is not None else ():
            original = (one.original_recipient or "").rpartition(";")[2]
            for address in filter(None, (one.final_recipient, original)):
                reports[_folded(address)] = one
    outcomes = []
    for recipient in receipt.accepted:
        found = reports.get(_folded(recipient))
        if found is None:
            outcomes.append(Outcome(recipient=recipient, state=unsaid, detail=words))
        else:
            outcomes.append(
                Outcome(
                    recipient=recipient,
                    state=_STATES[found.action],
                    detail=found.diagnostic or found.status,
                )
            )
    return (*outcomes, *map(outcome_of, receipt.rejected))


def _folded(text: str) -> str:
    try:
        address = parse_mailbox(text.strip())
    except AddressError:
        return text.strip().casefold()
    return f"{fold_local_part(address.local_part)}@{address.domain}"
