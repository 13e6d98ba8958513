"""What signed mail teaches of its authors' certificates, and that old mail sent again changes
nothing of it."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest

from posthouse.accounts.mail_keys import MailKey
from posthouse.accounts.mail_policy import Mode
from posthouse.gateway.learning import Learnt, learn
from posthouse.mimesec.opening import Opened, open_message
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.smime.capabilities import COMMON, OWN, Capabilities
from posthouse.mimesec.smime.chain import Trust
from posthouse.mimesec.smime.identity import Identity, read_certificates
from posthouse.mimesec.smime.make import make_authority, make_identity
from posthouse.mimesec.smime.opener import SmimeOpener
from posthouse.mimesec.smime.signer import SmimeSigner
from posthouse.net.world import SystemClock
from tests.gateway.house import ADA, EVE, House

NOW = SystemClock().now()
PLAIN = f"From: Eve <{EVE}>\r\nTo: {ADA}\r\nSubject: Map\r\n\r\nhello\r\n".encode()


class Correspondent:
    """Eve, who has had several certificates of one authority, and whose letters arrive."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._root = make_authority("Root", at=NOW - timedelta(days=9), days=300)
        self.roots = (self._root.certificates_pem(),)
        incoming = house.node.gateway.incoming
        incoming.options = msgspec.structs.replace(incoming.options, roots=self.roots)
        house.say(ADA, open=Mode.WHEN_POSSIBLE)
        self._letters = 0

    def identity(self, *, days_ago: int = 8) -> Identity:
        at = NOW - timedelta(days=days_ago)
        return make_identity([EVE], at=at, days=30, issuer=self._root)

    @staticmethod
    def letter(by: Identity, minutes: int, reads: Capabilities = OWN) -> bytes:
        wish = Protection(signer=SmimeSigner(by, reads=reads))
        return protect(PLAIN, wish, at=NOW + timedelta(minutes=minutes))

    def arrives(self, letter: bytes) -> tuple[MailKey, ...]:
        """Her keys after it."""
        self._house.arrive(letter, [ADA])
        self._letters += 1
        self._house.stored(ADA, count=self._letters)
        return self._house.keys_of(EVE)

    def learnt(self, letter: bytes, *, is_timed: bool = True) -> Learnt:
        trust = Trust(roots=read_certificates(self.roots[0]))
        opened = open_message(letter, openers=(SmimeOpener(trust=trust),), at=NOW)
        return learn(opened if is_timed else _without_time(opened), roots=self.roots, at=NOW)


def _without_time(opened: Opened) -> Opened:
    replace = msgspec.structs.replace
    whole = opened.whole
    assert whole is not None
    signatures = tuple(replace(one, made_at=None) for one in whole.signatures)
    return replace(opened, sections=(replace(whole, signatures=signatures), *opened.sections[1:]))


@pytest.fixture
def eve(house: House) -> Correspondent:
    return Correspondent(house)


def fingerprints(keys: tuple[MailKey, ...]) -> list[str]:
    return [one.fingerprint for one in keys]


@pytest.mark.parametrize("is_known", [True, False])
def test_an_old_letter_sent_again_makes_no_old_certificate_the_one_that_is_used(
    eve: Correspondent, is_known: bool
) -> None:
    old, new = eve.identity(), eve.identity()
    stale = eve.letter(old, -40)
    if is_known:
        eve.arrives(stale)
    first, *_ = eve.arrives(eve.letter(new, -20))
    assert fingerprints(eve.arrives(stale))[0] == first.fingerprint
    first, second = eve.arrives(eve.letter(old, -10))  # she has gone back to it
    assert second.said_at == int((NOW - timedelta(minutes=20)).timestamp()) * 1_000_000
    assert fingerprints(eve.arrives(eve.letter(new, -15)))[0] == first.fingerprint


def test_what_says_nothing_of_what_is_read_takes_nothing_back(eve: Correspondent) -> None:
    one, nothing = eve.identity(), Capabilities()
    assert eve.arrives(eve.letter(one, -40))[0].reads == OWN.words
    (key,) = eve.arrives(eve.letter(one, -20, nothing))
    assert key.reads == OWN.words
    (key,) = eve.arrives(eve.letter(one, -30, COMMON))
    assert key.reads == OWN.words and key.said_at == _micros(NOW - timedelta(minutes=20))


def test_a_signature_without_a_time_is_no_news_each_time_it_comes(
    eve: Correspondent, house: House
) -> None:
    newer = eve.identity(days_ago=2)
    house.write(eve.learnt(eve.letter(newer, -20)))
    untimed = eve.learnt(eve.letter(eve.identity(days_ago=3), -40), is_timed=False)
    for _ in range(2):
        house.write(untimed)
        assert house.keys_of(EVE)[0].said_at == _micros(NOW - timedelta(minutes=20))
    assert len(house.keys_of(EVE)) == 2 and house.read(untimed.is_known)


def _micros(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000
