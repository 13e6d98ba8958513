"""FETCH responses: from a view's byte array, and sections of messages (RFC 3501 §7.4.2).

Pure but for `read_batch`, which runs on a store thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from posthouse.access.imap.flag_texts import LISTED_TEXT
from posthouse.access.imap.selected import SelectedMailbox
from posthouse.mailbox import fetch
from posthouse.mailbox.fetch import Chunk, Item
from posthouse.mailbox.flags import HAS_KEYWORDS
from posthouse.message import mime
from posthouse.message.fields import body_start, header_end
from posthouse.protocol.imap import structure
from posthouse.protocol.imap.fetch_items import Section, SectionText
from posthouse.protocol.imap.responses import without_nul
from posthouse.protocol.imap.structure import SectionKind
from posthouse.store.blobs.segments import BlobDamaged
from posthouse.store.transaction import Transaction

BATCH_OCTETS_MAX: Final = 1024 * 1024
"""Of messages opened by one read, but for the last of them."""
KEPT_OCTETS_MIN: Final = 64 * 1024
"""Of a message worth keeping between the parts a client reads of it."""

_FLAGS_AT: Final = tuple(f" FETCH (FLAGS ({listed}))\r\n" for listed in LISTED_TEXT)
_UID_FLAGS_AT: Final = tuple(f" FLAGS ({listed}))\r\n" for listed in LISTED_TEXT)
_KINDS: Final = {
    SectionText.WHOLE: SectionKind.WHOLE,
    SectionText.HEADER: SectionKind.HEADER,
    SectionText.FIELDS: SectionKind.HEADER,
    SectionText.FIELDS_NOT: SectionKind.HEADER,
    SectionText.TEXT: SectionKind.TEXT,
    SectionText.MIME: SectionKind.MIME,
}


# --- flags ---


def flag_lines(box: SelectedMailbox, first: int, last: int, *, with_uid: bool) -> bytes:
    """`* n FETCH (FLAGS (...))` for sequence numbers `first` to `last`: one comprehension over
    the view's bytes with precomputed texts."""
    view = box.view
    assert view is not None
    flags = box.shown_bits(first, last)
    if with_uid:
        uids = view.uids[first - 1 : last]
        lines = [
            f"* {number} FETCH (UID {uid}{_UID_FLAGS_AT[bits]}"
            for number, uid, bits in zip(range(first, last + 1), uids, flags)
        ]
    else:
        lines = [f"* {number}{_FLAGS_AT[bits]}" for number, bits in enumerate(flags, first)]
    if view.keywords:
        _put_keywords(box, first, flags, lines, with_uid=with_uid)
    return "".join(lines).encode("utf-8")


def _put_keywords(
    box: SelectedMailbox, first: int, flags: bytearray, lines: list[str], *, with_uid: bool
) -> None:
    """Write the lines of messages with keywords again."""
    view = box.view
    assert view is not None
    for at, bits in enumerate(flags):
        if bits & HAS_KEYWORDS:
            uid = view.uids[first - 1 + at]
            head = f"UID {uid} " if with_uid else ""
            shown = box.flags_of(first + at, uid).decode()
            lines[at] = f"* {first + at} FETCH ({head}FLAGS {shown})\r\n"


# --- sections ---


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a FETCH that opens messages asks for besides UID and FLAGS."""

    items: tuple[Item, ...]
    sections: tuple[Section, ...]
    with_body: bool
    """BODY, which is made of the stored BODYSTRUCTURE."""


class Rendered(msgspec.Struct, frozen=True):
    """One message's items, behind UID and FLAGS, in pieces that follow each other: what is large
    is never copied into something larger. None when it cannot be read."""

    uid: int
    pieces: list[bytes] | None


class Batch(msgspec.Struct, frozen=True):
    messages: list[Rendered]
    """Those that are still there."""
    taken: int
    """How many of the UIDs asked for were looked at."""
    opened: tuple[int, bytes] | None = None
    """The message to keep, when parts of a large one were asked for and there is more of it."""


def read_batch(tx: Transaction, box: SelectedMailbox, uids: Sequence[int], wanted: Wanted) -> Batch:
    """Render messages until they are `BATCH_OCTETS_MAX` together."""
    messages: list[Rendered] = []
    opened: tuple[int, bytes] | None = None
    total = taken = 0
    for uid in uids:
        taken += 1
        rendered, octets = _render_one(tx, box, uid, wanted)
        if octets is not None and len(octets) > KEPT_OCTETS_MIN and _goes_on(octets, wanted):
            opened = (uid, octets)
        if rendered is not None:
            messages.append(rendered)
            total += sum(map(len, rendered.pieces or ()))
            if total >= BATCH_OCTETS_MAX:
                break
    return Batch(messages, taken, opened)


def _goes_on(octets: bytes, wanted: Wanted) -> bool:
    """Whether the client reads this message from front to back and is not at its end."""
    ends = [item.origin + item.octets for item in wanted.sections if item.origin is not None]
    return bool(ends) and max(ends) < len(octets)


def _render_one(
    tx: Transaction, box: SelectedMailbox, uid: int, wanted: Wanted
) -> tuple[Rendered | None, bytes | None]:
    """What to show of a message, None when it is gone; and its octets, if they were opened."""
    pieces: list[bytes] = []
    octets: bytes | None = None
    chunk = Chunk(1, 1, uid, uid)
    if wanted.items:
        stored = fetch.parts(tx, box.account, box.mailbox, chunk, wanted.items)
        if not stored:
            return None, None
        pieces.append(stored[0][1])
    if wanted.with_body:
        stored = fetch.parts(tx, box.account, box.mailbox, chunk, (Item.BODYSTRUCTURE,))
        if not stored:
            return None, None
        body = structure.basic_body(stored[0][1].partition(b" ")[2])
        pieces += [b" BODY " if pieces else b"BODY ", body]
    if wanted.sections:
        try:
            octets = _open(tx, box, uid)
        except BlobDamaged:
            return Rendered(uid, None), None
        if octets is None:
            return None, None
        if pieces:
            pieces.append(b" ")
        pieces += sections(octets, wanted.sections)
    return Rendered(uid, pieces), octets


def _open(tx: Transaction, box: SelectedMailbox, uid: int) -> bytes | None:
    kept = box.opened
    if kept is not None and kept[0] == uid:
        return kept[1]
    message = fetch.octets(tx, box.account, box.mailbox, uid)
    return None if message is None else message.whole()


def sections(octets: bytes, wanted: Sequence[Section]) -> list[bytes]:
    """`BODY[...] {n}...` for each, in pieces; the message is scanned once, and only when a part
    is asked for."""
    root: mime.Part | None = None
    out: list[bytes] = []
    for section in wanted:
        kind = _KINDS[section.text]
        if section.path:
            root = root or mime.scan(octets)
            span = structure.part_section(root, section.path, kind)
        else:
            span = _whole_or_half(octets, kind)
        value = None if span is None else _value(octets, span, section)
        head = b" " + section.label if out else section.label
        if value is None:
            out.append(head + b" NIL")
        else:
            out += [b"%b {%d}\r\n" % (head, len(value)), value]
    return out


def _whole_or_half(octets: bytes, kind: SectionKind) -> tuple[int, int]:
    """A section of the message itself, for which no field has to be read."""
    if kind is SectionKind.WHOLE:
        return 0, len(octets)
    body = body_start(octets, header_end(octets))
    return (0, body) if kind is SectionKind.HEADER else (body, len(octets))


def _value(octets: bytes, span: tuple[int, int], section: Section) -> bytes:
    if section.fields:
        octets = structure.header_fields(
            octets,
            span,
            frozenset(name.lower() for name in section.fields),
            negate=section.text is SectionText.FIELDS_NOT,
        )
        span = (0, len(octets))
    start, end = span
    if section.origin is not None:
        start = min(start + section.origin, end)
        end = min(start + section.octets, end)
    value = octets if end - start == len(octets) else octets[start:end]
    return without_nul(value)
