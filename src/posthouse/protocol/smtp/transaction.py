"""One message on its way through a client session, and what is known about its recipients."""

from __future__ import annotations

from typing import Final

from posthouse.kernel.envelope import TlsDemand
from posthouse.kernel.reply import Reply
from posthouse.protocol.smtp.client_events import (
    MessageEnded,
    Outcome,
    OutgoingMessage,
    Result,
    Stage,
)
from posthouse.protocol.smtp.extensions import Extensions
from posthouse.protocol.smtp.outgoing import OutgoingContent, has_unicode_header

_STATUSES: Final = {Result.ACCEPTED: "2.0.0", Result.TRANSIENT: "4.0.0", Result.PERMANENT: "5.0.0"}


def outcome_of(reply: Reply, stage: Stage) -> Outcome:
    """A reply of the last word: 2yz, 4yz or 5yz. 421 is a 4yz like others."""
    result = Result.PERMANENT
    if reply.code < 300:
        result = Result.ACCEPTED
    elif reply.is_transient:
        result = Result.TRANSIENT
    elif stage is Stage.RCPT and reply.code == 552 and reply.status in ("", "5.5.3"):
        result = Result.TRANSIENT  # "too many recipients" of old, RFC 5321 §4.5.3.1.10
    return Outcome(
        result=result, stage=stage, reply=reply, status=reply.status or _STATUSES[result]
    )


class Transaction:
    """`outcomes` has None for each recipient whose fate is open."""

    __slots__ = (
        "content",
        "expecting",
        "has_asked",
        "is_answered",
        "is_smtputf8",
        "message",
        "next_recipient",
        "outcomes",
        "stage",
    )

    def __init__(self, message: OutgoingMessage) -> None:
        self.message = message
        self.outcomes: list[Outcome | None] = [None] * len(message.envelope.recipients)
        self.content: OutgoingContent | None = None
        self.expecting = 0  # replies
        self.next_recipient = 0  # to offer, when offered one by one
        self.has_asked = False  # DATA or BDAT was queued
        self.is_answered = False
        self.is_smtputf8 = False
        self.stage = Stage.MAIL  # of the last reply

    @property
    def is_open(self) -> bool:
        return None in self.outcomes

    def settle(self, outcome: Outcome) -> None:
        """`outcome` is that of every recipient without one."""
        self.outcomes = [outcome if old is None else old for old in self.outcomes]

    def lost(self, detail: str, reply: Reply | None) -> None:
        """The session ended, by `reply` or without a word. Then, once the end of the content was
        handed out, nobody knows whether it was taken (P4)."""
        sent = self.content is not None and self.content.is_sent
        self.settle(
            Outcome(
                result=Result.UNKNOWN if sent and reply is None else Result.TRANSIENT,
                stage=Stage.DOT if sent else self.stage,
                reply=reply,
                status="4.4.2",
                detail=detail,
            )
        )

    def refuse_what_cannot_be_sent(self, extensions: Extensions, *, is_tls: bool) -> None:
        """Settle what the server is known not to take, without asking it."""
        if self._needs_requiretls and not (is_tls and extensions.is_requiretls):
            if is_tls:  # RFC 8689 §4.2.1
                self.settle(_local("5.7.30", "the host does not offer REQUIRETLS"))
            else:
                self.settle(_local("5.7.10", "the message may go by TLS only"))
            return
        size_max = extensions.size_octets_max
        if size_max is not None and len(self.message.octets) > size_max:  # RFC 1870 §5
            self.settle(_local("5.3.4", f"the host takes no more than {size_max} octets"))
            return
        envelope = self.message.envelope
        sender = envelope.reverse_path
        wide = [not recipient.address.local_part.isascii() for recipient in envelope.recipients]
        all_need = (sender is not None and not sender.local_part.isascii()) or (
            envelope.is_smtputf8 and has_unicode_header(self.message.octets)
        )
        self.is_smtputf8 = extensions.is_smtputf8 and (
            envelope.is_smtputf8 or all_need or any(wide)
        )
        if extensions.is_smtputf8 or not (all_need or any(wide)):
            return
        refusal = _local("5.6.7", "the host does not offer SMTPUTF8")  # RFC 6531 §3.2
        self.outcomes = [refusal if all_need or is_wide else None for is_wide in wide]

    @property
    def _needs_requiretls(self) -> bool:
        """A notice goes without rather than not at all (RFC 8689 §5)."""
        envelope = self.message.envelope
        return envelope.tls_demand is TlsDemand.REQUIRED and envelope.reverse_path is not None

    def ended(self) -> MessageEnded:
        outcomes = tuple(outcome for outcome in self.outcomes if outcome is not None)
        assert len(outcomes) == len(self.outcomes)
        was_tried = self.is_answered or any(
            outcome.result is not Result.TRANSIENT for outcome in outcomes
        )
        return MessageEnded(message=self.message, outcomes=outcomes, was_tried=was_tried)


def _local(status: str, detail: str) -> Outcome:
    return Outcome(
        result=Result.PERMANENT, stage=Stage.MAIL, reply=None, status=status, detail=detail
    )
