"""The test vectors of RFC 9788 Appendix C, read from the text of the RFC."""

from __future__ import annotations

import os
import re
from pathlib import Path

_HEADING = re.compile(r"^(C\.[0-9.]+)\s", re.MULTILINE)
_BLOCK = re.compile(r"^   (?:Its contents are|The .* (?:unwraps to this .*|unwraps to)):\n\n", re.M)


def text() -> str:
    """Of the RFC, beside the published vectors; "" where it is not at hand."""
    folder = os.environ.get("POSTHOUSE_VECTORS")
    path = Path(folder).parent / "rfc" / "rfc9788.txt" if folder else None
    return path.read_text() if path is not None and path.exists() else ""


def messages() -> dict[str, bytes]:
    """Messages and what is inside them, by section ("C.3.1", "C.3.1.2")."""
    whole = text()
    if not whole:
        return {}
    start = whole.rfind("\nC.1.  Baseline Messages")
    end = whole.find("\nAppendix D.", start)
    appendix = whole[start:end]
    found: dict[str, bytes] = {}
    places = [*_HEADING.finditer(appendix)]
    for heading, following in zip(places, [*places[1:], None], strict=True):
        section = appendix[heading.end() : following.start() if following else len(appendix)]
        block = _BLOCK.search(section)
        if block is not None:
            lines = section[block.end() :].rstrip("\n").split("\n")
            octets = "\r\n".join(line.removeprefix("   ") for line in lines) + "\r\n"
            # Print has no blanks at ends of lines; these were signed with theirs.
            octets = octets.replace("\r\n--\r\nAlice", "\r\n-- \r\nAlice")
            found[heading[1].rstrip(".")] = octets.encode("ascii")
    return found
