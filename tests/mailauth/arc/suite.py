"""Reads the YAML of the ARC test suite, as much of YAML as it uses."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec


class Case(msgspec.Struct, frozen=True):
    name: str
    message: bytes
    expected: str
    records: dict[str, str]
    made: bytes = b""
    """Of the signing suite: the fields of the set to be made."""


def read_suite(text: str) -> list[Case]:
    """Every case of every document, with the records of its document."""
    found = []
    for document in documents(text.splitlines()):
        records = dict(mapping(section(document, "txt-records"), 2))
        for name, lines in blocks(section(document, "tests"), 2):
            values = dict(mapping(lines, 4))
            if "message" in values:
                message = values["message"].encode().replace(b"\n", b"\r\n")
                # It is left out once, of a case whose name says "fail".
                expected = values.get("cv", "").strip().lower() or "fail"
                found.append(Case(name, message, expected, records, made(values)))
    return found


FIELDS = (
    ("AS", "ARC-Seal"),
    ("AMS", "ARC-Message-Signature"),
    ("AAR", "ARC-Authentication-Results"),
)
B_TAG = re.compile(r"\bb=[^;]*")


def made(values: dict[str, str]) -> bytes:
    """The set to be made; b= is folded for the reader of the suite only."""
    fields = ""
    for short, name in FIELDS:
        if text := values.get(short, "").strip():
            text = B_TAG.sub(lambda found: "".join(found[0].split()), text)
            fields += f"{name}: {text}\n".replace("\n", "\r\n ", text.count("\n"))
    return fields.encode().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def documents(lines: list[str]) -> Iterator[list[str]]:
    document: list[str] = []
    for line in lines:
        if line.rstrip() == "---":
            yield document
            document = []
        else:
            document.append(line)
    yield document


def indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def blocks(lines: list[str], depth: int) -> Iterator[tuple[str, list[str]]]:
    """Keys at that depth with the lines below them; what stands behind the colon comes first."""
    name, below = "", [""]
    for line in lines:
        if line.strip() and indent(line) == depth:
            if name:
                yield name, below
            name, _, rest = line.strip().partition(":")
            below = [rest.strip()]
        else:
            below.append(line)
    if name:
        yield name, below


def section(document: list[str], name: str) -> list[str]:
    return next((lines[1:] for key, lines in blocks(document, 0) if key == name), [])


def mapping(lines: list[str], depth: int) -> Iterator[tuple[str, str]]:
    for name, (style, *below) in blocks(lines, depth):
        yield name, scalar(style, below)


def scalar(style: str, below: list[str]) -> str:
    if style == "|":
        margin = next((indent(line) for line in below if line.strip()), 0)
        text = "\n".join(line[margin:] for line in below)
        return text.rstrip("\n") + "\n" if text.strip() else ""
    if style == ">-":
        return " ".join(line.strip() for line in below if line.strip())
    return style
