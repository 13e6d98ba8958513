"""Log records by mail: `MailHandler`, and `SMTPHandler` in the place of the standard library's.

Records are sent from a thread, so that a slow server never holds up whoever logs. There is a bound
on letters a minute: what is more is gathered into the next one, and a program that logs the same
error a million times sends a handful of letters. The end of a program waits for its last records,
with a bound. What cannot be sent is told as `logging` tells it, on standard error.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

from posthouse.sending.blocking import Transport
from posthouse.sending.errors import ConnectError, OptionError, SendingError
from posthouse.sending.message import Message
from posthouse.sending.options import Keywords

__all__ = ["MailHandler", "SMTPHandler"]

RECORDS_MAX: Final = 1_000
"""Kept while they wait; of those beyond only the number is told."""
CHARACTERS_MAX: Final = 100_000
"""Of one record in a letter."""
CLOSE_S: Final = 10.0
"""How long `flush`, `close` and the end of a program wait."""
BREAK_OFF_S: Final = 2.0
"""And then for a letter that is broken off to be told so."""
MINUTE_S: Final = 60.0
SMTP_PORT: Final = 25
SUBMISSIONS_PORT: Final = 465
_OWN: Final = "posthouse.sending"


class MailHandler(logging.Handler):
    """Sends each record as a letter, or several as one when they come fast."""

    def __init__(
        self,
        transport: Transport | str,
        *,
        sender: str,
        recipients: Sequence[str] | str,
        subject: str | Callable[[logging.LogRecord], str] = "",
        level: int = logging.ERROR,
        per_minute: int = 6,
        ca: str | Path | bytes | None = None,
        server_name: str = "",
    ) -> None:
        """
        Args:
            transport: or its URL; one made here is closed with the handler.
            subject: "" takes the level and the first line of the record.
            per_minute: letters that are sent in any minute.
            ca, server_name: as of a `Transport`, which has its own where one is given.

        Raises:
            OptionError: the transport was told something that cannot be.
        """
        super().__init__(level)
        if per_minute < 1:
            raise ValueError("per_minute has to be 1 or more")
        self._is_own_transport = isinstance(transport, str)
        self._transport = _transport(transport, _trust(ca, server_name))
        self._sender = sender
        self._recipients = [recipients] if isinstance(recipients, str) else list(recipients)
        self._subject = subject
        self._per_minute = per_minute
        self._sent_at: deque[float] = deque(maxlen=per_minute)
        self._close_by_s: float | None = None
        self._renew()
        _OPEN.add(self)

    def _renew(self) -> None:
        """As in the beginning; in the child of a fork what waits is the parent's to send."""
        self._waiting: deque[_Item] = deque()
        self._left_out = 0
        self._wake = threading.Condition()
        self._is_busy = False
        self._thread: threading.Thread | None = None
        self._letter: asyncio.Task[Any] | None = None
        """The one under way."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the handler's lock, as `logging.shutdown` holds it while it waits for us."""
        if record.name.startswith(_OWN) or threading.current_thread() is self._thread:
            return False  # what goes wrong with sending is not sent
        found = cast("logging.LogRecord | bool", self.filter(record))  # a record, since 3.12
        if found:
            self.emit(found if isinstance(found, logging.LogRecord) else record)
        return bool(found)

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises, and never waits for the network."""
        try:
            item = _Item(
                self._subject_of(record), self.format(record)[:CHARACTERS_MAX], _bare(record)
            )
            with self._wake:
                self._put(item)
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait until what was logged is sent, as far as the bound lets it, but not for ever."""
        until = time.monotonic() + CLOSE_S
        with self._wake:
            while (self._waiting and self._pause_s() <= 0) or self._is_busy:
                left = until - time.monotonic()
                if left <= 0 or self._thread is None or not self._thread.is_alive():
                    return
                self._wake.wait(min(left, 0.1))

    def close(self) -> None:
        """Send what waits in one last letter, and end. Records that come later are told on standard
        error."""
        self._begin_to_close(time.monotonic() + CLOSE_S)
        self._close()
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        """What kept a letter from being sent is told in its own words, which say what to do; of
        anything else `logging` shows where it was."""
        error = sys.exc_info()[1]
        if not isinstance(error, SendingError | TimeoutError):
            super().handleError(record)
        elif logging.raiseExceptions and sys.stderr:
            words = str(error) or "it was not sent in time"
            with contextlib.suppress(OSError):
                sys.stderr.write(
                    f"--- Logging error ---\n{type(error).__name__}: {words}\n"
                    f"Message: {record.getMessage()!r}\n"
                    f"Logged from {record.pathname}, line {record.lineno}\n"
                )

    # --- inside ---

    def _put(self, item: _Item) -> None:
        if self._close_by_s is not None:
            raise ConnectError("the handler is closed, so this record is not sent by mail")
        if len(self._waiting) >= RECORDS_MAX:
            self._left_out += 1
        else:
            self._waiting.append(item)
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="posthouse-log-mail", daemon=True)
            with contextlib.suppress(RuntimeError):  # the program is ending: `_close` sends it
                thread.start()
                self._thread = thread
            with contextlib.suppress(SendingError):  # told when it is to be sent
                # This record may be the program's last, and no thread can be started at its end.
                self._transport._ready()
        self._wake.notify_all()

    def _begin_to_close(self, by_s: float) -> None:
        with self._wake:
            if self._close_by_s is None:
                self._close_by_s = by_s
            self._wake.notify_all()

    def _close(self) -> None:
        _OPEN.discard(self)
        thread = self._thread
        if thread is not None and thread.is_alive():
            thread.join(self._left_s)
            if thread.is_alive():
                self._break_off()
                thread.join(BREAK_OFF_S)
        elif self._waiting:
            self._run()
        if self._is_own_transport:
            self._transport._close(within_s=max(self._left_s, BREAK_OFF_S))

    @property
    def _left_s(self) -> float:
        assert self._close_by_s is not None
        return max(self._close_by_s - time.monotonic(), 0.0)

    def _break_off(self) -> None:
        if (letter := self._letter) is not None:
            with contextlib.suppress(RuntimeError):  # its loop has just left
                letter.get_loop().call_soon_threadsafe(letter.cancel)

    def _subject_of(self, record: logging.LogRecord) -> str:
        if callable(self._subject):
            chosen = self._subject(record)
        else:
            first = record.getMessage().strip().partition("\n")[0]
            chosen = self._subject or f"{record.levelname}: {first}"
        return "".join(one if one.isprintable() else " " for one in chosen)[:200].strip() or "log"

    def _pause_s(self) -> float:
        if len(self._sent_at) < self._per_minute:
            return 0.0
        return self._sent_at[0] + MINUTE_S - time.monotonic()

    def _run(self) -> None:
        while True:
            with self._wake:
                while self._close_by_s is None and (not self._waiting or self._pause_s() > 0):
                    self._wake.wait(self._pause_s() if self._waiting else None)
                if not self._waiting:
                    return
                taken = self._take()
                self._is_busy = True
            try:
                self._send(*taken)
            finally:
                with self._wake:
                    self._is_busy = False
                    self._wake.notify_all()

    def _take(self) -> tuple[list[_Item], int]:
        """One record while there is plenty of room in the minute, else all that wait."""
        is_spare = len(self._sent_at) < self._per_minute - 1 and self._close_by_s is None
        count = 1 if is_spare and not self._left_out else len(self._waiting)
        taken = [self._waiting.popleft() for _ in range(count)]
        left_out, self._left_out = self._left_out, 0
        self._sent_at.append(time.monotonic())
        return taken, left_out

    def _send(self, taken: list[_Item], left_out: int) -> None:
        subject, text = taken[0].subject, taken[0].text
        if len(taken) > 1:
            subject = f"{subject} (and {len(taken) - 1 + left_out} more)"
            text = "\n\n".join(one.text for one in taken)
        if left_out:
            text += f"\n\n{left_out} more records came meanwhile and were left out.\n"
        message = Message(
            sender=self._sender, to=self._recipients, subject=subject, text=text + "\n"
        )
        try:
            self._transport._wait(self._sent(message))
        except Exception:  # of whatever kind: what waits behind it is sent all the same
            self.handleError(taken[0].record)

    async def _sent(self, message: Message) -> None:
        """As the transport's `send`, but so that it can be broken off."""
        left_s = None if self._close_by_s is None else max(self._left_s, BREAK_OFF_S)
        self._letter = asyncio.current_task()
        try:
            async with asyncio.timeout(left_s):
                await self._transport._async.send(message)
        finally:
            self._letter = None


class SMTPHandler(MailHandler):
    """With the arguments of `logging.handlers.SMTPHandler`, whose place it takes.

    It differs where that one is not safe: certificates are checked wherever there is a login or
    `secure`, and no password goes to another machine in plain text. Without either, TLS is used
    where the server offers it.
    """

    def __init__(
        self,
        mailhost: str | tuple[str, int],
        fromaddr: str,
        toaddrs: Sequence[str] | str,
        subject: str,
        credentials: Sequence[str] | None = None,
        secure: Sequence[str] | None = None,
        timeout: float = 5.0,
        *,
        per_minute: int = 6,
        ca: str | Path | bytes | None = None,
        server_name: str = "",
    ) -> None:
        """
        Args:
            mailhost: a name, or name and port; 25 is the usual one.
            credentials: user and password.
            secure: () asks for STARTTLS; (key,) or (key, certificate) are names of PEM files.
            timeout: seconds for each step.
            ca: the certificates to trust instead of the system's: a file or folder, or the PEM.
            server_name: in the certificate, where it is another than that of `mailhost`. Who says
                what a certificate has to be gets TLS with one, as with `secure`.
        """
        self.subject = subject
        host, port = (mailhost, 0) if isinstance(mailhost, str) else (mailhost[0], mailhost[1])
        keywords: Keywords = {"host": host, "port": port or SMTP_PORT}
        keywords |= _trust(ca, server_name)
        keywords["connect_timeout_s"] = keywords["greeting_timeout_s"] = timeout
        keywords["command_timeout_s"] = keywords["data_timeout_s"] = timeout
        if keywords["port"] == SUBMISSIONS_PORT:
            keywords["tls"] = "implicit"
        elif secure is not None or ca is not None or server_name:
            keywords["tls"] = "starttls"
        elif not credentials:
            keywords["tls"] = "opportunistic"
        if credentials:
            keywords["user"], keywords["password"] = credentials
        if secure is not None and len(secure) > 1:
            keywords["certificate_key"], keywords["certificate"] = map(Path, secure)
        super().__init__(
            Transport(**keywords),
            sender=fromaddr,
            recipients=toaddrs,
            subject=self.getSubject,
            level=logging.NOTSET,
            per_minute=per_minute,
        )
        self._is_own_transport = True

    def getSubject(self, record: logging.LogRecord) -> str:
        """For subclasses that have another for each record."""
        return self.subject


def _trust(ca: str | Path | bytes | None, server_name: str) -> Keywords:
    given: Keywords = {}
    if ca is not None:
        given["ca"] = ca
    if server_name:
        given["server_name"] = server_name
    return given


def _transport(given: Transport | str, more: Keywords) -> Transport:
    if isinstance(given, str):
        return Transport(given, **more)
    for name in more:
        words = "belongs to the Transport that was given"
        raise OptionError(name, words, hint=f"write Transport(…, {name}=…)")
    return given


class _Item:
    """One record while it waits."""

    __slots__ = ("record", "subject", "text")

    def __init__(self, subject: str, text: str, record: logging.LogRecord) -> None:
        self.subject = subject
        self.text = text
        self.record = record


def _bare(record: logging.LogRecord) -> logging.LogRecord:
    """For `handleError`: without the frames and objects that the record keeps alive."""
    message = record.getMessage()[:CHARACTERS_MAX]
    return logging.makeLogRecord(
        {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
        | {"msg": message, "pathname": record.pathname, "lineno": record.lineno}
    )


_OPEN: Final[weakref.WeakSet[MailHandler]] = weakref.WeakSet()


def _close_all() -> None:
    """At exit: before the transports close, which `blocking` does, and so before
    `logging.shutdown`."""
    handlers = list(_OPEN)
    by_s = time.monotonic() + CLOSE_S
    for handler in handlers:
        handler._begin_to_close(by_s)
    for handler in handlers:
        handler._close()


def _begin_anew() -> None:
    for handler in list(_OPEN):
        handler._renew()


atexit.register(_close_all)  # what is registered last runs first
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
