"""Texts of a kind: hosts with ports, routes' patterns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.config.kinds import checked_text, is_domain_match, split_host_port
from posthouse.config.setting import Kind


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("mx.example", "mx.example", None),
        ("mx.example:2525", "mx.example", 2525),
        ("192.0.2.1:25", "192.0.2.1", 25),
        ("[192.0.2.1]", "192.0.2.1", None),
        ("[2001:db8::1]:25", "2001:db8::1", 25),
        ("2001:db8::1", "2001:db8::1", None),
    ],
)
def test_host_and_port_are_told_apart(text: str, host: str, port: int | None) -> None:
    assert split_host_port(text) == (host, port)


@pytest.mark.parametrize("text", ["mx:0", "mx:65536", "mx:x", "mx:", "[::1", "[::1]25", "mx:٢٥"])
def test_a_wrong_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|bracket"):
        split_host_port(text)


@pytest.mark.parametrize(
    ("pattern", "domain", "matches"),
    [
        ("example.org", "example.org", True),
        ("example.org", "a.example.org", False),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", ".example.org", False),
        ("*.example.org", "aexample.org", False),
    ],
)
def test_a_pattern_means_what_lies_below_it(pattern: str, domain: str, matches: bool) -> None:
    assert is_domain_match(pattern, domain) is matches


@given(st.text(max_size=80), st.sampled_from(Kind))
def test_a_text_is_refused_or_has_one_spelling(text: str, kind: Kind) -> None:
    try:
        once = checked_text(text, kind)
    except ValueError:
        return
    assert checked_text(once, kind) == once
