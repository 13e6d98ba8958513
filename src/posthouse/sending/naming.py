"""Which argument a mistake is in, as its caller writes it: `to[2]`, `headers["X-Foo"]` (H66)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, ParamSpec, TypeVar

from posthouse.message.build import BuildError
from posthouse.sending.errors import MessageError

P = ParamSpec("P")
T = TypeVar("T")

SHOWN_MAX: Final = 120
"""Characters of a wrong value that an error repeats."""


def named(field: str, make: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
    """What `make` gives; a `BuildError` of it becomes a `MessageError` about `field`."""
    try:
        return make(*args, **keywords)
    except BuildError as error:
        raise fault(field, error.reason) from None


def fault(field: str, words: str, *, hint: str = "") -> MessageError:
    if not hint and "line break" in words:
        hint = "a field is one line: take it out"
    return MessageError(f"{field}: {words}", field=field, hint=hint)


def text_of(field: str, value: object) -> str:
    """A value that has to be text; a subclass of str (a template's safe text) becomes plain.

    Raises:
        MessageError: it is something else.
    """
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)
    raise fault(field, f"this is {type(value).__name__}, and has to be text (str)")


def several(field: str, values: object, *, hint: str = "") -> Iterable[object]:
    """What has to be a list or the like; a text is none, though it could be iterated."""
    if isinstance(values, Iterable) and not isinstance(values, (str, bytes)):
        return values
    hint = hint or f"write {field}=[…] with it between the brackets"
    raise fault(field, f"this is {type(values).__name__}, and has to be a list", hint=hint)


def one_of(field: str, value: object, kind: type[T]) -> T:
    """A value that has to be of one class of ours."""
    if isinstance(value, kind):
        return value
    name = kind.__name__
    words = f"this is {type(value).__name__}, and has to be of the class {name}"
    raise fault(field, words, hint=f"write {name}(…), from posthouse.sending")


def shown(value: str) -> str:
    """A value in quotes for an error: on one line, and not all of a long one."""
    return repr(value if len(value) <= SHOWN_MAX else f"{value[:SHOWN_MAX]}…")


def keyed(field: str, key: object) -> str:
    """`headers["X-Foo"]`, whatever the key is."""
    written = key.encode("unicode_escape").decode("ascii") if isinstance(key, str) else repr(key)
    return f'{field}["{written[:SHOWN_MAX]}"]'
