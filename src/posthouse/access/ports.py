"""What the access protocols ask of others, and the one rule about passwords in plaintext."""

from __future__ import annotations

from typing import Protocol

from posthouse.accounts.login import LoginResult
from posthouse.kernel.ids import TraceId
from posthouse.net.limits import Networks
from posthouse.net.stream import Stream


class Authenticator(Protocol):
    """`posthouse.accounts.login.Authenticator`, or a test's."""

    async def authenticate(
        self, *, name: str, password: str, authzid: str = "", peer: str, service: str
    ) -> LoginResult: ...


class Observer(Protocol):
    """Where log lines and metrics of sessions go. Never message content or secrets."""

    def noted(self, event: str, trace: TraceId, **fields: object) -> None: ...

    def limit_reached(
        self, name: str, trace: TraceId, *, value: int, observed: int, peer: str
    ) -> None: ...


def may_log_in(stream: Stream, *, is_for_everybody: bool, plaintext_networks: Networks) -> bool:
    """No password in plaintext, but from networks that are safe by themselves (P12)."""
    return stream.is_tls or is_for_everybody or stream.peer.address in plaintext_networks
