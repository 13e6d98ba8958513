"""What can happen on the server side of a POP3 session. `ServerSession.next_event` gives one at a
time; the caller answers it. Whatever the machine knows itself (STAT, LIST, UIDL, DELE, RSET, NOOP,
CAPA, everything malformed or out of turn) it answers without asking.
"""

from __future__ import annotations

import msgspec

from posthouse.protocol.sasl.events import Credentials


class StartTlsReceived(msgspec.Struct, frozen=True, kw_only=True):
    """STLS and nothing behind it. Call `accept_starttls`, write the outbox, start the handshake."""


class LoginAttempted(msgspec.Struct, frozen=True, kw_only=True):
    """By USER and PASS or AUTH. Answer with `open_maildrop` or `refuse_login`."""

    credentials: Credentials


class MessageWanted(msgspec.Struct, frozen=True, kw_only=True):
    """RETR, or TOP. Answer with `send_message` or `refuse_message`."""

    index: int
    """Into the maildrop, from 0."""
    lines: int | None
    """Of the body; None is all of it."""


class QuitReceived(msgspec.Struct, frozen=True, kw_only=True):
    """QUIT after a login: remove these, then `farewell` (RFC 1939 §6)."""

    deleted: tuple[int, ...]
    """Indexes into the maildrop, rising."""


Event = StartTlsReceived | LoginAttempted | MessageWanted | QuitReceived
