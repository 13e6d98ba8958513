"""Server side of SASL mechanisms that carry a password: PLAIN (RFC 4616) and LOGIN.

LOGIN has no RFC but many clients (draft-murchison-sasl-login). All mechanisms share `step`; the
service feeds it responses it has decoded from base64 and obeys what comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from posthouse.kernel.errors import LocalProtocolError
from posthouse.protocol.sasl.events import Challenge, Credentials, Failure, Step
from posthouse.protocol.sasl.grammar import (
    SaslSyntaxError,
    decode_name,
    decode_password,
    parse_plain,
)


class ServerMechanism(Protocol):
    """One exchange. After `Credentials` or `Failure` it is used up."""

    def step(self, response: bytes | None) -> Step:
        """Take the client's response, decoded; None when it sent no initial one."""
        ...


class PlainServer:
    __slots__ = ()

    def step(self, response: bytes | None) -> Step:
        if response is None:
            return Challenge(b"")
        try:
            message = parse_plain(response)
        except SaslSyntaxError as error:
            return Failure(str(error), is_malformed=True)
        return _judged(
            Credentials(message.authentication_id, message.authorization_id, message.password)
        )


class LoginServer:
    __slots__ = ("_is_over", "_name")

    def __init__(self) -> None:
        self._name: str | None = None
        self._is_over = False

    def step(self, response: bytes | None) -> Step:
        if self._is_over:
            raise LocalProtocolError("the exchange is over")
        if response is None:
            return Challenge(b"Username:")
        try:
            if self._name is None:
                self._name = decode_name(response)
                return Challenge(b"Password:")
            password = decode_password(response)
        except SaslSyntaxError as error:
            self._is_over = True
            return Failure(str(error), is_malformed=True)
        self._is_over = True
        return _judged(Credentials(self._name, "", password))


def _judged(credentials: Credentials) -> Step:
    """An empty name or password is never right, whatever the back end would say."""
    if not credentials.authentication_id or not credentials.password:
        return Failure("empty name or password", is_malformed=False)
    return credentials


MECHANISMS: Final[dict[str, Callable[[], ServerMechanism]]] = {
    "PLAIN": PlainServer,
    "LOGIN": LoginServer,
}


def server_mechanism(name: str) -> ServerMechanism | None:
    """A fresh exchange, or None when there is no mechanism of that name (any case)."""
    make = MECHANISMS.get(name.upper())
    return None if make is None else make()
