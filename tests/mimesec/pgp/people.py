"""Keys that the tests share: making one takes a while."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from posthouse.mimesec.pgp.keys import PrivateKey
from posthouse.mimesec.pgp.make import KeyForm, make_key

ADA, BOB = "ada@example.org", "bob@example.net"
MADE = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
NOW = datetime.now(UTC) + timedelta(minutes=25)
"""When what is made here is looked at: some is made by the clock, at any time of a long run."""
PLAIN = (
    f"From: Ada <{ADA}>\r\nTo: {BOB}\r\nSubject: Map\r\nDate: Thu, 26 Nov 2026 12:00:00 +0000\r\n"
    "Message-ID: <1@example.org>\r\n\r\nunder the oak\r\n"
).encode()


@cache
def person(address: str = ADA, form: KeyForm = KeyForm.CURVE25519) -> PrivateKey:
    return with_revocation(address, form)[0]


@cache
def with_revocation(
    address: str = ADA, form: KeyForm = KeyForm.CURVE25519
) -> tuple[PrivateKey, bytes]:
    """Made now where the form cannot be made in the past."""
    return make_key([address], at=MADE, days=30, name="Ada Lovelace", form=form)
