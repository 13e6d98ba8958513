"""Which domains are one organization's when it comes to what a stranger may cost us.

DMARC asks the domains themselves (RFC 9989 §4.10): with a record under each of its names, or with
psd=n in it, somebody who has registered one name has as many organizations as they like. So this
looks at the name alone: what can be registered is the last two labels, or three where the second
last is a word under which a country registers (co.uk). That a few names are taken together that do
not belong together is no matter for a bound.
"""

from __future__ import annotations

from typing import Final

COUNTRY_CODE_OCTETS: Final = 2
# fmt: off
REGISTRIES: Final = frozenset({
    "ac", "ad", "asn", "co", "com", "ed", "edu", "gen", "go", "gob", "gouv", "gov", "gr", "gv",
    "id", "lg", "ltd", "mil", "ne", "net", "nhs", "nom", "or", "org", "plc", "sch",
})
# fmt: on
"""Second-level domains of several countries that others register below."""


def organization_of(domain: str) -> str:
    """Args: domain: A-labels in lower case, as the DNS has it."""
    labels = domain.rsplit(".", 3)
    is_country = len(labels[-1]) == COUNTRY_CODE_OCTETS
    is_shared = is_country and len(labels) > 1 and labels[-2] in REGISTRIES
    return ".".join(labels[-3:] if is_shared else labels[-2:])
