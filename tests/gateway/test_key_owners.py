"""Whose mail a key of an account can sign, as those who read it are told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from posthouse.accounts import admin, key_material
from posthouse.accounts.mail_policy import Mode
from posthouse.message import read
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import PgpSigner
from posthouse.mimesec.pgp.keys import read_private
from posthouse.mimesec.ports import Signer
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.smime.identity import Identity, private_key, read_certificates
from posthouse.mimesec.smime.signer import SmimeSigner
from posthouse.net.world import SystemClock
from tests.gateway.house import ADA, BOB, CAT, House

TEAM = "team@example.test"


@pytest.mark.parametrize("scheme", list(Scheme))
def test_a_key_signs_for_the_addresses_that_its_owner_has(house: House, scheme: Scheme) -> None:
    at = SystemClock().now() - timedelta(hours=1)
    house.write(lambda tx: admin.add_alias(tx, TEAM, ADA))
    made = key_material.make([ADA, BOB, TEAM], at=at, days=9, scheme=scheme)
    assert made.private is not None
    house.give_key(ADA, made)
    house.say(CAT, open=Mode.WHEN_POSSIBLE)
    signer: Signer
    if scheme is Scheme.SMIME:
        certificate = read_certificates(made.public)[0]
        signer = SmimeSigner(Identity(private_key(made.private), certificate, ()))
    else:
        signer = PgpSigner(read_private(made.private, None)[0])
    count = iter(range(1, 9))

    def is_believed(author: str) -> bool:
        plain = f"From: {author}\r\nTo: {CAT}\r\nSubject: x\r\n\r\nhello\r\n".encode()
        signed = protect(plain, Protection(signer=signer), at=SystemClock().now())
        house.arrive(signed, [CAT])
        kept = read(house.stored(CAT, count=next(count)))
        results = " ".join(kept.headers("Authentication-Results"))
        assert "smime=" in results or "x-openpgp=" in results
        return "smime=pass" in results or "x-openpgp=pass" in results

    assert is_believed(ADA) and is_believed(TEAM)
    assert not is_believed(BOB)
    house.write(lambda tx: admin.remove_alias(tx, TEAM, None))
    assert is_believed(ADA) and not is_believed(TEAM)
