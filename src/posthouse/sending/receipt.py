"""What became of a message that was sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from datetime import datetime
from enum import Enum
from typing import Any, NoReturn

import msgspec

__all__ = ["Asking", "Outcome", "OutcomeState", "Phases", "Receipt", "Rejected", "TlsUsed"]


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient that was turned down, or (`may_have_been_sent`) one of whom nobody can know."""

    recipient: str
    code: int
    """Of the reply; 0 when the server said nothing."""
    status: str
    """The enhanced code (RFC 3463); always there."""
    text: str
    is_transient: bool
    response: str = ""
    """The reply as the server wrote it; "" when it said nothing."""
    may_have_been_sent: bool = False
    """The line broke before the server said whether it took the message for this one: sending it
    again may deliver it twice."""


class Phases(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds each took; 0.0 for what a session that was open already did not have to do again."""

    connect_s: float = 0.0
    greeting_s: float = 0.0
    """The server's greeting and its answers to EHLO."""
    tls_s: float = 0.0
    """STARTTLS and the handshake; in `connect_s` where it goes by HTTPS."""
    login_s: float = 0.0
    waiting_s: float = 0.0
    """For a free session of the pool, or for the rate limit."""
    envelope_s: float = 0.0
    """From MAIL to the reply to DATA, or without that command to the last recipient's."""
    content_s: float = 0.0
    """From there to the reply to the end of the content."""
    message_s: float = 0.0
    """The two together."""


class TlsUsed(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    """ "TLSv1.3"."""
    cipher: str
    is_verified: bool
    """The certificate was checked; False after `verify=False` or opportunistic STARTTLS."""


class OutcomeState(Enum):
    """Where a recipient's copy is."""

    ACCEPTED = "accepted"  # by the server that was asked; it has not said more
    DELIVERED = "delivered"  # in a mailbox, or with the next host (`detail` says which)
    DEFERRED = "deferred"  # the next host said not now; `next_try_at` is when it is asked again
    RETURNED = "returned"  # it will not get there; `detail` says why
    UNKNOWN = "unknown"  # nobody can say, or not here: `detail` says why


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What happened later to the copy of one recipient."""

    recipient: str
    state: OutcomeState
    detail: str = ""
    """The remote's words."""
    next_try_at: datetime | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A message the server took for at least one recipient."""

    message_id: str
    """With its angle brackets."""
    sender: str
    """The reverse-path; "" is `<>`."""
    recipients: tuple[str, ...]
    """All that were asked for, in their order."""
    accepted: tuple[str, ...]
    rejected: tuple[Rejected, ...] = ()
    response: str = ""
    """The reply to the end of the message, as the server wrote it."""
    server: str = ""
    """ "host:port", or what stands for it in other transports."""
    queue_id: str = ""
    """The server's name for the message, when its reply has one."""
    size_octets: int = 0
    sent_at: datetime | None = None
    """When the server had answered."""
    phases: Phases = Phases()
    tls: TlsUsed | None = None
    tag: object = None
    """What the message was given as `tag`, to know it by."""
    ask: Callable[[Receipt, float], Awaitable[tuple[Outcome, ...]]] | None = None
    """Asks the server or a mailbox what happened since; see `outcome`."""

    def outcome(self, *, timeout_s: float = 0.0) -> Asking:
        """`await` it: what happened to each recipient's copy, as far as it can be known. Without a
        loop it is `transport.outcome(receipt)`.

        Waits up to `timeout_s` until each of them has an end, then tells how things stand. Where
        nobody can be asked, each accepted recipient is ACCEPTED and each rejected one RETURNED, or
        UNKNOWN where it may have got it all the same.
        """
        return Asking(self, timeout_s)

    async def _outcome(self, timeout_s: float) -> tuple[Outcome, ...]:
        if self.ask is not None:
            return await self.ask(self, timeout_s)
        return tuple(
            Outcome(recipient=one, state=OutcomeState.ACCEPTED, detail=self.response)
            for one in self.accepted
        ) + tuple(map(outcome_of, self.rejected))


def outcome_of(one: Rejected) -> Outcome:
    """What is known from the beginning of a recipient that was not accepted."""
    state = OutcomeState.UNKNOWN if one.may_have_been_sent else OutcomeState.RETURNED
    return Outcome(recipient=one.recipient, state=state, detail=one.text)


class Asking(Awaitable[tuple[Outcome, ...]]):
    """A question that is asked when it is awaited."""

    __slots__ = ("_receipt", "_timeout_s")

    def __init__(self, receipt: Receipt, timeout_s: float) -> None:
        self._receipt = receipt
        self._timeout_s = timeout_s

    def __await__(self) -> Generator[Any, None, tuple[Outcome, ...]]:
        return self._receipt._outcome(self._timeout_s).__await__()

    def __iter__(self) -> NoReturn:
        raise TypeError("await receipt.outcome(), or without a loop transport.outcome(receipt)")
