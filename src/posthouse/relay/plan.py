"""Routes and plans as values: what a person may set, and which hosts an attempt will try."""

from __future__ import annotations

import ipaddress
from enum import Enum
from typing import Final

import msgspec

from posthouse.kernel.ports import TlsaRecord
from posthouse.kernel.tls_result import PolicyType, ResultType
from posthouse.relay.sts_policy import StsPolicy
from posthouse.relay.tls_result import StsTrouble

SMTP_PORT: Final = 25


class Tls(Enum):
    """What a route or a person's policy asks of TLS: the least, as the destination may ask more."""

    OFF = "off"
    OPPORTUNISTIC = "opportunistic"  # if offered; names are not checked (RFC 7435)
    REQUIRED = "required"  # names are not checked
    VERIFIED = "verified"  # STARTTLS and a certificate for the host's name
    DANE = "dane"  # TLSA records that DNSSEC proves, and a certificate that matches (RFC 7672 §6)
    IMPLICIT = "implicit"  # TLS from the start, verified


class Demand(Enum):
    """What a message asks beyond that; sessions are not shared between demands."""

    NONE = ""
    REQUIRETLS = "requiretls"  # RFC 8689 §4.2.1
    TLS_OPTIONAL = "tls-optional"  # RFC 8689 §4.2.2


class Kind(Enum):
    """What a plan comes from."""

    REROUTED = "rerouted"
    ROUTE = "route"
    SMART_HOST = "smart host"
    LITERAL = "address literal"
    MX = "mx"
    IMPLICIT_MX = "implicit mx"  # no MX: the domain's own addresses, RFC 5321 §5.1


class Login(msgspec.Struct, frozen=True):
    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.username!r}, '***')"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Hosts in place of a domain's MX."""

    domain: str
    """A domain, or "*.example.org" for all below example.org."""
    hosts: tuple[str, ...]
    """"host", "host:port", "[address]" or "[address]:port", the preferred first."""
    tls: Tls = Tls.OPPORTUNISTIC

    def matches(self, domain: str) -> bool:
        if self.domain.startswith("*."):
            return domain.endswith(self.domain[1:])
        return domain == self.domain


class SmartHost(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int = 587
    tls: Tls = Tls.VERIFIED
    login: Login | None = None


class TlsPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks for mail to a domain; the first that matches counts."""

    domain: str
    """A domain, or "*.example.org" for all below example.org."""
    tls: Tls
    names: tuple[str, ...] = ()
    """For VERIFIED: names the certificate may be for, "*." for one label; () is the host's."""
    uses_published: bool = True
    """Whether the domain's own DANE records and MTA-STS policy count too."""

    def matches(self, domain: str) -> bool:
        if self.domain.startswith("*."):
            return domain.endswith(self.domain[1:])
        return domain == self.domain


class TlsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What TLS with hosts that the DNS names has to be."""

    tls: Tls = Tls.OPPORTUNISTIC
    """For domains without a policy of their own."""
    policies: tuple[TlsPolicy, ...] = ()
    is_dane: bool = True
    is_mta_sts: bool = True


class RouteOptions(msgspec.Struct, frozen=True, kw_only=True):
    routes: tuple[Route, ...] = ()
    smart_host: SmartHost | None = None
    own_names: frozenset[str] = frozenset()
    """Names we are known by, in lower case: an MX among them is ourselves (F24)."""
    own_addresses: frozenset[str] = frozenset()
    """Addresses we listen at."""
    allow_private_addresses: bool = False
    """Go also to loopback, private and link-local addresses that DNS names. Hosts that the config
    names may always be there."""
    hosts_max: int = 5
    addresses_max: int = 10
    mx_port: int = SMTP_PORT
    tls: TlsOptions = TlsOptions()


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a host is not to be used, found out before any connection."""

    status: str
    words: str
    result: ResultType
    policy: PolicyType | None
    """The destination's own that forbids it; None where the sender or a person does."""
    is_permanent: bool = False


class HostPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What TLS with one host has to be. Everything that is set has to hold."""

    tls: Tls
    """The least: with VERIFIED, DANE and IMPLICIT a host that does not come up to it gets no
    mail, and none in plaintext."""
    names: tuple[tuple[str, ...], ...] = ()
    """A verified certificate is for one name of each of these groups; "*." stands for one
    label."""
    sni: str = ""
    """The name to ask for in the handshake; "" for a host that has none."""
    tlsa: tuple[TlsaRecord, ...] = ()
    """Usable ones; the certificate has to match one of them."""
    tlsa_base: str = ""
    """Where TLSA records were found that DNSSEC proves; with none of them usable, TLS without
    authentication is asked for (RFC 7672 §2.2)."""
    tlsa_names: tuple[str, ...] = ()
    """Reference identifiers for DANE-TA (RFC 7672 §3.2.2), the base domain first."""
    sts: StsPolicy | None = None
    """Of mode enforce it is part of `tls` and `names`; of mode testing it is only reported on."""
    is_requiretls: bool = False
    """The host has to offer REQUIRETLS too (RFC 8689 §4.2.1)."""
    refusal: Refusal | None = None
    reasons: tuple[str, ...] = ()
    """What it comes from: "dane", "mta-sts", "configured"…"""

    @property
    def allows_plaintext(self) -> bool:
        """Whether mail may go without TLS where TLS cannot be had (F28)."""
        return self.tls in (Tls.OFF, Tls.OPPORTUNISTIC)

    @property
    def has_trusted_chain(self) -> bool:
        """Whether the certificate must lead to a root that this machine trusts."""
        return self.tls in (Tls.VERIFIED, Tls.IMPLICIT)

    @property
    def words(self) -> str:
        """For people: "dane, mta-sts", "opportunistic"."""
        return ", ".join(self.reasons) or self.tls.value


OPPORTUNISTIC: Final = HostPolicy(tls=Tls.OPPORTUNISTIC)


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One host to try, with its addresses in order."""

    name: str
    """A-labels; for a literal the address."""
    port: int
    addresses: tuple[str, ...]
    preference: int = 0
    is_authenticated: bool = False
    """DNSSEC proves its addresses."""
    canonical: str = ""
    """The name behind CNAMEs; "" where it is `name`."""
    policy: HostPolicy = OPPORTUNISTIC

    @property
    def is_address(self) -> bool:
        """Nobody named it."""
        return self.addresses == (self.name,)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no host to try."""

    is_permanent: bool
    status: str
    words: str


class RoutePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The hosts for one attempt, or the reason that there are none."""

    domain: str
    kind: Kind
    tls: Tls
    """What the config asks; each host's policy says what becomes of that."""
    hosts: tuple[Host, ...] = ()
    failure: Failure | None = None
    login: Login | None = None
    is_authenticated: bool = False
    """DNSSEC proves the domain's MX records, or that it has none."""
    canonical: str = ""
    """The domain's name behind CNAMEs; "" where it is `domain`."""
    sts_trouble: StsTrouble | None = None
    """An MTA-STS policy that is announced could not be had; hosts may have an older one."""
    sts_domain: str = ""
    """Whose: the domain's, or that of a host that a person named."""

    @property
    def sts(self) -> StsPolicy | None:
        return next((host.policy.sts for host in self.hosts if host.policy.sts is not None), None)

    notes: tuple[str, ...] = ()
    """What was left out and why, for people."""


class Place(msgspec.Struct, frozen=True):
    """A host somebody named, not resolved yet."""

    host: str
    """A name, or an IP address where `is_literal`."""
    port: int
    is_literal: bool


def parse_place(text: str, *, port: int = SMTP_PORT) -> Place:
    """Read "host", "host:port", "[address]" or "[address]:port".

    Raises:
        ValueError: it is none of these.
    """
    host, number = text.strip(), str(port)
    if host.startswith("["):
        host, bracket, behind = host[1:].partition("]")
        if not bracket or (behind and not behind.startswith(":")):
            raise ValueError(f"{text!r} is no host")
        number = behind[1:] or number
        host = host[5:] if host[:5].lower() == "ipv6:" else host
        address = str(ipaddress.ip_address(host))
    else:
        name, colon, behind = host.rpartition(":")
        if colon and ":" not in name:
            host, number = name, behind
        address = _address(host)
    if not number.isascii() or not number.isdigit() or not 0 < int(number) < 65_536 or not host:
        raise ValueError(f"{text!r} is no host")
    if address:
        return Place(address, int(number), True)
    return Place(host.lower().rstrip("."), int(number), False)


def _address(text: str) -> str:
    """The IP address in its usual spelling, or "" when it is none."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
