"""POP3's text to values and back (RFC 1939 §3, RFC 2449 §4)."""

from __future__ import annotations

import re
from typing import Final

from posthouse.message.fields import body_start, header_end

COMMAND_OCTETS_MAX: Final = 512
"""CRLF included; RFC 2449 §4 has clients stay below 255."""
NUMBER_DIGITS_MAX: Final = 10

_COMMAND: Final = re.compile(rb"([A-Za-z]{1,10})(?: ([^\x00\r\n]*))?")
_NUMBER: Final = re.compile(rb"[0-9]{1,%d}" % NUMBER_DIGITS_MAX)


class BadCommand(ValueError):
    """A line that is no command; the text is for the client."""


def parse_command(line: bytes) -> tuple[bytes, bytes]:
    """A line without its CRLF as keyword (in capitals) and argument ("" when there is none).

    Raises:
        BadCommand
    """
    match = _COMMAND.fullmatch(line)
    if match is None:
        raise BadCommand("that is not a command")
    return match[1].upper(), match[2] or b""


def parse_number(text: bytes) -> int:
    """Raises: BadCommand."""
    if _NUMBER.fullmatch(text) is None:
        raise BadCommand("a number is expected")
    return int(text)


def parse_top(argument: bytes) -> tuple[int, int]:
    """TOP's message number and count of lines (RFC 1939 §7). Raises: BadCommand."""
    number, blank, lines = argument.partition(b" ")
    if not blank:
        raise BadCommand("TOP takes a message number and a count of lines")
    return parse_number(number), parse_number(lines)


def unique_id(uidvalidity: int, uid: int) -> bytes:
    """Of a message, for ever (RFC 1939 §7 UIDL: 1 to 70 octets of 0x21-0x7E)."""
    return b"%d.%d" % (uidvalidity, uid)


def multiline(octets: bytes) -> bytes:
    """A message as the lines of a multi-line response, dots doubled, with the end (RFC 1939 §3).

    Deviation: a bare LF goes out as CRLF. Clients that end lines at LF would else take what stands
    behind it for the end of the response, or for the next one.
    """
    if octets.count(b"\n") != octets.count(b"\r\n"):
        octets = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if b"\r\n." in octets:
        octets = octets.replace(b"\r\n.", b"\r\n..")
    head = b"." if octets.startswith(b".") else b""
    tail = b".\r\n" if not octets or octets.endswith(b"\r\n") else b"\r\n.\r\n"
    return b"".join((head, octets, tail))


def top(octets: bytes, lines: int) -> bytes:
    """The header section, the empty line and the first lines of the body (RFC 1939 §7)."""
    at = body_start(octets, header_end(octets))
    while lines and at < len(octets):
        end = octets.find(b"\n", at)
        at = len(octets) if end < 0 else end + 1
        lines -= 1
    return octets[:at]
