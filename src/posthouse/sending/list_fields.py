"""List fields: RFC 2369, RFC 2919, and one-click unsubscribing (RFC 8058)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from posthouse.message import build, words
from posthouse.message.build import phrase, pieces_field
from posthouse.sending.message import ListFields
from posthouse.sending.naming import fault, named, several, shown, text_of

__all__ = ["NAMES", "list_fields"]

NAMES: Final = (
    ("help", "List-Help"),
    ("unsubscribe", "List-Unsubscribe"),
    ("subscribe", "List-Subscribe"),
    ("post", "List-Post"),
    ("owner", "List-Owner"),
    ("archive", "List-Archive"),
)  # argument and field
_POST: Final = "List-Unsubscribe-Post"
_ID: Final = re.compile(r"(?:(.*?) ?<([^<>]*)>|([^<>]*))")
_LIST_ID: Final = re.compile(r"[!#$%&'*+/=?^_`{|}~A-Za-z0-9.\-]{1,255}")
# A URL or address, and a comment behind it.
_ITEM: Final = re.compile(r"<?([^\s<>]+)>?(?: +\((.*)\))?")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_SCHEMES: Final = ("https:", "http:", "mailto:", "ftp:")
_URL: Final = re.compile(r"[!-;=?-~]+")
_ADDRESS: Final = re.compile(r"[^@:/]+@[^@/]+")
_CTEXT_SPECIAL: Final = re.compile(r"([()\\])")


def list_fields(given: ListFields) -> list[bytes]:
    """The fields, each once, as RFC 2369 §2 wants it; several URLs stand in one.

    Raises:
        MessageError: about "list.unsubscribe" and the like.
    """
    fields = []
    if given.id:
        fields.append(_list_id(given.id))
    for argument, name in NAMES:
        items = _items(given, argument)
        if items:
            fields.append(_urls(f"list.{argument}", name, items))
    if given.is_one_click:
        fields.append(_one_click(given))
    return fields


def _items(given: ListFields, argument: str) -> list[str]:
    """What an argument of the list fields names; texts all of them."""
    field = f"list.{argument}"
    values: object = getattr(given, argument)
    if not values:
        return []
    if isinstance(values, str):
        return [text_of(field, values)]
    return [text_of(f"{field}[{at}]", one) for at, one in enumerate(several(field, values))]


def _list_id(value: str) -> bytes:
    field = "list.id"
    named(field, build.checked, "List-Id", text_of(field, value))
    match = _ID.fullmatch(value)
    title, inner, bare = match.groups() if match else (None, "", None)
    identifier = bare if bare is not None else inner
    if _LIST_ID.fullmatch(identifier or "") is None:
        words = f"{shown(value)} is none"
        hint = "write it as a host name: announce.example.org, or Title <announce.example.org>"
        raise fault(field, words, hint=hint)
    title_pieces = named(field, phrase, "List-Id", (title or "").strip(' "'))
    return named(field, pieces_field, "List-Id", [*title_pieces, f"<{identifier}>"])


def _urls(field: str, name: str, items: Sequence[str]) -> bytes:
    pieces: list[str] = []
    for at, item in enumerate(items):
        inner = field if len(items) == 1 else f"{field}[{at}]"
        if pieces:
            pieces[-1] += ","
        pieces += _item(inner, name, item)
    return named(field, pieces_field, name, pieces)


def _item(field: str, name: str, item: str) -> list[str]:
    named(field, build.checked, name, text_of(field, item))
    match = _ITEM.fullmatch(item)
    if match is None:
        raise fault(field, f"{shown(item)} is no URL")
    url, comment = match.groups()
    if name == "List-Post" and url.upper() == "NO":  # RFC 2369 §3.4
        return ["NO", *_comment(comment)]
    return [f"<{_url(field, url)}>", *_comment(comment)]


def _url(field: str, url: str) -> str:
    if _ADDRESS.fullmatch(url) is not None:
        url = f"mailto:{url}"
    scheme = _SCHEME.match(url)
    if scheme is None or scheme[0].lower() not in _SCHEMES or url == scheme[0]:
        hint = "write https://…, mailto:…, or an address"
        raise fault(field, f"{shown(url)} is no URL that can stand here", hint=hint)
    if _URL.fullmatch(url) is None:
        raise fault(field, f"{shown(url)} has characters no URL has", hint="write them as %XX")
    return url


def _comment(text: str | None) -> list[str]:
    if not text:
        return []
    if not words.is_plain(text):  # encoded-words may stand in comments (RFC 2047 §5 (2))
        pieces = words.encode(text)
    else:
        pieces = _CTEXT_SPECIAL.sub(r"\\\1", text).split(" ")
    return (
        [f"({pieces[0]}", *pieces[1:-1], f"{pieces[-1]})"]
        if len(pieces) > 1
        else [f"({pieces[0]})"]
    )


def _one_click(given: ListFields) -> bytes:
    items = _items(given, "unsubscribe")
    if not any(item.lstrip("<").lower().startswith("https:") for item in items):
        raise fault(
            "list.is_one_click",
            "one-click unsubscribing needs an https URL in `unsubscribe` (RFC 8058 §3.1)",
            hint="name a page that takes a POST without asking back",
        )
    return build.field(_POST, "List-Unsubscribe=One-Click")
