"""gzip, zip and plain files in pieces of bounded size, whatever they claim to hold (H40).

Nothing is written to a disk and no name in an archive is ever used. A zip may hold one file; what
is nested in it is not unpacked.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator
from typing import Final

from posthouse.reporting.model import Overrun, Unreadable
from posthouse.reporting.options import Limits

PIECE_OCTETS: Final = 64 * 1024
RATIO_FLOOR_OCTETS: Final = 1024 * 1024
"""As much may be unpacked of anything: short files of blanks pack better than any report."""
GZIP_MEMBERS_MAX: Final = 100
GZIP: Final = b"\x1f\x8b"
ZIP: Final = b"PK\x03\x04"

_LOCAL_OCTETS: Final = 30
_END: Final = b"PK\x05\x06"
_END_OCTETS: Final = 22
_COMMENT_OCTETS_MAX: Final = 65_535
_STORED, _DEFLATED = 0, 8
_ENCRYPTED: Final = 0x01
_HAS_DESCRIPTOR: Final = 0x08


def unpacked(octets: bytes, limits: Limits) -> Iterator[bytes]:
    """The file in pieces; raises Unreadable, also after some of them."""
    most = limits.packed_octets_max
    if len(octets) > most:
        raise Unreadable(
            f"it is larger than {most} octets",
            Overrun(name="reports.packed_octets_max", value=most, observed=len(octets)),
        )
    if octets.startswith(GZIP):
        pieces = _gzip(octets)
    elif octets.startswith(ZIP):
        pieces = _zip(octets)
    else:
        pieces = _plain(octets)
    yield from _bounded(pieces, len(octets), limits)


def _bounded(pieces: Iterator[bytes], packed: int, limits: Limits) -> Iterator[bytes]:
    total = 0
    most, ratio = limits.unpacked_octets_max, limits.ratio_max
    most_by_ratio = max(RATIO_FLOOR_OCTETS, packed * ratio)
    for piece in pieces:
        total += len(piece)
        if total > most:
            raise Unreadable(
                f"unpacked it is larger than {most} octets",
                Overrun(name="reports.unpacked_octets_max", value=most, observed=total),
            )
        if total > most_by_ratio:
            raise Unreadable(
                f"unpacked it is more than {ratio} times as large",
                Overrun(name="reports.ratio_max", value=ratio, observed=-(-total // packed)),
            )
        yield piece


def _plain(octets: bytes) -> Iterator[bytes]:
    for at in range(0, len(octets), PIECE_OCTETS):
        yield octets[at : at + PIECE_OCTETS]


def _inflated(octets: bytes, start: int, window_bits: int) -> Generator[bytes, None, int]:
    """Pieces of one deflated stream, and in the end the offset behind it."""
    inflate = zlib.decompressobj(window_bits)
    at = start
    waiting = b""
    while not inflate.eof:
        if not waiting:
            waiting = octets[at : at + PIECE_OCTETS]
            at += len(waiting)
        try:
            piece = inflate.decompress(waiting, PIECE_OCTETS)
        except zlib.error as error:
            raise Unreadable("the compressed file is damaged") from error
        is_stuck = not piece and (not waiting or len(inflate.unconsumed_tail) == len(waiting))
        if is_stuck and not inflate.eof:
            raise Unreadable("the compressed file is cut off")
        waiting = inflate.unconsumed_tail
        if piece:
            yield piece
    return at - len(inflate.unused_data)


def _gzip(octets: bytes) -> Iterator[bytes]:
    """One or more members (RFC 1952 §2.2); what stands behind the last one is left alone."""
    at = 0
    for _ in range(GZIP_MEMBERS_MAX):
        at = yield from _inflated(octets, at, 16 + zlib.MAX_WBITS)
        if not octets.startswith(GZIP, at):
            return
    raise Unreadable(f"the gzip file has more than {GZIP_MEMBERS_MAX} members")


def _zip(octets: bytes) -> Iterator[bytes]:
    end = octets.rfind(_END, max(0, len(octets) - _END_OCTETS - _COMMENT_OCTETS_MAX))
    if end < 0 or end + _END_OCTETS > len(octets):
        raise Unreadable("the zip file is cut off")
    files = int.from_bytes(octets[end + 10 : end + 12], "little")
    if files != 1:
        raise Unreadable(f"the zip file holds {files} files instead of one")
    header = octets[:_LOCAL_OCTETS]
    if len(header) < _LOCAL_OCTETS:
        raise Unreadable("the zip file is cut off")
    flags, method = _number(header, 6, 2), _number(header, 8, 2)
    if flags & _ENCRYPTED:
        raise Unreadable("the zip file is encrypted")
    start = _LOCAL_OCTETS + _number(header, 26, 2) + _number(header, 28, 2)
    if method == _DEFLATED:
        yield from _inflated(octets, start, -zlib.MAX_WBITS)
    elif method == _STORED and not flags & _HAS_DESCRIPTOR:
        yield from _plain(octets[start : start + _number(header, 18, 4)])
    else:
        raise Unreadable(f"the zip file is packed by method {method}, which is not known here")


def _number(octets: bytes, at: int, length: int) -> int:
    return int.from_bytes(octets[at : at + length], "little")
