"""MAIL and RCPT: who may send, to whom, and whether there is room (RFC 5321 §4.1.1.2-3)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from posthouse.accounts.directory import Expansion
from posthouse.accounts.login import Principal
from posthouse.accounts.rights import may_send_as
from posthouse.kernel.envelope import ForwardPath
from posthouse.kernel.reply import Reply
from posthouse.mailbox import quota
from posthouse.observe import events
from posthouse.protocol.smtp.events import RecipientOffered, SenderOffered
from posthouse.protocol.smtp.limits import Mode
from posthouse.reception import recipients as rcpt
from posthouse.reception.recipients import Accepted
from posthouse.store.reports import KEY_SUBMISSION

if TYPE_CHECKING:
    from posthouse.reception.session import Session

SENDER_OK: Final = Reply(250, "2.1.0", "Sender ok")
LOGIN_FIRST: Final = Reply(530, "5.7.0", "Log in first")
TLS_FIRST: Final = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
NOT_YOURS: Final = Reply(553, "5.7.1", "This sender address is not yours")
SESSION_OVER: Final = Reply(421, "4.3.2", "The session is too old, please connect again")
DNS_SPENT: Final = Reply(
    421, "4.7.0", "Checking your mail took too many DNS questions, please connect again"
)
KEYS_BY_LOGIN: Final = Reply(550, "5.7.1", "Keys are taken from those who log in")
CLOSING: Final = Reply(421, "4.3.2", "Closing for a restart, please try again soon")


def offered(session: Session, event: SenderOffered) -> None:
    service = session.service
    refusal = cannot_take(session, event)
    if refusal is not None:
        refuse_sender(session, event, refusal)
        return
    principal = session.principal
    if principal is not None and event.reverse_path is not None:
        session.wait(check_sender(session, event, principal))
        return
    if principal is None and service.options.mode is Mode.MX:
        reason = service.admission.message(
            session.stream.peer.address, event.size_octets or 0, service.clock.monotonic_s()
        )
        if reason is not None:
            session.limit("smtp.messages_per_minute", 0)
            refuse_sender(session, event, Reply(451, "4.7.1", reason))
            return
    open_transaction(session, event)


def open_transaction(session: Session, event: SenderOffered) -> None:
    session.sender = event
    session.accepted = []
    session.machine.answer(SENDER_OK)


def cannot_take(session: Session, event: SenderOffered) -> Reply | None:
    """Rules and room, before anything is looked up."""
    service = session.service
    options, room = service.options, service.room
    if options.mode is Mode.SUBMISSION and session.principal is None:
        return LOGIN_FIRST if session.stream.is_tls else TLS_FIRST
    if service.clock.monotonic_s() - session.opened_s > options.session_s:
        session.limit("smtp.session_s", options.session_s)
        return SESSION_OVER
    if session.dns_questions_left <= 0:
        session.limit("dns.per_session_max", service.examiner.options.questions_per_session_max)
        return DNS_SPENT
    if service.is_draining:
        return CLOSING
    if not room.is_writable:
        return rcpt.TROUBLE
    needed = max(options.free_octets_min, 2 * (event.size_octets or 0))
    if room.free_octets() < needed:
        session.limit("store.free_octets_min", room.free_octets())
        return rcpt.NO_ROOM
    inodes = room.free_inodes()
    if inodes is not None and inodes < options.free_inodes_min:
        session.limit("store.free_inodes_min", inodes)
        return rcpt.NO_ROOM
    if service.open_recipients() >= options.queue_recipients_max:
        session.limit("queue.recipients_max", service.open_recipients())
        return rcpt.NO_ROOM
    return None


async def check_sender(session: Session, event: SenderOffered, principal: Principal) -> None:
    address = event.reverse_path
    assert address is not None
    separator = session.service.options.subaddress_separator
    is_own = await session.service.store.read(
        lambda tx: may_send_as(tx, principal.account, address, subaddress_separator=separator)
    )
    if is_own:
        open_transaction(session, event)
    else:
        refuse_sender(session, event, NOT_YOURS)


def is_for_keys(address: str) -> bool:
    return address.lower().startswith(KEY_SUBMISSION)


def refuse_sender(session: Session, event: SenderOffered, reply: Reply) -> None:
    session.forget()
    session.service.log.write(
        events.SENDER_REFUSED,
        trace=session.stream.trace_id,
        peer=session.stream.peer.address,
        sender="" if event.reverse_path is None else rcpt.shown(event.reverse_path),
        reply=str(reply),
    )
    session.machine.answer(reply)


def recipient(session: Session, event: RecipientOffered) -> None:
    known = session.service.directory.known(event.address)
    if known is not None and not any(target.has_quota for target in known.local):
        answer_recipient(session, event, known)
    else:
        session.wait(look_up(session, event))


async def look_up(session: Session, event: RecipientOffered) -> None:
    service = session.service
    expansion = await service.directory.look_up(event.address)
    size = session.sender.size_octets or 0 if session.sender is not None else 0
    for target in expansion.local:
        if target.has_quota:
            account = target.account
            usage = await service.store.read(partial(quota.usage, account=account))
            if len(expansion.local) == 1 and not usage.has_room(max(size, 1)):
                never_fits = usage.quota_octets is not None and size > usage.quota_octets
                session.machine.answer(rcpt.OVER_QUOTA if never_fits else rcpt.OVER_QUOTA_SOON)
                return
    answer_recipient(session, event, expansion)


def answer_recipient(session: Session, event: RecipientOffered, expansion: Expansion) -> None:
    service = session.service
    sender = session.sender
    assert sender is not None
    address = event.address
    if not sender.is_smtputf8 and not address.local_part.isascii():
        session.machine.answer(rcpt.NO_SMTPUTF8)
        return
    if session.principal is None and any(map(is_for_keys, expansion.reports)):
        session.machine.answer(KEYS_BY_LOGIN)
        return
    may_relay = session.principal is not None or (
        service.options.mode is Mode.MX and service.may_relay_from(session.stream.peer.address)
    )
    path = ForwardPath(
        address=address,
        notify=event.notify,
        original_recipient=event.original_recipient,
    )
    decided = rcpt.decide(path, expansion, may_relay=may_relay)
    if isinstance(decided, Accepted):
        if session.principal is not None and (
            reason := service.admission.submission(
                session.principal.account, service.clock.monotonic_s()
            )
        ):
            session.limit("submission.per_hour", 0)
            session.machine.answer(Reply(450, "4.7.1", reason))
            return
        session.accepted.append(decided)
        session.machine.answer(rcpt.ACCEPTED)
        return
    service.metrics.recipients_refused.add()
    if decided is rcpt.LOOPING:
        session.limit("route.alias_depth_max", 0)
        service.log.write(
            events.ALIAS_LOOP, trace=session.stream.trace_id, address=rcpt.shown(address)
        )
    service.log.write(
        events.RECIPIENT_REFUSED,
        trace=session.stream.trace_id,
        peer=session.stream.peer.address,
        recipient=rcpt.shown(address),
        reply=str(decided),
    )
    session.machine.answer(decided)
