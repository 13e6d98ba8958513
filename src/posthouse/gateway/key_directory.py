"""The OpenPGP keys that our domains show in their Web Key Directory."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from posthouse.accounts.mail_keys import MailKey, published
from posthouse.gateway.key_submission import is_of_nobody
from posthouse.message.address import AddressError, parse_mailbox
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import wkd
from posthouse.mimesec.pgp.keys import PublicKey
from posthouse.mimesec.pgp.minimal import minimal
from posthouse.mimesec.ports import ProtectionError
from posthouse.store.transaction import Store, Transaction

KEYS_MAX: Final = 10_000
PER_ADDRESS_MAX: Final = 3
"""The newest, and those before it, which may be revoked."""

Directory = Mapping[str, Mapping[str, bytes]]
"""By domain, then by `wkd.local_hash`: binary certificates one behind the other."""


async def key_directory(store: Store) -> Directory:
    """Raises Fault."""

    def look(tx: Transaction) -> tuple[MailKey, ...]:
        found = published(tx, Scheme.OPENPGP, limit=KEYS_MAX)
        return tuple(key for key in found if not is_of_nobody(tx, key))

    return _directory(await store.read(look))


def _directory(keys: tuple[MailKey, ...]) -> Directory:
    found: dict[str, dict[str, list[bytes]]] = {}
    for key in keys:
        for text in key.addresses:
            try:
                address = parse_mailbox(text)
            except AddressError:
                continue
            shown = _shown(key.public, text)
            here = found.setdefault(address.domain, {}).setdefault(
                wkd.local_hash(address.local_part), []
            )
            if shown and len(here) < PER_ADDRESS_MAX:
                here.append(shown)
    return {
        domain: {name: b"".join(octets) for name, octets in named.items() if octets}
        for domain, named in found.items()
    }


@lru_cache(maxsize=KEYS_MAX)
def _shown(public: bytes, address: str) -> bytes:
    """For that address alone; b"" for a key that cannot be read any more."""
    try:
        key = PublicKey(public)
        named = next((one for one in key.addresses if one.lower() == address.lower()), "")
        return minimal(key, named) if named else b""
    except ProtectionError:
        return b""
