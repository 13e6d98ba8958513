"""The client library: send mail from Python, by SMTP and other ways.

    from posthouse.sending import Message, Transport

    with Transport("smtp+starttls://user:secret@mail.example.org:587") as transport:
        transport.send(Message(sender="ada@example.org", to="bob@example.net", text="At five?"))

Names are loaded when they are first used, so that the import costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from posthouse.kernel.envelope import Notify, Ret, TlsDemand
    from posthouse.sending.blocking import Transport
    from posthouse.sending.carrier import Letter, Verified
    from posthouse.sending.errors import (
        AuthError,
        CapabilityError,
        ConnectError,
        EnvelopeError,
        MessageError,
        OptionError,
        ProtocolError,
        SendingError,
        SendTimeout,
        TlsError,
    )
    from posthouse.sending.key_lookup import FoundKey, FoundKeys, find_keys
    from posthouse.sending.message import (
        Alternative,
        Attachment,
        CalendarEvent,
        ListFields,
        Mailbox,
        Message,
        Priority,
        SendEnvelope,
    )
    from posthouse.sending.options import Dkim, Proxy, TlsUse
    from posthouse.sending.receipt import (
        Outcome,
        OutcomeState,
        Phases,
        Receipt,
        Rejected,
        TlsUsed,
    )
    from posthouse.sending.templates import Templates
    from posthouse.sending.transport import AsyncTransport, Sent

__all__ = [
    "Alternative",
    "AsyncTransport",
    "Attachment",
    "AuthError",
    "CalendarEvent",
    "CapabilityError",
    "ConnectError",
    "Dkim",
    "EnvelopeError",
    "FoundKey",
    "FoundKeys",
    "Letter",
    "ListFields",
    "Mailbox",
    "Message",
    "MessageError",
    "Notify",
    "OptionError",
    "Outcome",
    "OutcomeState",
    "Phases",
    "Priority",
    "ProtocolError",
    "Proxy",
    "Receipt",
    "Rejected",
    "Ret",
    "SendEnvelope",
    "SendTimeout",
    "SendingError",
    "Sent",
    "Templates",
    "TlsDemand",
    "TlsError",
    "TlsUse",
    "TlsUsed",
    "Transport",
    "Verified",
    "find_keys",
]

_HOMES: Final = {
    "posthouse.kernel.envelope": ("Notify", "Ret", "TlsDemand"),
    "posthouse.sending.blocking": ("Transport",),
    "posthouse.sending.carrier": ("Letter", "Verified"),
    "posthouse.sending.key_lookup": ("FoundKey", "FoundKeys", "find_keys"),
    "posthouse.sending.errors": (
        *("AuthError", "CapabilityError", "ConnectError", "EnvelopeError", "MessageError"),
        *("OptionError", "ProtocolError", "SendTimeout", "SendingError", "TlsError"),
    ),
    "posthouse.sending.message": (
        *("Alternative", "Attachment", "CalendarEvent", "ListFields", "Mailbox", "Message"),
        *("Priority", "SendEnvelope"),
    ),
    "posthouse.sending.options": ("Dkim", "Proxy", "TlsUse"),
    "posthouse.sending.receipt": (
        *("Outcome", "OutcomeState", "Phases", "Receipt", "Rejected", "TlsUsed"),
    ),
    "posthouse.sending.templates": ("Templates",),
    "posthouse.sending.transport": ("AsyncTransport", "Sent"),
}
_HOME: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value  # the next time it is at hand
    return value


def __dir__() -> list[str]:
    return [*__all__]
