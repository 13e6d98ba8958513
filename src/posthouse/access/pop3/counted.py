"""The POP3 machine, with a note of which of its limits were reached."""

from __future__ import annotations

from typing import Final

from posthouse.protocol.pop3.server import Limits, ServerSession

REACHED_MAX: Final = 16
"""Kept between two looks; what is beyond is answered all the same."""


class CountedSession(ServerSession):
    """Notes what its caller takes with `take_reached`."""

    __slots__ = ("_reached",)

    def __init__(self, limits: Limits, *, may_log_in: bool, may_start_tls: bool) -> None:
        super().__init__(limits, may_log_in=may_log_in, may_start_tls=may_start_tls)
        self._reached: list[tuple[str, int, int]] = []

    def take_reached(self) -> list[tuple[str, int, int]]:
        """Each limit that was reached: its setting, its value, what was observed."""
        reached, self._reached = self._reached, []
        return reached

    def _mistake(self, text: str) -> None:
        limits, observed = self.limits, len(self._inbox)  # ending empties the inbox
        super()._mistake(text)
        if len(self._reached) >= REACHED_MAX:
            return
        if self._has_overlong:
            self._reached.append(("pop3.line_octets_max", limits.line_octets_max, observed))
        if self.is_over:
            self._reached.append(("pop3.errors_max", limits.errors_max, self._errors))
