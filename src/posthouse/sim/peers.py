"""SMTP hosts with a personality, over real loopback or the simulated network.

One `SmtpPeer` is one host: it collects what it accepted and counts what happened. It is written
apart from `posthouse.protocol.smtp`, so that one misreading of a text is not made on both sides.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter, deque
from typing import Any, Final

from posthouse.kernel.ports import Listening, Network
from posthouse.sim.peer_session import PeerSession
from posthouse.sim.personality import ACCEPTS, Personality, Stage
from posthouse.sim.received import Received, path_of

MESSAGES_MAX: Final = 1_000_000
COMMANDS_MAX: Final = 100_000


class SmtpPeer:
    """A host. `personality` may be exchanged at any time; sessions look at it anew."""

    def __init__(
        self, personality: Personality = ACCEPTS, *, tls: ssl.SSLContext | None = None
    ) -> None:
        """Args:
        tls: the server's context with its certificate, for `Starttls.WORKS`.
        """
        self.personality = personality
        self.tls = tls
        self.messages: deque[Received] = deque(maxlen=MESSAGES_MAX)
        self.commands: deque[bytes] = deque(maxlen=COMMANDS_MAX)
        self.counts: Counter[str] = Counter()  # connections, tls, and replies by code
        self.sessions: set[PeerSession] = set()
        self.address: tuple[str, int] = ("", 0)
        self._listening: Listening | None = None
        self._seen: dict[tuple[str, str, str], float] = {}  # triples of the greylist
        self._recent: deque[float] = deque()  # when messages came, for the throttle

    async def serve(self, network: Network, address: str, port: int = 25) -> None:
        """Listen through the port `Network`: the simulated one, or the system's."""
        self._listening = await network.listen(self.session, address, port)
        self.address = self._listening.address

    async def serve_loopback(self, address: str = "127.0.0.1", port: int = 0) -> None:
        """Listen on a real socket of the running loop."""
        server = await asyncio.get_running_loop().create_server(self.session, address, port)
        self.address = server.sockets[0].getsockname()[:2]
        self._listening = _LoopListening(server, self.address)

    def session(self) -> PeerSession:
        return PeerSession(self)

    def close(self) -> None:
        """Stop listening and cut what is open."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        for session in list(self.sessions):
            session.abort()

    # --- what sessions ask ---

    def is_greylisted(self, client: str, mail: bytes, recipient: bytes) -> bool:
        wait_s = self.personality.greylist_s
        if wait_s is None:
            return False
        now_s = asyncio.get_running_loop().time()
        triple = (client, path_of(mail), path_of(recipient))
        if triple not in self._seen:
            self._seen[triple] = now_s
            return True
        return now_s - self._seen[triple] < wait_s

    def is_throttled(self, messages_in_session: int) -> bool:
        """Whether MAIL earns 421; counts the message when it does not."""
        limit = self.personality.messages_per_connection
        if limit is not None and messages_in_session >= limit:
            return True
        rate = self.personality.messages_per_minute
        if rate is None:
            return False
        now_s = asyncio.get_running_loop().time()
        while self._recent and self._recent[0] <= now_s - 60:
            self._recent.popleft()
        if len(self._recent) >= rate:
            return True
        self._recent.append(now_s)
        return False

    def is_crowded(self) -> bool:
        limit = self.personality.connections_max
        return limit is not None and len(self.sessions) > limit

    def note(self, stage: Stage, octets: bytes) -> None:
        self.counts[f"{stage.value} {octets[:3].decode('latin-1')}"] += 1


class _LoopListening:
    def __init__(self, server: Any, address: tuple[str, int]) -> None:
        self._server = server
        self.address = address

    def close(self) -> None:
        self._server.close()
