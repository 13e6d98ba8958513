"""Client side of SASL, for the relay's smart-hosts and the sending library: PLAIN (RFC 4616),
LOGIN, EXTERNAL (RFC 4422), OAUTHBEARER (RFC 7628), XOAUTH2 and CRAM-MD5 (RFC 2195)."""

from __future__ import annotations

import hmac
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


class ExternalClient:
    """The certificate of the TLS session says who we are (RFC 4422 appendix A)."""

    __slots__ = ("_authorization_id",)
    name: Final = "EXTERNAL"

    def __init__(self, authorization_id: str = "") -> None:
        self._authorization_id = authorization_id

    def initial(self) -> bytes | None:
        return self._authorization_id.encode()

    def step(self, challenge: bytes) -> bytes:
        return self._authorization_id.encode()


class OAuthBearerClient:
    """A token instead of a password (RFC 7628 §3.1)."""

    __slots__ = ("_host", "_port", "_token", "_user", "error")
    name: Final = "OAUTHBEARER"

    def __init__(self, user: str, token: str, *, host: str, port: int) -> None:
        if "\x01" in token or "\x01" in host:
            raise ValueError("a token cannot hold the octet 01")
        self._user = user.replace("=", "=3D").replace(",", "=2C")
        self._token = token
        self._host = host
        self._port = port
        self.error = b""
        """What the server said is wrong with the token, as JSON."""

    def initial(self) -> bytes | None:
        text = (
            f"n,a={self._user},\x01host={self._host}\x01port={self._port}"
            f"\x01auth=Bearer {self._token}\x01\x01"
        )
        return text.encode()

    def step(self, challenge: bytes) -> bytes:
        """Only a failure is challenged; so the reply follows (RFC 7628 §3.2.3)."""
        self.error = challenge
        return b"\x01"


class XOAuth2Client:
    """The same before it had a standard, as Google and Microsoft take it."""

    __slots__ = ("_token", "_user", "error")
    name: Final = "XOAUTH2"

    def __init__(self, user: str, token: str) -> None:
        if "\x01" in token or "\x01" in user:
            raise ValueError("a token or user name cannot hold the octet 01")
        self._user = user
        self._token = token
        self.error = b""

    def initial(self) -> bytes | None:
        return f"user={self._user}\x01auth=Bearer {self._token}\x01\x01".encode()

    def step(self, challenge: bytes) -> bytes:
        self.error = challenge
        return b""


class CramMd5Client:
    """For servers that know nothing better: the password is not sent, but the server has to keep
    it in the open, and whoever listens may guess at leisure (RFC 2195)."""

    __slots__ = ("_password", "_username")
    name: Final = "CRAM-MD5"

    def __init__(self, username: str, password: str) -> None:
        self._username = username
        self._password = password

    def initial(self) -> bytes | None:
        return None

    def step(self, challenge: bytes) -> bytes:
        digest = hmac.new(self._password.encode(), challenge, "md5").hexdigest()
        return f"{self._username} {digest}".encode()


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
