"""Which Autocrypt fields of strangers are believed: those that the author's domain itself wrote or
brought, whatever somebody puts in front of a message that passes."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import pytest

from posthouse.accounts import mail_keys, mail_policy
from posthouse.accounts.mail_keys import Source
from posthouse.accounts.mail_policy import Mode
from posthouse.mailauth.dkim.sign import SignOptions, sign
from posthouse.message.fields import read_section
from posthouse.mimesec.pgp import autocrypt, make_key
from posthouse.mimesec.pgp.autocrypt import Autocrypt
from posthouse.sim.lab import Lab
from tests.reception.house import ADA, simulated
from tests.reception.test_authentication import BANK, KEY, bring, from_bank, publish

BOSS = f"boss@{BANK}"
DATE = b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
COVERED = ("From", "Date", "Autocrypt")


def field_of(address: str) -> bytes:
    made, _ = make_key([address], at=datetime.now(UTC), days=900)
    return autocrypt.field(Autocrypt(address=address, key=made.public.octets))


OWN, FORGED, OTHER = field_of(BOSS), field_of(BOSS), field_of(f"clerk@{BANK}")


def signed(octets: bytes, *names: str) -> bytes:
    options = SignOptions(header_fields=names)
    section = read_section(octets)
    fields = sign(section, [KEY], now_unix_s=1_700_000_000, expires_s=None, options=options)
    return fields + octets


async def learnt(lab: Lab, octets: bytes, *, sender: str = "x@elsewhere.example") -> bool:
    """Whether a key of the author is known after that message."""
    store = lab.node("north").store
    say = partial(mail_policy.set_policy, whom=ADA, open=Mode.WHEN_POSSIBLE)
    await store.submit(say)
    await lab.ground.clock.sleep(1)
    assert (await bring(lab, octets, sender=sender)).startswith(b"250 ")
    found = await store.read(lambda tx: mail_keys.by_address(tx, BOSS))
    assert all(one.source is Source.AUTOCRYPT and not one.is_trusted for one in found)
    return bool(found)


@simulated()
async def test_a_field_in_front_of_a_signed_message_is_nobody_s(lab: Lab) -> None:
    """DMARC passes: the signature does not cover what it does not name."""
    publish(lab)
    octets = signed(from_bank(DATE), "From", "Date", "Subject")
    assert not await learnt(lab, FORGED + octets)


@simulated()
async def test_a_field_in_front_of_a_signed_one_is_not_covered(lab: Lab) -> None:
    publish(lab)
    octets = signed(from_bank(OTHER, DATE), *COVERED)
    assert not await learnt(lab, FORGED + octets)


@simulated()
@pytest.mark.parametrize(
    ("names", "is_believed"),
    [
        (COVERED, True),
        ((*COVERED, "Autocrypt"), True),  # none can be added
        (("From", "Date"), False),
        # Else an old key would come back under a new date.
        (("From", "Autocrypt"), False),
    ],
)
async def test_a_field_that_the_author_s_domain_signed_is_theirs(
    lab: Lab, names: tuple[str, ...], is_believed: bool
) -> None:
    publish(lab)
    assert await learnt(lab, signed(from_bank(OWN, DATE), *names)) is is_believed


@simulated()
async def test_a_date_in_front_of_the_signed_one_makes_no_old_key_new(lab: Lab) -> None:
    publish(lab)
    octets = signed(from_bank(OWN, DATE), *COVERED)
    assert not await learnt(lab, b"Date: Wed, 15 Nov 2023 22:13:20 +0000\r\n" + octets)


@simulated()
async def test_what_the_author_s_own_host_brings_is_theirs(lab: Lab) -> None:
    publish(lab, spf="v=spf1 ip4:198.51.100.0/24 ip4:192.0.2.0/24 -all")
    assert await learnt(lab, from_bank(OWN, DATE), sender=BOSS)
