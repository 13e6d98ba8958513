"""Addresses of SMTP: RFC 5321 §4.1.2, RFC 6531 §3.3."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.envelope import Address
from posthouse.message.address import (
    AddressError,
    AddressFault,
    domain_to_ascii,
    domain_to_unicode,
    fold_local_part,
    format_address,
    needs_smtputf8,
    parse_mailbox,
)

GOOD = [
    # written, local-part, domain, written again
    ("john@Example.ORG", "john", "example.org", "john@example.org"),
    ("John.Doe+tag@example.org", "John.Doe+tag", "example.org", None),
    ('"john"@example.org', "john", "example.org", "john@example.org"),
    ('"a b"@example.org', "a b", "example.org", None),
    ('""@example.org', "", "example.org", None),  # H18
    ('"\\""@example.org', '"', "example.org", None),  # H18
    ('"a\\b"@example.org', "ab", "example.org", "ab@example.org"),
    ('"a@evil.example x"@good.example', "a@evil.example x", "good.example", None),
    ('"a..b"@example.org', "a..b", "example.org", None),
    ("user%remote@ours.example", "user%remote", "ours.example", None),  # H17: only a local-part
    ("remote!user@ours.example", "remote!user", "ours.example", None),
    ("jürgen@straße.de", "jürgen", "xn--strae-oqa.de", "jürgen@xn--strae-oqa.de"),
    ("a@xn--strae-oqa.de", "a", "xn--strae-oqa.de", None),
    ("a@XN--STRAE-OQA.DE", "a", "xn--strae-oqa.de", "a@xn--strae-oqa.de"),
    ("a@例え。テスト", "a", "xn--r8jz45g.xn--zckzah", "a@xn--r8jz45g.xn--zckzah"),
    ("a@under_score.example", "a", "under_score.example", None),
    ("a@[127.0.0.1]", "a", "[127.0.0.1]", None),
    ("a@[127.0.0.001]", "a", "[127.0.0.1]", "a@[127.0.0.1]"),
    ("a@[ipv6:2001:DB8:0:0:0:0:0:1]", "a", "[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"),
    ("a@[IPv6:::ffff:192.0.2.1]", "a", "[IPv6:::ffff:c000:201]", "a@[IPv6:::ffff:c000:201]"),
]


@pytest.mark.parametrize(("written", "local_part", "domain", "again"), GOOD)
def test_an_address_keeps_its_meaning_and_is_written_by_one_rule(
    written: str, local_part: str, domain: str, again: str | None
) -> None:  # RFC 5321 §4.1.2, H18, H66
    address = parse_mailbox(written)
    assert address == Address(local_part, domain)
    assert format_address(address) == (again or written)
    assert parse_mailbox(format_address(address)) == address


F = AddressFault
BAD = [
    ("", F.NO_DOMAIN),
    ("postmaster", F.NO_DOMAIN),
    ("a@", F.NO_DOMAIN),
    ("@example.org", F.NO_LOCAL_PART),
    ("@ours.example:user@remote.example", F.NO_LOCAL_PART),  # H17: a path is not a mailbox
    ("user@remote.example@ours.example", F.DOMAIN_SYNTAX),  # H17
    ("user@ours.example.", F.DOMAIN_SYNTAX),  # H17
    ("a..b@example.org", F.LOCAL_PART_SYNTAX),  # H18
    (".a@example.org", F.LOCAL_PART_SYNTAX),  # H18
    ("a b@example.org", F.LOCAL_PART_SYNTAX),
    ('"a"b@example.org', F.LOCAL_PART_SYNTAX),
    ('"a@example.org', F.LOCAL_PART_SYNTAX),
    ("a@b c.example", F.DOMAIN_SYNTAX),
    ("a@-b.example", F.DOMAIN_SYNTAX),
    ("a@b-.example", F.DOMAIN_SYNTAX),
    ("a@b..example", F.DOMAIN_SYNTAX),
    ("a@" + "b" * 64 + ".example", F.DOMAIN_SYNTAX),
    ("a@" + "b." * 127 + "example", F.DOMAIN_TOO_LONG),
    ("a@xn--.example", F.DOMAIN_SYNTAX),  # H49
    ("a@xn--a.example", F.DOMAIN_SYNTAX),  # H49
    ("a@\u2488com.example", F.DOMAIN_SYNTAX),  # a digit with a dot in one character
    ("a" * 65 + "@example.org", F.LOCAL_PART_TOO_LONG),
    ("ü" * 33 + "@example.org", F.LOCAL_PART_TOO_LONG),  # octets, not characters
    ("a" * 64 + "@" + "b" * 60 + ".c" * 66, F.ADDRESS_TOO_LONG),
    ("a@[127.0.0.256]", F.LITERAL_SYNTAX),
    ("a@[127.0.0.1", F.LITERAL_SYNTAX),
    ("a@[::1]", F.LITERAL_SYNTAX),
    ("a@[IPv6:1:2:3:4:5:6:7::]", F.LITERAL_SYNTAX),  # "::" is two groups or more there
    ("a@[IPv6:1::2::3]", F.LITERAL_SYNTAX),
    ("a@[tag:anything]", F.LITERAL_SYNTAX),
    ("a\0@example.org", F.CHARACTER),  # H16
    ("a\ufffe@example.org", F.CHARACTER),  # H16
    ('"a\r\nb"@example.org', F.CHARACTER),  # H20
    ("a\u202eb@example.org", F.CHARACTER),
    ("a\x85b@example.org", F.CHARACTER),
    ("a\ud800@example.org", F.CHARACTER),
]


@pytest.mark.parametrize(("written", "fault"), BAD)
def test_what_smtp_cannot_carry_is_refused_with_the_reason(
    written: str, fault: AddressFault
) -> None:  # RFC 5321 §4.1.2, H16, H17, H18
    with pytest.raises(AddressError) as caught:
        parse_mailbox(written)
    assert caught.value.fault is fault


def test_long_local_parts_may_be_let_through_to_other_hosts() -> None:
    written = "a" * 128 + "@example.org"
    assert parse_mailbox(written, local_part_octets_max=128).local_part == "a" * 128
    with pytest.raises(AddressError):
        parse_mailbox("a" + written, local_part_octets_max=128)


@pytest.mark.parametrize("size", [20_000, 40_000])
@pytest.mark.parametrize("pattern", ["a", "a.", '"', "\\", "a-", "[", "@", "é", '"a'])
def test_hostile_addresses_take_linear_time(pattern: str, size: int) -> None:  # H39
    for text in (pattern * size + "!", "x@" + pattern * size + "!"):
        with pytest.raises(AddressError):
            parse_mailbox(text)


def test_only_a_local_part_can_need_smtputf8() -> None:  # RFC 6531 §3.2
    assert needs_smtputf8(parse_mailbox("jürgen@example.org"))
    assert not needs_smtputf8(parse_mailbox("juergen@straße.de"))


def test_domains_have_one_ascii_and_one_readable_spelling() -> None:  # H49
    assert domain_to_ascii("раypal.com") == "xn--ypal-43d9g.com"
    assert domain_to_unicode("xn--ypal-43d9g.com") == "раypal.com"
    assert domain_to_ascii("FULL\uff37idth.example") == "fullwidth.example"
    assert domain_to_ascii("faß.example") != domain_to_ascii("fass.example")
    assert domain_to_unicode("xn--a.example") == "xn--a.example"
    assert format_address(parse_mailbox("a@straße.de"), unicode=True) == "a@straße.de"


def test_local_parts_are_compared_without_case_or_composition() -> None:  # H49
    assert fold_local_part("John") == fold_local_part("jOHN")
    assert fold_local_part("Jürgen") == fold_local_part("JU\u0308RGEN")
    assert fold_local_part("straße") == fold_local_part("STRASSE")
    assert fold_local_part("a") != fold_local_part("а")  # Cyrillic


@given(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), max_size=40
    ),
    st.sampled_from(["example.org", "[127.0.0.1]", "xn--strae-oqa.de"]),
)
def test_what_is_written_is_read_back(local_part: str, domain: str) -> None:
    address = Address(local_part, domain)
    assert parse_mailbox(format_address(address), local_part_octets_max=500) == address


@given(st.text(max_size=40))
def test_no_local_part_can_break_the_line_it_is_written_on(local_part: str) -> None:
    written = format_address(Address(local_part, "example.org"))
    assert not any(ord(character) < 32 for character in written)
    assert parse_mailbox(written, local_part_octets_max=500).domain == "example.org"


@given(st.text(max_size=200))
def test_any_text_gives_an_address_or_a_reason(text: str) -> None:
    try:
        address = parse_mailbox(text)
    except AddressError as error:
        assert error.fault in AddressFault
    else:
        assert parse_mailbox(format_address(address), local_part_octets_max=200) == address


# Categories of the isemail set that RFC 5321's Mailbox has. The others (comments and folding white
# space, obsolete forms, what only RFC 5322 knows, errors) are not addresses on the wire.
ON_THE_WIRE = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}
# (address, our answer, why with the RFC's words): cases where we decide otherwise.
DEVIATIONS: dict[str, tuple[bool, str]] = {}


def test_isemail_vectors(vectors: Path) -> None:
    tree = ElementTree.parse(vectors / "address" / "isemail-tests-part.xml")
    cases = list(tree.getroot().iter("test"))
    assert len(cases) >= 80
    wrong = []
    for case in cases:
        text = "".join(
            chr(ord(c) - 0x2400) if 0x2400 <= ord(c) <= 0x2421 else c
            for c in case.findtext("address") or ""
        )
        expected = case.findtext("category") in ON_THE_WIRE
        if text in DEVIATIONS:
            expected = DEVIATIONS[text][0]
        try:
            parse_mailbox(text)
            found = True
        except AddressError:
            found = False
        if found is not expected:
            wrong.append((case.get("id"), text, case.findtext("diagnosis")))
    assert wrong == []
