"""`PgpRecipient`: somebody's certificate to encrypt to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from posthouse.mimesec import given
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp.keys import PublicKey


class PgpRecipient:
    def __init__(self, public: PublicKey, *, for_addresses: str | Sequence[str] = ()) -> None:
        """
        Args:
            public: as `read_public` gives it.
            for_addresses: whose it is, too, by the caller's word, though the key does not name
                them: somebody under another address, a team that shares one key.

        Raises:
            ProtectionError: what was given is no public key, or one of the addresses is none.
        """
        given.check_kind(public, PublicKey, "the key of a PgpRecipient")
        self._for_addresses = given.addresses(for_addresses, "for_addresses")
        self.public = public

    def __repr__(self) -> str:
        return f"PgpRecipient({self.key})"

    @property
    def scheme(self) -> Scheme:
        return Scheme.OPENPGP

    @property
    def addresses(self) -> tuple[str, ...]:
        return (*self.public.addresses, *self._for_addresses)

    @property
    def key(self) -> str:
        return self.public.fingerprint

    def why_unusable(self, at: datetime) -> str:
        given.check_time(at, "at")
        return self.public.why_unusable(at)
