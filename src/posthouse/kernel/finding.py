"""What a check found out about a message, with the evidence (DESIGN, "Policy")."""

from __future__ import annotations

import msgspec


class Evidence(msgspec.Struct, frozen=True):
    """One thing a check looked at: what was asked or computed, and what came back.

    E.g. `Evidence("TXT _dmarc.example.org", "v=DMARC1; p=reject")`.
    """

    what: str
    found: str


class Property(msgspec.Struct, frozen=True):
    """A property of a result as RFC 8601 §2.3 names it: `smtp.mailfrom=example.org`."""

    ptype: str
    """ "smtp", "header", "policy", "body" or "dns"."""
    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.ptype}.{self.name}={self.value}"


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of one check, in the words of RFC 8601 where it has some."""

    name: str
    """The method ("spf", "dkim", "dmarc", "arc", "iprev") or the name of a finding of our own
    ("homograph", "dns-budget", "override")."""
    result: str
    reason: str = ""
    """Why, in words for people."""
    properties: tuple[Property, ...] = ()
    evidence: tuple[Evidence, ...] = ()
