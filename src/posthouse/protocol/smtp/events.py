"""What can happen on the server side of an SMTP or LMTP session (RFC 5321, 2033).

`ServerSession.next_event` gives one at a time; the caller decides and answers. Commands that need
no decision (NOOP, RSET, VRFY, HELP, QUIT, everything malformed or out of turn) the machine answers
itself, within its budgets.
"""

from __future__ import annotations

import msgspec

from posthouse.kernel.envelope import Address, BodyType, Notify, Ret


class HelloReceived(msgspec.Struct, frozen=True, kw_only=True):
    """EHLO, HELO or LHLO, well formed. Answer with `accept_hello()` or a refusal."""

    name: str
    """As given: a domain (U- or A-label) or a literal; never verified (RFC 5321 §4.1.4)."""
    is_extended: bool


class StartTlsReceived(msgspec.Struct, frozen=True, kw_only=True):
    """STARTTLS and nothing behind it. After `accept_starttls()` the caller writes the outbox, runs
    the handshake, then calls `tls_started()`; all state before is forgotten (RFC 3207 §4.2)."""


class AuthStarted(msgspec.Struct, frozen=True, kw_only=True):
    """AUTH with an offered mechanism (RFC 4954 §4). Answer with `challenge`, `accept_auth` or a
    refusal."""

    mechanism: str
    initial: bytes | None
    """Decoded; b"" for "=", None when the client gave none."""


class AuthResponded(msgspec.Struct, frozen=True, kw_only=True):
    """The client's answer to our challenge, decoded."""

    response: bytes


class SenderOffered(msgspec.Struct, frozen=True, kw_only=True):
    """MAIL arrived, well formed; accepting it opens a transaction."""

    reverse_path: Address | None  # None is <>, RFC 5321 §4.5.5
    size_octets: int | None = None  # the client's estimate, RFC 1870 §6
    body: BodyType = BodyType.SEVEN_BIT
    is_smtputf8: bool = False
    ret: Ret | None = None
    envelope_id: str | None = None
    is_requiretls: bool = False  # RFC 8689 §2


class RecipientOffered(msgspec.Struct, frozen=True, kw_only=True):
    """RCPT arrived, well formed. `address.domain` is "" for `<Postmaster>`."""

    address: Address
    notify: Notify | None = None
    original_recipient: str | None = None  # ORCPT= decoded, "type;address"


class DataRequested(msgspec.Struct, frozen=True, kw_only=True):
    """DATA with at least one recipient. `accept_data()` sends 354."""


class MessageReceived(msgspec.Struct, frozen=True, kw_only=True):
    """The final dot or BDAT LAST arrived and the content is one whole message.

    Answer with one reply, or in LMTP with one for each accepted recipient in order
    (`answer_each`, RFC 2033 §4.2). 250 only after the commit.
    """

    octets: bytes
    """Dot-stuffing removed, final CRLF kept, otherwise exactly as they came."""


class SessionEnded(msgspec.Struct, frozen=True, kw_only=True):
    """QUIT was answered, a budget ran out or `Disconnect` was sent: flush the outbox and close."""

    reason: str
    """"quit", or the name of the limit or rule that ended it, for log and metrics."""


Event = (
    HelloReceived
    | StartTlsReceived
    | AuthStarted
    | AuthResponded
    | SenderOffered
    | RecipientOffered
    | DataRequested
    | MessageReceived
    | SessionEnded
)
