"""What the relay needs to know; `config` fills it."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from posthouse.net.smtp_client import Timeouts
from posthouse.relay.plan import HostPolicy, RouteOptions, Tls
from posthouse.tls.contexts import (
    chain_client_context,
    encrypting_client_context,
    opportunistic_client_context,
)
from posthouse.tls.peers import Verifier, verifier_of


class Options(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    """Our name in EHLO."""
    timeouts: Timeouts = Timeouts()
    routes: RouteOptions = RouteOptions()
    concurrency_first: int = 2
    """Sessions to a destination at first."""
    concurrency_max: int = 20
    sessions_max: int = 500
    """To all destinations together."""
    messages_max: int = 100
    """In one session."""
    reply_lines_max: int = 100
    line_octets_max: int = 2048
    reply_octets_max: int = 4096
    """Kept of a reply."""
    dead_first_s: float = 60.0
    """How long a destination that cannot be reached is left alone; doubles while it stays so."""
    dead_max_s: float = 900.0


class TlsContexts(msgspec.Struct, frozen=True, kw_only=True):
    """What handshakes are made with. None of them checks names: `relay.verdict` does, as a policy
    may allow several."""

    opportunistic: ssl.SSLContext
    """Takes any certificate and weak suites too (RFC 7435)."""
    encrypting: ssl.SSLContext
    """Takes any certificate, by good suites only: encryption is asked for, or DANE decides."""
    trusting: ssl.SSLContext
    """Ends the handshake unless the certificate leads to a trusted root."""
    verifier: Verifier
    """Says what a certificate is worth where nobody asked."""

    def of(self, policy: HostPolicy) -> ssl.SSLContext:
        if policy.has_trusted_chain:
            return self.trusting
        return self.opportunistic if policy.tls is Tls.OPPORTUNISTIC else self.encrypting


def tls_contexts(ca_file: Path | None = None) -> TlsContexts:
    """Args:
        ca_file: trusted roots as PEM, in place of the system's.

    Raises:
        UserError: it cannot be read or holds no certificate.
    """
    return TlsContexts(
        opportunistic=opportunistic_client_context(),
        encrypting=encrypting_client_context(),
        trusting=chain_client_context(ca_file),
        verifier=verifier_of(ca_file),
    )
