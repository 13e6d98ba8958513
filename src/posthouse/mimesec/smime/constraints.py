"""nameConstraints of authorities (RFC 5280 §4.2.1.10, RFC 9598 §6): what they may vouch for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from cryptography import x509

from posthouse.kernel.envelope import Address
from posthouse.message.address import AddressError, parse_mailbox
from posthouse.mimesec.smime.addresses import LOCAL_PART_OCTETS_MAX
from posthouse.mimesec.smime.certificates import Certificate, printable

COMPARISONS_MAX: Final = 20_000
"""Of names with constraints along one path."""
_RdnKey = tuple[frozenset[tuple[str, str]], ...]


class TooMany(Exception):
    """More names and constraints than are compared."""


class Comparisons:
    """Counts them along a path."""

    def __init__(self) -> None:
        self.left = COMPARISONS_MAX

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise TooMany


def why_not_permitted(
    authority: Certificate, certificate: Certificate, comparisons: Comparisons
) -> str:
    """Why a certificate below an authority may not have its names; "" when it may.

    Raises:
        TooMany: with the same `comparisons` for a whole path.
    """
    constraints = authority.extension(x509.NameConstraints)
    if constraints is None:
        return ""
    permitted = list(constraints.permitted_subtrees or ())
    excluded = list(constraints.excluded_subtrees or ())
    for kind, value in _names(certificate):
        comparisons.spend(len(permitted) + len(excluded))
        if any(type(base) is kind and _is_in(value, base) for base in excluded):
            return f"{_shown(value)} is excluded by the name constraints of {authority.name}"
        same = [base for base in permitted if type(base) is kind]
        if same and not any(_is_in(value, base) for base in same):
            return f"{_shown(value)} is outside of the name constraints of {authority.name}"
    return ""


def _names(certificate: Certificate) -> Iterable[tuple[type[x509.GeneralName], x509.Name | str]]:
    yield x509.DirectoryName, certificate.subject_name
    for address in certificate.addresses:
        # What SmtpUTF8Mailbox names is constrained by rfc822Name, too (RFC 9598 §6).
        yield x509.RFC822Name, address
    for name in certificate.extension(x509.SubjectAlternativeName) or ():
        if isinstance(name, x509.DirectoryName | x509.DNSName):
            yield type(name), name.value


def _is_in(value: x509.Name | str, base: x509.GeneralName) -> bool:
    """Whether a name lies in a subtree of its own kind."""
    match value, base:
        case x509.Name(), x509.DirectoryName():
            inner, outer = _key(value), _key(base.value)
            return inner[: len(outer)] == outer
        case str(), x509.RFC822Name():
            return _is_mailbox_in(value, base.value)
        case str(), x509.DNSName():
            host, domain = value.lower(), base.value.lower().removeprefix(".")
            return not domain or host == domain or host.endswith(f".{domain}")
        case _:
            return False


def _is_mailbox_in(mailbox: str, base: str) -> bool:
    """One mailbox, all of one host, or (".example.org") all below a domain."""
    address = _parsed(mailbox)
    if address is None:
        return False
    if "@" in base:
        return _parsed(base) == address
    domain = base.lower()
    return address.domain.endswith(domain) if domain[:1] == "." else address.domain == domain


def _parsed(text: str) -> Address | None:
    try:
        return parse_mailbox(text, local_part_octets_max=LOCAL_PART_OCTETS_MAX)
    except AddressError:
        return None


def _key(name: x509.Name) -> _RdnKey:
    """Without the case and the blanks that RFC 5280 §7.1 ignores."""
    return tuple(
        frozenset(
            (one.oid.dotted_string, " ".join(str(one.value).casefold().split())) for one in rdn
        )
        for rdn in name.rdns
    )


def _shown(value: x509.Name | str) -> str:
    return printable(value.rfc4514_string() if isinstance(value, x509.Name) else value)


def unknown_kinds(path: Sequence[Certificate]) -> str:
    """Why constraints on a path cannot be judged: they are on kinds of names that the last
    certificate has and that are not understood here."""
    has = {type(name) for name in path[0].extension(x509.SubjectAlternativeName) or ()} & _UNJUDGED
    for authority in path[1:]:
        constraints = authority.extension(x509.NameConstraints)
        if constraints is None:
            continue
        for base in (
            *(constraints.permitted_subtrees or ()),
            *(constraints.excluded_subtrees or ()),
        ):
            if type(base) in has:
                return f"{authority.name} constrains names of a kind that cannot be judged here"
    return ""


_UNJUDGED: Final = {x509.UniformResourceIdentifier, x509.IPAddress, x509.RegisteredID}
