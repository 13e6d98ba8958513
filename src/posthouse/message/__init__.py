"""Messages: their header fields, addresses and parts, read and built. Pure; a public library.

`read` is the way in for programs that get mail; `posthouse.sending` builds and sends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posthouse.message.reading import (
        Attachment,
        Calendar,
        Named,
        ReceivedMessage,
        read,
        safe_name,
    )

__all__ = ["Attachment", "Calendar", "Named", "ReceivedMessage", "read", "safe_name"]


def __getattr__(name: str) -> Any:
    """The reader is loaded when it is first asked for: who only sends need not wait for it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from posthouse.message import reading

    return getattr(reading, name)
