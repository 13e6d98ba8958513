"""Ctrl-C while many letters are sent: it is answered at once, and nothing that is known is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class Interrupts:
    """`steps` walks through a generator; the first Ctrl-C reaches it there, and nothing else.

    A generator that catches KeyboardInterrupt may go on to tell what it still knows, and raise it
    at its end. The second Ctrl-C is an ordinary one.
    """

    def __init__(self, on_first: Callable[[], None]) -> None:
        self._on_first = on_first
        self._is_inside = False
        self._is_pending = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Nothing changes where whoever started us has decided what Ctrl-C does."""
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler:
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, before)
            self._on_first()
            if self._is_inside:
                raise KeyboardInterrupt
            self._is_pending = True

        signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def steps(self, results: Iterator[T]) -> Iterator[T]:
        """Args:
        results: a generator."""
        while True:
            try:
                self._is_inside = True
                if self._is_pending:
                    self._is_pending = False
                    one = results.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
                else:
                    one = next(results)
            except StopIteration:
                return
            finally:
                self._is_inside = False
            yield one
