"""Where keys are looked for, and what is shown of them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mimesec.pgp import dns, wkd
from posthouse.mimesec.pgp.keys import PublicKey
from posthouse.mimesec.pgp.make import make_key
from posthouse.mimesec.pgp.minimal import minimal
from posthouse.mimesec.pgp.packets import Tag, walk
from posthouse.mimesec.ports import ProtectionError
from tests.mimesec.pgp.people import ADA, BOB, MADE, NOW, person

JOE = "iy9q119eutrkn8s1mk4r39qejnbu3n5q"  # of the draft


def test_the_example_of_the_draft() -> None:
    assert wkd.local_hash("Joe.Doe") == wkd.local_hash("joe.doe") == JOE
    tail = f"hu/{JOE}?l=Joe.Doe"
    assert wkd.urls("Joe.Doe@Example.ORG") == (
        f"https://openpgpkey.example.org/.well-known/openpgpkey/example.org/{tail}",
        f"https://example.org/.well-known/openpgpkey/{tail}",
    )


def test_names_are_written_as_addresses_of_the_web() -> None:
    advanced, direct = wkd.urls("jürgen+x&y@bücher.example")
    assert "openpgpkey.xn--bcher-kva.example" in advanced
    assert direct.endswith("?l=j%C3%BCrgen%2Bx%26y")


@pytest.mark.parametrize("method", [0, 1])
def test_what_is_asked_for_is_what_we_answer(method: int) -> None:
    url = wkd.urls("Joe.Doe@example.org")[method].removeprefix("https://")
    host, _, target = url.partition("/")
    found = wkd.asked(host, f"/{target}")
    assert found == wkd.Asked(domain="example.org", hash=JOE, local_part="Joe.Doe")
    policy = f"/{target}".partition("/hu/")[0] + "/policy"
    assert wkd.asked(host, policy) == wkd.Asked(domain="example.org", file="policy")


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("example.org", "/"),
        ("example.org", "/.well-known/openpgpkey/"),
        ("example.org", "/.well-known/openpgpkey/hu/short"),
        ("example.org", f"/.well-known/openpgpkey/hu/../hu/{JOE}"),
        ("example.org", f"/.well-known/openpgpkey/hu/{JOE.upper()}"),
        ("example.org", f"/.well-known/openpgpkey/example.org/hu/{JOE}"),
        ("openpgpkey.example.org", f"/.well-known/openpgpkey/hu/{JOE}"),
        ("openpgpkey.example.org", f"/.well-known/openpgpkey/example.net/hu/{JOE}"),
    ],
)
def test_what_is_no_place_of_the_directory_is_none(host: str, target: str) -> None:
    assert wkd.asked(host, target) is None


@given(st.text(max_size=80), st.text(max_size=200))
def test_requests_by_chance_never_raise(host: str, tail: str) -> None:
    wkd.asked(host, wkd.FOLDER + tail)
    wkd.asked(wkd.HOST + host, f"{wkd.FOLDER}hu/{JOE}?l={tail}")


def test_the_example_of_rfc_7929() -> None:
    assert dns.name("hugh@example.com") == (
        "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._openpgpkey.example.com"
    )
    octets = person().public.octets
    assert dns.keys([octets, octets, b"x"]) == (octets, b"x")
    assert base64.b64decode(dns.record_text(octets)) == octets


def test_what_is_shown_names_one_address_and_no_certifier() -> None:
    key, _ = make_key([ADA, BOB], at=MADE, days=30)
    shown = PublicKey(minimal(key.public, BOB))
    assert shown.addresses == (BOB,) and shown.fingerprint == key.public.fingerprint
    assert shown.why_unusable(NOW) == ""
    foreign = key.public.octets + next(
        one.octets for one in walk(person().public.octets) if one.tag == Tag.SIGNATURE
    )
    assert minimal(PublicKey(foreign), BOB) == minimal(key.public, BOB)
    with pytest.raises(ProtectionError, match="does not name"):
        minimal(key.public, "eve@x.example")
