"""Which parts are the text and which are attachments (RFC 8621 §4.1.4)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from posthouse.message.bodies import bodies
from posthouse.message.mime import Part, scan

VECTORS = os.environ.get("POSTHOUSE_VECTORS")
LETTERS = sorted(Path(VECTORS, "mime/mail-parser/rfc").glob("*.eml")) if VECTORS else []


def mail(structure: str) -> bytes:
    """A message out of lines like "  text/plain; inline", indented by depth."""
    lines = [line for line in structure.splitlines() if line.strip()]
    base = len(lines[0]) - len(lines[0].lstrip())
    open_: list[int] = []
    out: list[str] = []
    for at, line in enumerate(lines):
        depth = (len(line) - len(line.lstrip()) - base) // 2
        kind, _, disposition = line.strip().partition("; ")
        while len(open_) > depth:
            out.append(f"--b{open_.pop()}--")
        if open_:
            out.append(f"--b{open_[-1]}")
        if kind.startswith("multipart/"):
            out += [f"Content-Type: {kind}; boundary=b{at}", ""]
            open_.append(at)
            continue
        out.append(f"Content-Type: {kind}")
        if disposition:
            out.append(f"Content-Disposition: {disposition}")
        out += ["", f"part {at}"]
    while open_:
        out.append(f"--b{open_.pop()}--")
    return "\r\n".join(out).encode() + b"\r\n"


def leaves(root: Part) -> list[Part]:
    return [part for part in root.walk() if not part.children]


def shape(octets: bytes) -> tuple[str, str, str]:
    """The leaves (by letter, in order) that are text, HTML and attachments."""
    root = scan(octets)
    names = {id(part): chr(ord("A") + at) for at, part in enumerate(leaves(root))}
    found = bodies(root)
    text, html, attachments = (
        "".join(names[id(part)] for part in parts)
        for parts in (found.text, found.html, found.attachments)
    )
    return text, html, attachments


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        ("text/plain", ("A", "A", "")),
        ("text/html", ("A", "A", "")),
        ("text/plain; attachment", ("", "", "A")),
        ("application/pdf", ("", "", "A")),
        ("image/png", ("A", "A", "")),
        (
            """
            multipart/alternative
              text/plain
              text/html
            """,
            ("A", "B", ""),
        ),
        (
            """
            multipart/mixed
              text/plain
              image/png; inline
              text/plain
              text/plain; attachment; filename=a.txt
            """,
            ("ABC", "ABC", "D"),
        ),
        (  # the example of RFC 8621 §4.1.4
            """
            multipart/mixed
              text/plain; inline
              multipart/mixed
                multipart/alternative
                  multipart/mixed
                    text/plain; inline
                    image/jpeg; inline
                    text/plain; inline
                  multipart/related
                    text/html
                    image/jpeg
                image/jpeg; attachment
                application/x-excel
                message/rfc822
              text/plain; inline
            """,
            ("ABCDK", "AEK", "CFGHI"),
        ),
        (
            """
            multipart/alternative
              text/html
            """,
            ("A", "A", ""),
        ),
        (
            """
            multipart/related
              text/html
              image/png; inline; filename=x.png
            """,
            ("A", "A", "B"),
        ),
        (
            """
            multipart/alternative
              text/plain
              text/html
              text/calendar
            """,
            ("A", "B", "C"),
        ),
    ],
)
def test_texts_and_attachments_are_told_apart(
    structure: str, expected: tuple[str, str, str]
) -> None:
    assert shape(mail(structure)) == expected


def test_a_tree_as_deep_as_it_may_be_needs_no_recursion() -> None:
    depth = 99
    octets = b"".join(
        b"Content-Type: multipart/%s; boundary=b%d\r\n\r\n--b%d\r\n"
        % (b"alternative" if at % 2 else b"mixed", at, at)
        for at in range(depth)
    )
    found = bodies(scan(octets + b"\r\nhello\r\n"))
    assert len(found.text) == len(found.html) == 1


@pytest.mark.skipif(not LETTERS, reason="mail-parser's messages: POSTHOUSE_VECTORS is not set")
@pytest.mark.parametrize("path", LETTERS, ids=lambda path: path.name)
def test_published_messages_have_their_parts_where_they_are_expected(path: Path) -> None:
    expected = json.loads(path.with_suffix(".json").read_bytes())
    root = scan(path.read_bytes())
    numbers: dict[int, int] = {}
    waiting = [root]
    while waiting:
        part = waiting.pop()
        numbers[id(part)] = len(numbers)
        waiting.extend(reversed(part.children))
    found = bodies(root)
    assert [numbers[id(part)] for part in found.text] == expected["text_body"]
    assert [numbers[id(part)] for part in found.html] == expected["html_body"]
    assert [numbers[id(part)] for part in found.attachments] == expected["attachments"]
