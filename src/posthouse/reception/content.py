"""A whole message: judged, mended where our users sent it, and taken in one commit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.accounts.login import Principal
from posthouse.accounts.rights import may_send_as
from posthouse.kernel.envelope import Envelope
from posthouse.kernel.errors import Fault, StorageBusy
from posthouse.kernel.ids import QueueId
from posthouse.kernel.reply import Reply
from posthouse.mailbox.append import prepare
from posthouse.message.fields import HeaderSection, read_section
from posthouse.observe import events
from posthouse.protocol.smtp.events import MessageReceived
from posthouse.protocol.smtp.limits import Mode
from posthouse.queue.item import Origin
from posthouse.reception import recipients as rcpt
from posthouse.reception import submission, trace, verdict
from posthouse.reception.accept import (
    Acceptance,
    AllFull,
    Taken,
    decision_record,
    ends,
    is_refused,
)
from posthouse.reception.tls_demand import tls_demand

if TYPE_CHECKING:
    from posthouse.reception.session import Session

PREPARE_INLINE_OCTETS: Final = 256 * 1024
"""Larger messages are scanned by a worker, so that others are served meanwhile (P10)."""
SHORT_OCTETS: Final = 16 * 1024
SHORT_RECIPIENTS: Final = 10
"""Up to here accepting a message is a short unit of work."""
FROM_NOT_YOURS: Final = Reply(550, "5.7.1", "An address in the From field is not yours")
NO_FROM: Final = Reply(550, "5.6.0", "The From field is missing or cannot be read")


def received(session: Session, event: MessageReceived) -> None:
    """All of a message is here: judge it, and make it ours in one commit."""
    session.content_since_s, session.content_octets = 0.0, 0
    if session.principal is not None:
        session.wait(submit(session, event.octets, session.principal))
        return
    acceptance = judge(session, read_section(event.octets), event.octets, b"")
    if acceptance is None:
        return
    if acceptance.local and acceptance.prepared is None:
        session.wait(prepare_and_commit(session, acceptance))
        return
    session.is_waiting = True
    octets = len(event.octets)
    is_short = octets <= SHORT_OCTETS and len(acceptance.local) <= SHORT_RECIPIENTS
    done = partial(committed, session, acceptance if acceptance.remote else None)
    session.service.store.submit_then(acceptance, done, octets=octets, is_short=is_short)


async def prepare_and_commit(session: Session, acceptance: Acceptance) -> None:
    octets = acceptance.octets
    if acceptance.local and acceptance.prepared is None:
        prepared = await session.service.workers.run(lambda: prepare(octets))
        acceptance = msgspec.structs.replace(acceptance, prepared=prepared)
    try:
        taken = await session.service.store.submit(acceptance, octets=len(octets))
    except AllFull as full:
        refuse(session, over_quota(full))
    else:
        if acceptance.remote:
            session.service.keep(taken.message, acceptance.octets)
        answer_taken(session, taken)


async def submit(session: Session, octets: bytes, principal: Principal) -> None:
    """Submission: whose message it may be, and what is mended in it (RFC 6409 §6, §8)."""
    service = session.service
    section = read_section(octets)
    found = submission.authors(section)
    if found is None:
        refuse(session, NO_FROM)
        return
    separator = service.options.subaddress_separator
    are_own = await service.store.read(
        lambda tx: all(
            may_send_as(tx, principal.account, author, subaddress_separator=separator)
            for author in found
        )
    )
    if not are_own:
        refuse(session, FROM_NOT_YOURS)
        return
    added, mended = submission.mend(
        section,
        host=service.options.host,
        queue_id=next_queue_id(session),
        at=service.clock.now(),
    )
    acceptance = judge(session, section, mended, added)
    if acceptance is not None:
        await prepare_and_commit(session, acceptance)


def next_queue_id(session: Session) -> QueueId:
    return QueueId(f"{session.stream.trace_id}.{session.transactions + 1}")


def judge(
    session: Session, section: HeaderSection, octets: bytes, added: bytes
) -> Acceptance | None:
    """Check the content and gather what the unit of work needs, or answer the refusal.

    Args:
        section: of the message as it was received; `octets` may have lost fields of it.
    """
    service = session.service
    options = service.options
    local, remote = ends(session.accepted)
    refused = verdict.judge(section, options=options, local=local)
    if refused is not None:
        if refused.limit:
            session.limit(refused.limit, refused.observed)
        refuse(session, refused.reply)
        return None
    sender = session.sender
    assert sender is not None
    queue_id = next_queue_id(session)
    session.transactions += 1
    prepared = None
    if local and len(octets) <= PREPARE_INLINE_OCTETS:
        prepared = prepare(octets, section if section.octets is octets else None)
    only = session.accepted[0].path.address if len(session.accepted) == 1 else None
    prefix = trace.received(
        session.hop(),
        queue_id=queue_id,
        recipient=only,
        is_smtputf8=sender.is_smtputf8,
        at=service.clock.now(),
    )
    return Acceptance(
        queue_id=queue_id,
        envelope=Envelope(
            reverse_path=sender.reverse_path,
            recipients=(),
            body=sender.body,
            is_smtputf8=sender.is_smtputf8,
            ret=sender.ret,
            envelope_id=sender.envelope_id,
            tls_demand=tls_demand(sender, section),
        ),
        octets=octets,
        prepared=prepared,
        local=local,
        remote=remote,
        local_prefix=prefix + added,
        origin=Origin(options.mode.value),
        account=session.principal.account if session.principal is not None else None,
        expires_at=service.clock.unix_us() + int(options.lifetime_s * 1_000_000),
        decision=decision_record(session.facts(), session.accepted),
        notices=service.notices,
        each=tuple(session.accepted) if options.mode is Mode.LMTP else (),
    )


def committed(
    session: Session,
    queued: Acceptance | None,
    taken: Taken | None,
    error: BaseException | None,
) -> None:
    """The commit is over, one way or the other.

    Args:
        queued: what was accepted, when somebody of it is in the queue.
    """
    if taken is not None and queued is not None:
        session.service.keep(taken.message, queued.octets)
    if not session.stream.is_open:  # the peer left; what was committed is ours all the same
        return
    if taken is not None:
        answer_taken(session, taken)
    elif isinstance(error, AllFull):
        refuse(session, over_quota(error))
    elif isinstance(error, Fault):
        if isinstance(error, StorageBusy):
            session.limit("store.waiting_max", 0)
        session.fault(error)
    elif error is not None:
        session.bug(error)
    session.resume()


def answer_taken(session: Session, taken: Taken) -> None:
    """The message is ours: log it and say so."""
    service = session.service
    service.reach("reception.before-reply")
    service.messages_accepted.add()
    service.metrics.message_octets.observe(taken.octets)
    service.metrics.recipients_settled["delivered"].add(taken.stored)
    sender = session.sender
    service.log.write(
        events.MESSAGE_ACCEPTED,
        trace=session.stream.trace_id,
        id=taken.queue_id,
        peer=session.stream.peer.address,
        sender=""
        if sender is None or sender.reverse_path is None
        else rcpt.shown(sender.reverse_path),
        stored=taken.stored,
        queued=taken.queued,
    )
    if session.service.options.mode is Mode.LMTP:
        answer_lmtp(session, taken)
    else:
        session.machine.answer(Reply(250, "2.0.0", f"Accepted as {taken.queue_id}"))
    session.forget()


def answer_lmtp(session: Session, taken: Taken) -> None:
    """One reply for each recipient (RFC 2033 §4.2)."""
    ok = Reply(250, "2.0.0", f"Accepted as {taken.queue_id}")
    session.machine.answer_each(
        [
            rcpt.OVER_QUOTA_SOON if taken.refused and is_refused(one, taken.refused) else ok
            for one in session.accepted
        ]
    )


def over_quota(full: AllFull) -> Reply:
    return rcpt.OVER_QUOTA if full.never_fits else rcpt.OVER_QUOTA_SOON


def refuse(session: Session, reply: Reply) -> None:
    """Turn the message down, for good or for now."""
    service = session.service
    decision, event = (
        ("deferred", events.MESSAGE_DEFERRED)
        if reply.is_transient
        else ("refused", events.MESSAGE_REFUSED)
    )
    service.metrics.messages[decision].add()
    service.log.write(
        event,
        trace=session.stream.trace_id,
        peer=session.stream.peer.address,
        reply=str(reply),
    )
    session.machine.answer(reply)
    session.forget()
