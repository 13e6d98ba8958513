"""One attempt: a message's recipients on their way to a destination, and what hosts said of them.

What a host says with 4yz and 5yz, what the line does and what the clock says become outcomes for
each recipient, with the other side's words (RFC 5321 §4.2.1, RFC 3463; F25–F29).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from posthouse.kernel.envelope import (
    Address,
    BodyType,
    Envelope,
    ForwardPath,
    Notify,
    Ret,
    TlsDemand,
)
from posthouse.kernel.errors import PosthouseError
from posthouse.kernel.ids import RecipientId
from posthouse.message.address import AddressError, parse_mailbox
from posthouse.protocol.smtp import client_events
from posthouse.protocol.smtp.client_events import MessageEnded, OutgoingMessage, Result, Stage
from posthouse.queue.work import AttemptRecord, Ending, Exchange, Outcome, Report, Work
from posthouse.relay.plan import Demand
from posthouse.store.queue_rows import RecipientRow

LOCAL_PART_OCTETS_MAX: Final = 254
EXCHANGES_MAX: Final = 40
"""Steps kept in the record of one attempt."""
# A 4yz here is about us or the host's state, not about one recipient.
_TROUBLE_STAGES: Final = frozenset({Stage.MAIL, Stage.DATA, Stage.BLOCK, Stage.DOT})
_STEPS: Final = {Stage.BLOCK: "content", Stage.DOT: "content"}


class Unsendable(PosthouseError):
    """No session will ever take the message."""

    def __init__(self, status: str, words: str) -> None:
        super().__init__(words)
        self.status = status


class Via(msgspec.Struct, frozen=True, kw_only=True):
    """The session a message went by."""

    route: str
    host: str
    address: str
    tls: str
    """Version and cipher, "" for plaintext."""
    tls_policy: str = ""
    certificate: str = ""
    is_dsn: bool
    """The host knows DSN, so NOTIFY and ORCPT went along."""


class Job:
    """Mutable: what is settled and what is still to be tried of one `Work`."""

    __slots__ = (
        "_is_finished",
        "_outcomes",
        "_report",
        "began_s",
        "exchanges",
        "is_trouble",
        "resends",
        "rows",
        "tried",
        "via",
        "work",
    )

    def __init__(self, work: Work, report: Callable[[Report], None], *, began_s: float) -> None:
        self.work = work
        self.rows: tuple[RecipientRow, ...] = work.recipients
        """Recipients still to be tried, in the order of the envelope."""
        self.tried: set[str] = set()
        """Hosts that had their turn."""
        self.exchanges: list[Exchange] = []
        self.resends = 0
        self.began_s = began_s
        self.via: Via | None = None
        self.is_trouble = False
        self._is_finished = False
        self._report = report
        self._outcomes: dict[RecipientId, Outcome] = {}

    def message(self) -> OutgoingMessage:
        """What remains of it, for a session.

        Raises:
            Unsendable: SMTP as we speak it cannot carry it.
        """
        try:
            return self._message()
        except AddressError as error:
            raise Unsendable("5.1.3", f"an address cannot be written: {error}") from error

    def _message(self) -> OutgoingMessage:
        message = self.work.message
        if message.body == BodyType.BINARY.value:  # RFC 3030 §3
            raise Unsendable("5.6.3", "binary content cannot be handed on")
        return OutgoingMessage(
            envelope=Envelope(
                reverse_path=None if message.reverse_path is None else _parse(message.reverse_path),
                recipients=tuple(_forward_path(row) for row in self.rows),
                body=BodyType(message.body),
                is_smtputf8=message.is_smtputf8,
                ret=None if message.ret is None else Ret(message.ret),
                envelope_id=message.envelope_id,
                tls_demand=TlsDemand(message.tls_demand),
            ),
            octets=self.work.octets,
            tag=self,
        )

    def note(self, exchange: Exchange) -> None:
        if len(self.exchanges) < EXCHANGES_MAX and exchange not in self.exchanges[-2:]:
            self.exchanges.append(exchange)

    def take(self, ended: MessageEnded, via: Via, *, reply_max: int) -> None:
        """Write down what a session says; `rows` keeps those that another host may still take."""
        self.via = via
        self.tried.add(via.host)
        again: list[RecipientRow] = []
        for row, said in zip(self.rows, ended.outcomes):
            words = _words(said)[:reply_max]
            step = _STEPS.get(said.stage, said.stage.value)
            self.note(Exchange(step=step, reply=words, host=via.host, address=via.address))
            self._outcomes[row.id] = Outcome(
                recipient=row.id,
                ending=_ending(said),
                status=said.status,
                words=words,
                host=via.host if said.reply is not None else "",
                is_notify_passed=via.is_dsn,
            )
            if said.result is Result.TRANSIENT:
                again.append(row)
                is_shutdown = said.reply is None or said.reply.code == 421
                self.is_trouble = self.is_trouble or is_shutdown or said.stage in _TROUBLE_STAGES
            elif said.result is Result.UNKNOWN:
                self.is_trouble = True
        self.rows = tuple(again)

    @property
    def demand(self) -> Demand:
        """A notice goes as well as it can: it is not lost for what it would demand (RFC 8689
        §5)."""
        message = self.work.message
        if message.tls_demand == TlsDemand.REQUIRED and message.reverse_path is not None:
            return Demand.REQUIRETLS
        if message.tls_demand == TlsDemand.OPTIONAL:
            return Demand.TLS_OPTIONAL
        return Demand.NONE

    @property
    def has_success(self) -> bool:
        return any(one.ending is Ending.RELAYED for one in self._outcomes.values())

    def settle(
        self, ending: Ending, status: str, words: str, *, untried_until: int | None = None
    ) -> None:
        """The same for every recipient still to be tried that no host has spoken of."""
        for row in self.rows:
            if row.id not in self._outcomes:
                self._outcomes[row.id] = Outcome(
                    recipient=row.id,
                    ending=ending,
                    status=status,
                    words=words,
                    untried_until=untried_until,
                )

    def finish(self, *, now_s: float, was_tried: bool = True) -> None:
        """Report. Only the first call counts."""
        if self._is_finished:
            return
        self._is_finished = True
        via = self.via
        record = AttemptRecord(
            destination=self.work.destination,
            route=via.route if via is not None else "",
            host=via.host if via is not None else "",
            address=via.address if via is not None else "",
            tls=via.tls if via is not None else "",
            tls_policy=via.tls_policy if via is not None else "",
            certificate=via.certificate if via is not None else "",
            took_s=round(now_s - self.began_s, 3),
            exchanges=tuple(self.exchanges),
            recipients=tuple(row.address for row in self.work.recipients),
        )
        outcomes = tuple(self._outcomes[row.id] for row in self.work.recipients)
        self._report(
            Report(
                work=self.work,
                outcomes=outcomes,
                record=record if was_tried else None,
                # What one message demands of TLS says nothing about the destination of others.
                is_trouble=self.is_trouble and self.demand is Demand.NONE,
            )
        )


def _words(said: client_events.Outcome) -> str:
    if said.result is Result.UNKNOWN:  # P4
        return f"{said.detail}; the whole message was sent, so it may arrive twice"
    return str(said.reply) if said.reply is not None else said.detail


def _ending(said: client_events.Outcome) -> Ending:
    match said.result:
        case Result.ACCEPTED:
            return Ending.RELAYED
        case Result.PERMANENT:
            return Ending.FAILED
        case Result.TRANSIENT | Result.UNKNOWN:  # UNKNOWN: it may arrive twice (P4)
            return Ending.DEFERRED


def _forward_path(row: RecipientRow) -> ForwardPath:
    return ForwardPath(
        address=_parse(row.address),
        notify=None if row.notify is None else Notify(row.notify),
        original_recipient=row.original_recipient,
    )


def _parse(text: str) -> Address:
    return parse_mailbox(text, local_part_octets_max=LOCAL_PART_OCTETS_MAX)
