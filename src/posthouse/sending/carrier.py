"""Between a transport's front and the ways a message can leave: SMTP, LMTP, a command, a folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from posthouse.kernel.envelope import Envelope
from posthouse.sending.receipt import Receipt, TlsUsed

__all__ = ["Carrier", "Letter", "Verified"]


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it leaves: composed, protected and signed."""

    message_id: str
    envelope: Envelope
    octets: bytes
    """Whole, lines ended by CRLF."""
    tag: object = None
    begin: Callable[[], None] | None = None
    """Called as it is handed to the other side: until then nobody can have it. What it raises, the
    letter ends with, and is not sent."""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify` found out: whoever gets one can send."""

    server: str
    """ "host:port", or what stands for it."""
    greeting_name: str = ""
    """How the server calls itself."""
    is_logged_in: bool = False
    tls: TlsUsed | None = None
    extensions: tuple[str, ...] = ()
    """As it named them after the login: "PIPELINING", "SIZE 52428800"."""


class Carrier(Protocol):
    """One way to hand letters over. Everything raised is a `SendingError`."""

    async def carry(self, letter: Letter) -> Receipt:
        """Hand one letter over, to everybody in its envelope.

        Returns when the other side owns it for at least one recipient; the others are in
        `rejected`. Any number of calls may run at once: a carrier has its own back pressure.
        Cancelling gives up a letter that has not begun; one under way may still arrive.

        Raises:
            SendingError: nobody has it, or (`may_have_been_sent`) nobody can know.
        """
        ...

    async def verify(self) -> Verified:
        """Do all that sending needs but the message. Raises SendingError."""
        ...

    async def close(self) -> None:
        """Finish what is under way and leave; calling it twice is once."""
        ...
