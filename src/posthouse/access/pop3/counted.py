"""The POP3 machine, with a note of which of its limits were reached."""

from __future__ import annotations

from typing import Final

from posthouse.protocol.pop3.server import ServerSession

REACHED_MAX: Final = 16
"""Kept between two looks; what is beyond is answered all the same."""


class CountedSession(ServerSession):
    """Fills `reached`, which its caller empties."""

    __slots__ = ("reached",)

    reached: list[tuple[str, int, int]]
    """Setting, its value, what was observed."""

    def _mistake(self, text: str) -> None:
        observed, limits = len(self._inbox), self.limits  # ending empties the inbox
        if not hasattr(self, "reached"):
            self.reached = []
        super()._mistake(text)
        if len(self.reached) >= REACHED_MAX:
            return
        if self._has_overlong:
            self.reached.append(("pop3.line_octets_max", limits.line_octets_max, observed))
        if self.is_over:
            self.reached.append(("pop3.errors_max", limits.errors_max, self._errors))

    def take_reached(self) -> list[tuple[str, int, int]]:
        reached: list[tuple[str, int, int]] = getattr(self, "reached", [])
        self.reached = []
        return reached
