"""Which addresses a certificate names, and when two are the same."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from posthouse.message.address import AddressError
from posthouse.mimesec.smime.addresses import (
    ADDRESSES_MAX,
    SMTP_UTF8_MAILBOX,
    alternative_name,
    is_same,
    named_addresses,
    names_all,
)


def subject(*addresses: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, one) for one in addresses])


def test_alternatives_come_before_the_subject() -> None:
    alternatives = x509.SubjectAlternativeName(
        [
            x509.RFC822Name("alice@example.org"),
            x509.DNSName("example.org"),
            x509.OtherName(SMTP_UTF8_MAILBOX, b"\x0c\x0fcut short"),
            x509.OtherName(SMTP_UTF8_MAILBOX, b"\x0c\x02\xff@"),
            alternative_name("zoë@example.org"),
            x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x0c\x03a@b"),
        ]
    )
    found = named_addresses(alternatives, subject("old@example.org"))
    assert found == ("alice@example.org", "zoë@example.org")
    assert named_addresses(None, subject("old@example.org")) == ("old@example.org",)
    servers = x509.SubjectAlternativeName([x509.DNSName("example.org")])
    assert named_addresses(servers, subject("old@example.org", "no address")) == (
        "old@example.org",
    )
    assert named_addresses(None, x509.Name([])) == ()


def test_no_more_addresses_than_the_bound_are_looked_at() -> None:
    names = [x509.RFC822Name(f"a{number}@example.org") for number in range(ADDRESSES_MAX + 5)]
    assert len(named_addresses(x509.SubjectAlternativeName(names), subject())) == ADDRESSES_MAX


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("alice@example.org", "alice@EXAMPLE.org", True),
        ("alice@example.org", "Alice@example.org", False),
        ('"alice"@example.org', "alice@example.org", True),
        ("zoë@exämple.org", "zoë@xn--exmple-cua.org", True),
        ("alice@example.org", "alice@example.org.", False),
        ("alice@example.org", "alice@example.org\0", False),
        ("nonsense", "nonsense", False),
    ],
)
def test_addresses_are_compared_as_mail_does(one: str, other: str, expected: bool) -> None:
    assert is_same(one, other) is expected
    assert names_all([one], [other]) is expected


def test_each_wanted_address_has_to_be_named() -> None:
    assert names_all(["a@x.org", "b@x.org"], ["b@x.org"])
    assert not names_all(["a@x.org"], ["a@x.org", "b@x.org"])
    assert not names_all(["a@x.org"], [])
    assert not names_all([], ["a@x.org"])


def test_addresses_are_written_as_certificates_have_them() -> None:
    plain = alternative_name("alice@EXAMPLE.org")
    assert isinstance(plain, x509.RFC822Name) and plain.value == "alice@example.org"
    other = alternative_name("zoë@exämple.org")
    assert isinstance(other, x509.OtherName) and other.type_id == SMTP_UTF8_MAILBOX
    assert "zoë@xn--exmple-cua.org".encode() in other.value
    with pytest.raises(AddressError):
        alternative_name("nobody")
