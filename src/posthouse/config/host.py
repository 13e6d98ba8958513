"""What some defaults are worked out from: the machine that the config is read on."""

from __future__ import annotations

import os
import resource
import socket
from typing import Final, Protocol

import msgspec

OPEN_FILES_UNLIMITED: Final = 1_048_576
"""Taken where the system sets no bound on open files."""


class Host(Protocol):
    """Asked only for settings that the file does not give."""

    def name(self) -> str: ...
    def cores(self) -> int: ...
    def open_files(self) -> int: ...


class ThisHost:
    """The machine that we run on."""

    def name(self) -> str:
        """The fully qualified name; may ask the system's resolver, and so block for a while."""
        name = socket.getfqdn().rstrip(".")
        is_usable = name and not name.endswith(".arpa") and "localhost" not in name
        return name if is_usable else "localhost"

    def cores(self) -> int:
        """Of those that this process may use."""
        return len(os.sched_getaffinity(0))

    def open_files(self) -> int:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return OPEN_FILES_UNLIMITED if soft == resource.RLIM_INFINITY else soft


class FixedHost(msgspec.Struct, frozen=True, kw_only=True):
    """A machine made up, for tests and the documentation."""

    host_name: str = "localhost"
    core_count: int = 2
    file_count: int = 12_500

    def name(self) -> str:
        return self.host_name

    def cores(self) -> int:
        return self.core_count

    def open_files(self) -> int:
        return self.file_count
