"""XML that no value can break out of: elements and text only, everything escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}
_DANGEROUS: Final = re.compile("[&<>\"'\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Content = str | Sequence["Element"]
Element = tuple[str, Content]
"""A name, and text or elements."""


def document(root: str, namespace: str, content: Sequence[Element]) -> bytes:
    """A whole document in UTF-8."""
    pieces = ['<?xml version="1.0" encoding="UTF-8"?>\n']
    pieces.append(f'<{_name(root)} xmlns="{escaped(namespace)}">\n')
    for name, inner in content:
        pieces.extend(_element(name, inner, "  "))
    pieces.append(f"</{root}>\n")
    return "".join(pieces).encode("utf-8")


def _element(name: str, content: Content, indent: str) -> Iterator[str]:
    if isinstance(content, str):
        yield f"{indent}<{_name(name)}>{escaped(content)}</{name}>\n"
        return
    yield f"{indent}<{_name(name)}>\n"
    for inner_name, inner in content:
        yield from _element(inner_name, inner, indent + "  ")
    yield f"{indent}</{name}>\n"


def _name(name: str) -> str:
    assert _NAME.fullmatch(name) is not None, name
    return name


def escaped(text: str) -> str:
    """As text or a value in quotes; what XML 1.0 §2.2 cannot hold becomes U+FFFD."""
    return _DANGEROUS.sub(lambda match: _ESCAPES.get(match[0], "\ufffd"), text)
