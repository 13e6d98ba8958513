"""Reading messages."""

from __future__ import annotations

import pytest

from posthouse.mailbox import copy, expunge, fetch, flags
from posthouse.mailbox.fetch import Chunk, Item
from posthouse.mailbox.flags import ANSWERED, EVERYTHING, SEEN, Action
from posthouse.store.blobs.segments import BlobDamaged
from tests.mailbox.world import World, message

EVERY_ITEM = tuple(Item)


def all_lines(world: World, items: tuple[Item, ...], **named: int) -> list[bytes]:
    known = world.view()
    lines = []
    for chunk in fetch.chunks(known, EVERYTHING, messages_max=2):
        joined = world.read(fetch.lines, world.account, world.mailbox(), chunk, items, **named)
        assert joined is not None
        lines += joined.split(b"\r\n* ")
    return lines


def test_lines_have_every_item_as_it_was_stored(world: World) -> None:
    world.deliver(flags=SEEN | ANSWERED, keywords=("$Junk",), prefix=b"X: y\r\n")
    (line,) = all_lines(world, EVERY_ITEM, recent_uid=1)
    envelope, structure = world.sql("SELECT envelope, bodystructure FROM email")[0]
    size = len(message()) + 6
    assert line == (
        b"* 1 FETCH (UID 1 FLAGS (\\Seen \\Answered $Junk \\Recent)"
        b' INTERNALDATE "02-Nov-2026 12:00:00 +0000" RFC822.SIZE %d ENVELOPE %b BODYSTRUCTURE %b'
        b" MODSEQ (%d) EMAILID (E1))\r\n"
    ) % (size, envelope, structure, world.select().modseq)


@pytest.mark.parametrize("mask", range(32))
def test_every_set_of_flags_is_spelled(world: World, mask: int) -> None:
    world.deliver(flags=mask)
    (line,) = all_lines(world, (Item.FLAGS,))
    names = [name for bit, name in flags.FLAG_NAMES.items() if mask & bit]
    assert line == b"* 1 FETCH (FLAGS (%b))\r\n" % " ".join(names).encode()


@pytest.mark.parametrize("gone", [(), (2,), (1, 5)])
def test_sequence_numbers_are_those_of_the_view(world: World, gone: tuple[int, ...]) -> None:
    for n in range(6):
        world.deliver(message(b"%d" % n))
    world.write(
        expunge.expunge,
        world.account,
        world.mailbox(),
        [(uid, uid) for uid in gone],
        only_deleted=False,
    )
    known = world.view()
    got = b"* ".join(all_lines(world, (Item.UID,))).replace(b"* * ", b"* ")
    expected = b"".join(b"* %d FETCH (UID %d)\r\n" % pair for pair in enumerate(known.uids, 1))
    assert got.replace(b")* ", b")\r\n* ") == expected


def test_a_message_gone_since_the_view_is_noticed(world: World) -> None:
    for _ in range(3):
        world.deliver()
    (chunk,) = fetch.chunks(world.view(), EVERYTHING)
    world.write(expunge.expunge, world.account, world.mailbox(), [(2, 2)], only_deleted=False)
    read = (world.account, world.mailbox(), chunk, (Item.UID, Item.SIZE))
    assert world.read(fetch.lines, *read) is None
    assert [uid for uid, _ in world.read(fetch.parts, *read)] == [1, 3]
    assert world.read(fetch.parts, *read)[0][1] == b"UID 1 RFC822.SIZE %d" % len(message())
    assert world.read(fetch.octets, world.account, world.mailbox(), 2) is None


def test_octets_of_envelopes_pass_unchanged(world: World) -> None:
    """SQL joins blobs as text; nothing in them may be lost or cut by that."""
    world.deliver()
    world.store.write_now(
        lambda tx: tx.run("UPDATE email SET envelope = ?", (b"({3}\r\n\xff\x00\xfe '|| %d)",))
    )
    (line,) = all_lines(world, (Item.ENVELOPE,))
    assert line == b"* 1 FETCH (ENVELOPE ({3}\r\n\xff\x00\xfe '|| %d))\r\n"


def test_chunks_cover_what_is_asked_and_no_more(world: World) -> None:
    for _ in range(10):
        world.deliver()
    got = list(fetch.chunks(world.view(), [(2, 4), (6, 6), (9, 99)], messages_max=2))
    assert got == [Chunk(2, 2, 2, 3), Chunk(4, 1, 4, 4), Chunk(6, 1, 6, 6), Chunk(9, 2, 9, 10)]


def test_a_damaged_blob_is_an_error_of_its_message_only(world: World) -> None:  # F10
    first, second = world.deliver(message(b"a")), world.deliver(message(b"b"))
    world.store.write_now(
        lambda tx: tx.run("UPDATE blob SET octets = substr(octets, 2) WHERE id = 1")
    )
    read = (fetch.octets, world.account, first.mailbox)
    with pytest.raises(BlobDamaged):
        world.read(*read, first.uid)
    assert world.read(*read, second.uid) is not None
    (line, other) = all_lines(world, (Item.UID, Item.ENVELOPE))
    assert b"(UID 1 ENVELOPE" in line and b"(UID 2 ENVELOPE" in other


def test_large_messages_come_from_segments_and_partly_shared(world: World) -> None:
    octets = message() + b"x" * 100_000
    world.deliver(octets)
    world.write(copy.copy, world.account, world.mailbox(), EVERYTHING, "Archive")
    got = world.read(fetch.octets, world.account, world.mailbox("Archive"), 1)
    assert got is not None and got.whole() == octets
    world.write(expunge.expunge, world.account, world.mailbox(), only_deleted=False)
    got = world.read(fetch.octets, world.account, world.mailbox("Archive"), 1)
    assert got is not None and got.whole() == octets


def test_rows_and_sizes(world: World) -> None:
    world.deliver(prefix=b"X: y\r\n")
    world.write(
        flags.store_flags, world.account, world.mailbox(), EVERYTHING, Action.ADD, SEEN, ["k"]
    )
    (row,) = world.read(fetch.rows, world.account, world.mailbox(), 1, 10)
    assert (row.uid, row.flags, row.keywords) == (1, SEEN, "k")
    assert (row.size_octets, row.received_at_us) == (len(message()) + 6, world.clock.us)
    assert world.read(fetch.sizes, world.account, world.mailbox()) == [(1, row.size_octets)]


def test_nothing_of_another_account_is_read(world: World) -> None:  # P12
    world.deliver()
    stranger, his = world.new_account("stranger"), world.mailbox()
    chunk = Chunk(1, 1, 1, 1)
    assert world.read(fetch.lines, stranger, his, chunk, EVERY_ITEM) is None
    assert world.read(fetch.parts, stranger, his, chunk, EVERY_ITEM) == []
    assert world.read(fetch.rows, stranger, his, 1, 9) == []
    assert world.read(fetch.octets, stranger, his, 1) is None
    assert world.read(fetch.sizes, stranger, his) == []
