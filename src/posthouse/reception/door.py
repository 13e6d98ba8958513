"""What a listener asks of reception: a session for a connection, or the words that refuse it."""

from __future__ import annotations

from typing import Final

from posthouse.kernel.reply import Reply
from posthouse.net.limits import Limit
from posthouse.net.stream import Peer, Stream
from posthouse.reception.service import Service
from posthouse.reception.session import Session

FULL: Final = Reply(421, "4.3.2", "Too busy, please try again later")
TOO_MANY: Final = Reply(421, "4.7.0", "Too many connections from your address")
OF_THE_PROCESS: Final = frozenset({Limit.CONNECTIONS, Limit.DESCRIPTORS})


class Door:
    """The `net.listener.Service` of an SMTP service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def session(self, stream: Stream) -> Session:
        session = Session(self.service)
        session.stream = stream  # so that a handshake that fails can be told of
        return session

    def refusal(self, limit: Limit) -> bytes:
        return (FULL if limit in OF_THE_PROCESS else TOO_MANY).encode()

    def turned_away(self, peer: Peer) -> bytes | None:
        service = self.service
        if service.is_draining or service.room.waiting_share >= 1.0:
            return FULL.encode()
        return None
