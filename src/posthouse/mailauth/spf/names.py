"""Domain names as SPF makes them: any visible character, made fit for a DNS question.

RFC 7208 §4.3, §4.8, §7.3. Used by `grammar`, `macros` and `check`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from posthouse.protocol.dns.wire import LABEL_OCTETS_MAX, label_text

NAME_CHARACTERS_MAX: Final = 253  # RFC 7208 §7.3
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*+")


def fit(text: str) -> str:
    """`text` without its final dot and, where it is too long, without labels at its left."""
    text = text.removesuffix(".")  # RFC 7208 §7.3: it is accepted and means nothing
    if len(text) <= NAME_CHARACTERS_MAX:
        return text
    dot = text.find(".", len(text) - NAME_CHARACTERS_MAX - 1)
    return text[dot + 1 :] if dot >= 0 else ""


@lru_cache(maxsize=4096)
def question_name(name: str) -> str:
    """The name for a question, or "" for what no name can be: an empty or overlong label, or a
    character outside ASCII. RFC 7208 §4.8 leaves the meaning of such a name open.

    Octets that a name in text cannot hold are escaped (RFC 1035 §5.1).
    """
    if len(name) > NAME_CHARACTERS_MAX:
        return ""
    if _PLAIN.fullmatch(name) is not None:
        return name.lower()
    if not name.isascii():
        return ""
    labels = name.split(".")
    if not all(0 < len(label) <= LABEL_OCTETS_MAX for label in labels):
        return ""
    return ".".join(label_text(label.encode("ascii")) for label in labels)


def has_two_labels(name: str) -> bool:
    """RFC 7208 §4.3: nothing is looked up for a single label."""
    return "." in name
