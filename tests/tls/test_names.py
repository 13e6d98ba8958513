"""Presented identifiers against reference identifiers: a table (RFC 9525 §6)."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from posthouse.tls.names import is_for_any, matches, presented, told
from tests.tls.authority import make


@pytest.mark.parametrize(
    ("identifier", "name", "is_match"),
    [
        ("mx.example.org", "mx.example.org", True),
        ("MX.Example.ORG", "mx.example.org", True),
        ("mx.example.org.", "mx.example.org", True),
        ("mx.example.org", "mx.example.org.", True),
        ("*.example.org", "mx.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "a.mx.example.org", False),
        ("*.example.org", ".example.org", False),
        ("m*.example.org", "mx.example.org", False),
        ("mx.*.org", "mx.example.org", False),
        ("*.*.org", "mx.example.org", False),
        ("*", "org", False),
        ("*.", "org.", False),
        ("", "", False),
        ("example.org", "mx.example.org", False),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", True),
    ],
)
def test_an_identifier_covers_a_name(identifier: str, name: str, is_match: bool) -> None:
    assert matches(identifier, name) is is_match


def test_the_common_name_counts_only_where_it_is_asked_for() -> None:  # RFC 9525 §2
    made = make("mx.example.org", names=()).certificate
    assert presented(made) == ()
    assert presented(made, has_common_name=True) == ("mx.example.org",)
    assert not is_for_any(made, ["mx.example.org"])


def test_one_of_the_names_is_enough() -> None:
    made = make("x", names=("a.example", "B.example")).certificate
    assert presented(made) == ("a.example", "b.example")
    assert is_for_any(made, ["z.example", "b.example"])
    assert not is_for_any(made, [])


def test_names_are_told_to_people_without_what_a_stranger_hides_in_them() -> None:
    names = ("Mail.example.org", "*.example.org", "a.example\nhint: rm", "x" * 300)
    made = make("x", names=names).certificate.public_bytes(Encoding.DER)
    assert told(made) == ("mail.example.org", "*.example.org")
    assert told(b"") == told(made[:-9]) == ()
    assert told(make("x", names=()).certificate.public_bytes(Encoding.DER)) == ()
