"""Content-Type as callers give it: read strictly, written again with parameters of our own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from posthouse.message import build
from posthouse.message.build import BuildError, parameters, parameters_field
from posthouse.message.parameters import parse_type
from posthouse.sending.naming import fault, named, shown, text_of

__all__ = ["MediaType", "read_type", "type_field", "written"]

_WORD: Final = r"[A-Za-z0-9!#$%&'*+.^_`{|}~\-]{1,127}"
_TYPE: Final = re.compile(
    rf'{_WORD}/{_WORD}(?: ?; ?{_WORD}=(?:{_WORD}|"(?:[^"\\]|\\.)*+"))*+', re.ASCII
)


class MediaType(msgspec.Struct, frozen=True):
    maintype: str
    """In lower case."""
    subtype: str
    parameters: tuple[tuple[str, str], ...] = ()
    """As they are meant, without quotes."""

    @property
    def name(self) -> str:
        return f"{self.maintype}/{self.subtype}"

    def value(self, name: str) -> str | None:
        return next((value for key, value in self.parameters if key == name), None)


def read_type(field: str, value: str) -> MediaType:
    """A type that is no multipart. Raises MessageError."""
    named(field, build.checked, "Content-Type", text_of(field, value))
    parsed = parse_type(value.encode("utf-8")) if _TYPE.fullmatch(value.strip()) else None
    if parsed is None:
        raise fault(field, f"{shown(value)} is no media type", hint="as in application/pdf")
    main, sub, found = parsed
    if main == b"multipart":
        raise fault(field, "a multipart is made of attachments", hint="or given as `raw`")
    items = tuple((key.decode("ascii"), item.decode("utf-8")) for key, item in found.items)
    if any("*" in key for key, _ in items):
        raise fault(field, "RFC 2231 is applied here; give the parameter as it is meant")
    return MediaType(main.decode("ascii"), sub.decode("ascii"), items)


def type_field(field: str, kind: MediaType, more: Sequence[str] = ()) -> bytes:
    """The field.

    Args:
        more: a `name` parameter of ours, instead of one that the type has.
    """
    pieces = [*written(field, kind, without="name" if more else ""), *more]
    return named(field, parameters_field, "Content-Type", kind.name, pieces)


def written(field: str, kind: MediaType, *, without: str = "") -> list[str]:
    """The parameters but one, ready for `parameters_field`."""
    try:
        return [
            piece
            for key, value in kind.parameters
            if key != without
            for piece in parameters("Content-Type", key, value)
        ]
    except BuildError as error:
        raise fault(field, error.reason) from None
