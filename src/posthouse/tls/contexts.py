"""TLS contexts as RFC 9325 asks for: TLS 1.2 and up, forward secrecy, authenticated encryption.

Servers and verifying clients are strict. An opportunistic client (RFC 7435) takes the weaker suites
of TLS 1.2 too, as its next choice would be plaintext.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from posthouse.kernel.errors import UserError
from posthouse.net.tls_adapter import SniObject

SUITES_TLS12: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
"""RFC 9325 §4.2; the suites of TLS 1.3 are all good and need no list."""
SUITES_OPPORTUNISTIC: Final = "DEFAULT:!aNULL:!eNULL:!RC4:!3DES:@SECLEVEL=1"
TICKETS: Final = 1
"""Sent after each full TLS 1.3 handshake. Mail clients keep their connections and reuse one at
most; every ticket is octets and a write."""


def server_context(
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
) -> ssl.SSLContext:
    """A context without certificate. It asks for no client certificate (H62).

    Args:
        minimum_version: TLS 1.2 or 1.3; older ones are never spoken (RFC 9325 §3.1.1).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.minimum_version = max(minimum_version, ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(SUITES_TLS12)
    context.num_tickets = TICKETS
    context.sslobject_class = SniObject
    return context


def opportunistic_client_context() -> ssl.SSLContext:
    """Any certificate will do; `tls.peers.Verifier` says what it is worth."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.set_ciphers(SUITES_OPPORTUNISTIC)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def encrypting_client_context() -> ssl.SSLContext:
    """Good suites, any certificate: whoever uses it checks the certificate afterwards (DANE), or
    asks for encryption and no more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.set_ciphers(SUITES_TLS12)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def chain_client_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """The certificate must lead to a trusted root; whoever uses it checks the name afterwards
    (`tls.names`), as only one can be told to OpenSSL and a policy may allow several.

    Args and raises as `verifying_client_context`.
    """
    context = verifying_client_context(ca_file)
    context.check_hostname = False
    return context


def verifying_client_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """The certificate must lead to a trusted root and carry the name given to `start_tls`.

    Args:
        ca_file: trusted roots as PEM, in place of the system's.

    Raises:
        UserError: `ca_file` cannot be read or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.set_ciphers(SUITES_TLS12)
    if ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    try:
        context.load_verify_locations(cafile=str(ca_file))
    except ssl.SSLError as error:
        raise UserError(f"{ca_file} holds no certificates in PEM form") from error
    except OSError as error:
        raise UserError(f"cannot read {ca_file}: {error.strerror}") from error
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9325 §3.1.1
    context.options |= ssl.OP_NO_COMPRESSION  # RFC 9325 §3.3
    context.options |= ssl.OP_NO_RENEGOTIATION  # RFC 9325 §3.5
