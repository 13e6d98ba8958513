"""How a simulated SMTP host behaves."""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec


class Stage(Enum):
    """Where in a session something is said; the reply of that stage is what changes."""

    CONNECT = "CONNECT"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    DOT = "DOT"  # the final dot, or BDAT LAST
    RSET = "RSET"
    QUIT = "QUIT"


class Say(msgspec.Struct, frozen=True):
    """Send these octets in place of the usual reply; CRLF is not added to them."""

    octets: bytes


class Drop(msgspec.Struct, frozen=True, kw_only=True):
    """Close without a reply, or with a reset."""

    is_reset: bool = False


class Stall(msgspec.Struct, frozen=True, kw_only=True):
    """Say nothing for `seconds`, or for ever; then the usual reply."""

    seconds: float | None = None


class Drip(msgspec.Struct, frozen=True, kw_only=True):
    """One octet of the usual reply every `seconds`."""

    seconds: float = 100.0


class Flood(msgspec.Struct, frozen=True, kw_only=True):
    """A reply of so many lines that never ends in time: 10 MB of `250-…` before the last line."""

    octets: int = 10_000_000


Behaviour = Say | Drop | Stall | Drip | Flood


class Starttls(Enum):
    """What becomes of STARTTLS."""

    ABSENT = "not offered"
    WORKS = "works"
    REFUSED = "offered, then 454"
    ABORTED = "220, then the line is cut in the handshake"
    GARBAGE = "220, then octets that are no TLS"
    INJECTED = "plaintext replies behind the 220"


EXTENSIONS: Final = ("PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8")


class Personality(msgspec.Struct, frozen=True, kw_only=True):
    """A host that accepts everything, but for what is set here."""

    hostname: str = "peer.test"
    extensions: tuple[str, ...] = EXTENSIONS
    starttls: Starttls = Starttls.ABSENT
    is_esmtp: bool = True
    """False: EHLO earns 502, only HELO works."""
    at: dict[Stage, Behaviour] = {}
    """What happens at a stage, each time."""
    recipients: dict[str, Behaviour] = {}
    """What RCPT earns by address in lower case, before `at`."""
    greylist_s: float | None = None
    """451 for a new triple of client, reverse-path and recipient until so much time has passed;
    0 means that the second try is accepted."""
    messages_per_connection: int | None = None
    """Further MAILs on the connection earn 421, and it is closed (throttle)."""
    connections_max: int | None = None
    """More at once are greeted with 421."""
    messages_per_minute: int | None = None
    """More earn 421 at MAIL."""
    reply_delay_s: float = 0.0
    """Of every reply; pipelined commands wait for each other."""
    content_octets_until_drop: int | None = None
    """The line is reset once so much of a message has come, and not its end."""
    message_octets_max: int = 52_428_800
    """552 above it."""


ACCEPTS: Final = Personality()


def says(code: int, text: str = "as you wish") -> Say:
    """A well-formed reply of one line."""
    return Say(f"{code} {text}\r\n".encode())


TEMPORARY: Final = says(451, "4.3.0 try again later")
PERMANENT: Final = says(550, "5.1.1 no such user here")
SHUTS_DOWN: Final = says(421, "4.3.2 going down")
# F29: replies that are none.
CODE_999: Final = Say(b"999 what\r\n")
CODE_25: Final = Say(b"25 short\r\n")
NO_SPACE: Final = Say(b"250ok\r\n")
BARE_LF: Final = Say(b"250 ok\n")
NO_TEXT: Final = Say(b"250\r\n")
