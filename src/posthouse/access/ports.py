"""What the access protocols ask of others, and the one rule about passwords in plaintext."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from posthouse.accounts.login import LoginResult
from posthouse.accounts.login_events import OUTCOMES
from posthouse.kernel.ids import TraceId
from posthouse.net.limits import Networks
from posthouse.net.stream import Stream, TlsFailure, TlsTrouble


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


def note_login(
    observer: Observer,
    stream: Stream,
    result: LoginResult,
    *,
    service: str,
    name: str,
    mechanism: str,
) -> None:
    """Report one login, won or lost, and the limit it met when it began a ban.

    Args:
        name: what was typed; never a password.
    """
    peer = stream.peer.address
    observer.noted(
        f"{service}.login",
        stream.trace_id,
        outcome=OUTCOMES[result.failure],
        peer=peer,
        account=name,
        mechanism=mechanism,
        detail=result.detail,
    )
    if result.limit:
        observer.limit_reached(
            result.limit,
            stream.trace_id,
            value=int(result.limit_value),
            observed=int(result.observed),
            peer=peer,
        )


def note_tls_failure(
    observer: Observer, stream: Stream, failure: TlsFailure, *, service: str, handshake_s: float
) -> None:
    """Report that a handshake failed, and `tls.handshake_s` when it took too long (H15)."""
    peer = stream.peer.address
    observer.noted(f"{service}.tls_failed", stream.trace_id, peer=peer, detail=str(failure))
    if failure.trouble is TlsTrouble.TIMEOUT:
        observer.limit_reached(
            "tls.handshake_s",
            stream.trace_id,
            value=int(handshake_s),
            observed=int(handshake_s),
            peer=peer,
        )


networks = lru_cache(maxsize=16)(Networks)
"""One parsed list for each setting, not one for each session."""


def may_log_in(
    stream: Stream, *, is_for_everybody: bool, plaintext_networks: tuple[str, ...]
) -> bool:
    """No password in plaintext, but from networks that are safe by themselves (P12)."""
    return stream.is_tls or is_for_everybody or stream.peer.address in networks(plaintext_networks)
