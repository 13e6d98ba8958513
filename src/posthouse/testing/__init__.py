"""A whole Posthouse on loopback for the tests of other programs.

    from posthouse.testing import MailServer

    with MailServer.ephemeral() as server:
        …                                   # your program sends to server.url
        [letter] = server.wait_for("bob@example.test")
        assert letter.message.subject == "Tea"

`pytest` finds the fixture `mail_server` by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posthouse.testing.server import Arrived, MailServer, MailServerError, NothingCame

__all__ = ["Arrived", "MailServer", "MailServerError", "NothingCame"]


def __getattr__(name: str) -> Any:
    """The server is loaded when it is first asked for: pytest's plugin names it in each run."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from posthouse.testing import server

    return getattr(server, name)
