"""Files that a message is made of, read on a thread, and the bound of each content."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from posthouse.sending.errors import MessageError
from posthouse.sending.naming import fault, shown

__all__ = ["CONTENT_OCTETS_MAX", "Pieces", "read_file"]

CONTENT_OCTETS_MAX: Final = 256 << 20
"""Of each file, stream or URL."""


def read_file(field: str, path: Path) -> bytes:
    """A regular file, whole. Raises MessageError that names the path and what to do."""
    place = shown(str(path))
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise fault(
                    field, f"{place} is no file", hint="name a file, not a folder or device"
                )
            if state.st_size > CONTENT_OCTETS_MAX:
                raise _too_big(field, place)
            octets = file.read(CONTENT_OCTETS_MAX + 1)
    except FileNotFoundError:
        here = "" if path.is_absolute() else f"; it was looked for in {Path.cwd()}"
        words = f"there is no file {place}{here}"
        raise fault(field, words, hint="check the path, or give the content itself") from None
    except IsADirectoryError:
        raise fault(field, f"{place} is a folder", hint="name a file; zip a folder first") from None
    except PermissionError:
        words = f"{place} may not be read by the user this program runs as"
        raise fault(field, words, hint="give that user the right to read it") from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOTDIR:
            raise fault(field, f"there is no file {place}", hint="check the path") from None
        said = getattr(error, "strerror", None) or str(error)
        raise fault(field, f"{place} cannot be read: {said}") from None
    if len(octets) > CONTENT_OCTETS_MAX:
        raise _too_big(field, place)
    return octets


def _open_at_once(path: str, flags: int) -> int:
    """A pipe that nobody writes to would be waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _too_big(field: str, what: str) -> MessageError:
    words = f"{what} is larger than {CONTENT_OCTETS_MAX >> 20} MiB"
    return fault(field, words, hint="put it where it can be downloaded, and send the link")


class Pieces:
    """What a stream gave so far."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: object) -> None:
        if isinstance(piece, str):
            piece = piece.encode("utf-8", "replace")
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            words = f"the stream gives {type(piece).__name__}, and has to give octets (bytes)"
            raise fault(self._field, words)
        self._pieces.append(bytes(piece))
        self._size += len(self._pieces[-1])
        if self._size > CONTENT_OCTETS_MAX:
            raise _too_big(self._field, "the stream")

    def joined(self) -> bytes:
        return b"".join(self._pieces)  # of one piece it is that piece
