"""The key store: S/MIME certificates and OpenPGP keys, of our users and of whom they write to.

A private half lies in the database sealed by the node key (`accounts.sealing`), for its scheme and
fingerprint, so that none can be put in the place of another. What a key is made of is read by
`accounts.key_material`; here are owners, addresses, trust and dates.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Final

import msgspec

from posthouse.accounts.admin import parse_typed_domain
from posthouse.accounts.mail_policy import SCHEMES, owner
from posthouse.accounts.rights import may_send_as
from posthouse.accounts.sealing import NodeKey
from posthouse.kernel.errors import UserError
from posthouse.kernel.ids import AccountId, DomainId
from posthouse.message.address import (
    AddressError,
    fold_local_part,
    parse_mailbox,
)
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.ports import ProtectionError
from posthouse.store import accounts
from posthouse.store import mail_keys as rows
from posthouse.store.sealed import count_sealed
from posthouse.store.transaction import DirectoryChanged, Transaction

FINGERPRINT_SHOWN: Final = 16
"""Characters of a fingerprint that are enough to name a key."""
STRANGERS_MAX: Final = 200_000
"""Keys of others that are kept, beside those that a person imported."""
REVOKED_MAX: Final = 200_000
"""The same of those that are revoked, which no others push out."""
SAID_MAX: Final = 5
"""Keys of one address that are kept as mail told of them; those that it named last."""
ADDRESSES_MAX: Final = 100
PUBLIC_OCTETS_MAX: Final = 1 << 20
NAMES: Final = {scheme: name for name, scheme in SCHEMES.items()}


class Source(Enum):
    """Where a key came from; the words are stored and shown."""

    MADE = "made"
    IMPORTED = "imported"
    SUBMITTED = "submitted"  # by its owner, by mail (the Web Key Service)
    LEARNT = "learnt"  # from signed mail (S/MIME)
    AUTOCRYPT = "autocrypt"  # from a header field of its owner's mail
    WKD = "wkd"
    DNS = "dns"


PLACES: Final = (Source.WKD, Source.DNS)
"""Where a domain shows keys, and may take them back."""
LEAST_FIRST: Final = (Source.AUTOCRYPT, Source.WKD, Source.DNS, Source.LEARNT)
"""What goes where there are too many: what is only said, before what is found again by asking,
before what an authority vouches for and mail brought. What a person imported stays."""


class KeyMaterial(msgspec.Struct, frozen=True, kw_only=True):
    """A key as octets, read and understood."""

    scheme: Scheme
    fingerprint: str
    addresses: tuple[str, ...]
    """As the key names them."""
    public: bytes
    """OpenPGP: the certificate; S/MIME: PEM, the certificates of its issuers behind it."""
    expires_at: int | None
    """Microseconds since 1970."""
    private: bytes | None = None
    revocation: bytes | None = None
    """Of an OpenPGP key, made beforehand, to be used when it is lost."""
    is_revoked: bool = False
    """It says so itself (OpenPGP)."""
    reads: tuple[str, ...] = ()
    """What its owner's program decrypts, as its signature said: `findings.Signature.reads`."""
    said_at: int | None = None
    """From when the mail is that the key was learnt from, in microseconds since 1970."""

    def __repr__(self) -> str:
        return f"KeyMaterial({NAMES[self.scheme]}, {self.fingerprint})"


class MailKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of the store, without its private half. Times are microseconds since 1970."""

    id: int
    scheme: Scheme
    fingerprint: str
    addresses: tuple[str, ...]
    account: AccountId | None
    domain: DomainId | None
    source: Source
    is_trusted: bool
    is_published: bool
    public: bytes
    has_private: bool
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    seen_at: int
    warned_at: int | None
    reads: tuple[str, ...] = ()
    said_at: int | None = None
    separator: str = "+"
    """Of the subaddresses among its addresses, of an own key."""

    @property
    def is_own(self) -> bool:
        """Of an account or a domain of ours."""
        return self.account is not None or self.domain is not None

    @property
    def is_of_place(self) -> bool:
        """Somebody else's, which counts as long as their domain shows it."""
        return self.source in PLACES and not self.is_own

    def is_usable(self, now_us: int) -> bool:
        """As far as its dates tell."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now_us)


def expires_text(key: MailKey) -> str:
    """The day it ends, for people."""
    if key.expires_at is None:
        return "never"
    return datetime.fromtimestamp(key.expires_at / 1e6, UTC).strftime("%Y-%m-%d")


def fold_address(text: str) -> str:
    """The one spelling addresses of keys are compared by; what is no address stays as it is."""
    try:
        address = parse_mailbox(text.strip())
    except AddressError:
        return text.strip().casefold()
    return f"{fold_local_part(address.local_part)}@{address.domain}"


# --- adding ---


def add_own(
    tx: Transaction,
    whom: str,
    material: KeyMaterial,
    node_key: NodeKey,
    *,
    source: Source,
    separator: str = "+",
) -> MailKey:
    """Keep a key of an account ("ada@example.org") or, for a gateway, of a domain, for those of
    its addresses that are the owner's: it would vouch for anybody whom it names.

    A key that is there already gets what is new of it: signatures, dates, the private half.

    Args:
        separator: of subaddresses.

    Raises:
        UserError: there is no such owner, the key names none of its addresses, it is another
            owner's, or the node key cannot be used.
    """
    account, domain = owner(tx, whom)
    if material.private is not None:
        node_key.open(sealed=count_sealed(tx))
    named = owned_addresses(tx, material, account, whom, separator=separator)
    if not named:  # it would sign mail that nobody can match to its author
        raise UserError(
            f"the key names {', '.join(_addresses(material)[:5]) or 'no address'}, and not {whom}",
            hint="others would refuse mail signed by it; make or import one for that address",
        )
    known = rows.by_fingerprint(tx, NAMES[material.scheme], material.fingerprint)
    if known is not None and (known.account, known.domain) not in (
        (None, None),
        (account, domain),
    ):
        raise UserError(f"the key {material.fingerprint} is another owner's already")
    private = _sealed(material, material.private, node_key, b"private")
    revocation = _sealed(material, material.revocation, node_key, b"revocation")
    if known is None:
        key = rows.add(
            tx,
            scheme=NAMES[material.scheme],
            fingerprint=material.fingerprint,
            account=account,
            domain=domain,
            source=source.value,
            is_trusted=True,
            public=material.public,
            private=private,
            revocation=revocation,
            expires_at=material.expires_at,
            addresses=named,
            separator=separator,
        )
    else:
        key = known.id
        is_new = known.account is None and known.domain is None
        if is_new or source is not Source.SUBMITTED:
            rows.set_source(tx, key, source.value)
        rows.set_owner(tx, key, account=account, domain=domain, separator=separator)
        material = _renewed(known, material)
        rows.set_public(tx, key, material.public, expires_at=material.expires_at)
        rows.set_addresses(tx, key, named)
        rows.set_trusted(tx, key, is_trusted=True)
        if private is not None:
            rows.set_private(tx, key, private, revocation)
    if material.is_revoked:
        rows.set_revoked(tx, key)
    for address in named:
        rows.forget_miss(tx, address)
    tx.changed(DirectoryChanged())
    return _known(tx, key)


def owned_addresses(
    tx: Transaction,
    material: KeyMaterial,
    account: AccountId | None,
    domain: str = "",
    *,
    separator: str = "+",
) -> tuple[str, ...]:
    """Those of the key's addresses that are the account's or, without one, of the domain."""
    name = parse_typed_domain(domain) if account is None else ""
    return tuple(
        one for one in _addresses(material) if _may_have(tx, account, name, one, separator)
    )


def add_found(
    tx: Transaction, material: KeyMaterial, *, source: Source, is_trusted: bool
) -> MailKey | None:
    """Keep the public key of somebody else; None where there is no room for it: there are too many,
    and it is worth least, or there are newer ones of its address.

    What an own key of ours shows of itself elsewhere changes nothing here, and trust that was
    given is not taken away. It is given for the addresses of the material only, whatever the key
    names: a domain that vouches for an address of its own could show a key that names others'.
    """
    known = rows.by_fingerprint(tx, NAMES[material.scheme], material.fingerprint)
    named = _addresses(material)
    if known is None:
        key = rows.add(
            tx,
            scheme=NAMES[material.scheme],
            fingerprint=material.fingerprint,
            account=None,
            domain=None,
            source=source.value,
            is_trusted=is_trusted,
            public=material.public,
            private=None,
            revocation=None,
            expires_at=material.expires_at,
            addresses=named,
        )
    else:
        key = known.id
        if known.account is None and known.domain is None:
            material = _renewed(known, material)
            # Only its place says that it still shows it.
            is_seen = source in PLACES or Source(known.source) not in PLACES
            rows.set_public(
                tx, key, material.public, expires_at=material.expires_at, is_seen=is_seen
            )
            _add_word(tx, known, named, source, is_trusted=is_trusted)
    if material.said_at is not None:
        rows.set_reads(tx, key, " ".join(material.reads), material.said_at)
    if material.is_revoked:
        rows.set_revoked(tx, key)
    for address in named:
        rows.forget_miss(tx, address)
        _forget_older(tx, address, source)
    if known is None or (material.is_revoked and known.revoked_at is None):
        _make_room(tx, key, source, is_revoked=material.is_revoked)
    row = rows.by_id(tx, key)
    return _key(row) if row is not None else None


# --- finding ---


def by_address(tx: Transaction, address: str) -> tuple[MailKey, ...]:
    """All that count for the address: own ones first, then trusted ones, last those that only mail
    told of; of each the newest first, by what their owners said last.

    An own key counts while its owner has the address: an alias that went to somebody else took the
    word of the key with it. That one is revoked counts always.
    """
    folded = fold_address(address)
    return tuple(
        key
        for key in naming(tx, folded)
        if key.revoked_at is not None or _counts_for(tx, key, folded)
    )


def naming(tx: Transaction, address: str) -> tuple[MailKey, ...]:
    """All that name the address, whether or not they count for it, in the order of `by_address`."""
    found = [_key(row) for row in rows.by_address(tx, fold_address(address))]
    return tuple(sorted(found, key=lambda key: (standing(key), -_said_at(key))))


def by_either_end(tx: Transaction, part: str) -> list[MailKey]:
    """Those whose fingerprint begins or ends so; at most a few are of interest."""
    return [_key(row) for row in rows.by_either_end(tx, part)]


def by_fingerprint(tx: Transaction, scheme: Scheme, fingerprint: str) -> MailKey | None:
    row = rows.by_fingerprint(tx, NAMES[scheme], fingerprint)
    return _key(row) if row is not None else None


def counted_addresses(tx: Transaction, key: MailKey) -> tuple[str, ...]:
    """Those of its addresses that it counts for."""
    return tuple(address for address in key.addresses if _counts_for(tx, key, address))


def standing(key: MailKey) -> tuple[bool, ...]:
    """Whose word comes first: the owner's here, their domain's here, those whom somebody vouched
    for, those that spoke for themselves."""
    return not key.is_own, key.is_own and key.account is None, not key.is_trusted


def _said_at(key: MailKey) -> int:
    """What was learnt from mail is from when that was written: an old letter that comes again makes
    no key a new one."""
    if key.is_own:
        return key.created_at
    if key.source in (Source.LEARNT, Source.AUTOCRYPT) and key.said_at is not None:
        return key.said_at
    return max(key.created_at, key.said_at or 0)


def _counts_for(tx: Transaction, key: MailKey, address: str) -> bool:
    if not key.is_own:
        return True
    try:
        parsed = parse_mailbox(address)
    except AddressError:
        return False
    if key.account is not None:
        return may_send_as(tx, key.account, parsed, subaddress_separator=key.separator)
    domain = accounts.domain_by_name(tx, parsed.domain)
    return domain is not None and domain.id == key.domain


def of_owner(
    tx: Transaction, *, account: AccountId | None = None, domain: DomainId | None = None
) -> tuple[MailKey, ...]:
    """The own keys of an account or a domain, the newest first."""
    if account is not None:
        return tuple(map(_key, rows.of_account(tx, account)))
    assert domain is not None
    return tuple(map(_key, rows.of_domain(tx, domain)))


def published(tx: Transaction, scheme: Scheme, *, limit: int) -> tuple[MailKey, ...]:
    """Own keys that others may look up here, the newest first, each with the addresses that it
    counts for alone; revoked ones too, so that others hear of it."""
    found = map(_key, rows.published(tx, NAMES[scheme], limit=limit))
    return tuple(
        msgspec.structs.replace(key, addresses=counted)
        for key in found
        if (counted := counted_addresses(tx, key))
    )


def all_keys(tx: Transaction, *, limit: int, after: int = 0) -> tuple[MailKey, ...]:
    """In the order they came, behind the one of that id."""
    return tuple(map(_key, rows.page(tx, after=after, limit=limit)))


def private_half(tx: Transaction, key: MailKey, node_key: NodeKey) -> bytes:
    """Raises UserError when it is not here, or the node key does not open it."""
    sealed = rows.sealed_private(tx, key.id)
    if sealed is None:
        raise UserError(f"the private half of the key {key.fingerprint} is not here")
    return node_key.unseal(sealed, _context(key.scheme, key.fingerprint, b"private"))


def revocation(tx: Transaction, key: MailKey, node_key: NodeKey) -> bytes | None:
    """The revocation that was made with the key, where there is one."""
    sealed = rows.sealed_revocation(tx, key.id)
    if sealed is None:
        return None
    return node_key.unseal(sealed, _context(key.scheme, key.fingerprint, b"revocation"))


def expiring(tx: Transaction, *, since_us: int, before_us: int, limit: int) -> tuple[MailKey, ...]:
    """Own keys that end between then and are not revoked, the soonest first."""
    return tuple(map(_key, rows.expiring(tx, since=since_us, before=before_us, limit=limit)))


# --- changing ---


def revoke(tx: Transaction, key: MailKey, public: bytes | None = None) -> None:
    """Use the key no more, for anything but reading old mail.

    Args:
        public: the OpenPGP certificate with its revocation on it, to be published.
    """
    if public is not None:
        rows.set_public(tx, key.id, public, expires_at=key.expires_at)
    rows.set_revoked(tx, key.id)
    tx.changed(DirectoryChanged())


def note_revoked(
    tx: Transaction, *, fingerprints: Sequence[str], unknown: Sequence[KeyMaterial] = ()
) -> None:
    """Use S/MIME certificates no more whose issuers have taken them back.

    Args:
        unknown: certificates among them that may not be here yet.
    """
    for material in unknown:
        if material.fingerprint in fingerprints:
            revoked = msgspec.structs.replace(material, is_revoked=True)
            add_found(tx, revoked, source=Source.LEARNT, is_trusted=False)
    for one in fingerprints:
        row = rows.by_fingerprint(tx, NAMES[Scheme.SMIME], one)
        if row is not None and row.revoked_at is None:
            rows.set_revoked(tx, row.id)
            tx.changed(DirectoryChanged())


def publish(tx: Transaction, key: MailKey, *, is_published: bool) -> None:
    """Whether others may look the key up here (WKD). Raises UserError for a key not of ours."""
    if not key.is_own:
        raise UserError(f"the key {key.fingerprint} is not of an account or domain here")
    rows.set_published(tx, key.id, is_published=is_published)
    tx.changed(DirectoryChanged())


def remove(tx: Transaction, key: MailKey) -> None:
    """Forget it, its private half too: mail that was encrypted to it stays closed for ever."""
    rows.remove(tx, key.id)
    tx.changed(DirectoryChanged())


def forget_for(tx: Transaction, key: MailKey, address: str) -> None:
    """A stranger's key counts no more for the address; without any it is forgotten, and may be
    learnt or found again."""
    left = [one for one in key.addresses if one != address]
    if left:
        rows.set_addresses(tx, key.id, left)
    else:
        rows.remove(tx, key.id)


def owner_name(tx: Transaction, key: MailKey) -> str:
    """The account or domain whose own it is; "" for a stranger's."""
    if key.account is not None:
        row = accounts.account_by_id(tx, key.account)
        return row.name if row is not None else ""
    if key.domain is not None:
        found = [one.name for one in accounts.domains(tx) if one.id == key.domain]
        return found[0] if found else ""
    return ""


# --- inside ---


def _renewed(known: rows.MailKeyRow, material: KeyMaterial) -> KeyMaterial:
    """What is there and what came, as one: who shows an OpenPGP key without its revocation cannot
    take that away. Of S/MIME the key is the certificate, and nothing of it changes."""
    if material.scheme is not Scheme.OPENPGP or known.public == material.public:
        return material
    from posthouse.mimesec.pgp.keys import PublicKey, merged

    try:
        both = merged(PublicKey(known.public), PublicKey(material.public))
    except ProtectionError:
        return msgspec.structs.replace(material, public=known.public, expires_at=known.expires_at)
    expires = both.encrypts_until
    return msgspec.structs.replace(
        material,
        public=both.octets,
        expires_at=int(expires.timestamp() * 1e6) if expires is not None else None,
        is_revoked=both.is_revoked,
    )


def _add_word(
    tx: Transaction,
    known: rows.MailKeyRow,
    named: Sequence[str],
    source: Source,
    *,
    is_trusted: bool,
) -> None:
    """Another word on whose a key is."""
    is_first_to_vouch = is_trusted and not known.is_trusted
    is_moved = source in PLACES and Source(known.source) in PLACES
    # A person's word outlasts that of places, which may be taken back.
    if is_first_to_vouch or is_moved or source is Source.IMPORTED:
        rows.set_source(tx, known.id, source.value)
    if is_first_to_vouch:
        rows.set_addresses(tx, known.id, named)
        rows.set_trusted(tx, known.id, is_trusted=True)
    elif is_trusted is known.is_trusted:
        rows.set_addresses(tx, known.id, (*known.addresses, *named)[:ADDRESSES_MAX])


def _forget_older(tx: Transaction, address: str, source: Source) -> None:
    """Whoever writes with a new key each day fills nothing, and their last ones count."""
    if source not in (Source.AUTOCRYPT, Source.LEARNT):
        return
    told = [key for key in naming(tx, address) if key.source is source and not key.is_own]
    in_force = [key for key in told if key.revoked_at is None]
    # What an authority has revoked is remembered; that an Autocrypt key is says its owner alone.
    revoked = [key for key in told if key.revoked_at is not None and source is Source.AUTOCRYPT]
    for key in (*in_force[SAID_MAX:], *revoked[SAID_MAX:]):
        forget_for(tx, key, address)


def _make_room(tx: Transaction, key: int, source: Source, *, is_revoked: bool) -> None:
    """One key of others goes where there is one too many: of those that are worth least the one not
    seen for longest. What anybody may say of themselves makes room among its like alone."""
    sources = [one.value for one in LEAST_FIRST]
    limit = REVOKED_MAX if is_revoked else STRANGERS_MAX
    if rows.count_strangers(tx, sources, is_revoked=is_revoked) <= limit:
        return
    but = None if source is Source.AUTOCRYPT else key
    found = (rows.longest_kept(tx, one, is_revoked=is_revoked, but=but) for one in sources)
    goes = next((one for one in found if one is not None), None)
    if goes is not None:
        rows.remove(tx, goes)


def _addresses(material: KeyMaterial) -> Sequence[str]:
    return tuple(dict.fromkeys(map(fold_address, material.addresses)))[:ADDRESSES_MAX]


def _may_have(
    tx: Transaction, account: AccountId | None, domain: str, text: str, separator: str
) -> bool:
    try:
        address = parse_mailbox(text)
    except AddressError:
        return False
    if account is None:
        return address.domain == domain
    return may_send_as(tx, account, address, subaddress_separator=separator)


def _sealed(
    material: KeyMaterial, octets: bytes | None, node_key: NodeKey, what: bytes
) -> bytes | None:
    if octets is None:
        return None
    return node_key.seal(octets, _context(material.scheme, material.fingerprint, what))


def _context(scheme: Scheme, fingerprint: str, what: bytes) -> bytes:
    return b"mail-key:%s:%s:%s" % (NAMES[scheme].encode(), fingerprint.encode(), what)


def _known(tx: Transaction, key: int) -> MailKey:
    row = rows.by_id(tx, key)
    assert row is not None
    return _key(row)


def _key(row: rows.MailKeyRow) -> MailKey:
    return MailKey(
        id=row.id,
        scheme=SCHEMES[row.scheme],
        fingerprint=row.fingerprint,
        addresses=row.addresses,
        account=row.account,
        domain=row.domain,
        source=Source(row.source),
        is_trusted=row.is_trusted,
        is_published=row.is_published,
        public=row.public,
        has_private=row.has_private,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        seen_at=row.seen_at,
        warned_at=row.warned_at,
        reads=tuple(row.reads.split()),
        said_at=row.said_at,
        separator=row.separator,
    )
