"""A whole message: judged, mended where our users sent it, and taken in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.accounts.login import Principal
from posthouse.accounts.rights import may_send_as
from posthouse.gateway.outgoing import Destination, NotProtected, Protected
from posthouse.kernel.envelope import Envelope
from posthouse.kernel.errors import Fault, StorageBusy
from posthouse.kernel.finding import Finding
from posthouse.kernel.ids import QueueId
from posthouse.kernel.reply import Reply
from posthouse.mailauth.check import Checked, Checks, Mail
from posthouse.mailauth.policy import Verdict
from posthouse.mailbox.append import prepare
from posthouse.message.fields import HeaderSection, read_section
from posthouse.observe import events
from posthouse.protocol.smtp.events import MessageReceived
from posthouse.protocol.smtp.limits import Mode
from posthouse.queue.item import Origin
from posthouse.reception import own, submission, trace, verdict
from posthouse.reception import recipients as rcpt
from posthouse.reception.accept import (
    Acceptance,
    Acceptances,
    AllFull,
    Own,
    Taken,
    decision_record,
    ends,
    is_refused,
    report_ends,
)
from posthouse.reception.authentication import Examined, Report
from posthouse.reception.own import Part
from posthouse.reception.tls_demand import tls_demand
from posthouse.store.refusals import RefusalRow

if TYPE_CHECKING:
    from posthouse.reception.session import Session

PREPARE_INLINE_OCTETS: Final = 256 * 1024
HEADER_INLINE_OCTETS: Final = 16 * 1024
"""Larger messages, and larger header sections, are scanned by a worker, so that others are served
meanwhile (P10)."""
SHORT_OCTETS: Final = 16 * 1024
SHORT_RECIPIENTS: Final = 10
"""Up to here accepting a message is a short unit of work."""
RECIPIENTS_REMEMBERED: Final = 20
"""Of a message that is turned down."""
FROM_NOT_YOURS: Final = Reply(550, "5.7.1", "An address in the From field is not yours")
BEGINS_WITH_BLANK: Final = Reply(550, "5.6.0", "The message does not begin with a header field")
NO_FROM: Final = Reply(
    550, "5.6.0", "There has to be one From field, with addresses that can be read"
)


def received(session: Session, event: MessageReceived) -> None:
    """All of a message is here: judge it, and make it ours in one commit."""
    session.content_since_s, session.content_octets = 0.0, 0
    octets = event.octets
    if session.principal is not None:
        session.wait(submit(session, octets, session.principal))
        return
    section = read_section(octets)
    if not passes(session, section):
        return
    service = session.service
    if service.options.mode is Mode.LMTP:  # from a host of ours that has examined it
        take(session, section, Examined(octets=octets))
        return
    if service.may_relay_from(session.stream.peer.address):
        kept = service.examiner.without_forged(section)
        if service.signers.signs(section):
            session.wait(sign_and_take(session, section, kept, b""))
        else:
            take(session, section, Examined(octets=kept))
        return
    if not service.examiner.options.is_enabled:
        take(session, section, Examined(octets=service.examiner.without_forged(section)))
        return
    mail = mail_of(session, section)
    if not is_quick(section):
        session.wait(examine_large(session, mail))
        return
    examiner = service.examiner
    checks = examiner.begin(mail, examiner.prepare(mail))
    checked = checks.start(examiner.resolver.known)
    if checked is None:
        session.wait(examine(session, mail, checks))
    elif (examined := conclude(session, mail, checked)) is not None:
        take(session, section, examined)


def is_quick(section: HeaderSection) -> bool:
    """Whether scanning the message takes so little that no worker need do it."""
    header_octets = section.end - section.start
    return header_octets <= HEADER_INLINE_OCTETS and len(section.octets) <= PREPARE_INLINE_OCTETS


def mail_of(session: Session, section: HeaderSection) -> Mail:
    sender = session.sender
    assert sender is not None
    return Mail(
        octets=section.octets,
        section=section,
        address=session.stream.peer.address,
        hello=session.machine.hello_name,
        reverse_path=sender.reverse_path,
    )


async def examine_large(session: Session, mail: Mail) -> None:
    """As `received`, with the hashing left to a worker (P10)."""
    examiner = session.service.examiner
    prepared = await session.service.workers.run(partial(examiner.prepare, mail))
    checks = examiner.begin(mail, prepared)
    checked = checks.start(examiner.resolver.known)
    if checked is None:
        checked = await examiner.go_on(checks)
    await take_examined(session, mail, checked)


async def examine(session: Session, mail: Mail, checks: Checks) -> None:
    await take_examined(session, mail, await session.service.examiner.go_on(checks))


async def take_examined(session: Session, mail: Mail, checked: Checked) -> None:
    if not session.stream.is_open:  # it left while the DNS was asked: nothing is ours
        session.forget()
        return
    examined = conclude(session, mail, checked)
    if examined is not None:
        await take_waiting(session, mail.section, examined)


def conclude(session: Session, mail: Mail, checked: Checked) -> Examined | None:
    """What the checks found decides: None when the message is turned down."""
    examiner = session.service.examiner
    session.dns_questions_left -= checked.questions
    if checked.is_over_budget:
        session.limit("dns.per_message_max", checked.questions)
    if checked.is_late:
        session.limit("mailauth.deadline_s", examiner.options.checks.deadline_s)
    if checked.unchecked:
        most = examiner.options.checks.dkim.signatures_max
        session.limit("mailauth.signatures_max", most + checked.unchecked)
    examined = examiner.examined(mail, checked)
    judgement = examined.judgement
    examiner.on_checked(
        Report(
            checked=checked,
            judgement=judgement,
            address=mail.address,
            reverse_path=mail.reverse_path,
            recipients=tuple(one.path.address for one in session.accepted),
            section=mail.section,
            authentication_results=examined.authentication_results,
            queue_id=next_queue_id(session),
            arrived_at=session.service.clock.unix_us(),
        )
    )
    if judgement.reply is not None:
        reply = judgement.reply
        named = Reply(reply.code, reply.status, f"{reply.text} ({next_queue_id(session)})")
        refuse(
            session,
            named,
            why=judgement.why,
            findings=examined.findings,
            octets=len(mail.octets),
        )
        return None
    return examined


def take(session: Session, section: HeaderSection, examined: Examined) -> None:
    """Commit, and answer when that is done, without a task where nothing has to wait."""
    if own.has_own_copies(session.service, session.accepted):
        session.wait(take_waiting(session, section, examined))
        return
    acceptance = acceptance_of(session, section, whole(session, examined))
    if acceptance.local and acceptance.prepared is None:
        session.wait(commit(session, [acceptance]))
        return
    session.is_waiting = True
    octets = len(acceptance.octets)
    is_short = octets <= SHORT_OCTETS and len(acceptance.local) <= SHORT_RECIPIENTS
    done = partial(committed, session, acceptance if acceptance.remote else None)
    session.service.store.submit_then(acceptance, done, octets=octets, is_short=is_short)


async def take_waiting(session: Session, section: HeaderSection, examined: Examined) -> None:
    """As `take`, in a task already."""
    await take_parts(session, section, [whole(session, examined)])


def whole(session: Session, examined: Examined) -> Part:
    """All recipients get the same."""
    return Part(accepted=session.accepted, examined=examined)


async def take_parts(session: Session, section: HeaderSection, parts: Sequence[Part]) -> None:
    """Each part of the recipients gets a message of its own, and all are taken in one commit."""
    is_author = session.principal is not None
    try:
        shares = await own.shared_out(session.service, parts, is_author=is_author)
    except own.NotTaken as error:
        first = parts[0].examined
        findings = first.findings + error.findings
        octets = len(first.octets)
        refuse(session, error.reply, why=error.why, findings=findings, octets=octets)
        return
    acceptances = [acceptance_of(session, section, part, instead) for part, instead in shares]
    await commit(session, acceptances)


async def commit(session: Session, acceptances: Sequence[Acceptance]) -> None:
    """All in one commit, and the answer."""
    workers = session.service.workers
    ready: list[Acceptance] = []
    for one in acceptances:
        if one.local and one.prepared is None:
            prepared = await workers.run(partial(prepare, one.octets))
            one = msgspec.structs.replace(one, prepared=prepared)
        ready.append(one)
    octets = sum(len(one.octets) for one in ready)
    try:
        taken = await session.service.store.submit(Acceptances(tuple(ready)), octets=octets)
    except AllFull as full:
        refuse(session, over_quota(full))
        return
    for acceptance, done in zip(ready, taken, strict=True):
        if acceptance.remote:
            session.service.keep(done.message, acceptance.octets)
    for done in taken[1:]:
        note_taken(session, done)
    answer_taken(session, taken[0])


async def submit(session: Session, octets: bytes, principal: Principal) -> None:
    """Submission: whose message it may be, and what is mended in it (RFC 6409 §6, §8)."""
    service = session.service
    if octets.startswith((b" ", b"\t")):  # it would continue the last field put in front of it
        refuse(session, BEGINS_WITH_BLANK, octets=len(octets))
        return
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
    kept = service.examiner.without_forged(section)
    added, mended = submission.mend(
        section if kept is octets else read_section(kept),
        host=service.options.host,
        queue_id=next_queue_id(session),
        at=service.clock.now(),
    )
    if not passes(session, section):
        return
    try:
        protected = await protect(session, principal, added + mended)
    except NotProtected as error:
        code, status = (451, "4.7.5") if error.is_for_now else (550, "5.7.5")
        reply = Reply(code, status, error.reason)
        refuse(session, reply, why=error.reason, octets=len(octets))
        return
    if protected.copies:
        await take_protected(session, section, protected)
    else:
        added = protected.fields + added
        await sign_and_take(session, section, mended, added, findings=protected.findings)


async def protect(session: Session, principal: Principal, octets: bytes) -> Protected:
    """Signed and encrypted, where the sender's policy says so. Raises NotProtected."""
    outgoing = session.service.outgoing
    if outgoing is None or not outgoing.is_active:
        return Protected()
    destinations = {  # whoever is named twice is one
        one.path.address: Destination(
            address=one.path.address,
            accounts=tuple(target.account for target in one.local),
            remote=one.remote,
        )
        for one in session.accepted
    }
    return await outgoing.protect(principal.account, octets, tuple(destinations.values()))


async def take_protected(session: Session, section: HeaderSection, protected: Protected) -> None:
    """Each copy is a message of its own."""
    parts: list[Part] = []
    for copy in protected.copies:
        addresses = {one.address for one in copy.destinations}
        accepted = [one for one in session.accepted if one.path.address in addresses]
        octets = protected.fields + copy.octets
        fields = await session.service.signers.sign(octets, session.service.workers)
        examined = Examined(octets=octets, fields=fields, findings=protected.findings)
        parts.append(Part(accepted=accepted, examined=examined))
    await take_parts(session, section, parts)


async def sign_and_take(
    session: Session,
    section: HeaderSection,
    octets: bytes,
    added: bytes,
    *,
    findings: tuple[Finding, ...] = (),
) -> None:
    """Mail of our users leaves with a signature of its author's domain, made once, so that every
    attempt sends the same octets (P4)."""
    fields = await session.service.signers.sign(added + octets, session.service.workers)
    examined = Examined(octets=octets, fields=fields + added, findings=findings)
    await take_waiting(session, section, examined)


def next_queue_id(session: Session) -> QueueId:
    return QueueId(f"{session.stream.trace_id}.{session.transactions + 1}")


def passes(session: Session, section: HeaderSection) -> bool:
    """Whether limits, form and loops let the content through; else the refusal is answered."""
    local, _ = ends(session.accepted)
    refused = verdict.judge(section, options=session.service.options, local=local)
    if refused is None:
        return True
    if refused.limit:
        session.limit(refused.limit, refused.observed)
    refuse(session, refused.reply, octets=len(section.octets))
    return False


def acceptance_of(
    session: Session,
    section: HeaderSection,
    part: Part,
    instead: Own = own.NOTHING_OWN,
) -> Acceptance:
    """Gather what the unit of work needs.

    Args:
        section: of the message as it was received; what was examined may have lost fields of it.
        instead: what accounts get in its place.
    """
    service = session.service
    options = service.options
    accepted, examined = part.accepted, part.examined
    octets, judgement = examined.octets, examined.judgement
    local, remote = ends(accepted)
    sender = session.sender
    assert sender is not None
    queue_id = next_queue_id(session)
    session.transactions += 1
    prepared = None
    if local and is_quick(section):
        prepared = prepare(octets, section if section.octets is octets else None)
    only = accepted[0].path.address if len(accepted) == 1 else None
    received_field = trace.received(
        session.hop(),
        queue_id=queue_id,
        recipient=only,
        is_smtputf8=sender.is_smtputf8,
        at=service.clock.now(),
    )
    is_ours = examined.checked is None
    # Results stand above our Received (RFC 8601 §5); what submission adds is part of the message.
    prefix = received_field + examined.fields if is_ours else examined.fields + received_field
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
        reports=report_ends(accepted),
        local_prefix=prefix,
        origin=Origin(options.mode.value),
        account=session.principal.account if session.principal is not None else None,
        expires_at=service.clock.unix_us() + int(options.lifetime_s * 1_000_000),
        decision=decision_record(
            session.facts(),
            (*accepted, *part.served),
            examined.findings + instead.findings,
            verdict=judgement.verdict.value,
            why=judgement.why,
        ),
        notices=service.notices,
        is_junk=judgement.verdict is Verdict.JUNK,
        own=instead.copies,
        held=instead.held,
        refusals=instead.refusals,
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
    session.service.reach("reception.before-reply")
    note_taken(session, taken)
    if session.service.options.mode is Mode.LMTP:
        answer_lmtp(session, taken)
    else:
        session.machine.answer(Reply(250, "2.0.0", f"Accepted as {taken.queue_id}"))
    session.forget()


def note_taken(session: Session, taken: Taken) -> None:
    service = session.service
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


def refuse(
    session: Session,
    reply: Reply,
    *,
    why: str = "",
    findings: tuple[Finding, ...] = (),
    octets: int = 0,
) -> None:
    """Turn the message down, for good or for now, and remember why.

    Args:
        octets: its size.
    """
    service = session.service
    decision, event = (
        ("deferred", events.MESSAGE_DEFERRED)
        if reply.is_transient
        else ("refused", events.MESSAGE_REFUSED)
    )
    queue_id = next_queue_id(session)
    session.transactions += 1  # so that the next message has another name
    sender = session.sender
    reverse_path = sender.reverse_path if sender is not None else None
    service.metrics.messages[decision].add()
    service.log.write(
        event,
        trace=session.stream.trace_id,
        id=queue_id,
        peer=session.stream.peer.address,
        sender="" if reverse_path is None else rcpt.shown(reverse_path),
        recipients=len(session.accepted),
        reply=str(reply),
        why=why,
    )
    service.refusals.note(
        RefusalRow(
            queue_id=queue_id,
            at=service.clock.unix_us(),
            reverse_path=None if reverse_path is None else rcpt.shown(reverse_path),
            size=octets,
            reply=str(reply),
            decision=decision_record(
                session.facts(),
                session.accepted[:RECIPIENTS_REMEMBERED],
                findings,
                verdict="defer" if reply.is_transient else "refuse",
                why=why,
            ),
        )
    )
    session.machine.answer(reply)
    session.forget()
