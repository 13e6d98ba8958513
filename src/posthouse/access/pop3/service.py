"""What all POP3 sessions of a process share, and the greeting that refuses one.

`app` makes one `Service`; `net.listener` asks it for a session for each connection.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from posthouse.access.pop3.options import Options
from posthouse.access.pop3.session import Session
from posthouse.access.ports import Authenticator, Observer, may_log_in
from posthouse.kernel.ids import AccountId
from posthouse.kernel.ports import Clock
from posthouse.net.deadlines import Deadlines
from posthouse.net.limits import OF_PEER, Limit
from posthouse.net.stream import Peer, Stream
from posthouse.store.transaction import Store


class Service:
    """Ports, and which maildrops are open."""

    __slots__ = (
        "authenticator",
        "clock",
        "deadlines",
        "observer",
        "options",
        "store",
        "taken",
        "tls_context",
    )

    def __init__(
        self,
        options: Options,
        *,
        store: Store,
        authenticator: Authenticator,
        clock: Clock,
        deadlines: Deadlines,
        observer: Observer,
        tls_context: Callable[[], ssl.SSLContext | None],
    ) -> None:
        """Args:
        tls_context: the present one, asked at each STLS; None offers no STLS.
        """
        self.options = options
        self.store = store
        self.authenticator = authenticator
        self.clock = clock
        self.deadlines = deadlines
        self.observer = observer
        self.tls_context = tls_context
        self.taken: set[AccountId] = set()
        """Accounts with an open maildrop, one session each (RFC 1939 §4). Between processes nothing
        is locked: a message both sessions remove is removed once."""

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
            return b"-ERR [SYS/TEMP] too many connections from your network\r\n"
        return b"-ERR [SYS/TEMP] too many connections, try again later\r\n"

    def turned_away(self, peer: Peer) -> bytes | None:
        return None

    def take(self, account: AccountId) -> bool:
        """Lock the maildrop unless another session has it."""
        if account in self.taken:
            return False
        self.taken.add(account)
        return True

    def give_back(self, account: AccountId) -> None:
        self.taken.discard(account)
