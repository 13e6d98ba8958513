"""Random messages of ours, read to the same content by the standard library, mail-parser and
Dovecot, and sent to Dovecot by LMTP.

POSTHOUSE_COMPOSE_MESSAGES says how many; 10,000 are for a release:

    python -m tests.interop.random_messages --count 10000
    POSTHOUSE_COMPOSE_MESSAGES=10000 pytest tests/interop/test_random_messages.py \\
        tests/sending/test_compose_random.py
"""

from __future__ import annotations

import imaplib
import os
import re
from collections.abc import Iterator

import msgspec
import pytest

from posthouse.message import read
from posthouse.message.mime import Part
from posthouse.sending import AsyncTransport, Message, SendEnvelope
from tests.interop import dovecot
from tests.interop.letter_content import Content
from tests.interop.letter_readers import by_the_library
from tests.interop.programs import needs_program
from tests.interop.random_messages import Judge, judges, run
from tests.sending.test_compose_random import Maker

COUNT = int(os.environ.get("POSTHOUSE_COMPOSE_MESSAGES", "200"))
USER = "bob@house.test"


# --- all readers, the message as it is composed ---


@pytest.mark.parametrize("reader", ["library", "mail-parser"])
def test_readers_in_python_find_what_the_messages_were_made_of(reader: str) -> None:
    check_all(reader)


@needs_program("dovecot", package="dovecot-imapd", root=True)
def test_dovecot_finds_what_the_messages_were_made_of() -> None:
    if why := dovecot.why_not():
        pytest.skip(why)
    check_all("dovecot")


def check_all(reader: str) -> None:
    with judges([reader]) as readers:
        tally = run(range(COUNT), readers)
    assert tally.messages == COUNT and tally.parts > COUNT
    assert not tally.unknown, tally.report()


@pytest.mark.parametrize(
    ("field", "value"),
    [("subject", "Coffee"), ("to", ()), ("tree", "mixed()"), ("parts", ()), ("date", None)],
)
def test_a_reader_that_finds_something_else_is_told(field: str, value: object) -> None:
    def misreads(octets: bytes) -> Content:
        return msgspec.structs.replace(by_the_library(octets), **{field: value})

    tally = run(range(5), {"library": Judge(misreads, lambda content: content)})
    told = {one.where for one in tally.unknown}
    assert {"number of parts" if field == "parts" else field} <= told


# --- Dovecot, by LMTP ---


@pytest.fixture(scope="module")
def house() -> Iterator[tuple[int, int]]:
    if why := dovecot.why_not():
        pytest.skip(why)
    with dovecot.running() as ports:
        yield ports


@pytest.mark.interop
async def test_dovecot_has_the_same_parts_with_the_same_octets(house: tuple[int, int]) -> None:
    lmtp, imap = house
    seeds: dict[str, int] = {}
    async with AsyncTransport(f"lmtp://127.0.0.1:{lmtp}", connections_max=2) as way:
        letters = (replaced(Maker(seed)) for seed in range(COUNT))
        async for sent in way.send_all(letters):
            assert sent.receipt is not None, sent.error
            seeds[sent.receipt.message_id] = sent.index
    with imaplib.IMAP4("127.0.0.1", imap) as client:
        client.login(USER, dovecot.PASSWORD)
        client.select("INBOX", readonly=True)
        checked = 0
        for uid in client.uid("SEARCH", "ALL")[1][0].split():
            checked += check(client, uid, seeds)
    assert checked == COUNT


def check(client: imaplib.IMAP4, uid: bytes, seeds: dict[str, int]) -> int:
    """What Dovecot says of one message: its parts decoded, their types, names and the envelope."""
    octets = fetched(client, uid, "BODY.PEEK[]")[0]
    message = read(octets)
    seed = seeds[message.message_id]
    made = Maker(seed)
    paths = [path for path, part in numbered(message.root)]
    asked = " ".join(f"BINARY.PEEK[{path}]" for path in paths)
    contents = fetched(client, uid, f"({asked})")
    assert contents == [leaf.content for leaf in made.leaves], seed
    structure = b" ".join(raw(client, uid, "(ENVELOPE BODYSTRUCTURE)")).decode("utf-8", "replace")
    for leaf in made.leaves:
        maintype, _, subtype = leaf.media_type.partition("/")
        assert f'"{maintype}" "{subtype}"' in structure.lower(), seed
    for _, address in made.to:
        mailbox, _, host = address.partition("@")
        assert f'"{mailbox}" "{host}"' in structure, seed
    return 1


def numbered(part: Part, path: str = "") -> list[tuple[str, Part]]:
    """Leaves by the numbers that IMAP gives them."""
    if not part.children:
        return [(path or "1", part)]
    return [
        found
        for number, child in enumerate(part.children, 1)
        for found in numbered(child, f"{path}.{number}".lstrip("."))
    ]


def raw(client: imaplib.IMAP4, uid: bytes, what: str) -> list[bytes]:
    _, data = client.uid("FETCH", uid.decode(), what)
    return [one for item in data for one in (item if isinstance(item, tuple) else (item,)) if one]


def fetched(client: imaplib.IMAP4, uid: bytes, what: str) -> list[bytes]:
    """The literals and quoted strings of the answer, in order."""
    _, data = client.uid("FETCH", uid.decode(), what)
    found: list[bytes] = []
    for item in data:
        if isinstance(item, tuple):
            found += short(item[0])
            found.append(item[1])
        elif isinstance(item, bytes):
            found += short(item)
    return found


_SHORT = re.compile(rb'BINARY\[[0-9.]+\] (?:"((?:[^"\\]|\\.)*)"|(NIL))')


def short(line: bytes) -> list[bytes]:
    """What is so short that it is no literal: an empty part, above all."""
    return [
        b"" if match[2] else re.sub(rb"\\(.)", rb"\1", match[1]) for match in _SHORT.finditer(line)
    ]


def replaced(made: Maker) -> Message:
    """To one mailbox, whoever is named in it."""
    envelope = SendEnvelope(sender="ada@example.org", recipients=[USER])
    return msgspec.structs.replace(made.message, envelope=envelope, bcc=())
