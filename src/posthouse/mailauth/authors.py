"""Which domains the From field names, for DMARC, and whether they are drawn like others (H33, H49).

Read with the one reader of address lists, so what is judged is what ENVELOPE shows. Domains go
through `message.address.domain_to_ascii`, the one place of IDNA2008.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

import msgspec

from posthouse.kernel.finding import Evidence, Finding, Property
from posthouse.mailauth.dmarc.evaluate import AUTHOR_DOMAINS_MAX, NO_AUTHOR, TOO_MANY_AUTHORS
from posthouse.message import words
from posthouse.message.address import AddressError, domain_to_ascii, domain_to_unicode
from posthouse.message.address_list import Listed, parse_address_list
from posthouse.message.fields import HeaderSection, from_fault
from posthouse.message.lookalike import ascii_twin, mixed_scripts, scripts

NAMES_MAX: Final = 8
"""Display names looked at."""
NAME_OCTETS_MAX: Final = 1_024
HOMOGRAPH: Final = "homograph"

_SHOWN_MAX: Final = 64
# The domain of what looks like an address in a display name.
_NAMED: Final = re.compile(r"(?<=[^\s@<>])@([^\s@<>()\[\]\"',;:]{3,253}+)")


class Authors(msgspec.Struct, frozen=True, kw_only=True):
    """The author domains of a message (RFC 9989 §5.3.1)."""

    domains: tuple[str, ...] = ()
    """A-labels in lower case, without repeats, in order; `AUTHOR_DOMAINS_MAX` at most."""
    fault: str = ""
    """Why those are not all, or there is none, in words: `evaluate` makes an outcome of it."""
    is_malformed: bool = False
    """Readers could see another author than we do."""
    named: tuple[str, ...] = ()
    """Domains that display names show as if they were an address's; never judged by DMARC."""


def author_domains(section: HeaderSection) -> Authors:
    """Of all From fields, so that a message with more than one cannot choose which is judged."""
    trouble = from_fault(section)
    domains: dict[str, None] = {}
    named: dict[str, None] = {}
    seen: set[bytes] = set()
    fault = trouble.value if trouble is not None else ""
    is_malformed = trouble is not None
    for field in section.fields:
        if field.name != b"from":
            continue
        listed = parse_address_list(section.value(field))
        is_malformed = is_malformed or listed.is_malformed
        if listed.is_truncated:
            fault = fault or TOO_MANY_AUTHORS
        mailboxes = listed.mailboxes()
        for item in mailboxes[:NAMES_MAX]:
            named |= _named(item)
        for item in mailboxes:
            written = (item.domain or b"").lower()
            if not written or written in seen:
                continue
            if len(seen) == AUTHOR_DOMAINS_MAX:
                fault = fault or TOO_MANY_AUTHORS
                break
            seen.add(written)
            domain = _domain(written)
            if domain is None:
                fault = fault or f"{_shown(written)} in the From field is no domain"
            else:
                domains[domain] = None
    if not domains:
        fault = fault or NO_AUTHOR
    return Authors(
        domains=tuple(domains), fault=fault, is_malformed=is_malformed, named=tuple(named)
    )


def _domain(written: bytes) -> str | None:
    try:
        return domain_to_ascii(written.decode("utf-8").removesuffix("."))
    except (UnicodeDecodeError, AddressError):
        return None


def _shown(written: bytes) -> str:
    text = written[:_SHOWN_MAX].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def _named(item: Listed) -> dict[str, None]:
    name = (item.name or b"")[:NAME_OCTETS_MAX]
    if name.isascii() and b"@" not in name and b"=?" not in name:
        return {}
    text = unicodedata.normalize("NFKC", words.decode(name)).lower()
    found = (match.rstrip(".") for match in _NAMED.findall(text))
    return dict.fromkeys(domain for domain in found if "." in domain)


# --- domains drawn like others ---


class Homograph(msgspec.Struct, frozen=True):
    """Why a domain is not what it looks like."""

    shown: str
    """In U-labels."""
    words: str


@lru_cache(maxsize=2_048)
def homograph(domain: str) -> Homograph | None:
    """Whether a label mixes scripts, or is drawn like ASCII letters that it has none of.

    A label drawn like ASCII is nothing strange below a top-level domain of its own script.

    Args:
        domain: in A-labels or U-labels, in lower case.
    """
    if domain.isascii() and "xn--" not in domain:
        return None
    shown = domain_to_unicode(domain)
    labels = shown.replace("。", ".").split(".")
    home = frozenset(scripts(labels[-1]))
    for label in labels:
        mixed = mixed_scripts(label)
        if mixed:
            return Homograph(shown, f"{label} mixes {' and '.join(mixed)} letters")
        twin = ascii_twin(label)
        if twin and not home.issuperset(scripts(label)):
            of = " and ".join(scripts(label))
            return Homograph(shown, f"{label} looks like {twin} and is written in {of} letters")
    return None


def homographs(authors: Authors) -> tuple[Finding, ...]:
    """A finding for each domain of an author, or shown as one, that is not what it looks like."""
    findings = []
    for where, domains in (("from", authors.domains), ("display-name", authors.named)):
        for domain in domains:
            found = homograph(domain)
            if found is None:
                continue
            findings.append(
                Finding(
                    name=HOMOGRAPH,
                    result="fail",
                    reason=f"the domain {found.shown} is not what it looks like: {found.words}",
                    properties=(Property("header", where, domain),),
                    evidence=(Evidence(domain, found.words),),
                )
            )
    return tuple(findings)
