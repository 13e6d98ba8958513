"""A message out of a file, as a server would have received it: for commands that look at one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import msgspec

from posthouse.cli.output import CommandError, NotFound
from posthouse.config.quantity import format_size
from posthouse.message.fields import HeaderSection, read_section

STDIN: Final = "-"
MBOX_MARK: Final = b"From "


class MessageFile(msgspec.Struct, frozen=True, kw_only=True):
    octets: bytes
    section: HeaderSection
    notes: tuple[str, ...]
    """What was done to the file to make a message of it, in words."""


def read_message(path: str, *, octets_max: int) -> MessageFile:
    """The message in the file; "-" is stdin.

    Files that a mail program saved have lines that end in a bare LF, and perhaps mbox's first
    line: both are mended, as no server has sent them so.

    Raises:
        CommandError: there is no such file, or what it holds is no message.
    """
    octets = _read(path, octets_max)
    shown = "stdin" if path == STDIN else path
    if not octets.strip():
        raise CommandError(f"{shown} is empty", hint="save the whole message, header and body")
    notes = []
    if octets.startswith(MBOX_MARK) and b":" not in octets.partition(b" ")[0]:
        octets = octets.partition(b"\n")[2]
        notes.append('the first line, "From …", is mbox\'s and not of the message: left away')
    bare = octets.count(b"\n") - octets.count(b"\r\n")
    if bare and b"\r\n" not in octets:
        octets = octets.replace(b"\n", b"\r\n")
        notes.append("the lines of the file end in LF: turned into CRLF, as mail has them")
    elif bare:
        notes.append(
            f"{bare} of the lines end in a bare LF and others in CRLF: kept, though no server"
            " would take such a message"
        )
    section = read_section(octets)
    if not section.fields:
        raise CommandError(
            f"{shown} is not a message: it does not begin with header fields",
            hint="save the message's source (.eml), not a picture or a print of it",
        )
    return MessageFile(octets=octets, section=section, notes=tuple(notes))


def _read(path: str, octets_max: int) -> bytes:
    try:
        if path == STDIN:
            octets = sys.stdin.buffer.read(octets_max + 1)
        else:
            with Path(path).open("rb") as file:
                octets = file.read(octets_max + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except IsADirectoryError:
        raise CommandError(f"{path} is a folder", hint="name the file of one message") from None
    if len(octets) > octets_max:
        raise CommandError(
            f"the message is larger than {format_size(octets_max)}",
            hint="smtp.message_octets_max is what this server takes",
        )
    return octets
