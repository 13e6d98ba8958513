"""Content against a slow and obvious model of it, cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.reply import Reply
from posthouse.protocol.smtp import replies
from posthouse.protocol.smtp.content import Content, find_end, has_bare_newline
from posthouse.protocol.smtp.inbox import Inbox
from posthouse.protocol.smtp.limits import BareNewlines

LINE_OCTETS_MAX = 9
OCTETS_MAX = 30


def model(octets: bytes) -> tuple[bytes | Reply, bytes] | None:
    """What the content and what is behind it must be, looked at octet by octet."""
    framed = b"\r\n" + octets
    end = framed.find(b"\r\n.\r\n")
    if end < 0:
        return None
    raw, rest = framed[2 : end + 2], framed[end + 5 :]
    text, line = bytearray(), 0
    is_long = False
    for at, octet in enumerate(raw):
        if octet == 0x2E and (at == 0 or raw[at - 2 : at] == b"\r\n"):
            line += 1
            is_long = is_long or line > LINE_OCTETS_MAX
            continue
        text.append(octet)
        line += 1
        is_long = is_long or line > LINE_OCTETS_MAX
        if octet == 0x0A:
            line = 0
    if len(text) > OCTETS_MAX:
        return replies.MESSAGE_TOO_BIG, rest
    plain = raw.replace(b"\r\n", b"")
    if b"\r" in plain or b"\n" in plain:
        return replies.BARE_NEWLINE, rest
    if is_long:
        return replies.TEXT_LINE_TOO_LONG, rest
    header, _, _ = (b"\r\n" + bytes(text)).partition(b"\r\n\r\n")
    return (replies.NUL_IN_HEADER if b"\0" in header else bytes(text)), rest


def taken(segments: list[bytes]) -> tuple[bytes | Reply, bytes] | None:
    inbox = Inbox()
    content = Content(octets_max=OCTETS_MAX, line_octets_max=LINE_OCTETS_MAX, is_stuffed=True)
    for number, segment in enumerate(segments):
        inbox.receive(segment)
        inbox.gather()
        if inbox and content.read_data(inbox):
            rest = inbox.take_rest() + b"".join(segments[number + 1 :])
            return content.judged(BareNewlines.REFUSE, is_binary=False), rest
    return None


pieces = st.sampled_from(
    [b"\r\n", b"\r\n", b"\r\n.", b".", b".\r\n", b"\r", b"\n", b"\0", b"a", b"bcdefg", b"\r\n\r\n"]
)
raw_content = st.lists(pieces, max_size=16).map(b"".join)


# H1 H2 H3 H4
@given(octets=raw_content, data=st.data())
def test_content_is_what_a_slow_reader_says_wherever_it_is_cut(
    octets: bytes, data: st.DataObject
) -> None:
    octets += data.draw(st.sampled_from([b"", b"\r\n.\r\n", b"\r\n.\r\nNOOP\r\n"]))
    marks = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=5)))
    ends = [0, *marks, len(octets)]
    segments = [octets[a:b] for a, b in itertools.pairwise(ends)]
    assert taken(segments) == model(octets)


# H3
@pytest.mark.parametrize("content", [b"", b"a\r\n", b"..a\r\n\r\n", b"a\r\n.b\r\n"])
def test_the_end_may_be_cut_at_every_octet(content: bytes) -> None:
    octets = content + b".\r\n"
    whole = taken([octets])
    assert whole == model(octets) is not None
    for first in range(len(octets) + 1):
        for second in range(first, len(octets) + 1):
            assert taken([octets[:first], octets[first:second], octets[second:]]) == whole


def test_a_message_past_its_limit_is_not_kept() -> None:
    content = Content(octets_max=1000, line_octets_max=10**6, is_stuffed=True)
    inbox = Inbox()
    for _ in range(100):
        inbox.receive(b"x" * 1000)
        inbox.gather()
        assert not content.read_data(inbox)
    assert content.size == 100_000
    assert content._buffer is None


# H2
@given(octets=st.lists(pieces | st.binary(max_size=4), max_size=12).map(b"".join))
def test_a_bare_newline_is_one_that_no_crlf_explains(octets: bytes) -> None:
    plain = octets.replace(b"\r\n", b"")
    assert has_bare_newline(octets) == (b"\r" in plain or b"\n" in plain)


# H2
@given(octets=st.lists(pieces, max_size=12).map(b"".join), data=st.data())
def test_a_bare_newline_in_chunks_is_found_wherever_they_are_cut(
    octets: bytes, data: st.DataObject
) -> None:
    content = Content(octets_max=1000, line_octets_max=1000, is_stuffed=False)
    cut = data.draw(st.integers(0, len(octets)))
    for piece, is_last in ((octets[:cut], False), (octets[cut:], True)):
        inbox = Inbox()
        inbox.receive(piece)
        assert content.read_chunk(inbox, len(piece), is_last=is_last) == len(piece)
    judged = content.judged(BareNewlines.REFUSE, is_binary=False)
    assert (judged == replies.BARE_NEWLINE) == has_bare_newline(octets)


# H1
@given(octets=raw_content, start=st.integers(0, 20))
def test_one_search_tells_the_end_and_whether_dots_are_stuffed(octets: bytes, start: int) -> None:
    octets += b"\r\n.\r\n"
    end, has_dots = find_end(octets, start)
    assert end == octets.find(b"\r\n.\r\n", start)
    if end >= 0:
        assert has_dots == (b"\r\n." in octets[start : end + 2])
    assert find_end(octets[start:-1], 0)[0] == octets[start:-1].find(b"\r\n.\r\n")
