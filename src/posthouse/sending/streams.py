"""Open files and streams that a message is made of, read on a thread.

A letter that nobody took is sent again as the same `Message`, so what it is made of is read again:
an open file from where it stood at first; and a stream, which is over when it was read, is an error
then, and never a letter without its content. What was read is remembered by identity, and not kept.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import AsyncIterable, Iterable
from functools import partial
from typing import BinaryIO, Final

from posthouse.sending.errors import MessageError
from posthouse.sending.files import Pieces
from posthouse.sending.naming import fault

__all__ = ["read_open", "read_pieces", "read_pieces_async"]

KEPT_MAX: Final = 64
"""Streams that are kept to be known again, as their types (map, zip and the like) take no weak
references. When they are over they hold nothing of what they went through."""

_CHUNK_OCTETS: Final = 1 << 20
_HINT: Final = "a stream is read once: give the octets (bytes), or a path"


class _Past:
    """What is remembered of a file or stream."""

    __slots__ = ("is_spent", "left_at", "stood_at", "turn")

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.is_spent = False
        self.stood_at = 0
        """Where a file was when it was read, and where reading it ended."""
        self.left_at: int | None = None


_pasts: Final[dict[int, tuple[weakref.ref[object], _Past]]] = {}
_kept: Final[deque[tuple[object, _Past]]] = deque(maxlen=KEPT_MAX)
_lock: Final = threading.Lock()


def _past_of(source: object, *, is_kept: bool) -> _Past:
    """
    Args:
        is_kept: also where it takes no weak reference; else it is not known again then.
    """
    key = id(source)
    with _lock:
        known = _pasts.get(key)
        if known is not None and known[0]() is source:
            return known[1]
        for one, past in _kept:
            if one is source:
                return past
        past = _Past()
        try:
            # Called before another object can have the same id, at any time: so without the lock.
            # It is `_pasts.pop(key, ref)`, and never raises.
            _pasts[key] = weakref.ref(source, partial(_pasts.pop, key)), past
        except TypeError:
            if is_kept:
                _kept.append((source, past))
        return past


# --- open files ---


def read_open(field: str, file: BinaryIO) -> bytes:
    """What is left of an open file; the same again where it stands where that left it. It stays
    open."""
    can_go_back = _can_go_back(file)
    past = _past_of(file, is_kept=not can_go_back)
    with past.turn:  # one file may be in many letters
        try:
            if can_go_back:
                return _read_and_remember(field, file, past)
            _spend(field, file, past)
            octets = _left_of(field, file)
            past.is_spent = bool(octets)
            return octets
        except (OSError, ValueError) as error:  # ValueError: it is closed, or its text undecodable
            raise fault(field, f"the open file cannot be read: {error}") from None


def _can_go_back(file: BinaryIO) -> bool:
    try:
        is_seekable = getattr(file, "seekable", None)
        if is_seekable is not None and not is_seekable():
            return False
        file.tell()
    except (AttributeError, OSError, ValueError):
        return False
    return hasattr(file, "seek")


def _read_and_remember(field: str, file: BinaryIO, past: _Past) -> bytes:
    at = file.tell()
    if at == past.left_at:
        file.seek(past.stood_at)  # not all tell where they are then
        at = past.stood_at
    past.stood_at, past.left_at = at, None
    try:
        octets = _left_of(field, file)
    finally:
        past.left_at = file.tell()
    if not octets and at:
        words = "the open file stands at its end, and nothing is left of it"
        raise fault(field, words, hint="go back to its beginning first: file.seek(0)")
    return octets


def _left_of(field: str, file: BinaryIO) -> bytes:
    pieces = Pieces(field)
    while piece := file.read(_CHUNK_OCTETS):
        pieces.add(piece)
    return pieces.joined()


# --- streams ---


def read_pieces(field: str, source: Iterable[object]) -> bytes:
    """All that an iterable gives."""
    iterator = iter(source)
    past = _begun(field, source, iterator)
    pieces = Pieces(field)
    for piece in iterator:
        pieces.add(piece)
    return _ended(past, pieces)


async def read_pieces_async(field: str, source: AsyncIterable[object]) -> bytes:
    """All that an asynchronous iterable gives."""
    iterator = aiter(source)
    past = _begun(field, source, iterator)
    pieces = Pieces(field)
    async for piece in iterator:
        pieces.add(piece)
    return _ended(past, pieces)


def _begun(field: str, source: object, iterator: object) -> _Past:
    """A list gives another iterator each time; a stream is its own, or always gives the same."""
    past = _past_of(iterator, is_kept=iterator is source)
    with past.turn:
        _spend(field, source, past)
    return past


def _ended(past: _Past, pieces: Pieces) -> bytes:
    octets = pieces.joined()
    past.is_spent = bool(octets)  # nothing will be nothing again
    return octets


def _spend(field: str, source: object, past: _Past) -> None:
    if past.is_spent:
        raise _spent(field, source)
    past.is_spent = True


def _spent(field: str, source: object) -> MessageError:
    words = f"this {type(source).__name__} was read before, and cannot be read again"
    return fault(field, words, hint=_HINT)
