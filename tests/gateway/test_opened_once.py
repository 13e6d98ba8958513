"""A message to several accounts is opened once for all where that gives each of them the same, and
not tried for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from posthouse.accounts import key_material
from posthouse.accounts.mail_policy import Mode
from posthouse.gateway.incoming import OPEN_TIMES_MAX
from posthouse.kernel.ports import IsolationFailed
from posthouse.net.world import SystemClock
from tests.gateway.house import ADA, BOB, CAT, EVE, SECRET, HandClock, House
from tests.gateway.test_incoming import sealed, signed

NOW = SystemClock().now()
ALL = (ADA, BOB, CAT)


class Counted:
    """A child process each time, and what becomes of it."""

    def __init__(self, house: House, *, fails: bool = False, takes_s: float = 0.0) -> None:
        incoming = house.node.gateway.incoming
        self._inner, incoming._isolated = incoming._isolated, self
        self._fails, self._takes_s = fails, takes_s
        self._clock = HandClock(NOW)
        if takes_s:
            incoming._clock = self._clock
        self.count = 0

    async def run(self, *given: Any, **named: Any) -> bytes:
        self.count += 1
        self._clock.passed_s += self._takes_s
        if self._fails:
            raise IsolationFailed("it took more than 15 s")
        return await self._inner.run(*given, **named)


@pytest.fixture
def keyed(house: House) -> House:
    """All have keys of their own, and want their mail opened."""
    for whom in ALL:
        house.give_key(whom)
        house.say(whom, open=Mode.WHEN_POSSIBLE)
    return house


@pytest.mark.parametrize("fails", [True, False])
def test_what_is_only_signed_or_met_a_bound_is_opened_once_for_all(
    keyed: House, fails: bool
) -> None:
    """What is signed only needs nobody's key, and what took all of its time takes it again."""
    child = Counted(keyed, fails=fails)
    eve = key_material.make([EVE], at=NOW - timedelta(hours=1), days=30)
    keyed.arrive(signed(eve), ALL)
    assert all((b"smime=" in keyed.stored(whom)) is not fails for whom in ALL)
    assert child.count == 1


def test_what_is_encrypted_is_opened_by_the_keys_of_each(keyed: House) -> None:
    child = Counted(keyed)
    bob = keyed.give_key(BOB, key_material.make([BOB], at=NOW - timedelta(hours=1), days=9))
    keyed.arrive(sealed(bob), ALL)
    assert [SECRET.encode() in keyed.stored(whom) for whom in ALL] == [False, True, False]
    assert child.count == 3


def test_all_that_get_a_message_share_the_time_that_it_may_take(house: House) -> None:
    """Each child ends just in time, and there may be a hundred of them."""
    incoming = house.node.gateway.incoming
    for whom in ALL:
        house.give_key(whom)
        house.say(whom, open=Mode.WHEN_POSSIBLE)
    open_s = incoming.options.open_s
    child = Counted(house, takes_s=open_s * OPEN_TIMES_MAX / 2)
    cat = house.give_key(CAT, key_material.make([CAT], at=NOW - timedelta(hours=1), days=9))
    house.arrive(sealed(cat), ALL)
    assert child.count == 2
    assert SECRET.encode() not in house.stored(CAT)  # as it came
