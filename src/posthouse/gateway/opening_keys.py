"""The keys that one arriving message is opened with: the account's own, and its authors'."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from posthouse.accounts.mail_keys import MailKey, Source, by_address, of_owner, private_half
from posthouse.accounts.sealing import NodeKey
from posthouse.gateway.key_submission import is_submission_key
from posthouse.kernel.errors import UserError
from posthouse.kernel.ids import AccountId
from posthouse.mimesec.child import PgpKeys, SmimeKey, SmimeKeys
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.trust import Pin
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
    from_places: frozenset[str] = frozenset()
    """Fingerprints of those that are believed because the author's domain shows them; it may have
    taken them back since."""

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
    # A key is believed for the address that somebody vouched for; with several authors nobody
    # could say any more whose it is.
    known = by_address(tx, authors[0]) if len(authors) == 1 else ()
    smime = _of(known, Scheme.SMIME)
    pgp = _of(known, Scheme.OPENPGP)
    return OpeningKeys(
        own_ids=tuple(key.id for key, _ in own),
        smime=SmimeKeys(
            own=tuple(
                SmimeKey(private, key.public) for key, private in own if key.scheme is Scheme.SMIME
            ),
            known=smime.octets,
            pins=tuple(Pin(one, authors[0]) for one in smime.trusted),
            revoked=smime.revoked,
        ),
        pgp=PgpKeys(
            own=tuple(private for key, private in own if key.scheme is Scheme.OPENPGP),
            known=pgp.octets,
            pins=tuple(Pin(one, authors[0]) for one in pgp.trusted),
            revoked=pgp.revoked,
        ),
        from_places=frozenset(
            key.fingerprint
            for key in known
            if key.is_trusted and not key.is_own and key.source in (Source.WKD, Source.DNS)
        ),
    )


class _Known(msgspec.Struct, frozen=True):
    """What the store says of an author's keys of one scheme: fingerprints, and what to read."""

    octets: tuple[bytes, ...]
    trusted: tuple[str, ...]
    revoked: tuple[str, ...]
    """All of them, also those that are not read: whoever sends an old one may send it along."""


def _of(keys: Sequence[MailKey], scheme: Scheme) -> _Known:
    fitting = [key for key in keys if key.scheme is scheme]
    read = fitting[:KNOWN_MAX]
    return _Known(
        tuple(key.public for key in read),
        # It is believed without an authority.
        tuple(key.fingerprint for key in read if key.is_own or key.is_trusted),
        tuple(key.fingerprint for key in fitting if key.revoked_at is not None),
    )


def _own(tx: Transaction, account: AccountId) -> list[MailKey]:
    """Also those that are over or revoked: what was encrypted to them is read all the same."""
    keys = list(of_owner(tx, account=account))
    if (row := accounts.account_by_id(tx, account)) is not None:
        domain = accounts.domain_by_name(tx, row.name.rpartition("@")[2])
        keys += of_owner(tx, domain=domain.id) if domain is not None else ()
    return [key for key in keys if key.has_private and not is_submission_key(key)][:OWN_MAX]
