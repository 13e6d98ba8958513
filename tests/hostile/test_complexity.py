"""Time grows no faster than what a peer sends, for every hostile input that has a size: n, 2n and
4n octets are compared, with bounds raised where they would end the comparison early."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from posthouse.mailbox.hierarchy import Limits as NameLimits
from posthouse.mailbox.hierarchy import Pattern
from posthouse.message import preview
from posthouse.message.address import AddressError, parse_mailbox
from posthouse.message.address_list import parse_address_list
from posthouse.message.dates import parse_date
from posthouse.message.fields import exceeded, read_section
from posthouse.message.html import to_words
from posthouse.message.mime import content, scan
from posthouse.message.parameters import parse_disposition, parse_type
from posthouse.message.words import decode
from posthouse.protocol.imap import structure, utf7
from posthouse.protocol.imap.limits import Limits as ImapLimits
from posthouse.protocol.imap.server import Phase
from posthouse.protocol.smtp.limits import Limits as SmtpLimits
from tests.fuzz.oracle import Shape, growth, seconds
from tests.protocol.imap.runs import machine, run
from tests.protocol.pop3.test_server import Client
from tests.protocol.smtp.dialogue import MachinePeer

pytestmark = pytest.mark.timed

MANY = 10**9
WIDE_SMTP = SmtpLimits(
    junk_commands_max=MANY,
    errors_max=MANY,
    errors_soft=MANY,
    recipients_max=MANY,
    unknown_recipients_soft=MANY,
    unknown_recipients_max=MANY,
)
WIDE_IMAP = ImapLimits(
    line_octets_max=MANY,
    line_before_login_octets_max=MANY,
    errors_max=MANY,
    errors_before_login_max=MANY,
    set_items_max=MANY,
    search_keys_max=MANY,
    fetch_items_max=MANY,
)
OPENING = b"EHLO c.example\r\n"
MAIL = OPENING + b"MAIL FROM:<a@b.example>\r\n"
RCPT = b"RCPT TO:<u@mx.example>\r\n"
SEGMENT_OCTETS = 1460
MIB = 1024 * 1024


def assert_linear(
    judge: Callable[[bytes], object],
    shape: Shape,
    *,
    first: int = 16 * 1024,
    last: int = 256 * 1024,
) -> None:
    found = growth(judge, shape.octets, sizes=(first, last))
    assert found is None or not found.is_too_fast, f"{found}"


def segments(octets: bytes) -> list[bytes]:
    return [octets[at : at + SEGMENT_OCTETS] for at in range(0, len(octets), SEGMENT_OCTETS)]


def smtp(octets: bytes) -> MachinePeer:
    """Greeted, then everything in one segment."""
    peer = MachinePeer(limits=WIDE_SMTP)
    opening, rest = octets[: len(OPENING)], octets[len(OPENING) :]
    peer.send(opening)
    peer.send(rest)
    assert peer.ended is None
    return peer


def smtp_in_segments(octets: bytes) -> None:
    peer = MachinePeer(limits=WIDE_SMTP, cut=segments)
    peer.send(octets[: len(OPENING)])
    peer.send(octets[len(OPENING) :])


SMTP = {
    "a line without end": Shape(OPENING, b"x", b""),  # H5
    "NOOP": Shape(OPENING, b"NOOP\r\n", b""),  # H13
    "RSET": Shape(OPENING, b"RSET\r\n", b""),  # H13
    "RCPT": Shape(MAIL, RCPT, b""),  # H22
    "VRFY": Shape(OPENING, b"VRFY root\r\n", b""),  # H22
    "one octet a line": Shape(MAIL + RCPT + b"DATA\r\n", b"x\r\n", b"\r\n.\r\n"),  # H37
    "no line end": Shape(MAIL + RCPT + b"DATA\r\n", b"x" * 99, b"\r\n.\r\n"),  # H37
    "stuffed dots": Shape(MAIL + RCPT + b"DATA\r\n", b"..\r\n", b".\r\n"),  # H37
    "bare line ends": Shape(MAIL + RCPT + b"DATA\r\n", b"\n.\r", b"\r\n.\r\n"),  # H2, H37
    "chunks of one octet": Shape(MAIL + RCPT, b"BDAT 1\r\nx", b""),  # H10, H37
}


@pytest.mark.parametrize("judge", [smtp, smtp_in_segments])
@pytest.mark.parametrize("name", SMTP)
def test_an_smtp_session_takes_linear_time(
    name: str, judge: Callable[[bytes], object]
) -> None:  # H5, H13, H22, H37
    assert_linear(judge, SMTP[name])


def multipart(boundary: bytes) -> bytes:
    return b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\n"


EMPTY_LINES = Shape(b"From: a@b.example\r\n\r\n", b"\r\n", b"")
MESSAGES = {
    # H26
    "To fields": Shape(b"", b"To: a@b.example\r\n", b"\r\nx"),
    "one To field": Shape(b"To: ", b"a@b.example, ", b"\r\n\r\nx"),
    "one To field of groups": Shape(b"To: ", b"g:a@b;,", b"\r\n\r\nx"),
    # H27
    "one folded field": Shape(b"Subject: a", b"\r\n xxxxxxxxxxxxxxxxxxxxxxxx", b"\r\n\r\nx"),
    "continuation lines": Shape(b"Subject: a", b"\r\n x", b"\r\n\r\nx"),
    "lines that are no fields": Shape(b"", b"x\r\n", b"\r\nx"),
    # H28
    "parts": Shape(multipart(b"b"), b"--b\r\n\r\nx\r\n", b"--b--\r\n"),
    "parts, bare LF": Shape(multipart(b"b"), b"--b\n\nx\n", b"--b--\n"),
    "parts with a field, bare LF": Shape(multipart(b"b"), b"--b\nA: b\n\nx\n", b"--b--\n"),
    "parts without end of header": Shape(multipart(b"b"), b"--b\r\nA: b\r\n", b"--b--\r\n"),
    "nested multiparts": Shape(multipart(b"b"), b"--b\r\n" + multipart(b"b"), b""),
    "stray delimiters": Shape(multipart(b"b"), b"--c\r\n", b""),
    "prefixes of the delimiter": Shape(multipart(b"bb"), b"--bbb\r\n--b\r\n", b""),
    "closing delimiters": Shape(multipart(b"b"), b"--b--\r\n", b""),
    "a long boundary": Shape(b"Content-Type: multipart/mixed; boundary=", b"b", b"\r\n\r\n--b\r\n"),
    # H29
    "parameters": Shape(b"Content-Type: a/b", b"; filename*0*=a", b"\r\n\r\nx"),
    "folded parameters": Shape(b"Content-Type: a/b", b";\r\n name*9=a", b"\r\n\r\nx"),
    # H30
    "messages": Shape(b"", b"Content-Type: message/rfc822\r\n\r\n", b"x"),
    # H31
    "encoded-words": Shape(b"Subject: ", b"=?utf-8?q?=C3=A9?= ", b"\r\n\r\nx"),
    "open encoded-words": Shape(b"Subject: ", b"=?utf-8?q?", b"\r\n\r\nx"),
    # H37
    "empty lines": EMPTY_LINES,
    "no line end": Shape(b"From: a@b.example\r\n\r\n", b"x", b""),
    "short base64": Shape(b"Content-Transfer-Encoding: base64\r\n\r\n", b"YWF\r\n", b""),
    "bad base64": Shape(b"Content-Transfer-Encoding: base64\r\n\r\n", b"=-", b""),
    "bad quoted-printable": Shape(
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n", b"=\r\n=Z= ", b""
    ),
    "open tags": Shape(b"Content-Type: text/html\r\n\r\n", b"<a <!--", b""),
    "entities": Shape(b"Content-Type: text/html\r\n\r\n", b"&#&am", b""),
}


def judge_message(octets: bytes) -> None:
    """What acceptance and the first reader of a message do."""
    exceeded(read_section(octets))
    structure.render(octets)
    preview.preview(octets)
    for part in scan(octets).walk():
        content(part, octets_max=MIB)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_takes_linear_time(name: str) -> None:  # H26–H31, H37
    assert_linear(judge_message, MESSAGES[name])


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_of_a_mebibyte_takes_a_second_at_most(name: str) -> None:  # H26–H31, H37
    octets = MESSAGES[name].octets(MIB)
    # Twice that where others share the cores: what is not linear takes minutes.
    assert min(seconds(judge_message, octets) for _ in range(3)) < 2.0


def address(octets: bytes) -> None:
    for text in (octets.decode("latin-1"), f"{octets.decode('latin-1')}@b.example"):
        try:
            parse_mailbox(text, local_part_octets_max=MANY)
        except AddressError:
            continue


def mailbox_name(octets: bytes) -> None:
    try:
        utf7.encode(utf7.decode(octets))
    except ValueError:
        return


READERS: dict[str, Callable[[bytes], object]] = {
    "address": address,
    "address list": parse_address_list,
    "date": parse_date,
    "content type": parse_type,
    "disposition": parse_disposition,
    "words": decode,
    "html": lambda octets: to_words(octets.decode("latin-1")),
    "mailbox name": mailbox_name,
}
PIECES = (b"a", b" ", b"(", b'"', b"\\", b".", b"@", b"<", b",", b":", b";=", b"=?", b"&", b"&AOk-")


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("name", READERS)
def test_no_expression_goes_back_and_forth(name: str, piece: bytes) -> None:  # H39, H31, H54
    assert_linear(READERS[name], Shape(b"a", piece, b"!"))


def imap(phase: Phase) -> Callable[[bytes], object]:
    return lambda octets: run(machine(phase, WIDE_IMAP), octets)


BEFORE_LOGIN = {
    "literals": Shape(b"a LOGIN ", b"{1+}\r\nx ", b"\r\n"),  # H50
    "a tag": Shape(b"", b"a", b" NOOP\r\n"),
    "brackets": Shape(b"a LOGIN ", b"(", b"\r\n"),
    "quotes": Shape(b'a LOGIN "', b"\\", b'"\r\n'),
}
AFTER_LOGIN = {
    "NOT": Shape(b"a SEARCH ", b"NOT ", b"ALL\r\n"),  # H52
    "OR": Shape(b"a SEARCH ", b"OR ALL ", b"ALL\r\n"),
    "keys": Shape(b"a SEARCH ", b"ALL ", b"ALL\r\n"),
    "brackets": Shape(b"a SEARCH ", b"(", b"\r\n"),
    "a set": Shape(b"a FETCH 1", b",1", b" FLAGS\r\n"),
    "bodies": Shape(b"a FETCH 1 (", b"BODY[] ", b"FLAGS)\r\n"),
    "a part": Shape(b"a FETCH 1 BODY[1", b".1", b"]\r\n"),
    "fields": Shape(b"a FETCH 1 BODY[HEADER.FIELDS (", b"a ", b"b)]\r\n"),
    "flags": Shape(b"a STORE 1 FLAGS (", b"a ", b"b)\r\n"),
    "literals": Shape(b"a SEARCH ", b"TEXT {1+}\r\nx ", b"ALL\r\n"),
    "commands": Shape(b"", b"a NOOP\r\n", b""),
}


@pytest.mark.parametrize("name", BEFORE_LOGIN)
def test_an_imap_session_before_login_takes_linear_time(name: str) -> None:  # H50
    assert_linear(imap(Phase.GREETED), BEFORE_LOGIN[name])


@pytest.mark.parametrize("name", AFTER_LOGIN)
def test_an_imap_session_after_login_takes_linear_time(name: str) -> None:  # H52
    assert_linear(imap(Phase.SELECTED), AFTER_LOGIN[name])


def test_imap_in_segments_takes_linear_time() -> None:  # H50, H52
    def judge(octets: bytes) -> None:
        run(machine(Phase.SELECTED, WIDE_IMAP), *segments(octets))

    assert_linear(judge, AFTER_LOGIN["a set"])
    assert_linear(judge, AFTER_LOGIN["literals"])
    assert_linear(judge, BEFORE_LOGIN["a tag"])


@pytest.mark.parametrize("pattern", ["*a", "%a", "a*", "*%"])
def test_a_pattern_takes_linear_time_in_its_length_and_in_the_names(pattern: str) -> None:  # H54
    limits = NameLimits(name_octets_max=MANY)

    def by_name(octets: bytes) -> None:
        made = Pattern(pattern * 64, limits)
        made.matches(octets.decode())

    def by_pattern(octets: bytes) -> None:
        made = Pattern(octets.decode(), limits)
        for _ in range(20):
            made.matches("a" * 100)

    assert_linear(by_name, Shape(b"a", b"a", b"b"))
    assert_linear(by_pattern, Shape(b"", pattern.encode(), b"b"), first=1024, last=8 * 1024)


@pytest.mark.parametrize("piece", [b"x", b"NOOP\r\n", b"TOP 1 1\r\n", b"\0", b"USER u\r\n"])
def test_a_pop3_session_takes_linear_time(piece: bytes) -> None:  # H58
    def judge(octets: bytes) -> None:
        client = Client()
        for segment in segments(octets):
            client.send(segment)

    assert_linear(judge, Shape(b"", piece, b"\r\n"))
