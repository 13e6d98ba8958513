"""A password or key on its way: shown nowhere by accident."""

from __future__ import annotations

import hmac
from typing import Final

HIDDEN: Final = "***"


class Secret:
    """Text that `repr`, `str`, formatting and log lines show as `***`; only `reveal` gives it.

    It is no `str`, so that no encoder or join takes it for one. Comparing takes constant time.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        ours, theirs = (s._text.encode("utf-8", "surrogatepass") for s in (self, other))
        return hmac.compare_digest(ours, theirs)

    __hash__ = None  # type: ignore[assignment]  # a table keyed by secrets would compare in the open

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled or copied")
