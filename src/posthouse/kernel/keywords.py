"""Keywords that somebody gave and nobody takes, told in words, with the one that was likely meant.

`Told` is the metaclass of the structs that other programs make by keywords: `Message(body=…)` is to
say what to write, where Python's own error says only that it will not do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from posthouse.kernel.errors import PosthouseError, UserError

__all__ = ["Mistake", "Told", "nearest", "unknown"]

_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the arguments of a call."""

    keyword: str
    """The one that is to blame, or that is missing; "" for none."""
    text: str
    hint: str


def nearest(name: str, known: Collection[str]) -> str:
    """The known one most like it; "" where none is."""
    from difflib import get_close_matches  # for whoever errs only

    return next(iter(get_close_matches(spelled(name), list(known), n=1)), "")


def unknown(owner: str, name: str, known: Collection[str], meant: Mapping[str, str]) -> Mistake:
    """
    Args:
        owner: what does not take the keyword, as it is called.
        meant: what to give instead, by names that other libraries have for it.
    """
    if instead := meant.get(spelled(name)):
        hint = f"give `{instead}`" if instead.isidentifier() else f"give {instead}"
    elif near := nearest(name, known):
        hint = f"did you mean {near}?"
    else:
        hint = f"it takes {', '.join(known)}"
    return Mistake(keyword=name, text=f"{owner} takes no {name}", hint=hint)


def spelled(name: str) -> str:
    """`replyTo` and `from_` as they would be here: `reply_to` and `from`."""
    return _CAPITAL.sub("_", name).lower().strip("_").replace("-", "_")


class Told(msgspec.StructMeta):
    """Refuses what the struct cannot be made of by the `refused` of its subclass."""

    if not TYPE_CHECKING:  # checkers know what a struct takes, and would believe this instead

        def __call__(cls, *args: Any, **keywords: Any) -> Any:
            try:
                return super().__call__(*args, **keywords)
            except TypeError:
                found = _mistake(cls, args, keywords)
                if found is None:
                    raise
                raise cls.refused(found) from None

    def meant(cls) -> Mapping[str, str]:
        """As `unknown` has it."""
        return {}

    def refused(cls, found: Mistake) -> PosthouseError:
        return UserError(found.text, hint=found.hint)


def _mistake(cls: Told, args: Sequence[Any], keywords: Mapping[str, Any]) -> Mistake | None:
    name, taken, places = cls.__name__, cls.__struct_fields__, cls.__match_args__
    for one in keywords:
        if one not in taken:
            return unknown(name, one, taken, cls.meant())
    if len(args) > len(places):
        if not places:
            text, hint = f"{name} takes its arguments by name", f"write {name}({taken[0]}=…)"
        else:
            text, hint = f"{name} takes {len(places)} arguments", f"they are {', '.join(places)}"
        return Mistake(keyword="", text=text, hint=hint)
    for one in _required(cls):
        if one not in keywords and one not in places[: len(args)]:
            return Mistake(keyword=one, text=f"{name} needs {one}", hint=f"give {one}=…")
    return None


def _required(cls: Told) -> list[str]:
    fields, defaults = cls.__struct_fields__, cls.__struct_defaults__
    behind = len(fields) - len(defaults)
    return [
        name
        for at, name in enumerate(fields)
        if at < behind or defaults[at - behind] is msgspec.NODEFAULT
    ]
