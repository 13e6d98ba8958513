"""What keys of the store are made of, whichever scheme they are of: read from files, made anew, and
turned into what signs and encrypts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Final, TypeVar

from posthouse.accounts import pgp_material, smime_material
from posthouse.accounts.mail_keys import KeyMaterial, MailKey
from posthouse.kernel.errors import UserError
from posthouse.kernel.secret import Secret
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import keys as pgp_keys
from posthouse.mimesec.pgp import locking
from posthouse.mimesec.pgp.make import KeyForm
from posthouse.mimesec.pgp.sealer import PgpSealer
from posthouse.mimesec.ports import ProtectionError, Recipient, Sealer, Signer
from posthouse.mimesec.smime.make import KeyKind
from posthouse.mimesec.smime.sealer import SmimeSealer

T = TypeVar("T")

FILE_OCTETS_MAX: Final = 1 << 20
DAYS_MAX: Final = 3_650
SALT_OCTETS: Final = locking.SALT_OCTETS


class Algorithm(Enum):
    """Of a key that is made; the words are typed."""

    P256 = "p256"
    P384 = "p384"
    CURVE25519 = "cv25519"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    VERSION6 = "v6"


_SMIME: Final = {
    Algorithm.P256: KeyKind.P256,
    Algorithm.P384: KeyKind.P384,
    Algorithm.RSA3072: KeyKind.RSA3072,
    Algorithm.RSA4096: KeyKind.RSA4096,
}
_OPENPGP: Final = {
    Algorithm.CURVE25519: KeyForm.CURVE25519,
    Algorithm.RSA3072: KeyForm.RSA3072,
    Algorithm.VERSION6: KeyForm.VERSION6,
}
USUAL: Final = {Scheme.SMIME: Algorithm.P256, Scheme.OPENPGP: Algorithm.CURVE25519}


# --- from outside; these raise UserError ---


def make(
    addresses: Sequence[str],
    *,
    at: datetime,
    days: int,
    scheme: Scheme = Scheme.SMIME,
    algorithm: Algorithm | None = None,
) -> KeyMaterial:
    """A new key: of S/MIME with a certificate that vouches for itself, of OpenPGP with its
    revocation. RSA takes up to seconds.

    Raises:
        UserError: an address cannot be in a key, or the scheme has no such algorithm.
    """
    wanted = algorithm or USUAL[scheme]
    known = _SMIME if scheme is Scheme.SMIME else _OPENPGP
    if wanted not in known:
        names = ", ".join(one.value for one in known)
        raise UserError(
            f"{scheme.value} has no keys of {wanted.value} here", hint=f"there is {names}"
        )
    if scheme is Scheme.SMIME:
        return _said(partial(smime_material.make, addresses, at=at, days=days, kind=_SMIME[wanted]))
    return _said(partial(pgp_material.make, addresses, at=at, days=days, form=_OPENPGP[wanted]))


def read_private(octets: bytes, password: Secret | None) -> tuple[KeyMaterial, ...]:
    """Private keys: PKCS #12, PEM with key and certificate, or OpenPGP.

    Raises:
        UserError: it cannot be read, the password is wrong, or a half is missing.
    """
    read = pgp_material if pgp_keys.is_openpgp(octets) else smime_material
    return _said(partial(read.read_private, octets, password))


def read_public(octets: bytes) -> tuple[KeyMaterial, ...]:
    """Somebody's certificate with its issuers behind it (PEM or DER), or OpenPGP keys. Raises
    UserError."""
    scheme = Scheme.OPENPGP if pgp_keys.is_openpgp(octets) else Scheme.SMIME
    return read_found(scheme, octets)


def read_found(scheme: Scheme, octets: bytes) -> tuple[KeyMaterial, ...]:
    """What a stranger shows as somebody's, of that scheme and no other. Raises UserError."""
    if scheme is Scheme.SMIME:
        return (_said(partial(smime_material.read_public, octets)),)
    return _said(partial(pgp_material.read_public, octets))


def has_private(octets: bytes) -> bool:
    """Whether a file holds more than certificates."""
    if pgp_keys.is_openpgp(octets):
        return pgp_keys.has_private(octets)
    return smime_material.has_private(octets)


def is_locked(octets: bytes) -> bool:
    """Whether a file with a private key needs a password to be read."""
    if pgp_keys.is_openpgp(octets):
        return pgp_keys.is_locked(octets)
    return smime_material.is_locked(octets)


def export_public(key: MailKey) -> bytes:
    """As text: PEM or armour."""
    return key.public if key.scheme is Scheme.SMIME else pgp_material.export_public(key)


def export_private(
    key: MailKey, private: bytes, password: Secret | None, *, salt: bytes = b""
) -> bytes:
    """As text: PEM of key and certificates, or armour, locked where there is a password.

    Args:
        salt: SALT_OCTETS by chance, where there is a password.
    """
    if key.scheme is Scheme.SMIME:
        return smime_material.export_private(key, private, password)
    return _said(partial(pgp_material.export_private, private, password, salt))


def is_selfmade(key: MailKey) -> bool:
    """Whether a certificate vouches for itself, so that no issuer knows of it."""
    return smime_material.is_selfmade(key)


def extended(private: bytes, at: datetime) -> KeyMaterial:
    """An OpenPGP key with another end. Raises UserError."""
    return _said(lambda: pgp_material.extended(private, at))


def make_revocation(private: bytes) -> bytes:
    """Of an OpenPGP key that came without one. Raises UserError."""
    return _said(lambda: pgp_material.make_revocation(private))


def revoked(key: MailKey, revocation: bytes) -> bytes:
    """The OpenPGP certificate with its revocation on it. Raises UserError."""
    return _said(partial(pgp_material.revoked, key, revocation))


def _said(action: Callable[[], T]) -> T:
    try:
        return action()
    except ProtectionError as error:
        raise UserError(error.text, hint=error.hint) from None


# --- in use; these raise ProtectionError ---


def recipient(key: MailKey) -> Recipient:
    """To encrypt to. Raises ProtectionError for a key that cannot be read any more."""
    if key.scheme is Scheme.SMIME:
        return smime_material.recipient(key)
    return pgp_material.recipient(key)


def signer(key: MailKey, private: bytes, *, opens: bool) -> Signer:
    """
    Args:
        opens: what is encrypted to the key is opened here, and not by a program of its owner's,
            of which less is known.

    Raises:
        ProtectionError: the key is not for signatures, or cannot be read any more.
    """
    if key.scheme is Scheme.SMIME:
        return smime_material.signer(key, private, opens=opens)
    return pgp_material.signer(private)


def sealer(scheme: Scheme) -> Sealer:
    return SmimeSealer() if scheme is Scheme.SMIME else PgpSealer()


def why_unusable(key: MailKey, at: datetime) -> str:
    """Why nothing can be encrypted to it, in words; "" when it can."""
    try:
        return recipient(key).why_unusable(at)
    except ProtectionError as error:
        return error.text
