"""The four kinds of errors, never mixed (a result is an ordinary value and not here).

A refusal carries the answer for the peer, a fault is our own disk, DNS or database failing,
a bug is `LocalProtocolError` or a failed `assert`.
"""

from __future__ import annotations

from posthouse.kernel.reply import Reply


class PosthouseError(Exception):
    """Anything Posthouse raises on purpose."""


class Refusal(PosthouseError):
    """A command, recipient or message is turned down, with the answer to give.

    `reply` goes on the wire, so it names no file, table or internal host;
    `detail` goes to the log only.
    """

    def __init__(self, reply: Reply, *, detail: str = "") -> None:
        super().__init__(detail or reply.text)
        self.reply = reply
        self.detail = detail


class Disconnect(Refusal):
    """A refusal that also ends the session: send `reply`, then close."""


class Fault(PosthouseError):
    """Our own disk, DNS or database failed; the peer hears 451 4.3.0 or `NO [UNAVAILABLE]`.

    Promise P8: a fault is never answered 5yz.
    """


class StorageFull(Fault):
    """No room on the disk: 452 4.3.1 or `NO [OVERQUOTA]`; nothing was kept."""


class StorageBusy(Fault):
    """The database stayed locked, or the writer's queue is full: 451 4.3.2."""


class StorageLost(Fault):
    """A sync failed; the process must not write again until it has restarted (F2)."""


class LocalProtocolError(PosthouseError):
    """A bug: our own code used a protocol machine out of turn."""


class UserError(PosthouseError):
    """Something a person typed or configured is wrong; `hint` says what to do next."""

    def __init__(self, text: str, *, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint


class NotKnown(UserError):
    """What a person named does not exist."""


class DataUnusable(UserError):
    """The data cannot be opened: no permission, not ours, or in use."""
