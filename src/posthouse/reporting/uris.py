"""Where reports are asked to be sent: `mailto:` (RFC 6068) and, for TLS reports, `https:`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.message.address import AddressError, parse_mailbox

URI_CHARACTERS_MAX: Final = 1_000
LOCAL_PART_OCTETS_MAX: Final = 128

_URI: Final = re.compile(r"[!-~]+")  # what RFC 3986 §2 encodes could end a line or a word
_SIZE: Final = re.compile(r"!\d{1,20}[kmgtKMGT]?\Z", re.ASCII)


class MailTo(msgspec.Struct, frozen=True):
    uri: str
    address: Address


class Https(msgspec.Struct, frozen=True):
    uri: str


class Ignored(msgspec.Struct, frozen=True):
    """A URI nothing is sent to, and why."""

    uri: str
    reason: str


Target = MailTo | Https
NOT_SUPPORTED: Final = "only mailto: is supported"
NOT_SUPPORTED_TLS: Final = "only mailto: and https: are supported"


def targets(
    uris: Sequence[str], *, most: int, takes_https: bool = False
) -> tuple[tuple[Target, ...], tuple[Ignored, ...]]:
    """The first `most` URIs that can be served, each once, and what was left out (H45).

    Malformed ones and other schemes are ignored (RFC 9990 §3.5, RFC 9989 §4.7), and so is a size
    limit of old records (RFC 9989 §4.8).
    """
    found: dict[Target, None] = {}
    ignored: list[Ignored] = []
    for text in uris[: most * 10]:
        shown = text[:URI_CHARACTERS_MAX]
        try:
            target = _target(_SIZE.sub("", text), takes_https=takes_https)
        except ValueError as problem:
            ignored.append(Ignored(shown, str(problem)))
            continue
        if target in found:
            continue
        if len(found) >= most:
            ignored.append(Ignored(shown, f"only {most} addresses are served"))
            continue
        found[target] = None
    return tuple(found), tuple(ignored)


def _target(uri: str, *, takes_https: bool) -> Target:
    uri = uri.strip()
    scheme, colon, rest = uri.partition(":")
    scheme = scheme.lower()
    if len(uri) > URI_CHARACTERS_MAX:
        raise ValueError("the URI is too long")
    if _URI.fullmatch(uri) is None:
        raise ValueError("the URI has characters that no URI has")
    if scheme == "mailto" and colon:
        return MailTo(uri, _address(rest))
    if scheme == "https" and takes_https:
        parts = urlsplit(uri)
        if not parts.hostname or parts.username is not None:
            raise ValueError("the URL is malformed")
        return Https(uri)
    raise ValueError(NOT_SUPPORTED_TLS if takes_https else NOT_SUPPORTED)


def _address(rest: str) -> Address:
    """The first address; header fields behind "?" are not ours to add (RFC 6068 §4)."""
    text = rest.partition("?")[0].partition(",")[0].strip()
    try:
        decoded = unquote_to_bytes(text).decode("utf-8")
        return parse_mailbox(decoded, local_part_octets_max=LOCAL_PART_OCTETS_MAX)
    except (UnicodeDecodeError, AddressError) as error:
        raise ValueError("the address is malformed") from error
