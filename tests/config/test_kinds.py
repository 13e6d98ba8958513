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


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("https://", Kind.HTTPS_URL, "names no host"),
        ("https:///directory", Kind.HTTPS_URL, "names no host"),
        ("https://a b/", Kind.HTTPS_URL, "a space"),
        ("https://a..b/", Kind.HTTPS_URL, "malformed"),
        ("https://a:99999/", Kind.HTTPS_URL, "port is malformed"),
        ("https://me:secret@ca.example/", Kind.HTTPS_URL, "a name or password"),
        ("http://ca.example/", Kind.HTTPS_URL, "does not begin with https://"),
        ("you", Kind.MAIL_ADDRESS, "the domain is missing"),
        ("a@b@c", Kind.MAIL_ADDRESS, "malformed"),
        ("You <you@example.org>", Kind.MAIL_ADDRESS, "malformed"),
        ("mailto:you@example.org", Kind.MAIL_ADDRESS, "without mailto:"),
        ("ü@example.org", Kind.MAIL_ADDRESS, "plain ASCII"),
        ('"a b"@example.org', Kind.MAIL_ADDRESS, "without quotes"),
    ],
)
def test_what_is_no_url_or_address_is_refused(text: str, kind: Kind, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked_text(text, kind)


@pytest.mark.parametrize(
    "text",
    ["https://ca.example/dir?x=1", "https://127.0.0.1:14000/dir", "https://[2001:db8::1]:14000/d"],
)
def test_a_url_is_kept_as_it_is(text: str) -> None:
    assert checked_text(text, Kind.HTTPS_URL) == text


@given(st.text(max_size=80), st.sampled_from(Kind))
def test_a_text_is_refused_or_has_one_spelling(text: str, kind: Kind) -> None:
    try:
        once = checked_text(text, kind)
    except ValueError:
        return
    assert checked_text(once, kind) == once
