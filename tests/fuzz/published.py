"""Inputs to begin from out of the published vectors, which are read where they are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import msgspec

from posthouse.message.fields import read_section
from tests.fuzz.target import Target

OCTETS_MAX = 16 * 1024
COUNT_MAX = 150
"""For one target; more would leave a short run no time for changes."""
STRUCTURED = (b"from", b"to", b"cc", b"date", b"subject", b"content-type", b"content-disposition")


def with_published(targets: Iterable[Target], folder: Path) -> list[Target]:
    """The targets with the vectors added to what they begin from."""
    found = published(folder)
    return [
        msgspec.structs.replace(target, seeds=target.seeds + found.get(target.name, ()))
        for target in targets
    ]


def published(folder: Path) -> dict[str, tuple[bytes, ...]]:
    """By target."""
    messages = _messages(folder)
    notices = _spread(path.read_bytes() for path in sorted(folder.glob("bounce/*/*.eml")))
    return {
        "smtp-server": _dialogs(folder),
        "imap-server": _imap(folder),
        "mime": messages,
        "header": messages,
        "notice": notices,
        "field-values": _field_values((*messages, *notices)),
        "address": _addresses(folder),
    }


def _spread(found: Iterable[bytes]) -> tuple[bytes, ...]:
    """Some of all, from everywhere in them."""
    short = [octets for octets in found if 0 < len(octets) <= OCTETS_MAX]
    step = max(1, -(-len(short) // COUNT_MAX))
    return tuple(short[::step])


def _messages(folder: Path) -> tuple[bytes, ...]:
    paths = [*folder.glob("mime/*/**/*.eml"), *folder.glob("mime/cpython/*.txt")]
    paths += [path for path in folder.glob("spam/*/*/*") if path.is_file()]
    return _spread(path.read_bytes() for path in sorted(paths))


def _dialogs(folder: Path) -> tuple[bytes, ...]:
    """What the client says in chasquid's dialogs."""
    sent = []
    for path in sorted(folder.glob("smtp/chasquid/*.cmy")):
        lines = re.findall(r"^c -> (.*)$", path.read_text("utf-8"), re.MULTILINE)
        sent.append("".join(f"{line}\r\n" for line in lines).encode())
    return _spread(sent)


def _imap(folder: Path) -> tuple[bytes, ...]:
    """The commands of imaptest's scripts, with a tag of ours."""
    sent = []
    for path in sorted(folder.glob("imap/imaptest/*")):
        if path.suffix != ".mbox":
            text = path.read_text("utf-8", "replace")
            lines = re.findall(r"^(?:ok|no|bad|\"\") (.*)$", text, re.MULTILINE)
            sent.append("".join(f"a {line}\r\n" for line in lines).encode())
    return _spread(sent)


def _field_values(messages: Iterable[bytes]) -> tuple[bytes, ...]:
    values = []
    for octets in messages:
        section = read_section(octets)
        for name in STRUCTURED:
            value = section.first(name)
            if value is not None:
                values.append(bytes(value))
    return _spread(dict.fromkeys(values))


def _addresses(folder: Path) -> tuple[bytes, ...]:
    """isemail's addresses, its pictures of control characters made those characters."""
    found = []
    for path in sorted(folder.glob("address/isemail-tests*.xml")):
        for match in re.findall(r"<address>(.*?)</address>", path.read_text("utf-8"), re.DOTALL):
            text = "".join(ElementTree.fromstring(f"<a>{match}</a>").itertext())
            found.append(re.sub("[␀-␠]", lambda one: chr(ord(one[0]) - 0x2400), text).encode())
    return _spread(found)
