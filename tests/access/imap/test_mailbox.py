"""What IMAP commands do with messages, and what other sessions learn of it."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthouse.access.imap.commands.search import flag_marks
from posthouse.access.imap.options import Options
from posthouse.access.imap.rendering import sections
from posthouse.protocol.imap import search_keys as k
from posthouse.protocol.imap.fetch_items import read_items
from posthouse.protocol.imap.grammar import Reader
from tests.access.imap.house import Client, House, message

MULTIPART = (
    b"From: ada@example.org\r\n"
    b"Subject: parts\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n'
    b"\r\n"
    b"preamble\r\n"
    b"--b\r\n"
    b"Content-Type: text/plain\r\n"
    b"\r\n"
    b"first\r\n"
    b"--b\r\n"
    b"Content-Type: message/rfc822\r\n"
    b"\r\n"
    b"Subject: inner\r\n"
    b"To: bob@example.org\r\n"
    b"\r\n"
    b"inside\r\n"
    b"--b--\r\n"
)


def section(item: str, octets: bytes = MULTIPART) -> bytes | None:
    """The value of one body section, None for NIL."""
    wanted = read_items(Reader([item.encode()], []))
    shown = b"".join(sections(octets, wanted))  # type: ignore[arg-type]
    value = shown.split(b"]", 1)[1].partition(b" ")[2] if b"[" in shown else shown.split(b" ", 1)[1]
    if value == b"NIL":
        return None
    head, _, rest = value.partition(b"\r\n")
    assert head == b"{%d}" % len(rest)
    return rest


# RFC 3501 §6.4.5
@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("BODY[]", MULTIPART),
        ("BODY[HEADER]", MULTIPART.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"),
        ("BODY[TEXT]", MULTIPART.partition(b"\r\n\r\n")[2]),
        ("BODY[1]", b"first"),
        ("BODY[1.MIME]", b"Content-Type: text/plain\r\n\r\n"),
        ("BODY[2]", b"Subject: inner\r\nTo: bob@example.org\r\n\r\ninside"),
        ("BODY[2.HEADER]", b"Subject: inner\r\nTo: bob@example.org\r\n\r\n"),
        ("BODY[2.HEADER.FIELDS (to x)]", b"To: bob@example.org\r\n\r\n"),
        ("BODY[2.HEADER.FIELDS.NOT (to)]", b"Subject: inner\r\n\r\n"),
        ("BODY[2.TEXT]", b"inside"),
        ("BODY[2.1]", b"inside"),
        ("BODY[2.1.1]", None),
        ("BODY[1.HEADER]", None),
        ("BODY[3]", None),
        ("BODY[HEADER.FIELDS (NONE)]", b"\r\n"),
        ("BODY[]<0.4>", b"From"),
        ("BODY[2.TEXT]<4.100>", b"de"),
        ("BODY[]<4294967295.1>", b""),
        ("BODY[" + ".".join(["1"] * 1_000) + "]", None),  # H53
        ("RFC822", MULTIPART),
        ("RFC822.HEADER", MULTIPART.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"),
        ("RFC822.TEXT", MULTIPART.partition(b"\r\n\r\n")[2]),
    ],
)
def test_a_section_is_the_octets_it_names(item: str, expected: bytes | None) -> None:
    assert section(item) == expected


def test_a_message_without_parts_has_itself_as_its_first() -> None:
    assert section("BODY[1]", message()) == b"body\r\n"
    assert section("BODY[2]", message()) is None
    assert section("BODY[HEADER]", b"X: y") == b"X: y"
    assert section("BODY[TEXT]", b"X: y") == b""


def test_a_nul_never_stands_in_a_literal() -> None:  # RFC 3501 §4.3
    assert section("BODY[TEXT]", b"X: y\r\n\r\na\x00b") == b"a b"


async def filled(house: House, count: int, name: str = "ada") -> Client:
    client = await house.client(name, mailbox="INBOX")
    for number in range(count):
        assert b"A OK" in await client.append(message(f"s{number + 1}"))
    return client


async def test_reading_a_body_sets_seen_and_peeking_does_not(house: House) -> None:
    client = await filled(house, 1)
    await client.command("FETCH 1 (BODY.PEEK[] RFC822.HEADER)")
    assert b"(FLAGS (\\Recent))" in await client.command("FETCH 1 FLAGS")
    assert b"* 1 FETCH (FLAGS (\\Seen \\Recent))" in await client.command("FETCH 1 RFC822.TEXT")
    await client.command("STORE 1 FLAGS ()")
    await client.command("EXAMINE INBOX")
    assert b"Seen" not in await client.command("FETCH 1 BODY[]")
    assert b"A NO" in await client.command("STORE 1 FLAGS (\\Seen)")
    assert b"A NO" in await client.command("EXPUNGE")
    assert b"A NO" in await client.command("MOVE 1 Sent")


async def test_uid_commands_tell_the_uid(house: House) -> None:
    client = await filled(house, 3)
    await client.command("STORE 1 FLAGS (\\Deleted)")
    await client.command("EXPUNGE")
    assert b"* 1 FETCH (UID 2 FLAGS (\\Recent))" in await client.command("UID FETCH 2 FLAGS")
    assert b"* 2 FETCH (UID 3 RFC822.SIZE" in await client.command("UID FETCH 3:* RFC822.SIZE")
    assert b"* 2 FETCH (UID 3 FLAGS (" in await client.command("UID STORE 9:* +FLAGS (\\Seen)")
    assert await client.command("UID SEARCH SEEN") == b"* SEARCH 3\r\nA OK SEARCH completed\r\n"
    assert await client.command("UID FETCH 1 FLAGS") == b"A OK FETCH completed\r\n"


async def test_copies_and_moves_tell_where_messages_went(house: House) -> None:
    client = await filled(house, 4)
    await client.command("STORE 2 FLAGS (\\Flagged)")
    copied = await client.command("COPY 1:2,4 Sent")
    assert re.search(rb"A OK \[COPYUID \d+ 1:2,4 1:3\]", copied)
    assert b"A NO [TRYCREATE]" in await client.command("COPY 1 nowhere")
    assert b"A NO [TRYCREATE]" in await client.command("UID MOVE 1 nowhere")
    moved = await client.command("UID MOVE 2:3 Trash")
    assert re.match(
        rb"\* OK \[COPYUID \d+ 2:3 1:2\] [^\r]*\r\n\* 3 EXPUNGE\r\n\* 2 EXPUNGE\r\nA OK", moved
    )
    assert b"* 2 EXISTS" in await client.command("SELECT Trash")
    assert b"* 1 FETCH (FLAGS (\\Flagged \\Recent))" in await client.command("FETCH 1 FLAGS")
    assert b"A OK" in await client.command("UID MOVE 900 Sent")
    assert await client.command("COPY 900 Sent") == b"A OK COPY completed\r\n"


async def test_uid_expunge_takes_only_its_own(house: House) -> None:  # RFC 4315 §2.1
    client = await filled(house, 3)
    await client.command("STORE 1:3 +FLAGS.SILENT (\\Deleted)")
    assert (await client.command("UID EXPUNGE 2:90")).startswith(b"* 3 EXPUNGE\r\n* 2 EXPUNGE\r\n")
    assert b"A OK CLOSE completed" in await client.command("CLOSE")
    assert b"(MESSAGES 0)" in await client.command("STATUS INBOX (MESSAGES)")


async def test_unselect_keeps_what_close_removes(house: House) -> None:  # RFC 3691 §2
    client = await filled(house, 1)
    await client.command("STORE 1 FLAGS (\\Deleted)")
    assert b"A OK" in await client.command("UNSELECT")
    assert b"A BAD" in await client.command("EXPUNGE")
    assert b"(MESSAGES 1)" in await client.command("STATUS INBOX (MESSAGES)")


async def test_a_mailbox_deleted_under_a_session_ends_it(house: House) -> None:
    client, other = await house.client(), await house.client()
    await client.command("CREATE gone")
    await client.command("SELECT gone")
    assert b"A OK" in await other.command("DELETE gone")
    assert await client.command("NOOP") == b"* BYE The selected mailbox was deleted\r\n"
    assert client.transport.is_closed


# P12
async def test_nobody_sees_the_mail_of_another_account(house: House) -> None:
    await filled(house, 2)
    bob = await house.client("bob", mailbox="INBOX")
    assert await bob.command("FETCH 1:* (UID FLAGS)") == b"A OK FETCH completed\r\n"
    assert await bob.command("UID FETCH 1:* ENVELOPE") == b"A OK FETCH completed\r\n"
    assert await bob.command("SEARCH ALL") == b"* SEARCH\r\nA OK SEARCH completed\r\n"


async def test_an_idler_learns_of_every_change(house: House) -> None:  # RFC 2177 §3
    client = await filled(house, 2)
    await client.exchange(b"i IDLE\r\n")
    other = await house.client(mailbox="INBOX")
    await other.append(message())
    await client.settle()
    assert client.read().startswith(b"* 3 EXISTS\r\n")
    await other.command("STORE 1 +FLAGS (\\Deleted $Todo)")
    await client.settle()
    told = client.read()
    assert b"$Todo" in told and b"* 1 FETCH (FLAGS (\\Deleted \\Recent $Todo))" in told
    await other.command("EXPUNGE")
    await client.settle()
    assert client.read() == b"* 1 EXPUNGE\r\n"
    assert await client.exchange(b"DONE\r\n") == b"i OK IDLE completed\r\n"


async def test_recent_belongs_to_one_session(house: House) -> None:  # RFC 3501 §2.3.2
    first = await house.client(mailbox="INBOX")
    second = await house.client(mailbox="INBOX")
    poster = await house.client()
    await poster.append(message())
    told = [await one.command("NOOP") for one in (second, first)]
    assert [b"* 1 EXISTS" in answer for answer in told] == [True, True]
    shown = [b"\\Recent" in await one.command("FETCH 1 FLAGS") for one in (second, first)]
    assert shown == [True, False]
    assert b"RECENT 0" in await poster.command("STATUS INBOX (RECENT)")


async def test_a_large_mailbox_is_told_in_chunks_that_let_others_in(house: House) -> None:
    """F1's neighbour: enough messages that every way of FETCH takes several turns."""
    client = await house.client(mailbox="INBOX")
    await client.append(message())
    for _ in range(13):
        await client.command("COPY 1:* INBOX")
    assert b"* 8192 EXISTS" in await client.command("SELECT INBOX")
    for item, count in (("FLAGS", 8_192), ("(UID ENVELOPE FLAGS)", 8_192), ("UID", 8_192)):
        answer = await client.command(f"FETCH 1:* {item}")
        assert answer.count(b" FETCH (") == count and b"* 8192 FETCH" in answer
    assert (await client.command("FETCH 1:600 BODY.PEEK[TEXT]")).count(b" FETCH (") == 600
    assert (await client.command("STORE 1:* +FLAGS (\\Seen)")).count(b"\\Seen") == 8_192
    assert len((await client.command("SEARCH SEEN")).split()) == 2 + 8_192 + 4
    await client.command("STORE 1:8000 FLAGS (\\Deleted)")
    assert (await client.command("EXPUNGE")).count(b"EXPUNGE\r\n") == 8_000
    assert (await client.command("FETCH 1:* UID")).count(b" FETCH (") == 192


# --- SEARCH ---

FLAGS = (b"\\Seen", b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Draft", b"\\Recent")
KEYS = st.recursive(
    st.one_of(
        st.just(k.All()),
        st.builds(k.HasFlag, st.sampled_from(FLAGS), st.booleans()),
    ),
    lambda inner: st.one_of(
        st.builds(k.Not, inner),
        st.builds(k.Or, inner, inner),
        st.builds(lambda keys: k.And(tuple(keys)), st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=8,
)


def written(key: Any) -> str:
    """A key as a client sends it."""
    match key:
        case k.All():
            return "ALL"
        case k.HasFlag(flag=b"\\Recent"):
            return "RECENT" if key.is_set else "OLD"
        case k.HasFlag():
            return ("" if key.is_set else "UN") + key.flag[1:].decode()
        case k.Not():
            return f"NOT {written(key.key)}"
        case k.Or():
            return f"OR {written(key.left)} {written(key.right)}"
        case _:
            return "(" + " ".join(map(written, key.keys)) + ")"


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(key=KEYS, seed=st.integers(0, 3))
async def test_flags_searched_in_the_session_and_in_the_store_are_the_same(
    key: Any, seed: int, house: House
) -> None:
    client = await searched(house, seed)
    assert flag_marks(key) is not None
    by_session = await client.command(f"SEARCH {written(key)}")
    by_store = await client.command(f"SEARCH {written(key)} LARGER 1")
    assert by_session == by_store and b"A OK" in by_session


async def searched(house: House, seed: int) -> Client:
    """A mailbox of twelve messages with flags by chance; made once for each seed."""
    client = await house.client()
    if b"A OK" not in await client.command(f"CREATE box{seed}"):
        await client.command(f"SELECT box{seed}")
        return client
    chance = random.Random(seed)
    for _ in range(12):
        flags = " ".join(f.decode() for f in FLAGS[:5] if chance.random() < 0.4)
        await client.append(message(), mailbox=f"box{seed}", flags=f"({flags})")
    await client.command(f"SELECT box{seed}")
    return client


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ("SUBJECT beta", b"2"),
        ("OR SUBJECT alpha SUBJECT gamma", b"1 3"),
        ("NOT SUBJECT beta", b"1 3"),
        ('BODY "Straße"', b"3"),
        ("CHARSET UTF-8 BODY STRASSE", b"3"),
        ("TEXT x-own", b"1"),
        ("HEADER X-Own {3+}\r\nyes", b"1"),
        ("SENTON 24-Mar-2007", b"1 2 3"),
        ("SENTBEFORE 24-Mar-2007", b""),
        ("ON 1-Jan-2020", b"2"),
        ("SINCE 2-Jan-2020", b"1 3"),
        ("BEFORE 2-Jan-2020", b"2"),
        ("KEYWORD todo", b"3"),
        ("UNKEYWORD todo", b"1 2"),
        ("UID 2:3", b"2 3"),
        ("1,3", b"1 3"),
        ("*", b"3"),
        ("LARGER 100000", b""),
        ("SMALLER 100000 UNSEEN", b"1 3"),
        ("NEW", b"1 3"),
    ],
)
async def test_search_finds(keys: str, found: bytes, house: House) -> None:
    client = await house.client(mailbox="INBOX")
    await client.append(message("alpha", X_Own="yes"))
    await client.append(message("beta"), flags="(\\Seen)", date='"01-Jan-2020 23:59:59 +0000"')
    await client.append(
        message("gamma", "Eine Straße", Content_Type="text/plain; charset=utf-8"), flags="(Todo)"
    )
    answer = await client.command(f"SEARCH {keys}".encode())
    assert (
        answer == b"* SEARCH" + (b" " + found if found else b"") + b"\r\nA OK SEARCH completed\r\n"
    )


async def test_a_large_message_read_in_parts_is_opened_once(house: House, store: Any) -> None:
    client = await house.client(mailbox="INBOX")
    octets = message(body="0123456789" * 30_000)
    await client.append(octets)
    got = b""
    for at in range(0, len(octets), 65_536):
        answer = await client.command(f"UID FETCH 1 BODY.PEEK[]<{at}.65536>")
        size = min(65_536, len(octets) - at)
        assert b"BODY[]<%d> {%d}\r\n" % (at, size) in answer
        got += answer.partition(b"}\r\n")[2][:size]
        is_last = at + 65_536 >= len(octets)
        assert house.service.kept_octets == (0 if is_last else len(octets))
    assert got == octets
    await client.command("UID FETCH 1 BODY.PEEK[]<0.10>")
    client.hang_up()
    assert house.service.kept_octets == 0


async def test_a_mailbox_takes_so_many_keywords_and_no_more(store: Any) -> None:
    options = Options(is_plaintext_login_allowed=True, keywords_max=3)
    house = await House(store, options=options).settle_in()
    client = await filled(house, 1)
    assert b"A OK" in await client.command("STORE 1 FLAGS (a b c)")
    assert b"A NO [LIMIT]" in await client.command("STORE 1 +FLAGS (d)")
    assert b"FLAGS (\\Recent a b c)" in await client.command("FETCH 1 FLAGS")
