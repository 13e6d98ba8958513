"""Who is one organization when it comes to what a stranger may cost us."""

from __future__ import annotations

import pytest

from posthouse.reporting.organization import organization_of


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("evil.test", "evil.test"),
        ("a.evil.test", "evil.test"),
        ("a.b.c.d.evil.test", "evil.test"),
        ("example.co.uk", "example.co.uk"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("mail.web.de", "web.de"),
        ("a.co.com", "co.com"),
        ("a.gov.test", "gov.test"),
        ("uk", "uk"),
        ("test", "test"),
    ],
)
def test_what_is_registered_is_the_organization(domain: str, expected: str) -> None:
    assert organization_of(domain) == expected
