"""OpenPGP keys made, given another end, and revoked. What the library does (another end, a later
revocation, version 6) happens now: it asks the system's clock for the time of its signatures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from posthouse.kernel.envelope import Address
from posthouse.message.address import AddressError, format_address, parse_mailbox
from posthouse.mimesec import given
from posthouse.mimesec.pgp import armour, renewing, selfmade, sequoia
from posthouse.mimesec.pgp.armour import BadArmour, Kind
from posthouse.mimesec.pgp.keys import PrivateKey, PublicKey
from posthouse.mimesec.pgp.packets import BadPackets
from posthouse.mimesec.pgp.structure import signature_packets
from posthouse.mimesec.ports import ProtectionError

DAYS_MAX: Final = 3_650
_REVOKES_KEY: Final = 0x20
_REVOCATION_OCTETS_MAX: Final = 64 * 1024


class EndTooSoon(ProtectionError):
    """Times of signatures are whole seconds, and the one before is of this second."""


class KeyForm(Enum):
    CURVE25519 = "cv25519"  # version 4, read by every program since 2015
    RSA3072 = "rsa3072"  # for the few that do not
    VERSION6 = "v6"  # RFC 9580's own, not read by GnuPG


def make_key(
    addresses: str | Sequence[str],
    *,
    at: datetime,
    days: int | None,
    name: str = "",
    form: KeyForm = KeyForm.CURVE25519,
) -> tuple[PrivateKey, bytes]:
    """A new key, and its revocation to be put away: armoured, as `revoked_by` takes it. RSA takes
    up to seconds.

    Args:
        addresses: one, or several.
        at: when it is made; of version 6 always now.
        days: how long it is good; None for ever.
        name: of the person, for all addresses.

    Raises:
        ProtectionError: an address or the name cannot be in a user id.
    """
    addresses = given.texts(addresses, "addresses")
    given.check_time(at, "at")
    given.check_text(name, "name")
    given.check_choice(form, KeyForm, "form")
    if days is not None:
        given.check_days(days, DAYS_MAX, "days")
    if days is not None and not 1 <= days <= DAYS_MAX:
        raise ProtectionError(f"a key is good for 1 to {DAYS_MAX} days, not {days}")
    if not addresses:
        raise ProtectionError("a key needs an address", hint="name at least one")
    ids = [_user_id(each, name) for each in addresses]
    if form is KeyForm.VERSION6:
        return _version6(ids, days)
    seconds = None if days is None else days * 86_400
    octets, revocation = selfmade.build(ids, at=at, seconds=seconds, is_rsa=form is KeyForm.RSA3072)
    # The kind of armour that GnuPG imports revocations by.
    return PrivateKey(octets), armour.write(revocation, Kind.PUBLIC_KEY)


def _version6(ids: Sequence[str], days: int | None) -> tuple[PrivateKey, bytes]:
    pgp = sequoia.library()
    options: dict[str, Any] = {} if days is None else {"validity_seconds": days * 86_400}
    try:
        made = sequoia.tried(
            pgp.Tsk.generate,
            user_ids=ids,
            profile=pgp.Profile.RFC9580,
            cipher_suite=pgp.CipherSuite.Cv25519,
            **options,
        )
        revocation = sequoia.tried(made.extract_certificate().revoke, sequoia.tried(made.certifier))
    except sequoia.Failed:
        raise ProtectionError("the key could not be made") from None
    return PrivateKey(bytes(made)), armour.write(bytes(revocation), Kind.PUBLIC_KEY)


def with_end(private: PrivateKey, *, at: datetime) -> PrivateKey:
    """The same key with another end, its subkeys with it: those that are not revoked and had one.
    A key that has ended goes on. Raises ProtectionError for a moment before it was made."""
    given.check_kind(private, PrivateKey, "private")
    given.check_time(at, "at")
    if at <= private.public.created_at:
        raise ProtectionError("a key cannot end before it was made")
    try:
        return PrivateKey(renewing.with_end(private.octets, at=at, now=datetime.now(UTC)))
    except renewing.TooSoon as error:
        raise EndTooSoon(
            f"the end of the key could not be changed: {error}", hint="try again in a second"
        ) from None
    except BadPackets as error:
        raise ProtectionError(
            f"the end of the key could not be changed: {error}",
            hint="make a new key, or change it where it was made and import it again",
        ) from None


def make_revocation(private: PrivateKey) -> bytes:
    """As `make_key` gives it, of a key that came without one."""
    given.check_kind(private, PrivateKey, "private")
    try:
        made = sequoia.tried(private.public.cert.revoke, sequoia.tried(private.tsk.certifier))
    except sequoia.Failed:
        raise ProtectionError("the key could not be revoked") from None
    return armour.write(bytes(made), Kind.PUBLIC_KEY)


def revoked_by(public: PublicKey, revocation: bytes) -> PublicKey:
    """A certificate revoked by what `make_key` gave, or what another program wrote.

    Raises:
        ProtectionError: it is no revocation, or that of another key.
    """
    given.check_kind(public, PublicKey, "public")
    given.check_octets(revocation, "revocation")
    hint = "give the revocation certificate of this very key"
    try:
        if len(revocation) > _REVOCATION_OCTETS_MAX:
            raise BadPackets("it is too large")
        if armour.is_armoured(revocation):
            revocation = b"".join(one.octets for one in armour.blocks(revocation))
        if not any(one.kind == _REVOKES_KEY for one in signature_packets(revocation)):
            raise BadPackets("it is a signature of another kind")
        found = PublicKey(bytes(sequoia.certificate(public.octets + revocation)))
    except (BadArmour, BadPackets) as error:
        raise ProtectionError(f"the revocation cannot be read: {error}", hint=hint) from None
    except sequoia.Failed:
        raise ProtectionError("the revocation cannot be read", hint=hint) from None
    if not found.is_revoked:
        raise ProtectionError("the revocation is not of this key", hint=hint)
    return found


def _user_id(text: str, name: str) -> str:
    try:
        address: Address = parse_mailbox(text)
    except AddressError as error:
        raise ProtectionError(
            f"{text!r} is no address: {error}",
            hint="write it without a name, as in bob@example.net",
        ) from None
    if any(c in name for c in "<>()@") or not name.isprintable():
        raise ProtectionError(
            f"the name {name!r} cannot be in a key", hint='leave out "<", ">", "(", ")" and "@"'
        )
    shown = format_address(address)
    return f"{name} <{shown}>" if name else f"<{shown}>"
