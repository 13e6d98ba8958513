"""Random messages of ours, read to the same content by mail-parser and by Dovecot.

POSTHOUSE_COMPOSE_MESSAGES says how many; 10,000 are for a release:

    POSTHOUSE_COMPOSE_MESSAGES=10000 pytest tests/interop/test_random_messages.py \\
        tests/sending/test_compose_random.py
"""

from __future__ import annotations

import base64
import imaplib
import os
import re
import unicodedata
from collections.abc import Iterator

import mailparser
import msgspec
import pytest

from posthouse.message import read
from posthouse.message.mime import Part
from posthouse.sending import AsyncTransport, Message, SendEnvelope
from tests.interop import dovecot
from tests.sending.making import letter_of
from tests.sending.test_compose_random import Maker

COUNT = int(os.environ.get("POSTHOUSE_COMPOSE_MESSAGES", "100"))
USER = "bob@house.test"


# --- mail-parser ---


def texts(made: Maker, media_type: str) -> list[str]:
    return [
        one.content.decode().replace("\r\n", "\n").strip()
        for one in made.leaves
        if one.media_type == media_type and not one.disposition
    ]


def composed(text: str) -> str:
    """It writes letters with their accents as one character (NFC), whatever was sent."""
    return unicodedata.normalize("NFC", text)


def test_mail_parser_reads_them_as_they_were_meant() -> None:
    for seed in range(COUNT):
        made = Maker(seed)
        found = mailparser.parse_from_bytes(letter_of(made.message).octets)
        # It reads attachments of a text type as UTF-8, whatever octets they are.
        faults = [words for one in found.defects for words in one["text/plain"]]
        assert all("CharsetDecode" in words for words in faults), seed
        assert composed(" ".join(found.subject.split())) == composed(
            " ".join(made.subject.split())
        ), seed
        assert [address for _, address in found.to] == [address for _, address in made.to], seed
        for media_type, got in (("text/plain", found.text_plain), ("text/html", found.text_html)):
            shown = [composed(text.replace("\r\n", "\n").strip()) for text in got]
            wanted_texts = [composed(text) for text in texts(made, media_type)]
            assert shown[: len(wanted_texts)] == wanted_texts, seed
        wanted = [one for one in made.leaves if one.disposition]
        attached = [one for one in found.attachments if one["content-disposition"]]
        assert len(attached) == len(wanted), seed
        for one, leaf in zip(attached, wanted, strict=True):
            # It decodes text by its own rules; what it takes for binary it hands on as it was.
            if one["binary"]:
                assert base64.b64decode(one["payload"]) == leaf.content, seed
            assert one["mail_content_type"] == leaf.media_type, seed


# --- Dovecot ---


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
