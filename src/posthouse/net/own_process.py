"""What this process asks of the kernel for itself, where the kernel has it.

For `posthouse serve` and the demo, which hold the node key and private halves, and for the children
of `net.isolated`; the libraries leave the process they run in alone.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import sys
from typing import Final

_PARENT_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG
_DUMPABLE: Final = 4  # PR_SET_DUMPABLE
_C: Final = ctypes.CDLL(None)


def keep_memory_private() -> None:
    """No core dumps, and nobody of the same user attaches to it or reads its memory; root does.

    Both are needed: a limit of 0 does not keep a dump from a program that takes it from a pipe, and
    what is no Linux has the limit only. A program started from here begins with the limit only.
    """
    _control(_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def end_with_parent() -> None:
    """It is killed when the thread that forked it ends."""
    _control(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _control(option: int, value: int) -> None:
    if sys.platform == "linux":
        _C.prctl(option, value, 0, 0, 0)
