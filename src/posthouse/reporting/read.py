"""A report out of whatever it came in: a mail, or a file of any of the kinds people save.

`read_report` decides by what the octets are, not by what types and names say of them: reporters
send gzip as octet-stream, zip as gzip, and base64 without saying so. It never raises for what it is
given, and takes time and memory within `Limits`; run it on `Workers`.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from posthouse.message import arf, mime
from posthouse.message.mime import Part
from posthouse.reporting import read_dmarc, read_tls
from posthouse.reporting.model import AggregateReport, Read, Report, TlsReport, Unread, Unreadable
from posthouse.reporting.options import Limits
from posthouse.reporting.unpack import GZIP, PIECE_OCTETS, ZIP, unpacked

PARTS_MAX: Final = 50
"""Parts of a mail that are looked at."""
NOTHING: Final = "there is no report in it"

# What gzip, zip, "<?xml", "<feedback" and "{" begin with in base64.
_BASE64: Final = re.compile(rb"\s*(?:H4sI|UEsDB|PD94b|PGZlZ|ew[0o])[A-Za-z0-9+/=\s]*+\Z")
_HEADER: Final = re.compile(rb"(?:From [^\n]*\n)?[!-9;-~]{1,76}[ \t]*:")
_BLANKS: Final = b" \t\r\n\xef\xbb\xbf"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


def read_report(octets: bytes, limits: Limits | None = None) -> Read:
    """The report in a mail or in a bare file, or why there is none that can be read."""
    limits = limits or Limits()
    if (whole := _try_file(octets, limits)) is not None:
        return whole
    if _HEADER.match(octets) is None:
        return Unread(NOTHING)
    return _read_mail(octets, limits)


def _read_mail(octets: bytes, limits: Limits) -> Read:
    root = mime.scan(octets)
    found = arf.find(root)
    if found is not None:
        return arf.read(root, found) or Unread("the feedback report has no Feedback-Type")
    trouble: Unread | None = None
    for part in islice(_leaves(root), PARTS_MAX):
        content = mime.content(part, octets_max=limits.packed_octets_max + 1)
        read = _try_file(content, limits)
        if read is not None and not isinstance(read, Unread):
            return read
        # What a limit ended might have been the report.
        if trouble is None or (read is not None and read.overrun and not trouble.overrun):
            trouble = read
    return trouble or Unread(NOTHING)


def _leaves(root: Part) -> Iterator[Part]:
    return (part for part in root.walk() if not part.children and part.message is None)


def _try_file(octets: bytes, limits: Limits) -> Read | None:
    """None when the octets are of no kind that holds a report."""
    if _BASE64.match(octets[: limits.packed_octets_max * 2]) is not None:
        try:
            octets = binascii.a2b_base64(octets)
        except binascii.Error:
            return Unread("its base64 is damaged")
    start = octets[:PIECE_OCTETS].lstrip(_BLANKS)
    is_packed = octets.startswith((GZIP, ZIP))
    if not (is_packed or start.startswith((b"<", b"{")) or octets.startswith(_UTF16)):
        return None
    try:
        return _read_file(octets if is_packed else octets.lstrip(_BLANKS), limits)
    except Unreadable as problem:
        return problem.unread()


def _read_file(octets: bytes, limits: Limits) -> Report:
    pieces = unpacked(octets, limits)
    first = next(pieces, b"")
    start = first.lstrip(_BLANKS)
    if start.startswith(b"{"):
        return read_tls.read(_again(first, pieces), records_max=limits.records_max)
    if start.startswith(b"<") or first.startswith(_UTF16):
        return read_dmarc.read(_again(first, pieces), records_max=limits.records_max)
    raise Unreadable("what is packed in it is neither XML nor JSON")


def _again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def kind_of(report: Report) -> str:
    """How people call it."""
    match report:
        case AggregateReport():
            return "DMARC report"
        case TlsReport():
            return "TLS report"
        case _:
            return "failure report"
