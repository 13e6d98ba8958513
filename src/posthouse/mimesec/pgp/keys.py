"""OpenPGP keys: certificates and private keys, read from what people and programs keep them in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

from posthouse.kernel.secret import Secret
from posthouse.message.address import (
    LOCAL_PART_REMOTE_OCTETS_MAX,
    AddressError,
    format_address,
    parse_mailbox,
)
from posthouse.mimesec import given
from posthouse.mimesec.pgp import armour, encrypting, locking, sequoia, session
from posthouse.mimesec.pgp.armour import BadArmour, Kind
from posthouse.mimesec.pgp.packets import BadPackets, Packet, Tag, walk
from posthouse.mimesec.pgp.parts import why_dear
from posthouse.mimesec.pgp.session import Subkey
from posthouse.mimesec.pgp.structure import ALGORITHMS
from posthouse.mimesec.ports import ProtectionError

if TYPE_CHECKING:
    from pysequoia import Cert, Tsk

OCTETS_MAX: Final = 8 * 1024 * 1024
"""Of a file of keys."""
KEY_OCTETS_MAX: Final = 1024 * 1024
"""Of one key: those with thousands of foreign signatures are made to annoy."""
KEY_PACKETS_MAX: Final = 5_000
KEYS_MAX: Final = 1_000
"""Of one file."""
PRIVATE_MAX: Final = 100
"""Of one file, as each may cost the hashing of passwords."""
USER_IDS_MAX: Final = 100
"""Of one key. The time that the library takes for those without a good signature grows with their
square: 2,000 of them take half a minute."""
CLOCK_SKEW: Final = timedelta(minutes=10)
"""How far in the future a key or a signature may have been made."""
_REVOCATIONS_MAX: Final = 20
_USER_ID_OCTETS_MAX: Final = 1_000
_BEGINS: Final = frozenset({Tag.PUBLIC_KEY, Tag.SECRET_KEY})
_SECRET: Final = {Tag.SECRET_KEY: Tag.PUBLIC_KEY, Tag.SECRET_SUBKEY: Tag.PUBLIC_SUBKEY}


class PublicKey:
    """A certificate: public keys, user ids and the signatures that bind them. Nothing on it counts
    but by a good signature of its own."""

    def __init__(self, octets: bytes) -> None:
        """
        Args:
            octets: one certificate, binary; secret parts are left out.

        Raises:
            ProtectionError: it cannot be read.
        """
        octets = _public_half(octets)
        self.octets = octets
        self._cert, facts = _read_certificate(octets)
        self.fingerprint = facts.fingerprint
        self.is_revoked = facts.is_revoked
        expires = facts.expires_at
        self.expires_at: datetime | None = expires.astimezone(UTC) if expires else None
        self._encrypting: tuple[encrypting.Encrypting, ...] = ()
        keys = [one for one in walk(octets) if one.tag in (Tag.PUBLIC_KEY, Tag.PUBLIC_SUBKEY)]
        primary = keys[0].body
        self.created_at = datetime.fromtimestamp(int.from_bytes(primary[1:5], "big"), UTC)
        self.algorithm = ALGORITHMS.get(primary[5], f"algorithm {primary[5]}")
        self.key_ids = tuple(locking.key_id(one.body) for one in keys)
        self.user_ids = facts.user_ids
        self.addresses = tuple(dict.fromkeys(addresses_in(self.user_ids)))

    def __repr__(self) -> str:
        return f"PublicKey({self.fingerprint})"

    @property
    def cert(self) -> Cert:
        return self._cert

    @property
    def encrypts_until(self) -> datetime | None:
        """When the key ends or, where it is earlier, the last of its parts that encrypt; the end of
        the key where it has no such part."""
        ends = [one.ends_at for one in self._parts()]
        last = max((one for one in ends if one is not None), default=None)
        if None in ends or last is None:
            return self.expires_at
        return last if self.expires_at is None else min(last, self.expires_at)

    def why_unusable(self, at: datetime) -> str:
        """Why nothing can be encrypted to it, in words; "" when it can."""
        if self.is_revoked:
            return "the key was revoked"
        if self.expires_at is not None and self.expires_at <= at:
            return f"the key ended on {self.expires_at:%Y-%m-%d}"
        if self.created_at > at + CLOCK_SKEW:
            return f"the key is not valid before {self.created_at:%Y-%m-%d %H:%M}"
        if not encrypting.good(self._parts(), at):
            return encrypting.why_none(self.octets, self._parts())
        return ""

    def cert_at(self, at: datetime) -> Cert:
        """With no part to encrypt to but those that are good then: the library would take what has
        ended where there is nothing else. Where none is good (`why_unusable`), with none.

        Raises:
            Failed: it is none without them.
        """
        good = encrypting.good(self._parts(), at)
        if good and len(good) == len(self._parts()):
            return self._cert
        return sequoia.certificate(encrypting.only(self.octets, good))

    def _parts(self) -> tuple[encrypting.Encrypting, ...]:
        if not self._encrypting:  # one that begins in a moment is seen then
            self._encrypting = encrypting.parts_of(self.octets, self._cert)
        return self._encrypting

    def armored(self) -> bytes:
        return armour.write(self.octets, Kind.PUBLIC_KEY)


class PrivateKey:
    """A key with its secret parts, unlocked."""

    def __init__(self, octets: bytes, password: Secret | str | None = None) -> None:
        """
        Args:
            octets: one private key, binary, locked by a password or not. Some of its parts may be
                elsewhere: what is here signs, decrypts or both.

        Raises:
            ProtectionError: it cannot be read, or the password is wrong or missing.
        """
        word = given.secret(password)
        try:
            self.octets = locking.unlocked(octets, word)
            public = _public_half(self.octets)
            here = locking.without_notes(self.octets)
            has_any = any(one.tag in _SECRET for one in walk(here))
        except BadPackets as error:
            raise ProtectionError(
                f"the private key cannot be read: {error}", hint="give an OpenPGP private key"
            ) from None
        if not has_any:
            raise ProtectionError(
                "the file says only where the private key is (on a card, or kept apart)",
                hint="export it from there, or make a key for this place",
            )
        self.public = PublicKey(public)
        try:
            self._tsk = sequoia.private(here)
        except sequoia.Failed:
            raise ProtectionError(
                "the private key cannot be read", hint="give an OpenPGP private key"
            ) from None

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.fingerprint})"

    @cached_property
    def subkeys(self) -> tuple[Subkey, ...]:
        """Those that may decrypt."""
        try:
            return tuple(session.subkeys(self.octets))
        except BadPackets:
            return ()

    @property
    def tsk(self) -> Tsk:
        return self._tsk

    def armored(self, password: Secret | str | None, *, salt: bytes = b"") -> bytes:
        """The key for a file.

        Args:
            password: to lock it; None leaves it open.
            salt: 24 octets by chance, where there is a password.

        Raises:
            ProtectionError: there is a password, and no such salt.
        """
        word = given.secret(password)
        if not word:
            return armour.write(self.octets, Kind.PRIVATE_KEY)
        hint = f"give salt=os.urandom({locking.SALT_OCTETS})"
        given.check_octets(salt, "the salt of a password", hint=hint)
        if len(salt) != locking.SALT_OCTETS:
            raise ProtectionError(
                f"the salt of a password has {locking.SALT_OCTETS} octets, not {len(salt)}",
                hint=hint,
            )
        octets = locking.locked(self.octets, word, salt)
        return armour.write(octets, Kind.PRIVATE_KEY)


def read_public(octets: bytes) -> tuple[PublicKey, ...]:
    """All certificates of a file, armoured or binary; secret parts are left out.

    Raises:
        ProtectionError: there is none, or one of them cannot be read.
    """
    given.check_octets(octets, "read_public")
    return tuple(PublicKey(_public_half(one)) for one in _keys(octets, "a public key"))


def read_private(octets: bytes, password: Secret | str | None = None) -> tuple[PrivateKey, ...]:
    """All private keys of a file, armoured or binary.

    Raises:
        ProtectionError: there is none, or the password is wrong or missing.
    """
    given.check_octets(octets, "read_private")
    found = [one for one in _keys(octets, "a private key") if _is_private(one)]
    if not found:
        raise ProtectionError(
            "there is no private key in it", hint="export it with: gpg --export-secret-keys"
        )
    if len(found) > PRIVATE_MAX:
        raise ProtectionError(
            f"there are more than {PRIVATE_MAX} private keys in it", hint="give them one by one"
        )
    return tuple(PrivateKey(one, password) for one in found)


def merged(old: PublicKey, new: PublicKey) -> PublicKey:
    """Two states of one key as one: a revocation is never lost by a refresh.

    Raises:
        ProtectionError: they are two keys.
    """
    if old.fingerprint != new.fingerprint:
        raise ProtectionError(f"{old.fingerprint} and {new.fingerprint} are two keys")
    try:
        try:
            return PublicKey(sequoia.merged(old.octets, new.octets))
        except ProtectionError:  # with what was put into one of them it is too large
            return PublicKey(sequoia.merged(old.octets, _bare(new.octets)))
    except sequoia.Failed:
        raise ProtectionError("the two states of the key do not fit together") from None


def _bare(octets: bytes) -> bytes:
    """The primary key and its revocations."""
    parts: list[bytes] = []
    for packet in walk(octets):
        if parts and packet.tag != Tag.SIGNATURE:
            break
        if not parts or packet.body[1:2] == b"\x20":
            parts.append(packet.octets)
    return b"".join(parts[:_REVOCATIONS_MAX])


def has_private(octets: bytes) -> bool:
    """Whether a file holds a private key."""
    try:
        return any(map(_is_private, _keys(octets, "a key")))
    except ProtectionError:
        return False


def is_locked(octets: bytes) -> bool:
    """Whether a file has a private key with a password."""
    try:
        found = _keys(octets, "a key")
        return any(locking.is_locked(packet) for one in found for packet in walk(one))
    except (BadPackets, ProtectionError):
        return False


def is_openpgp(octets: bytes) -> bool:
    """Whether a file is meant to be one of OpenPGP keys."""
    if armour.is_armoured(octets):
        return True
    try:
        return next(walk(octets)).tag in _BEGINS
    except (BadPackets, StopIteration):
        return False


def _keys(octets: bytes, what: str) -> Sequence[bytes]:
    """Each key by itself, binary."""
    hint = f"give {what} of OpenPGP, armoured or binary"
    if len(octets) > OCTETS_MAX:
        raise ProtectionError(f"it has more than {OCTETS_MAX >> 20} MiB", hint=hint)
    try:
        if armour.is_armoured(octets):
            octets = b"".join(
                one.octets for one in armour.blocks(octets) if one.kind.endswith("KEY BLOCK")
            )
        found = list(_divided(octets))
    except (BadArmour, BadPackets) as error:
        raise ProtectionError(f"it cannot be read: {error}", hint=hint) from None
    if not found:
        raise ProtectionError("there is no key in it", hint=hint)
    return found


def _divided(octets: bytes) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = count = 0
    for packet in walk(octets):
        if packet.tag in _BEGINS:
            if parts:
                yield b"".join(parts)
            count += 1
            if count > KEYS_MAX:
                raise BadPackets(f"it has more than {KEYS_MAX} keys")
            parts, size = [], 0
        elif not parts:
            raise BadPackets("it does not begin with a key")
        size += len(packet.octets)
        if size > KEY_OCTETS_MAX:
            raise BadPackets(f"a key of it has more than {KEY_OCTETS_MAX >> 10} KiB")
        parts.append(packet.octets)
    if parts:
        yield b"".join(parts)


def _is_private(octets: bytes) -> bool:
    return next(walk(octets)).tag == Tag.SECRET_KEY


def _public_half(octets: bytes) -> bytes:
    try:
        return b"".join(map(_public, walk(octets)))
    except BadPackets as error:
        raise ProtectionError(
            f"the key cannot be read: {error}", hint="give an OpenPGP key"
        ) from None


def _public(packet: Packet) -> bytes:
    if packet.tag not in _SECRET:
        return b"" if packet.tag == Tag.TRUST else packet.octets
    return locking.public_packet(packet)


def _read_certificate(octets: bytes) -> tuple[Cert, sequoia.Facts]:
    hint = "give an OpenPGP public key"
    try:
        _check_bounds(octets)
        cert = sequoia.certificate(octets)
    except BadPackets as error:
        raise ProtectionError(f"the key cannot be read: {error}", hint=hint) from None
    except sequoia.Failed:
        raise ProtectionError("the key cannot be read", hint=hint) from None
    try:
        return cert, sequoia.Facts(cert)
    except sequoia.Failed:
        raise ProtectionError(
            "nothing in the key is bound to it by a good signature", hint="get it anew"
        ) from None


def _check_bounds(octets: bytes) -> None:
    """What nobody but the library is asked about has to be small before it is asked.

    Raises:
        BadPackets: it is not one certificate, or one made to annoy.
    """
    if len(octets) > KEY_OCTETS_MAX:
        raise BadPackets(f"it has more than {KEY_OCTETS_MAX >> 10} KiB")
    first = next(walk(octets), None)
    if first is None or first.tag != Tag.PUBLIC_KEY or len(first.body) < 6:
        raise BadPackets("it does not begin with a public key")
    keys = names = 0
    for packet in walk(octets, packets_max=KEY_PACKETS_MAX):
        keys += packet.tag == Tag.PUBLIC_KEY
        if keys > 1:
            raise BadPackets("there is more than one key in it")
        if packet.tag in (Tag.PUBLIC_KEY, Tag.PUBLIC_SUBKEY) and (why := why_dear(packet.body)):
            raise BadPackets(why)
        names += packet.tag in (Tag.USER_ID, Tag.USER_ATTRIBUTE)
        if names > USER_IDS_MAX:
            raise BadPackets(f"it has more than {USER_IDS_MAX} user ids")


def addresses_in(user_ids: Sequence[str]) -> Iterator[str]:
    """Of user ids in the forms "Ada <ada@example.org>" and "ada@example.org" (RFC 9580 §5.11)."""
    for text in user_ids:
        if len(text) > _USER_ID_OCTETS_MAX:
            continue
        begin, end = text.rfind("<"), text.rfind(">")
        address = text[begin + 1 : end] if 0 <= begin < end else text.strip()
        try:
            parsed = parse_mailbox(address, local_part_octets_max=LOCAL_PART_REMOTE_OCTETS_MAX)
        except AddressError:
            continue
        yield format_address(parsed)
