"""Who is behind an alias is not told by what is encrypted for its readers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from posthouse.accounts import admin, key_material
from posthouse.accounts.mail_keys import KeyMaterial
from posthouse.accounts.mail_policy import Mode
from posthouse.message import read
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.opening import open_message
from posthouse.mimesec.pgp.keys import read_private
from posthouse.mimesec.pgp.opener import PgpOpener
from posthouse.mimesec.smime.opener import SmimeOpener
from posthouse.net.world import SystemClock
from posthouse.sending import Message
from tests.gateway.house import ADA, BOB, CAT, EVE, SECRET, House, told

NOW = SystemClock().now()
TEAM = "team@example.test"


def key_of(scheme: Scheme, *addresses: str) -> KeyMaterial:
    return key_material.make(addresses, at=NOW, days=30, scheme=scheme)


def readers(octets: bytes) -> int:
    """How many keys a message names."""
    whole = open_message(octets, [SmimeOpener(), PgpOpener()], at=NOW).whole
    assert whole is not None
    return len(set(whole.encryptions[0].recipients))


def keyed(house: House, scheme: Scheme, *, shared: Sequence[str] = ()) -> dict[str, KeyMaterial]:
    """Bob and Eve are behind the alias, and everybody has a key.

    Args:
        shared: whose keys name the alias, too.
    """
    for member in (BOB, EVE):
        house.write(lambda tx, member=member: admin.add_alias(tx, TEAM, member))
    keys = {
        whom: key_of(scheme, *([whom, TEAM] if whom in shared else [whom]))
        for whom in (ADA, BOB, CAT, EVE)
    }
    for whom in (ADA, BOB, CAT):
        house.give_key(whom, keys[whom])
    house.meet(keys[EVE])
    house.say(ADA, encrypt=Mode.ALWAYS)
    return keys


@pytest.mark.parametrize("scheme", list(Scheme))
def test_members_of_an_alias_are_named_to_its_members_alone(house: House, scheme: Scheme) -> None:
    keyed(house, scheme)
    house.send(ADA, [CAT, TEAM])
    assert readers(house.stored(CAT)) == 2  # Cat and Ada
    assert readers(house.stored(BOB)) == 3  # Bob, Eve and Ada


@pytest.mark.parametrize("scheme", list(Scheme))
def test_keys_that_name_the_alias_tell_nothing(house: House, scheme: Scheme) -> None:
    keyed(house, scheme, shared=(BOB, EVE))
    house.send(ADA, [CAT, TEAM])
    assert readers(house.stored(CAT)) == readers(house.stored(BOB)) == 4


def test_one_key_among_them_that_does_not_is_enough(house: House) -> None:
    keyed(house, Scheme.SMIME, shared=(BOB,))
    house.send(ADA, [CAT, TEAM])
    assert (readers(house.stored(CAT)), readers(house.stored(BOB))) == (2, 3)


@pytest.mark.parametrize("are_shared", [False, True])
def test_keys_that_travel_inside_are_of_addresses_that_all_see(
    house: House, are_shared: bool
) -> None:
    keys = keyed(house, Scheme.OPENPGP, shared=(BOB, EVE) if are_shared else ())
    house.send(ADA, [CAT, TEAM])
    private = keys[CAT].private
    assert private is not None
    opener = PgpOpener(own=read_private(private))
    opened = open_message(house.stored(CAT), [opener], at=NOW)
    assert SECRET in read(opened.octets).text
    assert told(opened.octets) == ({CAT, TEAM} if are_shared else {CAT})
    for one in (BOB, EVE):
        assert one.encode() not in opened.octets


def test_a_member_who_is_named_beside_the_alias_gets_it_once(house: House) -> None:
    keyed(house, Scheme.SMIME)
    house.write(lambda tx: admin.add_alias(tx, "all@example.test", TEAM))
    house.send(ADA, [BOB, CAT, TEAM, "all@example.test"])
    assert (readers(house.stored(CAT)), readers(house.stored(BOB))) == (2, 3)
    assert len(house.server.inbox(BOB)) == 1


@pytest.mark.parametrize("scheme", list(Scheme))
def test_who_writes_as_an_alias_is_not_named_by_their_key(house: House, scheme: Scheme) -> None:
    keyed(house, scheme)
    letter = Message(sender=TEAM, to=[CAT], subject="Map", text=SECRET)
    house.say(BOB, encrypt=Mode.ALWAYS)
    house.send(BOB, [CAT], message=letter)
    assert readers(house.stored(CAT)) == 1
    house.send(BOB, [CAT])  # as himself he can read what he sent
    assert readers(house.stored(CAT, count=2)) == 2
