"""Django's e-mail backend: EMAIL_BACKEND = "posthouse.sending.django.EmailBackend".

The setting POSTHOUSE_TRANSPORT_URL is the transport; without it Django's own EMAIL_… settings say
where to, as they do for its backend. With either, POSTHOUSE_CA and POSTHOUSE_SERVER_NAME say which
certificate the server has, as `ca` and `server_name` of a `Transport` do. What a program gives as
an argument (`auth_user` of `send_mail`, `host` of `get_connection`) wins over each of them. One
transport is kept for the process and each set of arguments, so sessions outlive the requests that
used them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from django.conf import settings
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage

from posthouse.sending.blocking import Transport
from posthouse.sending.errors import OptionError, SendingError
from posthouse.sending.message import Message, SendEnvelope
from posthouse.sending.options import Keywords, Kind, TlsUse
from posthouse.sending.reading import read_options

__all__ = ["EmailBackend"]

_LOCK: Final = threading.Lock()
_TRANSPORTS: Final[dict[str, Transport]] = {}
# What only some ways have a use for, and says nothing about which TLS there is.
_TRUST: Final = ("ca", "server_name", "certificate", "certificate_key")


class EmailBackend(BaseEmailBackend):  # type: ignore[misc]  # Django brings no types
    """As Django describes backends; arguments win over settings, as with its own."""

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        username: str | None = None,
        password: str | None = None,
        use_tls: bool | None = None,
        use_ssl: bool | None = None,
        timeout: float | None = None,
        *,
        fail_silently: bool = False,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
        url: str | None = None,
        ca: str | Path | bytes | None = None,
        server_name: str | None = None,
        **more: Any,
    ) -> None:
        super().__init__(fail_silently=fail_silently)
        self._url = url or getattr(settings, "POSTHOUSE_TRANSPORT_URL", None)
        for name, value in more.items():
            if name.startswith("ssl_") and value is not None:
                hint = "there is ssl_certfile and ssl_keyfile, and ca"
                raise OptionError(name, "is not known", hint=hint)
        given = _given(host, port, username, password, timeout, ssl_certfile, ssl_keyfile)
        if not self._url:
            use_tls = settings.EMAIL_USE_TLS if use_tls is None else use_tls
            use_ssl = settings.EMAIL_USE_SSL if use_ssl is None else use_ssl
            given = _by_settings(given)
        if use_tls and use_ssl:
            raise ValueError("EMAIL_USE_TLS and EMAIL_USE_SSL cannot both be True")
        self._keywords, self._use_tls, self._use_ssl = given, use_tls, use_ssl
        if ca := ca or getattr(settings, "POSTHOUSE_CA", None):
            self._keywords["ca"] = ca
        if server_name := server_name or getattr(settings, "POSTHOUSE_SERVER_NAME", None):
            self._keywords["server_name"] = server_name

    def open(self) -> bool:
        """Nothing has to be done: sessions are opened with the first letter and kept."""
        return False

    def close(self) -> None:
        """Sessions stay for the next letter; they end with the process, or when unused."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """How many were sent.

        Raises:
            SendingError: the first that failed, unless the backend fails silently.
        """
        letters = [_letter(one) for one in email_messages or () if one.recipients()]
        sent = 0
        first: SendingError | None = None
        try:
            for result in self._transport().send_all(letters):
                if result.error is None:
                    sent += 1
                else:
                    first = first or result.error
        except SendingError as error:
            first = error
        if first is not None and not self.fail_silently:
            raise first
        return sent

    def _transport(self) -> Transport:
        """The process's own for these settings and arguments."""
        key = repr((self._url, sorted(self._keywords.items()), self._use_tls, self._use_ssl))
        with _LOCK:
            if key not in _TRANSPORTS:
                keywords = self._keywords.copy()
                tls = _tls(self._url, keywords, use_tls=self._use_tls, use_ssl=self._use_ssl)
                if tls is not None:
                    keywords["tls"] = tls
                _TRANSPORTS[key] = Transport(self._url or None, **keywords)
            return _TRANSPORTS[key]


# --- what was said, as a transport's keywords ---


def _by_settings(given: Keywords) -> Keywords:
    """Django's own, where no argument says otherwise."""
    told = _given(
        settings.EMAIL_HOST,
        settings.EMAIL_PORT,
        settings.EMAIL_HOST_USER,
        settings.EMAIL_HOST_PASSWORD,
        settings.EMAIL_TIMEOUT or None,
        settings.EMAIL_SSL_CERTFILE,
        settings.EMAIL_SSL_KEYFILE,
    )
    told.setdefault("host", settings.EMAIL_HOST)
    told.setdefault("port", settings.EMAIL_PORT)
    told |= given
    if not (told.get("user") and told.get("password")):  # which is no login to Django
        told["user"] = told["password"] = ""
    return told


def _given(
    host: str | None,
    port: int | None,
    user: str | None,
    password: str | None,
    timeout_s: float | None,
    certificate: str | None,
    certificate_key: str | None,
) -> Keywords:
    """Without what nobody said, which is None, and "" but in a login, where it means none."""
    given: Keywords = {}
    if host:
        given["host"] = host
    if port:
        given["port"] = port
    if user is not None:
        given["user"] = user
    if password is not None:
        given["password"] = password
    if "" in (user, password) and not (user or password):
        given["user"] = given["password"] = ""  # in the place of a URL's, too
    if timeout_s is not None:
        given["connect_timeout_s"] = given["greeting_timeout_s"] = timeout_s
        given["command_timeout_s"] = given["data_timeout_s"] = timeout_s
    if certificate:
        given["certificate"] = certificate
    if certificate_key:
        given["certificate_key"] = certificate_key
    return given


def _tls(
    url: str | None, keywords: Keywords, *, use_tls: bool | None, use_ssl: bool | None
) -> TlsUse | None:
    """When to begin with TLS; None leaves it to the URL, and what its scheme promises is not taken
    back: the transport refuses that.

    Raises:
        OptionError: what was given means nothing to a way such as the URL's.
    """
    tls: TlsUse | None = None
    if use_ssl or use_tls:
        tls = TlsUse.IMPLICIT if use_ssl else TlsUse.STARTTLS
    if not url:
        return tls or TlsUse.OFF
    bare = {name: value for name, value in keywords.items() if name not in _TRUST}
    options = read_options(url, None, cast("Keywords", bare))
    is_to_server = options.kind not in (Kind.FOLDER, Kind.SENDMAIL)
    for name in ("host", "port"):
        if name in keywords and not is_to_server:
            hint = "leave it out: the URL of the transport says where mail goes to"
            raise OptionError(name, f"is of no use with {options.kind.value}:", hint=hint)
    is_implicit = options.tls is TlsUse.IMPLICIT
    is_unwanted = (use_ssl is False and is_implicit) or (use_tls is False and not is_implicit)
    if tls is None and is_unwanted and is_to_server and options.tls is not TlsUse.OFF:
        tls = TlsUse.OFF
    return tls


def _letter(message: EmailMessage) -> Message:
    """Django builds the octets and has checked its fields; who gets it is said apart."""
    return Message(
        raw=message.message().as_bytes(linesep="\r\n"),
        envelope=SendEnvelope(
            sender=_address(message.from_email), recipients=list(message.recipients())
        ),
    )


def _address(text: str) -> str:
    """Without the name, as an envelope takes it."""
    return text.rpartition("<")[2].partition(">")[0].strip() if "<" in text else text.strip()
