"""What a transport was told, from a URL, a service's name and keywords, checked into `Options`.

Keywords win over the URL, the URL over the service. Nothing of a password is ever in an error: a
URL that cannot be read is not repeated.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from posthouse.kernel.keywords import nearest, unknown
from posthouse.kernel.secret import Secret
from posthouse.sending import services
from posthouse.sending.errors import MessageError, OptionError
from posthouse.sending.keywords import TRANSPORT
from posthouse.sending.local_names import is_this_machine
from posthouse.sending.login import BY_TOKEN, FOR_ANOTHER, KNOWN
from posthouse.sending.notice_box import read_notice_box
from posthouse.sending.options import Dkim, Keywords, Kind, Login, Options, Proxy, TlsUse, Watch
from posthouse.sending.tls import client_context

__all__ = ["read_options"]

PORTS: Final = {TlsUse.IMPLICIT: 465, TlsUse.STARTTLS: 587}
LMTP_PORT: Final = 24
SUBMISSION_PORT: Final = 587
SUBMISSIONS_PORT: Final = 465
CONNECTIONS_MAX: Final = 1_000
SECONDS_MAX: Final = 86_400.0
COUNT_MAX: Final = 10_000_000
TEXT_MAX: Final = 10_000
ARGUMENTS_MAX: Final = 100
SOCKET_OCTETS_MAX: Final = 107
"""Of a Unix socket's path: the system has room for no more."""

_SCHEMES: Final[Mapping[str, tuple[Kind, TlsUse | None]]] = {
    "smtp": (Kind.SMTP, None),
    "smtps": (Kind.SMTP, TlsUse.IMPLICIT),
    "smtp+starttls": (Kind.SMTP, TlsUse.STARTTLS),
    "lmtp": (Kind.LMTP, None),
    "sendmail": (Kind.SENDMAIL, None),
    "folder": (Kind.FOLDER, None),
    "eml": (Kind.FOLDER, None),
    "memory": (Kind.MEMORY, None),
    "posthouse": (Kind.POSTHOUSE, TlsUse.IMPLICIT),
    "posthouse+http": (Kind.POSTHOUSE, TlsUse.OFF),
}


def read_options(
    url: str | None = None, service: str | None = None, keywords: Keywords | None = None
) -> Options:
    """
    Raises:
        OptionError: `option` names the keyword, or is "" for the URL as a whole.
    """
    given: dict[str, Any] = dict(keywords or {})
    for name in given:
        _must_be_known(name)
    kind = Kind.SMTP
    told: dict[str, Any] = {}
    if service is not None:
        told |= _by_service(service)
    if url is not None:
        kind, by_url = _by_url(url)
        told |= by_url
    told |= {name: value for name, value in given.items() if value is not None}
    if url is not None:
        _check_scheme(url, told)
    return _checked(kind, told)


def _check_scheme(url: str, told: Mapping[str, Any]) -> None:
    """What the scheme promises is not taken back by an option."""
    scheme = url.partition(":")[0].lower()
    promised = _SCHEMES[scheme][1]
    if promised is not None and _tls_use(told.get("tls", promised)) is not promised:
        hint = "leave one of them out: smtp:// promises nothing"
        raise OptionError("tls", f"contradicts {scheme}:", hint=hint)


def _must_be_known(name: str) -> None:
    if name not in Keywords.__annotations__:
        known = ("service", *Keywords.__annotations__)
        found = unknown("Transport", name, known, TRANSPORT)
        raise OptionError(name, "is not known", hint=found.hint)


def _by_service(name: str) -> dict[str, Any]:
    if not isinstance(name, str):
        raise OptionError("service", "has to be text", hint='write service="gmail"')
    found = services.by_name(name)
    if found is None:
        near = services.nearest(name)
        raise OptionError(
            "service",
            f"names {name!r}, which is not in the table",
            hint=f"did you mean {near}?" if near else "give host and port instead",
        )
    return {"host": found.host, "port": found.port, "tls": found.tls}


# --- URLs ---


def _by_url(url: str) -> tuple[Kind, dict[str, Any]]:
    given: object = url  # what a caller without a type checker gave
    if not isinstance(given, str):
        hint = 'write "smtps://mail.example.org", or host="mail.example.org"'
        raise OptionError("", f"the URL is {type(given).__name__}, and has to be text", hint=hint)
    scheme = url.partition(":")[0].lower()
    if scheme not in _SCHEMES or ":" not in url:
        known = ", ".join(f"{name}:" for name in _SCHEMES)
        hint = f"there is {known}"
        if _HOST.fullmatch(url):
            hint = f"write smtps://{url}, or smtp+starttls://{url}; {hint}"
        elif "://" not in url:
            hint = f"write smtps:// in front of it, or smtp+starttls://; {hint}"
        elif near := nearest(scheme, _SCHEMES):
            hint = f"did you mean {near}:? {hint}"
        raise OptionError("", "the URL begins with no scheme that is known", hint=hint)
    kind, tls = _SCHEMES[scheme]
    if any(ord(one) <= 0x20 or ord(one) == 0x7F for one in url):
        raise OptionError("", "the URL has a blank or a control character in it")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise OptionError("", "the URL cannot be read", hint=_hint(url)) from None
    told: dict[str, Any] = {}
    if tls is not None:
        told["tls"] = tls
    if kind is Kind.SENDMAIL:
        told |= {"command": unquote(parts.path)} if parts.path else {}
    elif kind is Kind.FOLDER:
        told["folder"] = unquote(f"{parts.netloc}{parts.path}")
    elif kind is Kind.LMTP and not parts.netloc and len(parts.path) > 1:
        told["socket_path"] = _socket_path(parts)
    elif kind is not Kind.MEMORY:
        told |= _place(parts, host, port)
    for name, value in parse_qsl(parts.query, keep_blank_values=True, max_num_fields=50):
        if name not in Keywords.__annotations__ and "@" in parts.query:
            # It may be the end of a password with a ? in it.
            raise OptionError("", "the URL has an option that is not known", hint=_ESCAPES)
        _must_be_known(name)
        if name == "token":
            hint = "URLs land in logs: give it as token=…, or a callable that refreshes it"
            raise OptionError("token", "has no place in a URL", hint=hint)
        told[name] = _typed(name, value)
    return kind, told


_HOST: Final = re.compile(r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|localhost)(?::[0-9]{1,5})?")
_ESCAPES: Final = (
    "write @, :, /, # and ? in a user name or password as %40, %3A, %2F, %23 and %3F, or give"
    " them as user= and password="
)


def _hint(url: str) -> str:
    """Why the place in a URL may be unreadable."""
    rest = url.partition("://")[2]
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if place.count("@") > 1 or ("@" in rest and "@" not in place):
        return _ESCAPES
    return "a port is a number from 1 to 65535, as in smtps://mail.example.org:465"


def _place(parts: SplitResult, host: str | None, port: int | None) -> dict[str, Any]:
    if not host:
        hint = "write smtps://mail.example.org"
        if parts.scheme == "lmtp":
            hint = f"write lmtp://127.0.0.1:24, or for a socket {_SOCKET.removeprefix('write ')}"
        if parts.username is not None and len(parts.path) > 1:
            hint = f"a socket takes no login: {_SOCKET}"
        raise OptionError("host", "is missing in the URL", hint=hint)
    if parts.path not in ("", "/") or parts.fragment:
        what = "path" if parts.path not in ("", "/") else "#"
        hint = _ESCAPES if "@" in parts.path + parts.query + parts.fragment else ""
        words = f"the URL has a {what}, which says nothing to a mail server"
        raise OptionError("", words, hint=hint)
    told: dict[str, Any] = {"host": unquote(host)}
    if port is not None:
        told["port"] = port
    if parts.username:
        told["user"] = unquote(parts.username)
    if parts.password:
        told["password"] = unquote(parts.password)
    return told


def _socket_path(parts: SplitResult) -> str:
    path = unquote(parts.path)
    if parts.fragment or not path.isprintable():
        raise OptionError("", "the URL names no file that can be", hint=_SOCKET)
    if len(path.encode()) > SOCKET_OCTETS_MAX:
        raise OptionError("", f"the socket's path has more than {SOCKET_OCTETS_MAX} octets")
    return path


_SOCKET: Final = "write lmtp:///run/dovecot/lmtp"


def _typed(name: str, value: str) -> Any:
    """A value of a URL's query in the type that the keyword has."""
    if name == "password":
        return value
    if value.lower() in ("true", "yes", "on", "false", "no", "off") and name in (
        "verify",
        "may_fetch_urls",
        "may_read_files",
    ):
        return value.lower() in ("true", "yes", "on")
    if name in _NUMBERS:
        try:
            return _NUMBERS[name](value)
        except ValueError:
            raise OptionError(name, f"is {value!r}, and has to be a number") from None
    return value


_NUMBERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "port": int,
    "connections_max": int,
    "messages_per_connection_max": int,
    "rate": int,
    "pending_max": int,
    "rate_per_s": float,
    "idle_s": float,
    "connect_timeout_s": float,
    "greeting_timeout_s": float,
    "command_timeout_s": float,
    "data_timeout_s": float,
}


# --- checking ---


def _checked(kind: Kind, told: dict[str, Any]) -> Options:
    tls = _tls_use(told.get("tls", TlsUse.AUTO))
    host = _host(told.get("host", "127.0.0.1"))
    port = _whole(told, "port", _port_for(kind, tls, host), 1, 65_535)
    if tls is TlsUse.AUTO and port == SUBMISSIONS_PORT:
        tls = TlsUse.IMPLICIT
    if told.get("socket_path"):
        tls = TlsUse.OFF  # `_check_use` refuses whoever wants it
    is_verifying = _flag(told, "verify", default=True)
    if tls is TlsUse.AUTO and told.get("verify") is True and kind is Kind.SMTP:
        tls = TlsUse.STARTTLS  # who asks for a check by name gets one, on this machine, too
    _check_use(kind, told)
    if kind is Kind.POSTHOUSE:
        _check_posthouse(told, tls, host)
    return Options(
        kind=kind,
        host=host,
        port=port,
        socket_path=told.get("socket_path", ""),
        tls=tls,
        server_name=_text(told, "server_name"),
        context=_context(told, tls, is_verifying=is_verifying),
        is_verifying=is_verifying,
        local_address=_local_address(told),
        hello_name=_hello_name(told),
        proxy=_proxy(told.get("proxy")),
        connect_timeout_s=_seconds(told, "connect_timeout_s", 30.0),
        greeting_timeout_s=_seconds(told, "greeting_timeout_s", 30.0),
        command_timeout_s=_seconds(told, "command_timeout_s", 60.0),
        data_timeout_s=_seconds(told, "data_timeout_s", 300.0),
        login=_login(told),
        connections_max=_whole(told, "connections_max", 5, 1, CONNECTIONS_MAX),
        messages_per_connection_max=_whole(told, "messages_per_connection_max", 100, 1, COUNT_MAX),
        rate=_whole(told, "rate", 0, 0, COUNT_MAX),
        rate_per_s=_seconds(told, "rate_per_s", 1.0),
        idle_s=_seconds(told, "idle_s", 30.0),
        pending_max=_whole(told, "pending_max", 1000, 1, COUNT_MAX),
        dkim=_dkim(told.get("dkim", ())),
        may_fetch_urls=_flag(told, "may_fetch_urls", default=False),
        may_read_files=_flag(told, "may_read_files", default=True),
        command=_text(told, "command") or "/usr/sbin/sendmail",
        arguments=_arguments(told.get("arguments", ())),
        folder=_folder(kind, told),
        notice_box=read_notice_box(told["outcome_mailbox"])
        if told.get("outcome_mailbox")
        else None,
        watch=_watch(told.get("watch")),
    )


_SESSIONS: Final = frozenset({
    "local_address", "hello_name", "mechanism", "authorization_id", "messages_per_connection_max",
    "idle_s", "pending_max", "outcome_mailbox",
})  # fmt: skip
_LINE: Final = _SESSIONS | {
    "tls", "server_name", "tls_version_min", "ca", "certificate", "certificate_key", "verify",
    "ssl_context", "proxy", "user", "password", "token",
}  # fmt: skip
_COMMAND: Final = frozenset({"command", "arguments"})
_OF_NO_USE: Final[Mapping[Kind, frozenset[str]]] = {
    Kind.SMTP: _COMMAND | {"folder"},
    Kind.LMTP: _COMMAND | {"folder"},
    Kind.POSTHOUSE: _SESSIONS | _COMMAND | {"folder", "rate", "rate_per_s", "watch"},
    Kind.FOLDER: _LINE | _COMMAND,
    Kind.SENDMAIL: _LINE | {"folder"},
}
"""What somebody relies on, and would change nothing there. Times, numbers of sessions, a rate and a
watcher may be given to a folder or command that stands for a server; `memory:` takes all."""


_NOT_BY_SOCKET: Final = _LINE | {
    "host", "port", "local_address", "mechanism", "authorization_id",
}  # fmt: skip


def _check_use(kind: Kind, told: Mapping[str, Any]) -> None:
    given = {name for name, value in told.items() if value not in (None, "", (), [])}
    for name in sorted(given & _OF_NO_USE.get(kind, frozenset())):
        hint = "leave it out; it is for another way of sending"
        raise OptionError(name, f"is of no use with {kind.value}:", hint=hint)
    if told.get("socket_path"):
        for name in sorted(given & _NOT_BY_SOCKET):
            hint = "leave it out: nothing leaves this machine, and the server knows who we are"
            raise OptionError(name, "is of no use with a socket", hint=hint)


def _check_posthouse(told: Mapping[str, Any], tls: TlsUse, host: str) -> None:
    if told.get("token"):
        hint = "it logs in by user and password"
        raise OptionError("token", "is not taken by posthouse://", hint=hint)
    if not told.get("user") or not told.get("password"):
        raise OptionError("user", "and password are needed", hint="they are those of the account")
    proxy = _proxy(told.get("proxy"))
    is_near = is_this_machine(host) and (proxy is None or is_this_machine(proxy.host))
    if tls is TlsUse.OFF and not is_near:
        raise OptionError(
            "tls",
            "cannot be off with another machine: the password would go in the open",
            hint="write posthouse://",
        )


def _port_for(kind: Kind, tls: TlsUse, host: str) -> int:
    if kind is Kind.LMTP:
        return LMTP_PORT
    if kind is Kind.POSTHOUSE:
        return 80 if tls is TlsUse.OFF else 443
    return PORTS.get(tls, SUBMISSION_PORT)


def _tls_use(value: Any) -> TlsUse:
    if isinstance(value, TlsUse):
        return value
    try:
        return TlsUse(str(value).lower())
    except ValueError:
        words = ", ".join(f'"{one.value}"' for one in TlsUse)
        raise OptionError("tls", f"is {value!r}", hint=f"it can be {words}") from None


def _host(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise OptionError("host", "has to be the name or address of a server")
    host = value.strip().strip("[]")
    if host.isascii():
        if any(not (one.isalnum() or one in ".-_:%") for one in host):
            hint = "give the port by itself: port=587" if ":" in host else ""
            raise OptionError("host", f"is {host!r}, which is no host name", hint=hint)
        if host.count(":") == 1:
            name, _, port = host.partition(":")
            raise OptionError(
                "host",
                f"is {host!r}",
                hint=f"give the port by itself: host={name!r}, port={port or 587}",
            )
        return host
    from posthouse.message.address import AddressError, domain_to_ascii

    try:
        return domain_to_ascii(host)
    except AddressError:
        raise OptionError("host", f"is {host!r}, which is no host name") from None


def _context(told: Mapping[str, Any], tls: TlsUse, *, is_verifying: bool) -> ssl.SSLContext | None:
    """None where the usual one will do, which is made when it is needed."""
    ours = [
        name
        for name in ("ca", "certificate", "certificate_key", "tls_version_min")
        if told.get(name) is not None
    ]
    context = told.get("ssl_context")
    if tls is TlsUse.OFF and (ours or context is not None):
        name = ours[0] if ours else "ssl_context"
        raise OptionError(name, 'is of no use with tls="off"')
    if context is not None:
        if not isinstance(context, ssl.SSLContext):
            raise OptionError("ssl_context", "has to be an ssl.SSLContext")
        if ours or not is_verifying:
            name = ours[0] if ours else "verify"
            raise OptionError(name, "is of no use beside ssl_context, which says it all")
        return context
    if not ours:
        return None
    return client_context(
        version_min=_text(told, "tls_version_min") or "1.2",
        ca=told.get("ca"),
        certificate=told.get("certificate"),
        certificate_key=told.get("certificate_key"),
        is_verifying=is_verifying,
    )


def _local_address(told: Mapping[str, Any]) -> str | None:
    text = _text(told, "local_address")
    if not text:
        return None
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        hint = "write one of this machine's, like 192.0.2.1"
        raise OptionError("local_address", f"is {text!r}, which is no address", hint=hint) from None
    return text


def _hello_name(told: Mapping[str, Any]) -> str:
    name = _text(told, "hello_name")
    if name and any(not ((one.isalnum() and one.isascii()) or one in ".-_[]:") for one in name):
        raise OptionError("hello_name", f"is {name!r}, which is no host name")
    return name


def _login(told: Mapping[str, Any]) -> Login | None:
    user, password, token = _text(told, "user"), told.get("password"), told.get("token")
    mechanism = _text(told, "mechanism").upper()
    if mechanism and mechanism not in KNOWN:
        raise OptionError("mechanism", f"is {mechanism!r}", hint=f"there is {', '.join(KNOWN)}")
    if not (user or password or token or mechanism):
        return None
    if password is not None and token is not None:
        raise OptionError("token", "and password were both given", hint="leave one of them out")
    if isinstance(password, str):
        password = Secret(password)
    if isinstance(token, str):
        token = Secret(token)
    if password is not None and not isinstance(password, Secret):
        raise OptionError("password", "has to be text")
    if token is not None and not (isinstance(token, Secret) or callable(token)):
        raise OptionError("token", "has to be text, or a callable that gives it")
    if mechanism != "EXTERNAL":
        if not user:
            raise OptionError("user", "is missing: a password or token belongs to somebody")
        if not password and not token:
            raise OptionError("password", f"of {user} is missing", hint="or give a token (OAuth 2)")
        if mechanism in BY_TOKEN and not token:
            raise OptionError("token", f"is missing, which {mechanism} logs in by")
        if mechanism and mechanism not in BY_TOKEN and not password:
            raise OptionError("password", f"is missing, which {mechanism} logs in by")
    if told.get("authorization_id") and (token or (mechanism and mechanism not in FOR_ANOTHER)):
        names = ", ".join(FOR_ANOTHER)
        raise OptionError("authorization_id", "has no place there", hint=f"it goes with {names}")
    return Login(
        user=user,
        password=password,
        token=token,
        mechanism=mechanism,
        authorization_id=_text(told, "authorization_id"),
    )


def _proxy(value: Any) -> Proxy | None:
    if value is None or isinstance(value, Proxy):
        return value
    hint = "write http://host:3128 or socks5://user:secret@host:1080"
    try:
        parts = urlsplit(str(value))
        host, port = parts.hostname, parts.port
    except ValueError:
        raise OptionError("proxy", "cannot be read", hint=hint) from None
    scheme = {"http": "http", "socks5": "socks5", "socks5h": "socks5"}.get(parts.scheme)
    if parts.scheme == "https":
        raise OptionError("proxy", "cannot be reached by https:// here", hint=hint)
    if scheme is None or not host:
        raise OptionError("proxy", "is no URL of a proxy that is known", hint=hint)
    return Proxy(
        scheme=scheme,
        host=host,
        port=port or {"http": 3128, "socks5": 1080}[scheme],
        user=unquote(parts.username or ""),
        password=Secret(unquote(parts.password or "")),
    )


def _dkim(value: Any) -> tuple[Dkim, ...]:
    """Each is loaded, so that a wrong one is known now and not with the first letter."""
    keys = (value,) if isinstance(value, Dkim) else value
    if not isinstance(keys, (tuple, list)) or not all(isinstance(one, Dkim) for one in keys):
        raise OptionError("dkim", "has to be a Dkim, or a list of them")
    if keys:
        from posthouse.sending.signing import load_key

        for one in keys:
            try:
                load_key(one)
            except MessageError as error:
                raise OptionError("dkim", f"cannot be: {error.text}", hint=error.hint) from None
    return tuple(keys)


def _watch(value: Any) -> Watch | None:
    if value is not None and not callable(value):
        raise OptionError("watch", "has to be something that can be called with a line")
    return cast("Watch | None", value)


def _folder(kind: Kind, told: Mapping[str, Any]) -> Path | None:
    folder = told.get("folder")
    if kind is Kind.FOLDER and not folder:
        raise OptionError("folder", "is missing", hint="write folder:outbox or folder:///var/out")
    return Path(folder) if folder else None


def _arguments(value: Any) -> tuple[str, ...]:
    hint = 'write arguments=["-a", "work"]'
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise OptionError("arguments", "have to be a list of text", hint=hint)
    if any("\0" in one or len(one) > TEXT_MAX for one in value) or len(value) > ARGUMENTS_MAX:
        raise OptionError("arguments", "have a NUL in them, or are too many or too long", hint=hint)
    return tuple(value)


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name, "")
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        raise OptionError(name, "has to be text")
    if any(ord(one) < 0x20 or ord(one) == 0x7F for one in value):
        raise OptionError(name, "has a control character in it")
    return value


def _flag(told: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = told.get(name, default)
    if not isinstance(value, bool):
        raise OptionError(name, "has to be True or False")
    return value


def _whole(told: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = told.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise OptionError(name, f"has to be a whole number from {low} to {high}")
    return value


def _seconds(told: Mapping[str, Any], name: str, default: float) -> float:
    value = told.get(name, default)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value <= SECONDS_MAX:
        raise OptionError(name, f"has to be a number of seconds up to {SECONDS_MAX:g}")
    return float(value)
