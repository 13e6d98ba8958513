"""A `logging.Handler` that sends records by mail, in the place of `logging.handlers.SMTPHandler`.

Records are sent from a thread, so that a slow server never holds up whoever logs. There is a bound
on letters a minute: what is more is gathered into the next one, and a program that logs the same
error a million times sends a handful of letters.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from posthouse.sending.blocking import Transport
from posthouse.sending.errors import SendingError
from posthouse.sending.message import Message

__all__ = ["MailHandler"]

RECORDS_MAX: Final = 1_000
"""Kept while they wait; of those beyond only the number is told."""
CHARACTERS_MAX: Final = 100_000
"""Of one record in a letter."""
CLOSE_S: Final = 10.0
MINUTE_S: Final = 60.0
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
    ) -> None:
        """
        Args:
            transport: or its URL; one made here is closed with the handler.
            subject: "" takes the level and the first line of the record.
            per_minute: letters that are sent in any minute.
        """
        super().__init__(level)
        self._is_own_transport = isinstance(transport, str)
        self._transport = Transport(transport) if isinstance(transport, str) else transport
        self._sender = sender
        self._recipients = [recipients] if isinstance(recipients, str) else list(recipients)
        self._subject = subject
        self._per_minute = per_minute
        self._waiting: deque[tuple[str, str]] = deque()
        self._left_out = 0
        self._sent_at: deque[float] = deque(maxlen=per_minute)
        self._wake = threading.Condition()
        self._is_closing = False
        self._is_busy = False
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises, and never waits for the network."""
        if record.name.startswith(_OWN) or threading.current_thread() is self._thread:
            return  # what goes wrong with sending is not sent
        try:
            text = self.format(record)[:CHARACTERS_MAX]
            subject = self._subject_of(record)
        except Exception:
            self.handleError(record)
            return
        with self._wake:
            if self._is_closing:
                return
            if len(self._waiting) >= RECORDS_MAX:
                self._left_out += 1
            else:
                self._waiting.append((subject, text))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="posthouse-log-mail", daemon=True
                )
                self._thread.start()
            self._wake.notify_all()

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
        """Send what waits in one last letter, and end."""
        with self._wake:
            self._is_closing = True
            self._wake.notify_all()
        thread = self._thread
        if thread is not None:
            thread.join(CLOSE_S)
        if self._is_own_transport:
            self._transport.close()
        super().close()

    # --- inside ---

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
                while not self._is_closing and (not self._waiting or self._pause_s() > 0):
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

    def _take(self) -> tuple[list[tuple[str, str]], int]:
        """One record while there is plenty of room in the minute, else all that wait."""
        is_spare = len(self._sent_at) < self._per_minute - 1 and not self._is_closing
        count = 1 if is_spare and not self._left_out else len(self._waiting)
        taken = [self._waiting.popleft() for _ in range(count)]
        left_out, self._left_out = self._left_out, 0
        self._sent_at.append(time.monotonic())
        return taken, left_out

    def _send(self, taken: list[tuple[str, str]], left_out: int) -> None:
        subject, text = taken[0]
        if len(taken) > 1:
            subject = f"{subject} (and {len(taken) - 1 + left_out} more)"
            text = "\n\n".join(text for _, text in taken)
        if left_out:
            text += f"\n\n{left_out} more records came meanwhile and were left out.\n"
        try:
            self._transport.send(
                Message(sender=self._sender, to=self._recipients, subject=subject, text=text + "\n")
            )
        except SendingError:
            logging.getLogger(_OWN).warning("a log record could not be sent by mail", exc_info=True)
