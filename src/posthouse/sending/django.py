"""Django's e-mail backend: EMAIL_BACKEND = "posthouse.sending.django.EmailBackend".

The setting POSTHOUSE_TRANSPORT_URL is the transport; without it Django's own EMAIL_… settings say
where to, as they do for its backend. With either, POSTHOUSE_CA and POSTHOUSE_SERVER_NAME say which
certificate the server has, as `ca` and `server_name` of a `Transport` do. One transport is kept for
the process, so sessions outlive the requests that used them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage

from posthouse.sending.blocking import Transport
from posthouse.sending.errors import SendingError
from posthouse.sending.message import Message, SendEnvelope
from posthouse.sending.options import Keywords

__all__ = ["EmailBackend"]

_LOCK: Final = threading.Lock()
_TRANSPORTS: Final[dict[str, Transport]] = {}


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
        is_tls = settings.EMAIL_USE_TLS if use_tls is None else use_tls
        is_ssl = settings.EMAIL_USE_SSL if use_ssl is None else use_ssl
        if is_tls and is_ssl:
            raise ValueError("EMAIL_USE_TLS and EMAIL_USE_SSL cannot both be True")
        self._keywords = _keywords(
            host=host or settings.EMAIL_HOST,
            port=port or settings.EMAIL_PORT,
            user=settings.EMAIL_HOST_USER if username is None else username,
            password=settings.EMAIL_HOST_PASSWORD if password is None else password,
            tls="implicit" if is_ssl else "starttls" if is_tls else "off",
            timeout_s=timeout or settings.EMAIL_TIMEOUT,
        )
        self._trust: Keywords = {}
        if ca := ca or getattr(settings, "POSTHOUSE_CA", None):
            self._trust["ca"] = ca
        if server_name := server_name or getattr(settings, "POSTHOUSE_SERVER_NAME", None):
            self._trust["server_name"] = server_name
        certificate = ssl_certfile or settings.EMAIL_SSL_CERTFILE
        certificate_key = ssl_keyfile or settings.EMAIL_SSL_KEYFILE
        if certificate:
            self._keywords["certificate"] = certificate
        if certificate_key:
            self._keywords["certificate_key"] = certificate_key

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
        """The process's own for these settings."""
        where: Keywords = self._trust if self._url else {**self._keywords, **self._trust}
        key = repr((self._url, sorted(where.items())))
        with _LOCK:
            if key not in _TRANSPORTS:
                _TRANSPORTS[key] = Transport(self._url or None, **where)
            return _TRANSPORTS[key]


def _keywords(
    *, host: str, port: int, user: str, password: str, tls: str, timeout_s: float | None
) -> Keywords:
    given: Keywords = {"host": host, "port": port, "tls": tls}
    if user and password:
        given["user"], given["password"] = user, password
    if timeout_s:
        given["connect_timeout_s"] = given["greeting_timeout_s"] = timeout_s
        given["command_timeout_s"] = given["data_timeout_s"] = timeout_s
    return given


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
