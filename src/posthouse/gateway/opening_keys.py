"""The keys that one arriving message is opened with: the account's own, and its authors'."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from posthouse.accounts.mail_keys import MailKey, by_address, of_owner, private_half
from posthouse.accounts.sealing import NodeKey
from posthouse.gateway.key_submission import is_submission_key
from posthouse.kernel.errors import UserError
from posthouse.kernel.ids import AccountId
from posthouse.mimesec.child import PgpKeys, SmimeKey, SmimeKeys
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.smime.chain import Pin
from posthouse.store import accounts
from posthouse.store.transaction import Transaction

OWN_MAX = 20
"""Private keys of one owner that are tried, the newest; old mail is read elsewhere."""
KNOWN_MAX = 20
"""Keys of one author."""


class OpeningKeys(msgspec.Struct, frozen=True, kw_only=True):
    own_ids: tuple[int, ...]
    """Of the private keys among them: the same ones open the same."""
    smime: SmimeKeys = SmimeKeys()
    pgp: PgpKeys = PgpKeys()

    def __repr__(self) -> str:
        return f"OpeningKeys({len(self.own_ids)} of our own)"


def opening_keys(
    tx: Transaction, *, account: AccountId | None, authors: Sequence[str], node_key: NodeKey
) -> OpeningKeys:
    """Of an account: its own and its domain's; a private half that does not open is left out. None
    has no keys of its own."""
    own: list[tuple[MailKey, bytes]] = []
    for key in _own(tx, account) if account is not None else ():
        try:
            own.append((key, private_half(tx, key, node_key)))
        except UserError:  # `posthouse key list` and the log of its making tell of it
            continue
    # A key is believed for the addresses that somebody vouched for; with several authors nobody
    # could say any more whose it is.
    known = by_address(tx, authors[0])[:KNOWN_MAX] if len(authors) == 1 else ()
    smime = [key for key in known if key.scheme is Scheme.SMIME]
    pgp = [key for key in known if key.scheme is Scheme.OPENPGP]
    return OpeningKeys(
        own_ids=tuple(key.id for key, _ in own),
        smime=SmimeKeys(
            own=tuple(
                SmimeKey(private, key.public) for key, private in own if key.scheme is Scheme.SMIME
            ),
            known=tuple(key.public for key in smime),
            pins=tuple(Pin(key.fingerprint, authors[0]) for key in smime if _counts(key)),
        ),
        pgp=PgpKeys(
            own=tuple(private for key, private in own if key.scheme is Scheme.OPENPGP),
            known=tuple(key.public for key in pgp),
            trusted=tuple(key.fingerprint for key in pgp if _counts(key)),
        ),
    )


def _own(tx: Transaction, account: AccountId) -> list[MailKey]:
    """Also those that are over or revoked: what was encrypted to them is read all the same."""
    keys = list(of_owner(tx, account=account))
    if (row := accounts.account_by_id(tx, account)) is not None:
        domain = accounts.domain_by_name(tx, row.name.rpartition("@")[2])
        keys += of_owner(tx, domain=domain.id) if domain is not None else ()
    return [key for key in keys if key.has_private and not is_submission_key(key)][:OWN_MAX]


def _counts(key: MailKey) -> bool:
    """Whether it is believed without an authority."""
    return (key.is_own or key.is_trusted) and key.revoked_at is None
