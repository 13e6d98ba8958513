"""Everything a transport can be told, checked once: from keywords, a URL or a service's name."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from enum import Enum
from pathlib import Path
from typing import TypedDict

import msgspec

from posthouse.kernel.secret import HIDDEN, Secret
from posthouse.sending.keywords import Told
from posthouse.sending.notice_box import NoticeBox

__all__ = ["Dkim", "Keywords", "Kind", "Login", "Options", "Proxy", "TlsUse", "Token", "Watch"]

Token = str | Callable[[], str | Awaitable[str]]
"""An OAuth 2 access token, or a callable that gives one that is valid now, or an awaitable of one.
It is called for each login, and once more when a login with what it gave before was refused; on a
thread of its own, unless it is a coroutine function."""


Watch = Callable[[str], None]
"""Called with each line that either side of a session says."""


class Kind(Enum):
    """The ways a message can leave; also the schemes of a transport's URL."""

    SMTP = "smtp"
    LMTP = "lmtp"
    SENDMAIL = "sendmail"
    FOLDER = "folder"
    MEMORY = "memory"
    POSTHOUSE = "posthouse"  # its HTTP API


class TlsUse(Enum):
    """When a connection to the server is protected."""

    AUTO = "auto"  # implicit on port 465; required STARTTLS on others, but optional on loopback
    IMPLICIT = "implicit"  # from the first octet on (RFC 8314 §3)
    STARTTLS = "starttls"  # or nothing is sent
    OPPORTUNISTIC = "opportunistic"  # STARTTLS where it is offered, certificates unchecked
    OFF = "off"


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """A way around a firewall: HTTP CONNECT (RFC 9110 §9.3.6) or SOCKS5 (RFC 1928, 1929)."""

    scheme: str
    """ "http" or "socks5"."""
    host: str
    port: int
    user: str = ""
    password: Secret = Secret("")


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Who logs in, and how it may be done."""

    user: str = ""
    password: Secret | None = None
    token: Secret | Callable[[], str | Awaitable[str]] | None = None
    mechanism: str = ""
    """One by name, or "" for the best of those both sides know. CRAM-MD5 and EXTERNAL are only
    taken when named."""
    authorization_id: str = ""


class Dkim(msgspec.Struct, frozen=True, kw_only=True, metaclass=Told):
    """A key to sign with. Several make several signatures, RSA and Ed25519 say (RFC 8463)."""

    domain: str
    selector: str
    key: bytes | str | Path
    """The private key, PEM or DER, or the path of a file with it."""
    header_fields: tuple[str, ...] = ()
    """To sign, "From" among them; () signs what the server's own signer does."""
    expires_s: int | None = None

    def __repr__(self) -> str:
        """Without the key, which errors and logs must not show."""
        return f"Dkim(domain={self.domain!r}, selector={self.selector!r}, key={HIDDEN})"


class Keywords(TypedDict, total=False):
    """The keyword arguments of `Transport` and `AsyncTransport`."""

    host: str
    port: int
    tls: TlsUse | str
    server_name: str
    """In the certificate, when it is another than `host`."""
    tls_version_min: str
    """ "1.2" or "1.3"."""
    ca: str | Path | bytes
    """A file or folder of certificates (PEM), or the PEM, to trust instead of the system's."""
    certificate: str | Path
    """Our own, with its chain, for EXTERNAL or a server that wants one (PEM)."""
    certificate_key: str | Path
    verify: bool
    """False takes any certificate, and says so in the log."""
    ssl_context: ssl.SSLContext
    """Instead of all of the above."""
    local_address: str
    hello_name: str
    proxy: str | Proxy
    connect_timeout_s: float
    greeting_timeout_s: float
    command_timeout_s: float
    data_timeout_s: float
    """For each block of the content, and for the reply to its end."""
    user: str
    password: str | Secret
    token: Token | Secret
    """Not in a URL's query, as URLs land in logs."""
    mechanism: str
    authorization_id: str
    connections_max: int
    messages_per_connection_max: int
    rate: int
    """Messages that may begin in each `rate_per_s` seconds; 0 for as many as it takes."""
    rate_per_s: float
    idle_s: float
    """How long an unused session is kept."""
    pending_max: int
    """Messages that may wait for a session; more wait in `send` (back pressure)."""
    dkim: Dkim | tuple[Dkim, ...] | list[Dkim]
    may_fetch_urls: bool
    """Attachments by URL; off, as a message made of what strangers typed could name any."""
    may_read_files: bool
    """Attachments and inline pictures by path; on."""
    outcome_mailbox: str
    """Where notices come to, for `receipt.outcome()`: "imaps://user:secret@mail.example.org". It is
    asked directly, past `proxy`."""
    command: str
    """Of `sendmail`: the program."""
    arguments: list[str] | tuple[str, ...]
    """For that program, before those that say who gets the letter: ["-a", "work"]."""
    folder: str | Path
    watch: Watch
    """Sees the dialogue with the server: "-> EHLO …" and "<- 250 …", logins as `***`, messages as
    their size. Called on the transport's loop."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The same, checked; `Keywords` says what each is."""

    kind: Kind = Kind.SMTP
    host: str = "127.0.0.1"
    port: int = 587
    socket_path: str = ""
    """Of a Unix socket, in the place of host and port."""
    tls: TlsUse = TlsUse.AUTO
    server_name: str = ""
    context: ssl.SSLContext | None = None
    """Built already, from `ca`, `certificate` and the like; None makes one when needed."""
    is_verifying: bool = True
    local_address: str | None = None
    hello_name: str = ""
    proxy: Proxy | None = None
    connect_timeout_s: float = 30.0
    greeting_timeout_s: float = 30.0
    command_timeout_s: float = 60.0
    data_timeout_s: float = 300.0
    login: Login | None = None
    connections_max: int = 5
    messages_per_connection_max: int = 100
    rate: int = 0
    rate_per_s: float = 1.0
    idle_s: float = 30.0
    pending_max: int = 1000
    dkim: tuple[Dkim, ...] = ()
    may_fetch_urls: bool = False
    may_read_files: bool = True
    command: str = "/usr/sbin/sendmail"
    arguments: tuple[str, ...] = ()
    folder: Path | None = None
    notice_box: NoticeBox | None = None
    watch: Watch | None = None

    @property
    def place(self) -> str:
        """ "host:port" for people, or the path of the socket."""
        if self.socket_path:
            return self.socket_path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
