"""Client side of PLAIN (RFC 4616) and LOGIN, for the relay's smart-hosts and `posthouse send`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from posthouse.kernel.errors import LocalProtocolError
from posthouse.protocol.sasl.grammar import PlainMessage, SaslSyntaxError, format_plain


class ClientMechanism(Protocol):
    """One exchange."""

    @property
    def name(self) -> str: ...

    def initial(self) -> bytes | None:
        """The initial response, not yet base64, or None when the server speaks first."""
        ...

    def step(self, challenge: bytes) -> bytes:
        """The response to a challenge.

        Raises:
            SaslSyntaxError: the challenge makes no sense; cancel with "*".
        """
        ...


class PlainClient:
    __slots__ = ("_message",)
    name: Final = "PLAIN"

    def __init__(self, username: str, password: str, *, authorization_id: str = "") -> None:
        self._message = PlainMessage(authorization_id, username, password)

    def initial(self) -> bytes | None:
        return format_plain(self._message)

    def step(self, challenge: bytes) -> bytes:
        """Only a server that ignored the initial response asks, with an empty challenge."""
        if challenge:
            raise SaslSyntaxError("PLAIN has no challenges")
        return format_plain(self._message)


class LoginClient:
    """Answers name and password in that order, as servers word their questions differently."""

    __slots__ = ("_asked", "_password", "_username")
    name: Final = "LOGIN"

    def __init__(self, username: str, password: str) -> None:
        self._username = username
        self._password = password
        self._asked = 0

    def initial(self) -> bytes | None:
        if self._asked:
            raise LocalProtocolError("the exchange has begun")
        return None

    def step(self, challenge: bytes) -> bytes:
        self._asked += 1
        if self._asked == 1:
            return self._username.encode()
        if self._asked == 2:
            return self._password.encode()
        raise SaslSyntaxError("LOGIN asks twice only")


def client_mechanism(
    offered: Iterable[str], username: str, password: str
) -> ClientMechanism | None:
    """The best mechanism we know of those offered."""
    makers: tuple[tuple[str, Callable[[str, str], ClientMechanism]], ...] = (
        ("PLAIN", PlainClient),
        ("LOGIN", LoginClient),
    )
    names = {name.upper() for name in offered}
    for name, make in makers:
        if name in names:
            return make(username, password)
    return None
