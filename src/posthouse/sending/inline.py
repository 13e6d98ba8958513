"""Pictures that the HTML names and the message should hold: local files and `data:` URLs.

The markup is scanned and not parsed (see `message.html`); what changes are the URLs in `src`,
`srcset`, `poster` and `background` attributes and in the `url(…)` of styles, and nothing else. Who
may have typed the markup is not known: only pictures, by the end of their names, from the one
folder are taken, so `<img src=".env">` or `<img src="../../etc/passwd">` brings nothing out (H66).
"""

from __future__ import annotations

import hashlib
import html
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import msgspec

from posthouse.sending import media_types
from posthouse.sending.naming import fault, shown

__all__ = ["Reference", "content_id", "content_ids", "local_file", "references", "replace"]

PICTURES_MAX: Final = 1_000
"""References to pictures in one message."""
_COPY: Final = "copy it into the folder that all pictures are in"

_TAG: Final = re.compile(
    r"<(?:!--.*?(?:-->|\Z)"
    r"|(?P<hidden>script|style)\b.*?(?:</(?P=hidden)\b[^>]*+>?|\Z)"
    r"|(?P<name>[a-z][a-z0-9]*+)(?P<rest>(?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+)>?)",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE: Final = re.compile(
    r"(?<![\w\-:.])(src|srcset|poster|background|style)\s*+=\s*+"
    r"(?:\"([^\"]*+)\"|'([^']*+)'|([^\s>\"'][^\s>]*+))"
    r"|\"[^\"]*+\"|'[^']*+'",
    re.IGNORECASE,
)
_BACKGROUND: Final = frozenset({"background"})
_WANTED: Final = {
    "img": frozenset({"src", "srcset"}),
    "input": frozenset({"src"}),
    "source": frozenset({"srcset"}),  # of <picture>; the `src` of one is sound or film
    "video": frozenset({"poster"}),
} | dict.fromkeys(("body", "table", "thead", "tbody", "tfoot", "tr", "th", "td"), _BACKGROUND)
_CANDIDATE: Final = re.compile(r"[\s,]*+(\S++)")
# Comments and strings are named so that no url( in them counts. Each begins where it is certain to
# be matched, or ends where the next can begin: the time is linear.
_STYLE_URL: Final = re.compile(
    r"""
    /\*.*?(?:\*/|\Z)
    | (?<![\w\-])url\(\s*+ (?:
        "( [^"\\\n]*+ (?:\\.[^"\\\n]*+)*+ )"
        | '( [^'\\\n]*+ (?:\\.[^'\\\n]*+)*+ )'
        | (?>(?P<quote> &quot; | &apos; | &\#3[49]; | &\#x2[27]; ) (.*?) (?P=quote))
        | ( [^\s"'()\\]*+ (?:\\(?:[0-9a-f]{1,6}\s?|.) [^\s"'()\\]*+)*+ )
      )\s*+\)
    | "[^"\\\n]*+ (?:\\.[^"\\\n]*+)*+"?
    | '[^'\\\n]*+ (?:\\.[^'\\\n]*+)*+'?
    """,
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
_STYLE_ESCAPE: Final = re.compile(r"\\(?:([0-9a-f]{1,6})\s?|\n|(.))", re.IGNORECASE)
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.\-]++:", re.IGNORECASE)  # "C:" is none
_ELSEWHERE: Final = ("//", "\\\\")


class Reference(msgspec.Struct, frozen=True):
    """A picture the HTML shows: where its URL stands, and what it is without entities."""

    start: int
    end: int
    url: str

    @property
    def is_data(self) -> bool:
        return self.url[:5].lower() == "data:"

    @property
    def is_file(self) -> bool:
        return self.url[:5].lower() == "file:"

    @property
    def is_local(self) -> bool:
        """A relative or absolute path, or a file: URL; not a URL of anywhere."""
        url = self.url
        if not url or url.startswith(("#", *_ELSEWHERE)):
            return False
        return self.is_file or not _SCHEME.match(url)


def references(markup: str) -> Iterator[Reference]:
    """All pictures in the order of the markup."""
    has_styles = "url(" in markup.lower()
    for tag in _TAG.finditer(markup):
        if (tag["hidden"] or "").lower() == "style":
            yield from _in_style(markup, tag.start(), tag.end(), is_attribute=False)
            continue
        wanted = _WANTED.get((tag["name"] or "").lower(), frozenset())
        if not tag["name"] or not (wanted or has_styles):
            continue
        for match in _ATTRIBUTE.finditer(markup, tag.start("rest"), tag.end("rest")):
            name = (match[1] or "").lower()
            if name not in wanted and name != "style":
                continue
            start, end = next(match.span(one) for one in (2, 3, 4) if match[one] is not None)
            if name == "style":
                yield from _in_style(markup, start, end, is_attribute=True)
            elif name == "srcset":
                yield from _in_srcset(markup, start, end)
            else:
                yield Reference(start, end, html.unescape(markup[start:end]).strip())


def content_ids(markup: str) -> list[str]:
    """Of the parts that it shows pictures of (RFC 2392), each once."""
    if "cid:" not in markup.lower():
        return []
    urls = (one.url for one in references(markup))
    return list(dict.fromkeys(unquote(one[4:]) for one in urls if one[:4].lower() == "cid:"))


def _in_srcset(markup: str, start: int, end: int) -> Iterator[Reference]:
    """URLs with a size behind each, "a.png, b.png 2x"; a comma may be within a URL."""
    while (match := _CANDIDATE.match(markup, start, end)) is not None:
        written = match[1].rstrip(",")
        at = match.start(1)
        if written:
            yield Reference(at, at + len(written), html.unescape(written))
        start = match.end()
        if written == match[1]:  # its size is next
            comma = markup.find(",", start, end)
            start = comma if comma >= 0 else end


def _in_style(markup: str, start: int, end: int, *, is_attribute: bool) -> Iterator[Reference]:
    """Fonts and style sheets are left as they are: no reader would show them."""
    for match in _STYLE_URL.finditer(markup, start, end):
        for group in (1, 2, 4, 5):
            if not match[group]:
                continue
            url = html.unescape(match[group]) if is_attribute else match[group]
            url = _STYLE_ESCAPE.sub(_unescaped, url).strip()
            found = Reference(*match.span(group), url)
            if not found.is_local or found.is_file or _is_picture(_plain(url)):
                yield found


def _unescaped(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[2] or ""
    code = int(match[1], 16)
    return chr(code) if code <= sys.maxunicode else "\N{REPLACEMENT CHARACTER}"


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
    plain = _plain(url)
    if not _is_picture(plain):
        words = f"{shown(url)} in the HTML is no picture by its name"
        raise fault("inline_files", words, hint="attach it, with `cid`, or leave it out")
    if plain.startswith(_ELSEWHERE):  # to look there may be to log in there
        raise fault("inline_files", f"{shown(url)} in the HTML is on another host", hint=_COPY)
    try:
        found = (folder / plain).resolve()
        is_inside = found.is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL, a name too long, links in a circle
        raise fault("inline_files", f"{shown(url)} in the HTML is no path") from None
    if not is_inside:
        words = f"{shown(url)} in the HTML leads out of the folder {folder}"
        raise fault("inline_files", words, hint="name the folder that all pictures are in")
    return found


def _plain(url: str) -> str:
    """The path of a local URL; that of a file: URL keeps a host that is not this one."""
    path = url.partition("#")[0].partition("?")[0]
    if path[:5].lower() == "file:":
        path = path[5:]
        if path.startswith("//"):
            host, slash, rest = path[2:].partition("/")
            is_here = host.lower() in ("", "localhost")
            path = slash + rest if is_here else path
    return unquote(path)


def _is_picture(path: str) -> bool:
    return media_types.guess(path).startswith("image/")


def content_id(octets: bytes) -> str:
    """A Content-ID for a picture; the same picture has the same, so it goes in once."""
    return f"{hashlib.sha256(octets).hexdigest()[:32]}@inline"
