"""`PgpRecipient`: somebody's certificate to encrypt to."""

from __future__ import annotations

from datetime import datetime

from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp.keys import PublicKey


class PgpRecipient:
    def __init__(self, public: PublicKey) -> None:
        self.public = public

    def __repr__(self) -> str:
        return f"PgpRecipient({self.key})"

    @property
    def scheme(self) -> Scheme:
        return Scheme.OPENPGP

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.public.addresses

    @property
    def key(self) -> str:
        return self.public.fingerprint

    def why_unusable(self, at: datetime) -> str:
        return self.public.why_unusable(at)
