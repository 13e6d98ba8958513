"""Where `posthouse send` sends to, and as whom: its options as those of the client library."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import click
import msgspec

from posthouse.cli.config import load_config
from posthouse.cli.output import CommandError, read_password
from posthouse.cli.send_options import KeysWish, LoginWish, NoticeWish, ServerWish
from posthouse.cli.send_secrets import (
    PASSWORD_VARIABLE,
    PROXY_VARIABLE,
    TOKEN_OCTETS_MAX,
    check_url,
    secret_of,
)
from posthouse.config.schema import Config, Service
from posthouse.kernel.secret import Secret
from posthouse.relay.plan import parse_place
from posthouse.sending import Dkim
from posthouse.sending.options import Keywords, Kind, Proxy, TlsUse
from posthouse.sending.reading import read_options
from posthouse.sending.services import by_name
from posthouse.sending.tls import client_context
from posthouse.tls.self_signed import CHAIN_NAME
from posthouse.zone import services

__all__ = ["Way", "dkim_keys", "way_to"]

SUBMISSION_PORT: Final = 587
SUBMISSIONS_PORT: Final = 465
WAIT_S: Final = 60.0
EXTERNAL: Final = "EXTERNAL"  # proves who we are by our certificate
_TLS: Final = {"none": "off"}


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """What an `AsyncTransport` or a `Transport` is made of."""

    url: str | None
    service: str | None
    keywords: Keywords
    is_own: bool = False
    """This node's own server."""

    @property
    def has_dialogue(self) -> bool:
        """To be shown: there are lines that either side says."""
        options = read_options(self.url, self.service, self.keywords)
        return options.kind is not Kind.POSTHOUSE

    @property
    def login_hint(self) -> str:
        """More to try where a login is refused; "" for nothing."""
        if self.is_own:
            return "`posthouse account password ADDRESS` sets a new one, on this machine"
        service = by_name(self.service) if self.service else None
        return f"{service.name} {service.note}" if service is not None and service.note else ""


def way_to(
    server: ServerWish,
    login: LoginWish,
    keys: KeysWish,
    notices: NoticeWish,
    *,
    config_path: str | None,
) -> Way:
    """
    Raises:
        click.UsageError: options that do not go together.
        CommandError: a file, a password or the config is wrong.
        OptionError: what the library says of an option.
    """
    _check_places(server)
    keywords: Keywords = {}
    if keys.dkim:
        keywords["dkim"] = dkim_keys(keys)
    if server.dry_run is not None:
        if login.password_stdin:
            read_password(password_stdin=True)  # the same stdin serves with and without --dry-run
        keywords["folder"] = server.dry_run
        return Way(url="folder:", service=None, keywords=keywords)
    own = None
    if server.server is not None:
        keywords |= _named(server)
    elif server.service is None and server.url is None:
        own = load_config(config_path).config
        keywords |= _own(own)
    keywords |= _line(server)
    keywords |= _login(login, _user_of(server.url) if server.url else None)
    keywords |= _notices(notices, keywords)
    way = Way(url=server.url, service=server.service, keywords=keywords, is_own=own is not None)
    return _trusting(way, server, own)


def _check_places(server: ServerWish) -> None:
    given = [
        f"--{name}"
        for name, value in (
            ("server", server.server),
            ("service", server.service),
            ("url", server.url),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise click.UsageError(f"give one of {' and '.join(given)}")
    if server.url is not None:
        check_url("--url", server.url, "--password-file or --password-stdin")
    if server.proxy is not None:
        check_url("--proxy", server.proxy, "--proxy-password-file")
    elif server.proxy_password_file is not None:
        raise click.UsageError("--proxy-password-file needs --proxy")


def _named(server: ServerWish) -> Keywords:
    text = server.server or ""
    port = SUBMISSIONS_PORT if server.tls == TlsUse.IMPLICIT.value else SUBMISSION_PORT
    try:
        place = parse_place(text, port=port)
    except ValueError:
        raise click.UsageError(
            f"--server takes host, host:port or [address]:port, and {text!r} is none"
        ) from None
    return {"host": place.host, "port": place.port}


def _own(config: Config) -> Keywords:
    """This node's submission port."""
    for service in (Service.SUBMISSION, Service.SUBMISSIONS):
        if (place := services.own_place(config, service)) is not None:
            keywords: Keywords = {
                "host": place[0],
                "port": place[1],
                "server_name": config.node.hostname,
            }
            if service is Service.SUBMISSIONS:
                keywords["tls"] = TlsUse.IMPLICIT
            return keywords
    raise CommandError("the config has no listener for submission", hint="name a --server")


def _line(server: ServerWish) -> Keywords:
    """TLS, proxy and times."""
    keywords: Keywords = {
        "connect_timeout_s": server.timeout_s,
        "greeting_timeout_s": server.timeout_s,
        "command_timeout_s": server.timeout_s,
    }
    # Not --timeout: whoever gives up on the final dot cannot know whether the server has the
    # message, and RFC 5321 §4.5.3.2.6 lets it take ten minutes.
    if server.data_timeout_s is not None:
        keywords["data_timeout_s"] = server.data_timeout_s
    if server.tls != TlsUse.AUTO.value:
        keywords["tls"] = _TLS.get(server.tls, server.tls)
    if server.server_name is not None:
        keywords["server_name"] = server.server_name
    if server.tls_version_min is not None:
        keywords["tls_version_min"] = server.tls_version_min
    if server.ca is not None:
        keywords["ca"] = server.ca
    if server.certificate is not None:
        keywords["certificate"] = server.certificate
    if server.certificate_key is not None:
        keywords["certificate_key"] = server.certificate_key
    if server.insecure:
        keywords["verify"] = False
    if server.local_address is not None:
        keywords["local_address"] = server.local_address
    if server.hello_name is not None:
        keywords["hello_name"] = server.hello_name
    if server.proxy is not None:
        keywords["proxy"] = _proxy(server.proxy, server.proxy_password_file)
    return keywords


def _proxy(url: str, password_file: Path | None) -> Proxy:
    proxy = read_options(keywords={"proxy": url}).proxy
    assert proxy is not None
    if not proxy.user:
        return proxy
    password = secret_of("--proxy-password-file", password_file, PROXY_VARIABLE)
    if password is None:
        password = read_password(password_stdin=False, prompt=f"Password of {proxy.user}, proxy")
    return msgspec.structs.replace(proxy, password=password)


# --- logging in ---


def _user_of(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return unquote(parts.username) if parts.username else None


def _login(login: LoginWish, url_user: str | None) -> Keywords:
    user = login.user if login.user is not None else url_user
    mechanism = (login.mechanism or "").upper()
    keywords: Keywords = {}
    if mechanism:
        keywords["mechanism"] = mechanism
    if login.authorization_id is not None:
        keywords["authorization_id"] = login.authorization_id
    if user is None:
        _check_no_login(login, mechanism)
        return keywords
    keywords["user"] = user
    if login.token_file is not None:
        token = secret_of("--token-file", login.token_file, octets_max=TOKEN_OCTETS_MAX)
        assert token is not None
        keywords["token"] = _revealing(token)
    elif mechanism != EXTERNAL:
        keywords["password"] = _password(login, user)
    return keywords


def _revealing(token: Secret) -> Callable[[], str]:
    """The library takes text or a callable, and text could show in a traceback."""
    return token.reveal


def _check_no_login(login: LoginWish, mechanism: str) -> None:
    for option, is_given in (
        ("--password-stdin", login.password_stdin),
        ("--password-file", login.password_file is not None),
        ("--token-file", login.token_file is not None),
        (f"--mechanism {mechanism}", bool(mechanism) and mechanism != EXTERNAL),
        ("--authorization-id", login.authorization_id is not None and mechanism != EXTERNAL),
    ):
        if is_given:
            raise click.UsageError(f"{option} needs --user")


def _password(login: LoginWish, user: str) -> Secret:
    if login.password_stdin and login.password_file is not None:
        raise click.UsageError("give --password-stdin or --password-file, not both")
    if not login.password_stdin:
        variable = PASSWORD_VARIABLE
        found = secret_of("--password-file", login.password_file, variable)
        if found is not None:
            return found
    return read_password(password_stdin=login.password_stdin, prompt=f"Password of {user}")


# --- notices ---


def _notices(notices: NoticeWish, keywords: Keywords) -> Keywords:
    """The mailbox where notices arrive, with its password."""
    url = notices.outcome_mailbox
    if url is None:
        for option, value in (
            ("--wait", notices.wait_s),
            ("--outcome-password-file", notices.outcome_password_file),
        ):
            if value is not None:
                raise click.UsageError(f"{option} needs --outcome-mailbox")
        return {}
    check_url("--outcome-mailbox", url, "--outcome-password-file")
    if not url.startswith(("imaps://", "imap://")):
        raise click.UsageError("--outcome-mailbox is no URL of a mailbox: write imaps://USER@HOST")
    user = _user_of(url) or keywords.get("user")
    password = secret_of("--outcome-password-file", notices.outcome_password_file)
    if password is None and user == keywords.get("user"):
        known = keywords.get("password")
        password = known if isinstance(known, Secret) else None
    if not user or password is None:
        raise click.UsageError(
            "--outcome-mailbox needs a user and a password: write imaps://USER@HOST, and give"
            " --outcome-password-file"
        )
    return {"outcome_mailbox": _with_login(url, user, password)}


def _with_login(url: str, user: str, password: Secret) -> str:
    try:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
    except ValueError:
        raise click.UsageError("--outcome-mailbox is no URL: write imaps://USER@HOST") from None
    login = f"{quote(user, safe='')}:{quote(password.reveal(), safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{place}"))


# --- whom to trust ---


def _trusting(way: Way, server: ServerWish, own: Config | None) -> Way:
    """Certificates are checked on this machine, too, where the library lets them be; and this
    node's own one is trusted."""
    options = read_options(way.url, way.service, way.keywords)
    is_ours_to_say = options.tls is TlsUse.AUTO or own is not None
    if (
        options.kind not in (Kind.SMTP, Kind.LMTP)
        or options.tls in (TlsUse.OFF, TlsUse.OPPORTUNISTIC)
        or server.insecure
        or server.ca is not None
        or not is_ours_to_say
    ):
        return way
    keywords = way.keywords.copy()
    keywords["ssl_context"] = _context(server, own)
    keywords.pop("tls_version_min", None)  # the context has these three
    keywords.pop("certificate", None)
    keywords.pop("certificate_key", None)
    return msgspec.structs.replace(way, keywords=keywords)


def _context(server: ServerWish, own: Config | None) -> ssl.SSLContext:
    context = client_context(
        version_min=server.tls_version_min or "1.2",
        certificate=server.certificate,
        certificate_key=server.certificate_key,
    )
    if own is not None:
        chain = own.tls.certificate or str(Path(own.node.data_folder, "tls", CHAIN_NAME))
        with contextlib.suppress(OSError):  # no server has made it yet: nothing will answer
            context.load_verify_locations(cafile=chain)
    return context


# --- keys ---


def dkim_keys(keys: KeysWish) -> list[Dkim]:
    """Of --dkim. Raises click.UsageError."""
    return [_dkim(text) for text in keys.dkim]


def _dkim(text: str) -> Dkim:
    domain, _, rest = text.partition(":")
    selector, _, file = rest.partition(":")
    if not (domain and selector and file):
        raise click.UsageError(f"--dkim takes DOMAIN:SELECTOR:FILE, and {text!r} is none")
    return Dkim(domain=domain, selector=selector, key=Path(file))
