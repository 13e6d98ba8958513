"""Messages made at random from a seed, and what may become of them on the way."""

from __future__ import annotations

from base64 import encodebytes
from random import Random

import msgspec

FIRST = b"From: Ann <ann@example.org>\r\n"
NAMES = (
    *(b"To", b"Cc", b"Subject", b"Date", b"Message-ID", b"Reply-To", b"MIME-Version", b"Sender"),
    *(
        b"Content-Type",
        b"X-Mailer",
        b"Received",
        b"List-Id",
        b"Comments",
        b"subject",
        b"REFERENCES",
    ),
)
WORDS = (
    *(b"letter", b"of", b"a", b"Ann", b"<ben@example.net>", b"1.0", b"text/plain;", b"(comment)"),
    *(b"=?utf-8?q?=C3=A9?=", b'"quoted: string"', b"x" * 70, b"b=1;", b"\xc3\xa9\xc3\xa8", b"\xff"),
)
GAPS = (b" ", b" ", b" ", b"  ", b"\t", b" \t ", b"\r\n ", b"\r\n\t", b" \r\n  ")
LINES = (
    *(
        b"",
        b"",
        b"a line",
        b" indented",
        b"ends with blanks  ",
        b"ends with a tab\t",
        b"two  blanks",
    ),
    *(b"a\ttab", b"\t \t", b" ", b".", b"..", b"From here", b"x" * 300, b"\xc3\xa9\xe9", b"--b"),
)


class Letter(msgspec.Struct, frozen=True):
    octets: bytes
    traits: frozenset[str]


def letter(chance: Random) -> Letter:
    """From is always there, once, as its signers want it."""
    fields = [FIRST] + [field(chance) for _ in range(chance.randrange(8))]
    chance.shuffle(fields)
    traits = set()
    body = text(chance)
    kind = chance.randrange(12)
    if kind == 0:
        body = b""
        traits.add("no body")
    elif kind == 1:
        body = body.rstrip(b"\r\n") + b"no line end"
        traits.add("no line end")
    elif kind == 2:
        body = b"\r\n" * chance.randrange(1, 5)
        traits.add("empty lines only")
    elif kind == 3:
        body = b" \t\r\n" * chance.randrange(1, 5)
        traits.add("blank lines only")
    elif kind == 4:
        body = encodebytes(chance.randbytes(chance.randrange(1, 2000))).replace(b"\n", b"\r\n")
    elif kind == 5:
        body = chance.choice((b"a\nb\r\n", b"a\rb\r\n", b"a\r\r\nb\r\n", b"a \n\r\n\n"))
        traits.add("bare CR or LF")
    return Letter(b"".join(fields) + b"\r\n" + body, frozenset(traits))


def field(chance: Random) -> bytes:
    name = chance.choice(NAMES)
    gap = chance.choice((b": ", b": ", b": ", b":", b":\t", b":  ", b":\r\n "))
    words = [chance.choice(WORDS) for _ in range(chance.randrange(1, 9))]
    value = words[0]
    for word in words[1:]:
        value += chance.choice(GAPS) + word
    end = chance.choice((b"\r\n", b"\r\n", b"\r\n", b" \r\n", b"\t\r\n"))
    return name + gap + value + end


def text(chance: Random) -> bytes:
    lines = [chance.choice(LINES) for _ in range(chance.randrange(1, 12))]
    return b"".join(line + b"\r\n" for line in lines)


# --- on the way ---


def untouched(chance: Random, octets: bytes) -> bytes:
    return octets


def field_on_top(chance: Random, octets: bytes) -> bytes:
    return field(chance) + octets


def field_below(chance: Random, octets: bytes) -> bytes:
    head, gap, body = octets.partition(b"\r\n\r\n")
    return head + b"\r\n" + field(chance) + b"\r\n" + body if gap else octets


def case_of_a_name(chance: Random, octets: bytes) -> bytes:
    return octets.replace(b"\r\nFrom:", b"\r\nFROM:", 1)


def blanks_in_the_header(chance: Random, octets: bytes) -> bytes:
    head, gap, body = octets.partition(b"\r\n\r\n")
    return head.replace(b"\r\n ", b"\r\n\t") + gap + body


def unfolded(chance: Random, octets: bytes) -> bytes:
    head, gap, body = octets.partition(b"\r\n\r\n")
    at = head.rfind(b"\r\n ")
    return head[:at] + head[at + 2 :] + gap + body if at > 0 else octets


def blanks_at_the_end_of_a_line(chance: Random, octets: bytes) -> bytes:
    head, gap, body = octets.partition(b"\r\n\r\n")
    return head + gap + body.replace(b"\r\n", b" \t\r\n", 1)


def lines_at_the_end(chance: Random, octets: bytes) -> bytes:
    return octets + chance.choice((b"\r\n", b"\r\n\r\n", b" \r\n", b"\t"))


def a_line_at_the_end(chance: Random, octets: bytes) -> bytes:
    return octets + b"-- \r\nthe list\r\n"


def an_octet(chance: Random, octets: bytes) -> bytes:
    at = octets.find(b"\r\n\r\n") + 4
    if at >= len(octets):
        return octets
    at = chance.randrange(at, len(octets))
    return octets[:at] + b"#" + octets[at + 1 :]


def cut(chance: Random, octets: bytes) -> bytes:
    at = octets.find(b"\r\n\r\n") + 4
    return octets[: chance.randrange(at, len(octets) + 1)]


CHANGES = (
    *(untouched, untouched, untouched, untouched, field_on_top, field_below, case_of_a_name),
    *(blanks_in_the_header, unfolded, blanks_at_the_end_of_a_line, lines_at_the_end),
    *(a_line_at_the_end, an_octet, cut),
)
