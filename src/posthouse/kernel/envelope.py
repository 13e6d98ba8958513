"""What SMTP says about a message, apart from the message (RFC 5321 §2.3.1)."""

from __future__ import annotations

from enum import Enum, IntEnum, IntFlag

import msgspec


class Address(msgspec.Struct, frozen=True):
    """An address as SMTP knows it: a local-part and a domain.

    `local_part` is the meaning, without quotes or backslashes; `posthouse.message.address` quotes
    it again where the wire needs that. `domain` is in lower case, A-labels (RFC 5890), or an
    address literal with its brackets; it is empty only in `<Postmaster>` (RFC 5321 §4.5.1).
    """

    local_part: str
    domain: str


class Notify(IntFlag):
    """NOTIFY= of a recipient (RFC 3461 §4.1). 0 is NEVER; absent is `None` where it is kept."""

    NEVER = 0
    SUCCESS = 1
    FAILURE = 2
    DELAY = 4


class Ret(Enum):
    """RET= of a message (RFC 3461 §4.3)."""

    FULL = "FULL"
    HDRS = "HDRS"


class BodyType(Enum):
    """BODY= of a message (RFC 6152 §3, RFC 3030 §3)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"
    BINARY = "BINARYMIME"


class TlsDemand(IntEnum):
    """What the sender of a message wants of TLS on its way (RFC 8689); kept with the message."""

    NONE = 0
    REQUIRED = 1  # REQUIRETLS on MAIL: verified TLS at every hop, or a notice that it failed
    OPTIONAL = 2  # "TLS-Required: No": rather delivered than protected


class ForwardPath(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted RCPT."""

    address: Address
    notify: Notify | None = None
    original_recipient: str | None = None
    """ORCPT= decoded, as "type;address" (RFC 3461 §4.2)."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """Everything MAIL and RCPT said."""

    reverse_path: Address | None
    """None is the null reverse-path `<>` (RFC 5321 §4.5.5)."""
    recipients: tuple[ForwardPath, ...]
    body: BodyType = BodyType.SEVEN_BIT
    is_smtputf8: bool = False
    ret: Ret | None = None
    envelope_id: str | None = None
    """ENVID= decoded (RFC 3461 §4.4)."""
    tls_demand: TlsDemand = TlsDemand.NONE
