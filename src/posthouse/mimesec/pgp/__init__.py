"""OpenPGP (RFC 9580) in PGP/MIME (RFC 3156). Structures, keys and decryption are ours; what makes
and verifies signatures and encrypts is Sequoia, by pysequoia.

`PgpSigner`, `PgpRecipient`, `PgpSealer` and `PgpOpener` are what `mimesec.ports` asks for;
`read_private` and `read_public` read keys, `make_key` makes them. Names are loaded when they are
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from posthouse.mimesec.pgp.keys import PrivateKey, PublicKey, read_private, read_public
    from posthouse.mimesec.pgp.make import KeyForm, make_key, revoked_by, with_end
    from posthouse.mimesec.pgp.opener import PgpOpener
    from posthouse.mimesec.pgp.recipient import PgpRecipient
    from posthouse.mimesec.pgp.sealer import PgpSealer
    from posthouse.mimesec.pgp.signer import PgpSigner

__all__ = [
    "KeyForm",
    "PgpOpener",
    "PgpRecipient",
    "PgpSealer",
    "PgpSigner",
    "PrivateKey",
    "PublicKey",
    "make_key",
    "read_private",
    "read_public",
    "revoked_by",
    "with_end",
]

_HOMES: Final = {
    "keys": ("PrivateKey", "PublicKey", "read_private", "read_public"),
    "make": ("KeyForm", "make_key", "revoked_by", "with_end"),
    "opener": ("PgpOpener",),
    "recipient": ("PgpRecipient",),
    "sealer": ("PgpSealer",),
    "signer": ("PgpSigner",),
}
_HOME: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
