"""Owners hear of a key that is about to end, on few days and not for nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from posthouse.accounts import key_material, mail_keys
from posthouse.accounts.mail_keys import KeyMaterial, Source
from posthouse.app import key_warnings
from posthouse.app.key_warnings import DAY_US, is_due
from posthouse.mimesec.findings import Scheme
from posthouse.net.world import SystemClock
from tests.gateway.house import ADA, BOB, CAT, House

NOW = SystemClock().now()
SUBMISSION = "key-submission@example.test"


def ending_in(days: float) -> KeyMaterial:
    return key_material.make([ADA], at=NOW + timedelta(days=days - 100), days=100)


def warn(house: House) -> int:
    async def work() -> Any:
        return await key_warnings.warn(house.node)

    told: int = house.server._call(work())
    return told


def test_the_owner_is_told_once_what_ends_and_what_to_do(house: House) -> None:
    key = house.give_key(ADA, ending_in(20))
    assert warn(house) == 1
    assert warn(house) == 0
    word = house.server.wait_for(ADA)[0].message
    assert ADA in word.subject and "ends on" in word.subject
    assert key.fingerprint in word.text and f"posthouse key make {ADA}" in word.text
    assert word.header("Auto-Submitted") == "auto-generated"


def test_nobody_is_told_of_a_key_that_lasts_or_that_has_a_successor(house: House) -> None:
    house.give_key(ADA, ending_in(60))
    assert warn(house) == 0
    house.give_key(ADA, ending_in(20))
    assert warn(house) == 0


def test_the_end_itself_is_told(house: House) -> None:
    house.give_key(ADA, ending_in(-1))
    assert warn(house) == 1
    assert "ended on" in house.server.wait_for(ADA)[0].message.subject


def test_the_key_of_a_submission_address_is_no_successor_and_nobody_hears_of_its_end(
    house: House,
) -> None:
    lasting, ending = (
        key_material.make([SUBMISSION], at=NOW, days=days, scheme=Scheme.OPENPGP)
        for days in (3_000, 20)
    )
    house.give_key("example.test", lasting)
    house.give_key("example.test", ending)
    assert warn(house) == 0
    gateway = key_material.make(["office@example.test"], at=NOW, days=20, scheme=Scheme.OPENPGP)
    house.give_key("example.test", gateway)
    assert warn(house) == 1
    word = house.server.wait_for(ADA)[0].message  # as the oldest account, postmaster
    assert "office@example.test" in word.subject
    assert f"posthouse key extend {gateway.fingerprint}" in word.text


def test_the_way_out_is_one_that_the_reader_can_go(house: House) -> None:
    public = key_material.make([BOB], at=NOW, days=20, scheme=Scheme.OPENPGP)
    public = msgspec.structs.replace(public, private=None)
    cert = key_material.make(["office@example.test"], at=NOW, days=20)
    submitted = msgspec.structs.replace(
        key_material.make([CAT], at=NOW, days=20, scheme=Scheme.OPENPGP), private=None
    )
    house.give_key(BOB, public)
    house.give_key("example.test", msgspec.structs.replace(cert, private=None))
    house.write(
        lambda tx: mail_keys.add_own(
            tx, CAT, submitted, house.node.node_key, source=Source.SUBMITTED
        )
    )
    assert warn(house) == 3
    for address, way in (
        (BOB, f"posthouse key make {BOB} --scheme openpgp"),
        (ADA, "posthouse key import example.test FILE"),  # as postmaster
        (CAT, "send it to key-submission@example.test again"),
    ):
        assert way in house.server.wait_for(address)[0].message.text


def test_nobody_hears_of_what_ended_long_ago(house: House) -> None:
    house.give_key(ADA, ending_in(-90))
    assert warn(house) == 0


@pytest.mark.parametrize(
    ("left", "warned_at", "expected"),
    [
        (31, None, False),
        (29, None, True),
        (29, 29.5, False),
        (6, 29.5, True),
        (6, 6.5, False),
        (0.5, 6.5, True),
        (-0.5, 0.5, True),
        (-0.5, -0.2, False),
    ],
)
def test_the_days_of_a_warning(
    house: House, left: float, warned_at: float | None, expected: bool
) -> None:
    house.give_key(ADA, ending_in(50))
    key = house.keys_of(ADA)[0]
    now_us = 10**9 * DAY_US
    end = now_us + int(left * DAY_US)
    told = None if warned_at is None else end - int(warned_at * DAY_US)
    key = msgspec.structs.replace(key, expires_at=end, warned_at=told)
    assert is_due(key, now_us, 30) is expected
