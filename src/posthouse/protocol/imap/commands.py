"""Every command: the phases that allow it and how its arguments are read (RFC 3501 §6)."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Final

from posthouse.protocol.imap import events as e
from posthouse.protocol.imap.fetch_items import FetchItem, read_items
from posthouse.protocol.imap.grammar import FLAGS_MAX, BadCommand, Reader
from posthouse.protocol.imap.limits import Limits
from posthouse.protocol.imap.search_keys import read_search
from posthouse.protocol.sasl.grammar import SaslSyntaxError, decode_base64

ID_FIELDS_MAX: Final = 30
ID_NAME_OCTETS_MAX: Final = 30
ID_VALUE_OCTETS_MAX: Final = 1_024
"""All three of RFC 2971 §3.3."""
STATUS_ITEMS: Final = frozenset((b"MESSAGES", b"RECENT", b"UIDNEXT", b"UIDVALIDITY", b"UNSEEN"))

_MECHANISM: Final = re.compile(rb"[A-Za-z0-9_-]{1,20}")
_STORE_ITEM: Final = re.compile(rb"([+-]?)FLAGS(\.SILENT)?(?= )", re.I)


class Phase(Enum):
    """Where the session is (RFC 3501 §3)."""

    GREETED = 0
    AUTHENTICATED = 1
    SELECTED = 2


ANY: Final = frozenset(Phase)
BEFORE: Final = frozenset((Phase.GREETED,))
LOGGED_IN: Final = frozenset((Phase.AUTHENTICATED, Phase.SELECTED))
SELECTED: Final = frozenset((Phase.SELECTED,))


def from_base64(octets: bytes) -> bytes | None:
    """Strict base64 without line breaks; None for anything else (H59)."""
    try:
        return decode_base64(octets)
    except SaslSyntaxError:
        return None


def _bare(kind: type[e.Event]) -> Callable[[bytes, Reader], e.Event]:
    return lambda tag, reader: kind(tag=tag)  # type: ignore[call-arg]


def _one_mailbox(
    kind: type[e.Select]
    | type[e.Examine]
    | type[e.Delete]
    | type[e.Subscribe]
    | type[e.Unsubscribe],
) -> Callable[[bytes, Reader], e.Event]:
    def read(tag: bytes, reader: Reader) -> e.Event:
        reader.space()
        return kind(tag=tag, mailbox=reader.mailbox())

    return read


def _id(tag: bytes, reader: Reader) -> e.Event:
    reader.space()
    if reader.accept(b"NIL"):
        return e.Id(tag=tag, fields=())
    reader.expect(b"(")
    fields: list[tuple[bytes, bytes]] = []
    count = 0
    while not reader.accept(b")"):
        if count:
            reader.space()
        name = reader.string()
        reader.space()
        value = reader.nstring()
        count += 1
        if count > ID_FIELDS_MAX or len(name) > ID_NAME_OCTETS_MAX:
            raise BadCommand("Too many or too long ID fields")
        if value is not None:
            if len(value) > ID_VALUE_OCTETS_MAX:
                raise BadCommand("ID value too long")
            fields.append((name, value))
    return e.Id(tag=tag, fields=tuple(fields))


def _authenticate(tag: bytes, reader: Reader) -> e.Event:
    reader.space()
    mechanism = reader.match(_MECHANISM, "mechanism")[0].decode("ascii").upper()
    initial: bytes | None = None
    if not reader.at_end():
        reader.space()
        word = reader.rest()
        initial = b"" if word == b"=" else from_base64(word)  # RFC 4959 §3
        if initial is None:
            raise BadCommand("Invalid base64")
    return e.Authenticate(tag=tag, mechanism=mechanism, initial_response=initial)


def _login(tag: bytes, reader: Reader) -> e.Event:
    reader.space()
    user = reader.astring()
    reader.space()
    return e.Login(tag=tag, user=user, password=reader.astring())


def _enable(tag: bytes, reader: Reader) -> e.Event:
    names: list[bytes] = []
    while not names or not reader.at_end():
        reader.space()
        names.append(reader.word())
        if len(names) > FLAGS_MAX:
            raise BadCommand("Too many capabilities", code="LIMIT")
    return e.Enable(tag=tag, capabilities=tuple(names))


def _create(tag: bytes, reader: Reader) -> e.Event:
    reader.space()
    mailbox = reader.mailbox()
    special_use: tuple[bytes, ...] = ()
    if reader.accept(b" (USE "):
        special_use = _special_use(reader)
        reader.expect(b")")
    return e.Create(tag=tag, mailbox=mailbox, special_use=special_use)


def _special_use(reader: Reader) -> tuple[bytes, ...]:
    reader.expect(b"(")
    uses: list[bytes] = []
    while not reader.accept(b")"):
        if uses:
            reader.space()
        reader.expect(b"\\")
        uses.append(b"\\" + reader.atom())
        if len(uses) > FLAGS_MAX:
            raise BadCommand("Too many attributes", code="LIMIT")
    return tuple(uses)


def _rename(tag: bytes, reader: Reader) -> e.Event:
    reader.space()
    mailbox = reader.mailbox()
    reader.space()
    return e.Rename(tag=tag, mailbox=mailbox, to=reader.mailbox())


def _list(kind: type[e.List] | type[e.Lsub]) -> Callable[[bytes, Reader], e.Event]:
    def read(tag: bytes, reader: Reader) -> e.Event:
        reader.space()
        reference = reader.mailbox()
        reader.space()
        return kind(tag=tag, reference=reference, pattern=reader.list_mailbox())

    return read


def _status(tag: bytes, reader: Reader) -> e.Event:
    reader.space()
    mailbox = reader.mailbox()
    reader.space()
    reader.expect(b"(")
    items: dict[bytes, None] = {}
    while True:
        item = reader.word()
        if item not in STATUS_ITEMS:
            raise BadCommand("Unknown status item")
        items[item] = None
        if reader.accept(b")"):
            return e.Status(tag=tag, mailbox=mailbox, items=tuple(items))
        reader.space()


def _append(tag: bytes, reader: Reader) -> e.Event:
    reader.space()
    mailbox = reader.mailbox()
    reader.space()
    flags: tuple[bytes, ...] = ()
    if reader.peek() == b"(":
        flags = reader.flag_list()
        reader.space()
    at_us: int | None = None
    if reader.peek() == b'"':
        at_us = reader.date_time()
        reader.space()
    message = reader.literal()
    return e.Append(tag=tag, mailbox=mailbox, flags=flags, received_at_us=at_us, message=message)


def _expunge_uids(tag: bytes, reader: Reader) -> e.Event:
    reader.space()
    return e.Expunge(tag=tag, uids=reader.sequence_set())


def _search(*, by_uid: bool) -> Callable[[bytes, Reader], e.Event]:
    def read(tag: bytes, reader: Reader) -> e.Event:
        reader.space()
        return e.Search(tag=tag, key=read_search(reader), by_uid=by_uid)

    return read


def _fetch(*, by_uid: bool) -> Callable[[bytes, Reader], e.Event]:
    def read(tag: bytes, reader: Reader) -> e.Event:
        reader.space()
        messages = reader.sequence_set()
        reader.space()
        text = reader.short_rest()
        items = read_items(reader) if text is None else _items(text, reader.limits.fetch_items_max)
        return e.Fetch(tag=tag, messages=messages, items=items, by_uid=by_uid)

    return read


@lru_cache(maxsize=256)
def _items(text: bytes, items_max: int) -> tuple[FetchItem, ...]:
    """Items that clients ask for again and again, read once."""
    reader = Reader((text,), (), Limits(fetch_items_max=items_max))
    items = read_items(reader)
    reader.end()
    return items


def _store(*, by_uid: bool) -> Callable[[bytes, Reader], e.Event]:
    def read(tag: bytes, reader: Reader) -> e.Event:
        reader.space()
        messages = reader.sequence_set()
        reader.space()
        sign, silent = reader.match(_STORE_ITEM, "store item").groups()
        reader.space()
        return e.Store(
            tag=tag,
            messages=messages,
            operation=sign.decode("ascii") or "=",
            flags=_store_flags(reader),
            is_silent=silent is not None,
            by_uid=by_uid,
        )

    return read


def _store_flags(reader: Reader) -> tuple[bytes, ...]:
    """A list, or flags without parentheses."""
    if reader.peek() == b"(":
        return reader.flag_list()
    flags = [reader.flag()]
    while not reader.at_end():
        reader.space()
        flags.append(reader.flag())
        if len(flags) > FLAGS_MAX:
            raise BadCommand("Too many flags", code="LIMIT")
    return tuple(flags)


def _copy(kind: type[e.Copy] | type[e.Move], *, by_uid: bool) -> Callable[[bytes, Reader], e.Event]:
    def read(tag: bytes, reader: Reader) -> e.Event:
        reader.space()
        messages = reader.sequence_set()
        reader.space()
        return kind(tag=tag, messages=messages, mailbox=reader.mailbox(), by_uid=by_uid)

    return read


COMMANDS: Final[dict[bytes, tuple[frozenset[Phase], Callable[[bytes, Reader], e.Event]]]] = {
    b"CAPABILITY": (ANY, _bare(e.Capability)),
    b"NOOP": (ANY, _bare(e.Noop)),
    b"LOGOUT": (ANY, _bare(e.Logout)),
    b"ID": (ANY, _id),
    b"STARTTLS": (BEFORE, _bare(e.StartTls)),
    b"AUTHENTICATE": (BEFORE, _authenticate),
    b"LOGIN": (BEFORE, _login),
    b"ENABLE": (LOGGED_IN, _enable),
    b"SELECT": (LOGGED_IN, _one_mailbox(e.Select)),
    b"EXAMINE": (LOGGED_IN, _one_mailbox(e.Examine)),
    b"CREATE": (LOGGED_IN, _create),
    b"DELETE": (LOGGED_IN, _one_mailbox(e.Delete)),
    b"RENAME": (LOGGED_IN, _rename),
    b"SUBSCRIBE": (LOGGED_IN, _one_mailbox(e.Subscribe)),
    b"UNSUBSCRIBE": (LOGGED_IN, _one_mailbox(e.Unsubscribe)),
    b"LIST": (LOGGED_IN, _list(e.List)),
    b"LSUB": (LOGGED_IN, _list(e.Lsub)),
    b"NAMESPACE": (LOGGED_IN, _bare(e.Namespace)),
    b"STATUS": (LOGGED_IN, _status),
    b"APPEND": (LOGGED_IN, _append),
    b"IDLE": (LOGGED_IN, _bare(e.Idle)),
    b"CHECK": (SELECTED, _bare(e.Check)),
    b"CLOSE": (SELECTED, _bare(e.Close)),
    b"UNSELECT": (SELECTED, _bare(e.Unselect)),
    b"EXPUNGE": (SELECTED, _bare(e.Expunge)),
    b"SEARCH": (SELECTED, _search(by_uid=False)),
    b"FETCH": (SELECTED, _fetch(by_uid=False)),
    b"STORE": (SELECTED, _store(by_uid=False)),
    b"COPY": (SELECTED, _copy(e.Copy, by_uid=False)),
    b"MOVE": (SELECTED, _copy(e.Move, by_uid=False)),
    b"UID EXPUNGE": (SELECTED, _expunge_uids),
    b"UID SEARCH": (SELECTED, _search(by_uid=True)),
    b"UID FETCH": (SELECTED, _fetch(by_uid=True)),
    b"UID STORE": (SELECTED, _store(by_uid=True)),
    b"UID COPY": (SELECTED, _copy(e.Copy, by_uid=True)),
    b"UID MOVE": (SELECTED, _copy(e.Move, by_uid=True)),
}
