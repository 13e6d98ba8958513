"""Keys and certificates that somebody vouches for without an authority, and for which addresses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec


class Pin(msgspec.Struct, frozen=True):
    """A key or certificate that somebody vouches for: a person did, or the domain of the address
    shows it (RFC 8162, Web Key Directory)."""

    fingerprint: str
    """As `Signature.key`."""
    address: str = ""
    """For this address, whatever the key names: whoever vouches for one can put others into the
    key. "" for all that it names, which only who knows its owner can say."""


def pinned_addresses(
    pins: Iterable[Pin], fingerprint: str, named: Sequence[str]
) -> tuple[str, ...] | None:
    """What a key is believed for; None where nobody vouches for it.

    Args:
        named: what the key says itself.
    """
    own = [pin.address for pin in pins if pin.fingerprint == fingerprint]
    if not own:
        return None
    found = [address for address in own if address] + (list(named) if "" in own else [])
    return tuple(dict.fromkeys(found))
