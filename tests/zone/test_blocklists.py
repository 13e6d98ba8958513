"""Lists of bad senders (RFC 5782): what they say, and when they are not to be believed."""

from __future__ import annotations

import pytest

from posthouse.sim.dns import DnsFault, ZoneResolver, Zones
from posthouse.zone.blocklists import Looked, Standing, look_up, question_name
from posthouse.zone.check_host import judge_listing
from posthouse.zone.checked import State

LIST, ADDRESS = "list.example", "192.0.2.99"
ASKED = ("99.2.0.192", "1.0.0.127", "2.0.0.127")
TESTS = {"2.0.0.127": "127.0.0.2"}
IPV6_TEST = "2.0.0.0.0.0.f.7.f.f.f.f" + ".0" * 20


def zones(entries: dict[str, str]) -> Zones:
    made = Zones()
    made.add(LIST, "TXT", '"a list"')
    for name, code in entries.items():
        made.add(f"{name}.{LIST}", "A", code)
    return made


async def look(made: Zones, address: str = ADDRESS) -> Looked:
    return await look_up(address, LIST, ZoneResolver(made, timeout_s=0.0))


# RFC 5782 §2.1, §2.4: the examples of the text
@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.99", "99.2.0.192.list.example"),
        (
            "2001:db8:1:2:3:4:567:89ab",
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.list.example",
        ),
    ],
)
def test_an_address_is_asked_for_turned_round(address: str, name: str) -> None:
    assert question_name(address, LIST) == name


async def test_an_address_that_is_not_there_is_not_listed() -> None:
    looked = await look(zones(TESTS))
    assert looked.standing is Standing.UNLISTED
    assert judge_listing(looked).state is State.RIGHT


async def test_a_listed_address_is_told_with_the_lists_own_words() -> None:
    made = zones({**TESTS, "99.2.0.192": "127.0.0.4"})
    made.add(f"99.2.0.192.{LIST}", "TXT", '"see https://list.example/?192.0.2.99"')
    looked = await look(made)
    assert (looked.standing, looked.codes) == (Standing.LISTED, ("127.0.0.4",))
    told = judge_listing(looked)
    assert told.state is State.WRONG
    assert "see https://list.example/?192.0.2.99" in told.words


async def test_an_ipv6_address_has_tests_of_its_own() -> None:
    assert (await look(zones({IPV6_TEST: "127.0.0.2"}), "2001:db8::1")).standing is (
        Standing.UNLISTED
    )
    assert (await look(zones(TESTS), "2001:db8::1")).standing is Standing.UNUSABLE


# RFC 5782 §5: 127.0.0.1 must not be listed, 127.0.0.2 must be.
@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (dict.fromkeys(ASKED, "127.0.0.2"), "it names every address"),
        ({**TESTS, "1.0.0.127": "127.0.0.2"}, "it names every address"),
        ({}, "it does not name the address that every list names"),
        (dict.fromkeys(ASKED, "127.255.255.254"), "it refuses to answer your resolver"),
        (dict.fromkeys(ASKED, "203.0.113.7"), "it answers with 203.0.113.7"),
    ],
)
async def test_a_list_that_cannot_be_believed_says_nothing(
    entries: dict[str, str], words: str
) -> None:
    looked = await look(zones(entries))
    assert looked.standing is Standing.UNUSABLE
    assert looked.words.startswith(words)
    assert judge_listing(looked).state is State.UNKNOWN


@pytest.mark.parametrize("fault", [DnsFault.SERVFAIL, DnsFault.TIMEOUT])
async def test_a_list_that_does_not_answer_says_nothing(fault: DnsFault) -> None:
    made = zones(TESTS)
    made.fault(f"99.2.0.192.{LIST}", fault)
    looked = await look(made)
    assert looked.standing is Standing.UNUSABLE
    assert looked.words.startswith("it does not answer")
