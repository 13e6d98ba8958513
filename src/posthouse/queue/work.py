"""What the queue hands to whoever delivers, and what comes back.

`relay` implements `DeliveryAgent` for other hosts, `delivery` for our own mailboxes; `app` plugs
them in.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

import msgspec

from posthouse.kernel.ids import RecipientId
from posthouse.store.queue_rows import MessageRow, RecipientRow
from posthouse.store.transaction import Transaction


class Work(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Leased recipients of one message that go the same way."""

    message: MessageRow
    recipients: tuple[RecipientRow, ...]
    destination: str
    """What sessions, concurrency and trouble are counted by (`DeliveryAgent.destination`)."""
    octets: bytes
    """The whole message: our trace fields and what we received, unchanged."""
    is_asked: bool = False
    """A person asked for this attempt: it is made even where the destination is out of reach."""

    @property
    def domain(self) -> str:
        return self.recipients[0].domain

    @property
    def route(self) -> str | None:
        """Set by a person: "host:port"."""
        return self.recipients[0].route


class Ending(Enum):
    """How an attempt ended for one recipient."""

    RELAYED = "relayed"  # the next host said 2xx and owns it
    STORED = "stored"  # it is in a local mailbox
    DEFERRED = "deferred"  # may work later
    FAILED = "failed"  # will not work
    HANDED_BACK = "handed-back"  # not tried; nothing was sent


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one recipient in one attempt."""

    recipient: RecipientId
    ending: Ending
    status: str = ""
    """Enhanced status code (RFC 3463), the other side's or ours for it."""
    words: str = ""
    """The other side's reply with its code, or ours when there was none."""
    host: str = ""
    """Who said `words`: the remote host's name; "" when it was us."""
    is_notify_passed: bool = False
    """The next host knows DSN (RFC 3461), so notices about success are its business now."""
    untried_until: int | None = None
    """DEFERRED without an attempt, as the destination is out of reach until then (µs since 1970):
    it counts as none and makes no later wait longer."""
    in_unit: Callable[[Transaction], Outcome] | None = None
    """Called in the unit of work that records the outcome and giving the real one, for deliveries
    that write to the database themselves."""


class Exchange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of an attempt: what we did and what was said."""

    step: str
    """"connect", "ehlo", "starttls", "mail", "rcpt", "data", "content", "dns" …"""
    reply: str
    host: str = ""
    address: str = ""


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt, kept as JSON for `explain`. Times are seconds."""

    destination: str
    route: str = ""
    host: str = ""
    """The host that took the message, or the last one tried."""
    address: str = ""
    tls: str = ""
    """Version and cipher; "" for plaintext."""
    tls_policy: str = ""
    """What TLS had to be and why: "dane", "mta-sts", "opportunistic"…"""
    certificate: str = ""
    """What the host's certificate is worth, also where nobody asked: "verified by DANE (…)",
    "not verified: …"."""
    took_s: float = 0.0
    exchanges: tuple[Exchange, ...] = ()
    recipients: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The end of one attempt: an outcome for each recipient of `work`."""

    work: Work
    outcomes: tuple[Outcome, ...]
    record: AttemptRecord | None = None
    """None when nothing was tried."""
    is_trouble: bool = False
    """The destination as a whole is in trouble or throttles: give it less at a time."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """A destination that is known to be out of reach."""

    status: str
    words: str
    since: int = 0
    """When it was found so, µs since 1970: whoever asked for an attempt after that gets one."""
    until: int = 0
    """When it will be tried again, µs since 1970."""


class DeliveryAgent(Protocol):
    """Delivers. Nothing here blocks or raises."""

    def destination(self, domain: str, route: str | None) -> str:
        """The key `domain` is delivered under, e.g. one for all domains behind a smart host."""
        ...

    def trouble(self, destination: str) -> Trouble | None:
        """Why nothing can be sent there at this moment; what is due is deferred without a try."""
        ...

    def start(self, work: Work, report: Callable[[Report], None]) -> None:
        """Begin an attempt; `report` is called once, later, on the event loop."""
        ...

    async def close(self) -> None:
        """End: everything not reported yet is reported before this returns, as HANDED_BACK where
        nothing was sent."""
        ...
