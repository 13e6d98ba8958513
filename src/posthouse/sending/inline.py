"""Pictures that the HTML names and the message should hold: local files and `data:` URLs.

The markup is scanned and not parsed (see `message.html`); what changes are the values of `src` and
`background` attributes and nothing else. Who may have typed the markup is not known: only pictures,
by the end of their names, from the one folder are taken, so `<img src=".env">` or
`<img src="../../etc/passwd">` brings nothing out (H66).
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import msgspec

from posthouse.sending import media_types
from posthouse.sending.naming import fault, shown

__all__ = ["Reference", "content_id", "local_file", "references", "replace"]

PICTURES_MAX: Final = 1_000
"""References to pictures in one message."""

_TAG: Final = re.compile(
    r"<(?:!--.*?(?:-->|\Z)"
    r"|(?P<hidden>script|style)\b.*?(?:</(?P=hidden)\b[^>]*+>?|\Z)"
    r"|(?P<name>[a-z][a-z0-9]*+)(?P<rest>(?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+)>?)",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE: Final = re.compile(
    r"(?<![a-z0-9\-])(src|background)\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s>\"']++))"
    r"|\"[^\"]*+\"|'[^']*+'",
    re.IGNORECASE,
)
_SOURCES: Final = frozenset({"img", "input"})
_BACKGROUNDS: Final = frozenset({"body", "table", "td", "th", "tr"})
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.\-]*+:", re.IGNORECASE)


class Reference(msgspec.Struct, frozen=True):
    """A picture the HTML shows: where its URL stands, and what it is without entities."""

    start: int
    end: int
    url: str

    @property
    def is_data(self) -> bool:
        return self.url[:5].lower() == "data:"

    @property
    def is_local(self) -> bool:
        """A relative or absolute path, not a URL of anywhere."""
        url = self.url
        return bool(url) and not url.startswith(("//", "#", "\\\\")) and not _SCHEME.match(url)


def references(markup: str) -> Iterator[Reference]:
    """All pictures in the order of the markup."""
    for tag in _TAG.finditer(markup):
        name = (tag["name"] or "").lower()
        wanted = "src" if name in _SOURCES else "background" if name in _BACKGROUNDS else ""
        if not wanted:
            continue
        for match in _ATTRIBUTE.finditer(markup, tag.start("rest"), tag.end("rest")):
            if (match[1] or "").lower() == wanted:
                group = next(one for one in (2, 3, 4) if match[one] is not None)
                url = html.unescape(match[group]).strip()
                yield Reference(match.start(group), match.end(group), url)


def replace(markup: str, new: Mapping[Reference, str]) -> str:
    """The markup with those references named by other URLs (of letters, digits, - . @ : only)."""
    pieces: list[str] = []
    at = 0
    for reference, url in sorted(new.items(), key=lambda item: item[0].start):
        pieces += (markup[at : reference.start], url)
        at = reference.end
    return "".join((*pieces, markup[at:]))


def local_file(folder: Path, url: str) -> Path:
    """The file a local URL means, within the folder whatever links are on the way.

    Raises:
        MessageError: it leads out of the folder, or is no picture by its name.
    """
    plain = unquote(url.partition("#")[0].partition("?")[0])
    if not media_types.guess(plain).startswith("image/"):
        words = f"{shown(url)} in the HTML is no picture by its name"
        raise fault("inline_files", words, hint="attach it, with `cid`")
    try:
        found = (folder / plain).resolve()
        is_inside = found.is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL, a name too long, links in a circle
        raise fault("inline_files", f"{shown(url)} in the HTML is no path") from None
    if not is_inside:
        words = f"{shown(url)} in the HTML leads out of the folder {folder}"
        raise fault("inline_files", words, hint="name the folder that all pictures are in")
    return found


def content_id(octets: bytes) -> str:
    """A Content-ID for a picture; the same picture has the same, so it goes in once."""
    return f"{hashlib.sha256(octets).hexdigest()[:32]}@inline"
