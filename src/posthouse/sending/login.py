"""Which mechanism a login uses, and where its token comes from."""

from __future__ import annotations

import hashlib
import inspect
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from posthouse.kernel.secret import Secret
from posthouse.protocol.sasl.client import (
    ClientMechanism,
    CramMd5Client,
    ExternalClient,
    LoginClient,
    OAuthBearerClient,
    PlainClient,
    XOAuth2Client,
)
from posthouse.protocol.sasl.scram import ScramClient
from posthouse.sending.options import Login
from posthouse.sending.threads import in_thread

__all__ = ["BY_TOKEN", "FOR_ANOTHER", "KNOWN", "certificate_hash", "mechanism_for", "token_of"]

BY_PASSWORD: Final = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")
"""The best first. CRAM-MD5 is not among them: it is taken only when it is named."""
BY_TOKEN: Final = ("OAUTHBEARER", "XOAUTH2")
KNOWN: Final = (*BY_PASSWORD, *BY_TOKEN, "EXTERNAL", "CRAM-MD5")
FOR_ANOTHER: Final = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "EXTERNAL")
"""That carry an authorization identity."""
NONCE_OCTETS: Final = 18


def mechanism_for(
    login: Login,
    offered: Sequence[str],
    *,
    host: str,
    port: int,
    token: str = "",
    binding: bytes | None = None,
) -> ClientMechanism | None:
    """The exchange to make, or None when none of those offered fits what was given.

    Args:
        offered: in upper case, as the server named them.
        token: for those that want one.
        binding: hash of the server's certificate, where there is TLS (`certificate_hash`).
    """
    names = {name.upper() for name in offered}
    wanted: tuple[str, ...] = BY_TOKEN if token else BY_PASSWORD
    if login.authorization_id:
        wanted = tuple(name for name in wanted if name in FOR_ANOTHER)
    if login.mechanism:
        wanted = (login.mechanism,)
    for name in wanted:
        if name not in names:
            continue
        if name == "SCRAM-SHA-256-PLUS" and binding is None:
            continue
        return _made(name, login, names, host=host, port=port, token=token, binding=binding)
    return None


def _made(
    name: str,
    login: Login,
    offered: set[str],
    *,
    host: str,
    port: int,
    token: str,
    binding: bytes | None,
) -> ClientMechanism:
    password = (login.password or Secret("")).reveal()
    match name:
        case "SCRAM-SHA-256-PLUS" | "SCRAM-SHA-256":
            is_bound = name.endswith("PLUS")
            return ScramClient(
                login.user,
                password,
                nonce=secrets.token_bytes(NONCE_OCTETS),
                authorization_id=login.authorization_id,
                binding=binding if is_bound else None,
                may_bind=binding is not None and "SCRAM-SHA-256-PLUS" not in offered,
            )
        case "PLAIN":
            return PlainClient(login.user, password, authorization_id=login.authorization_id)
        case "LOGIN":
            return LoginClient(login.user, password)
        case "OAUTHBEARER":
            return OAuthBearerClient(login.user, token, host=host, port=port)
        case "XOAUTH2":
            return XOAuth2Client(login.user, token)
        case "EXTERNAL":
            return ExternalClient(login.authorization_id or login.user)
        case _:
            return CramMd5Client(login.user, password)


async def token_of(token: Secret | Callable[[], str | Awaitable[str]]) -> str:
    """The token, from whatever gives it. What the callable raises comes through.

    A plain one asks a server over the network more often than not: on a thread, so that the other
    letters of the loop go on.
    """
    if isinstance(token, Secret):
        return token.reveal()
    given = token() if _is_of_the_loop(token) else await in_thread(token)
    return await given if inspect.isawaitable(given) else given


def _is_of_the_loop(call: Callable[[], object]) -> bool:
    """A coroutine function, behind `partial`, too, or an object that is called as one."""
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
        getattr(call, "__call__", None)  # noqa: B004  which function it is, not whether it is one
    )


def certificate_hash(certificate: bytes) -> bytes | None:
    """What `tls-server-end-point` binds to (RFC 5929 §4.1): the certificate hashed as it was
    signed, with SHA-256 in the place of MD5 and SHA-1. None where the hash has no one name."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        used = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return None
    if used is None:  # Ed25519 signs without one
        return None
    name = used.name if used.name in ("sha224", "sha384", "sha512") else "sha256"
    return hashlib.new(name, certificate).digest()
