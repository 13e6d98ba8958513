"""A message that became several by being encrypted is answered and kept as the one it was."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from posthouse.accounts import admin
from posthouse.accounts.mail_policy import Mode
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.sealed import is_sealed
from posthouse.store import accounts as rows
from tests.gateway.house import ADA, BOB, CAT, EVE, PASSWORD, SECRET, House
from tests.gateway.test_incoming import PLAIN
from tests.gateway.test_outgoing_alias import key_of
from tests.gateway.test_waiting import WORDS, Waiting

TEAM, CREW = "team@example.test", "crew@example.test"
EITHER = pytest.mark.parametrize("encrypt", [Mode.NEVER, Mode.ALWAYS])
"""In the open the same answer is given."""


class Handing(Waiting):
    def hand_in(self, to: Sequence[str], bcc: Sequence[str]) -> str:
        """Ada submits a message without its SIZE: nobody knows before the end that it does not
        fit. Gives the answer."""
        octets = f"From: {ADA}\r\nTo: {', '.join(to)}\r\nSubject: Map\r\n\r\n{SECRET}\r\n"
        with smtplib.SMTP("localhost", self.server.address("submission")[1]) as client:
            client.starttls(context=ssl.create_default_context(cafile=self.server.ca))
            client.login(ADA, PASSWORD)
            client.mail(ADA)
            assert all(client.rcpt(one)[0] == 250 for one in (*to, *bcc))
            code, words = client.data(octets.encode())
        return f"{code} {words.decode()}"

    def accept(self, to: Sequence[str], bcc: Sequence[str]) -> str:
        """As which it is accepted."""
        reply = self.hand_in(to, bcc)
        assert reply.startswith("250 ")
        return reply.rpartition(" ")[2]

    def fill(self, whom: str) -> None:
        """Until there is no room for one more, though the message alone would fit."""
        self.arrive(PLAIN + b"filled\r\n" * 2000, [whom])
        self.set_quota(whom, len(self.stored(whom)) + 100)


@pytest.fixture
def house(house: House) -> Iterator[Handing]:
    """Everybody has a key."""
    handing = Handing(house.server)
    for whom in (ADA, BOB, CAT):
        handing.give_key(whom)
    yield handing
    handing.check()


def take_no_closed_mail(house: House, *accounts: str) -> None:
    """Their keys are with them alone."""
    for whom in accounts:
        keep_no_private(house, whom, Scheme.SMIME)
        house.say(whom, open=Mode.ALWAYS)


def keep_no_private(house: House, whom: str, scheme: Scheme) -> None:
    def unit(tx: Any) -> None:
        account = rows.account_by_name(tx, whom)
        assert account is not None
        statement = "UPDATE mail_key SET private = NULL WHERE account_id = ? AND scheme = ?"
        assert tx.run(statement, (account.id, scheme.name.lower()))

    house.write(unit)


@EITHER
def test_who_is_hidden_and_has_no_room_waits_alone(house: Handing, encrypt: Mode) -> None:
    house.say(ADA, encrypt=encrypt)
    house.set_quota(CAT, 100)
    house.accept([BOB], [CAT])
    assert is_sealed(house.stored(BOB)) is (encrypt is Mode.ALWAYS)
    (entry,) = house.waiting()
    assert entry.recipient.address == CAT and house.server.inbox(CAT) == []
    house.set_quota(CAT, None)
    house.try_again()
    assert is_sealed(house.stored(CAT)) is (encrypt is Mode.ALWAYS)
    assert house.waiting() == []


@EITHER
def test_who_is_named_and_has_no_room_waits_alone(house: Handing, encrypt: Mode) -> None:
    house.say(ADA, encrypt=encrypt)
    house.set_quota(BOB, 100)
    name = house.accept([BOB], [CAT])
    assert house.stored(CAT)
    (entry,) = house.waiting()
    assert (entry.recipient.address, entry.message.queue_id) == (BOB, name)


@EITHER
@pytest.mark.parametrize(
    ("is_ever", "reply"), [(True, "452 4.2.2"), (False, "552 5.2.2")], ids=["full", "never fits"]
)
def test_it_is_refused_where_nobody_has_room(
    house: Handing, encrypt: Mode, is_ever: bool, reply: str
) -> None:
    """For good where it fits into none of them, be it empty."""
    for whom in (BOB, CAT):
        if is_ever:
            house.fill(whom)
        else:
            house.set_quota(whom, 20)
    before = [len(house.server.inbox(whom)) for whom in (BOB, CAT)]
    house.say(ADA, encrypt=encrypt)
    assert house.hand_in([BOB], [CAT]).startswith(reply)
    assert house.waiting() == []
    assert [len(house.server.inbox(whom)) for whom in (BOB, CAT)] == before


@EITHER
def test_it_may_come_again_where_one_of_them_may_hold_it(house: Handing, encrypt: Mode) -> None:
    house.set_quota(BOB, 20)
    house.fill(CAT)
    house.say(ADA, encrypt=encrypt)
    assert house.hand_in([BOB], [CAT]).startswith("452 4.2.2")


@EITHER
def test_what_waits_sealed_is_found_by_the_name_in_the_reply(house: Handing, encrypt: Mode) -> None:
    house.say(ADA, encrypt=encrypt)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)  # so that it is encrypted as only we read it
    house.say(BOB, open=Mode.ALWAYS, at_rest=Mode.ALWAYS)
    house.say(CAT, at_rest=Mode.ALWAYS)
    house.set_quota(BOB, 100)
    name = house.accept([BOB], [CAT])
    house.stored(CAT)
    (entry,) = house.waiting()
    assert (entry.recipient.address, entry.message.kept_for) == (BOB, BOB)
    assert house.recipients(name) == ([BOB] if encrypt is Mode.ALWAYS else [CAT])
    assert WORDS not in house.on_disk()
    house.set_quota(BOB, None)
    house.try_again()
    assert is_sealed(house.stored(BOB)) and WORDS not in house.on_disk()


@EITHER
def test_of_one_who_takes_no_closed_mail_the_sender_is_told(house: Handing, encrypt: Mode) -> None:
    take_no_closed_mail(house, CAT)
    house.say(ADA, encrypt=encrypt)
    name = house.accept([BOB], [CAT])
    assert house.stored(BOB)
    if encrypt is Mode.NEVER:
        assert house.stored(CAT)
        return
    notice = house.stored(ADA)
    assert b"Action: failed" in notice and CAT.encode() in notice
    assert house.server.inbox(CAT) == [] and house.recipients(name) == [BOB]


def test_it_is_refused_where_nobody_takes_closed_mail(house: Handing) -> None:
    take_no_closed_mail(house, BOB, CAT)
    house.say(ADA, encrypt=Mode.ALWAYS)
    assert house.hand_in([BOB], [CAT]).startswith("550 5.7.5")
    assert house.waiting() == [] and house.server.inbox(ADA) == []


def test_it_is_refused_where_some_have_no_room_and_the_others_take_no_closed_mail(
    house: Handing,
) -> None:
    take_no_closed_mail(house, CAT)
    house.set_quota(BOB, 100)
    house.say(ADA, encrypt=Mode.ALWAYS)
    assert house.hand_in([BOB], [CAT]).startswith("552 5.2.2")
    assert house.waiting() == [] and house.server.inbox(ADA) == []


def owned(house: Handing) -> list[str]:
    """Whom the submitted message is, or was, for."""
    statement = (
        "SELECT r.address FROM recipient r JOIN message m ON m.id = r.message_id"
        " WHERE m.origin = 'submission' ORDER BY r.address"
    )
    return [address for (address,) in house.read(lambda tx: tx.all(statement))]


@EITHER
@pytest.mark.parametrize("is_full", [False, True])
def test_whoever_is_named_in_several_ways_gets_it_once(
    house: Handing, encrypt: Mode, is_full: bool
) -> None:
    """Bob by both aliases and by himself, Eve elsewhere by one alias and by herself."""
    house.meet(key_of(Scheme.SMIME, EVE))
    for alias, member in ((TEAM, BOB), (TEAM, EVE), (CREW, BOB), (CREW, CAT)):
        house.write(lambda tx, alias=alias, member=member: admin.add_alias(tx, alias, member))
    house.say(ADA, encrypt=encrypt)
    if is_full:
        house.set_quota(BOB, 20)
    name = house.accept([TEAM, CREW], [BOB, EVE])
    assert house.stored(CAT)
    assert owned(house) == [BOB, CAT, EVE]
    assert len(house.server.inbox(BOB)) == (not is_full)
    assert {one.address for one in house.decision(name).recipients} >= {TEAM, BOB, EVE}


def test_what_one_alias_shares_with_another_is_all_that_is_left_out(house: Handing) -> None:
    for alias, member in ((TEAM, BOB), (TEAM, ADA), (CREW, BOB), (CREW, CAT)):
        house.write(lambda tx, alias=alias, member=member: admin.add_alias(tx, alias, member))
    house.say(ADA, encrypt=Mode.ALWAYS)
    house.accept([BOB], [TEAM, CREW])
    for whom in (ADA, BOB, CAT):
        assert house.stored(whom)
        assert len(house.server.inbox(whom)) == 1


def test_whoever_cannot_open_what_the_alias_gets_has_the_copy_of_their_own(
    house: Handing,
) -> None:
    """Eve reads OpenPGP alone and Cat S/MIME; Bob both, and only S/MIME is opened here."""
    house.meet(key_of(Scheme.OPENPGP, EVE))
    house.give_key(BOB, key_of(Scheme.OPENPGP, BOB))
    keep_no_private(house, BOB, Scheme.OPENPGP)
    house.say(BOB, open=Mode.ALWAYS)
    for member in (BOB, EVE):
        house.write(lambda tx, member=member: admin.add_alias(tx, TEAM, member))
    house.say(ADA, encrypt=Mode.ALWAYS, open=Mode.WHEN_POSSIBLE)
    house.accept([TEAM, CAT], [BOB])
    assert WORDS in house.stored(BOB)
    assert is_sealed(house.stored(CAT))
    assert owned(house) == [BOB, CAT, EVE]
