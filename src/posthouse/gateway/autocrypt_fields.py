"""Autocrypt in what our users send: their own key, and inside of what is encrypted those of the
recipients whom all can see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from posthouse.accounts.mail_keys import MailKey, fold_address
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import autocrypt
from posthouse.mimesec.pgp.autocrypt import Autocrypt
from posthouse.mimesec.pgp.keys import PublicKey
from posthouse.mimesec.pgp.minimal import minimal
from posthouse.mimesec.pgp.recipient import PgpRecipient
from posthouse.mimesec.ports import ProtectionError, Recipient

GOSSIP_MAX: Final = 20
"""Recipients whose keys travel in one message."""


def own_field(
    keys: Sequence[MailKey], author: str, now_us: int, *, prefers_encryption: bool
) -> bytes:
    """The author's own key, the newest that is in force; b"" where there is none that can travel.

    Args:
        author: as `fold_address` gives it.
    """
    for key in keys:
        if key.scheme is Scheme.OPENPGP and key.is_usable(now_us) and author in key.addresses:
            try:
                public = PublicKey(key.public)
            except ProtectionError:
                continue
            return _field(public, author, prefers_encryption=prefers_encryption)
    return b""


def gossip_fields(recipients: Iterable[tuple[str, Recipient]]) -> bytes:
    """Keys of recipients, by `fold_address`, so that each can answer all; b"" for one alone."""
    found = [
        _field(recipient.public, address, is_gossip=True)
        for address, recipient in recipients
        if isinstance(recipient, PgpRecipient)
    ]
    return b"".join(found[:GOSSIP_MAX]) if len(found) > 1 else b""


def _field(
    public: PublicKey, address: str, *, prefers_encryption: bool = False, is_gossip: bool = False
) -> bytes:
    named = next((one for one in public.addresses if fold_address(one) == address), "")
    try:
        found = Autocrypt(
            address=named, key=minimal(public, named), prefers_encryption=prefers_encryption
        )
        return autocrypt.field(found, is_gossip=is_gossip)
    except (ProtectionError, ValueError):  # it does not name the address, or is too large
        return b""
