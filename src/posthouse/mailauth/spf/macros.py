"""Macro expansion (RFC 7208 §7): what a sender says put into names to ask for and into text.

The work is bounded by what comes out, not by what a record would have expanded: 253 characters of
a name, some hundred of an explanation.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote

import msgspec

from posthouse.kernel.reply import printable
from posthouse.mailauth.spf.grammar import DomainSpec, Macro, Parts
from posthouse.mailauth.spf.names import NAME_CHARACTERS_MAX, fit

EXPLANATION_CHARACTERS_MAX: Final = 480
"""RFC 7208 §6.2 allows a limit: it has to fit a line of a reply (RFC 5321 §4.5.3.1.5)."""

Values = Mapping[str, str]
"""What each macro letter stands for (RFC 7208 §7.2)."""


class Client(msgspec.Struct, frozen=True):
    """The `<ip>` of RFC 7208 §4.1, in all forms that evaluation needs."""

    version: int
    """4 for an IPv4 address mapped into IPv6, too (RFC 7208 §5)."""
    number: int
    text: str
    """For people: the "c" macro."""
    dotted: str
    """The "i" macro. Deviation: nibbles are upper case, as RFC 7208's test suite has it, where
    §7.4 shows lower case; names are asked for in lower case."""
    family: str
    """The "v" macro."""
    reverse_name: str


@lru_cache(maxsize=4096)
def read_client(ip: str) -> Client | None:
    """None for what is no IP address."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            nibbles = ".".join(f"{int(address):032X}")
            return Client(6, int(address), str(address), nibbles, "ip6", address.reverse_pointer)
        address = address.ipv4_mapped
    text = str(address)
    return Client(4, int(address), text, text, "in-addr", address.reverse_pointer)


def expand_name(spec: DomainSpec, values: Values) -> str:
    """The `<target-name>` of a term, 253 characters at most: labels go from the left
    (RFC 7208 §7.3). It may still be no name that could be asked for (`names.question_name`)."""
    if spec.name is not None:
        return spec.name
    pieces: list[str] = []
    length = 0
    for part in reversed(spec.parts):
        piece = part if isinstance(part, str) else _expand(part, values)
        pieces.append(piece)
        length += len(piece)
        if length > NAME_CHARACTERS_MAX + 1:  # a dot at the end does not count
            break  # what stands further left would be cut off
    pieces.reverse()
    return fit("".join(pieces))


def expand_text(parts: Parts, values: Values) -> str:
    """An explanation: printable ASCII in one line, cut to what fits a reply."""
    pieces: list[str] = []
    length = 0
    for part in parts:
        piece = part if isinstance(part, str) else _expand(part, values)
        pieces.append(piece)
        length += len(piece)
        if length >= EXPLANATION_CHARACTERS_MAX:
            break
    return printable("".join(pieces)[:EXPLANATION_CHARACTERS_MAX])


def _expand(macro: Macro, values: Values) -> str:
    value = values[macro.letter]
    if not macro.is_plain:
        value = _transform(macro, value)
    if macro.is_escaped:
        # Everything but RFC 3986's "unreserved" characters, which `quote` always leaves.
        return quote(value, safe="", errors="replace")
    return value


def _transform(macro: Macro, value: str) -> str:
    """RFC 7208 §7.3: split, reverse, keep parts at the right, join with dots."""
    delimiters = macro.delimiters
    if len(delimiters) <= 1:
        parts = value.split(delimiters or ".")
    else:
        parts = re.split(f"[{re.escape(delimiters)}]", value)
    if macro.is_reversed:
        parts.reverse()
    return ".".join(parts[-macro.parts_max :])
