"""What all IMAP sessions of a process share, and the greeting that refuses one.

`app` makes one `Service`; `net.listener` asks it for a session for each connection.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from posthouse.access.imap.options import Options
from posthouse.access.imap.session import Session
from posthouse.access.ports import Authenticator, Observer, may_log_in
from posthouse.gateway.at_rest import AtRest
from posthouse.kernel.ids import AccountId, TraceId
from posthouse.kernel.ports import Clock, Workers
from posthouse.mailbox.changes import ChangesHub
from posthouse.net.deadlines import Deadlines
from posthouse.net.limits import OF_PEER, Limit
from posthouse.net.stream import Peer, Stream
from posthouse.protocol.imap import responses
from posthouse.store.transaction import Store


class Unobserved:
    """An `Observer` for tests."""

    def noted(self, event: str, trace: TraceId, **fields: object) -> None:
        return None

    def limit_reached(
        self, name: str, trace: TraceId, *, value: int, observed: int, peer: str
    ) -> None:
        return None


class Service:
    """Ports and counts; a session holds only what is its own."""

    __slots__ = (
        "at_rest",
        "authenticator",
        "clock",
        "deadlines",
        "hub",
        "kept_octets",
        "observer",
        "options",
        "sessions",
        "store",
        "tls_context",
        "workers",
    )

    def __init__(
        self,
        options: Options,
        *,
        store: Store,
        hub: ChangesHub,
        authenticator: Authenticator,
        clock: Clock,
        workers: Workers,
        deadlines: Deadlines,
        observer: Observer,
        tls_context: Callable[[], ssl.SSLContext | None],
        at_rest: AtRest | None = None,
    ) -> None:
        """Args:
        tls_context: the present one, asked at each STARTTLS; None offers no STARTTLS.
        at_rest: encrypts what is appended, where the account wants it so.
        """
        self.options = options
        self.at_rest = at_rest
        self.store = store
        self.hub = hub
        self.authenticator = authenticator
        self.clock = clock
        self.workers = workers
        self.deadlines = deadlines
        self.observer = observer
        self.tls_context = tls_context
        self.sessions: dict[AccountId, int] = {}
        """Logged in, by account."""
        self.kept_octets = 0
        """Of messages that sessions read in parts."""

    def session(self, stream: Stream) -> Session:
        return Session(self, stream)

    def may_log_in(self, stream: Stream) -> bool:
        options = self.options
        return may_log_in(
            stream,
            is_for_everybody=options.is_plaintext_login_allowed,
            plaintext_networks=options.plaintext_networks,
        )

    def refusal(self, limit: Limit) -> bytes:
        if limit in OF_PEER:
            return responses.bye("Too many connections from your network", responses.LIMIT)
        return responses.bye("Too many connections, try again later", responses.UNAVAILABLE)

    def turned_away(self, peer: Peer) -> bytes | None:
        return None

    def admit(self, account: AccountId) -> bool:
        """Count a session of the account unless it has too many."""
        count = self.sessions.get(account, 0)
        if count >= self.options.sessions_max:
            return False
        self.sessions[account] = count + 1
        return True

    def release(self, account: AccountId) -> None:
        count = self.sessions.get(account, 0) - 1
        if count > 0:
            self.sessions[account] = count
        else:
            self.sessions.pop(account, None)
