"""OpenPGP keys of the store: read from files, made anew, and turned into what signs and encrypts.

`key_material` is the way here; it raises `UserError` for the `ProtectionError` of these.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from posthouse.accounts.mail_keys import KeyMaterial, MailKey
from posthouse.kernel.secret import Secret
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import keys
from posthouse.mimesec.pgp import make as pgp_make
from posthouse.mimesec.pgp.keys import PrivateKey, PublicKey
from posthouse.mimesec.pgp.make import KeyForm, make_key, revoked_by
from posthouse.mimesec.pgp.recipient import PgpRecipient
from posthouse.mimesec.pgp.signer import PgpSigner
from posthouse.mimesec.ports import Recipient, Signer


def make(addresses: Sequence[str], *, at: datetime, days: int, form: KeyForm) -> KeyMaterial:
    """A new key, with its revocation. RSA takes up to seconds."""
    private, revocation = make_key(addresses, at=at, days=days, form=form)
    return _material(private.public, private.octets, revocation)


def read_private(octets: bytes, password: Secret | None) -> tuple[KeyMaterial, ...]:
    found = keys.read_private(octets, password)
    return tuple(_material(one.public, one.octets) for one in found)


def read_public(octets: bytes) -> tuple[KeyMaterial, ...]:
    return tuple(map(_material, keys.read_public(octets)))


def export_public(key: MailKey) -> bytes:
    return _public(key.public).armored()


def export_private(private: bytes, password: Secret | None, salt: bytes) -> bytes:
    return PrivateKey(private).armored(password, salt=salt)


def extended(private: bytes, at: datetime) -> KeyMaterial:
    try:
        later = pgp_make.with_end(PrivateKey(private), at=at)
    except pgp_make.EndTooSoon:
        time.sleep(1)
        later = pgp_make.with_end(PrivateKey(private), at=at)
    return _material(later.public, later.octets)


def make_revocation(private: bytes) -> bytes:
    return pgp_make.make_revocation(PrivateKey(private))


def revoked(key: MailKey, revocation: bytes) -> bytes:
    """The certificate with its revocation on it, to be shown to others."""
    return revoked_by(_public(key.public), revocation).octets


def recipient(key: MailKey) -> Recipient:
    return PgpRecipient(_public(key.public))


def signer(private: bytes) -> Signer:
    return PgpSigner(PrivateKey(private))


@lru_cache(maxsize=1_000)
def _public(octets: bytes) -> PublicKey:
    return PublicKey(octets)


def _material(
    public: PublicKey, private: bytes | None = None, revocation: bytes | None = None
) -> KeyMaterial:
    expires = public.encrypts_until
    return KeyMaterial(
        scheme=Scheme.OPENPGP,
        fingerprint=public.fingerprint,
        addresses=public.addresses,
        public=public.octets,
        private=private,
        revocation=revocation,
        expires_at=int(expires.timestamp() * 1e6) if expires is not None else None,
        is_revoked=public.is_revoked,
    )
