"""Keys by the other names that messages and reports have for them: the id of a subkey of OpenPGP,
the serial of a certificate. Those are in the keys themselves, so that some are looked through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from posthouse.accounts import mail_keys, smime_material
from posthouse.accounts.mail_keys import MailKey
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import locking
from posthouse.mimesec.pgp.packets import BadPackets, Tag, walk
from posthouse.mimesec.ports import ProtectionError
from posthouse.store.transaction import Transaction

SCANNED_MAX: Final = 2_000
PART_MIN: Final = 8
"""Digits; fewer fit too many."""


def by_inner_name(tx: Transaction, text: str) -> list[MailKey]:
    """Those that have it; some of the store are looked through."""
    serial = text.partition(" of ")[0]  # as messages name a certificate: "serial of issuer"
    wanted = serial.replace(" ", "").replace(":", "").upper().removeprefix("0X")
    if len(wanted) < PART_MIN:
        return []
    return [
        key
        for key in mail_keys.all_keys(tx, limit=SCANNED_MAX)
        if any(_fits(name, wanted, key.scheme) for name in _inner_names(key))
    ]


def _fits(name: str, wanted: str, scheme: Scheme) -> bool:
    return name == wanted.lstrip("0") if scheme is Scheme.SMIME else name.endswith(wanted[-16:])


def _inner_names(key: MailKey) -> Iterator[str]:
    try:
        if key.scheme is Scheme.SMIME:
            yield smime_material.serial(key)
            return
        for one in walk(key.public):
            if one.tag == Tag.PUBLIC_SUBKEY:
                yield locking.key_id(one.body)
    except (BadPackets, ProtectionError):  # it cannot be read any more
        return
