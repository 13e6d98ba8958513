"""Coverage by `sys.settrace`: an edge is two lines of one function of ours run after each other.

Tracing makes a run some twenty times as slow, so the fuzzer traces few runs and short inputs only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from types import FrameType
from typing import Any

import posthouse

SOURCE = str(Path(posthouse.__file__).parent)


class Edges:
    """All edges seen so far."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def trace(self, run: Callable[[bytes], Hashable], octets: bytes) -> int:
        """Run it, whatever it raises, and count the edges that are new."""
        before = len(self._seen)
        earlier = sys.gettrace()
        sys.settrace(self._called)
        try:
            run(octets)
        except Exception:  # the run without tracing tells it
            pass
        finally:
            sys.settrace(earlier)
        return len(self._seen) - before

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(SOURCE):
            return None
        seen, function, previous = self._seen, id(code) << 32, code.co_firstlineno

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal previous
            if event == "line":
                here = frame.f_lineno
                seen.add(function | previous << 16 | here)
                previous = here
            return line

        return line
