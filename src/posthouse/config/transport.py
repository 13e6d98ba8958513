"""Sections about TLS with other hosts, and about HTTP that goes out because of what others say."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import msgspec

from posthouse.config.setting import KIB, MIB, Kind, choice, octets, seconds, text


class TlsLevel(Enum):
    """What TLS with hosts that the DNS names has to be, at least."""

    OFF = "off"
    OPPORTUNISTIC = "opportunistic"
    REQUIRED = "required"
    VERIFIED = "verified"
    DANE = "dane"


class RelayTlsPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What TLS has to be with the hosts of one domain; the first that matches counts. Hosts that
    the config names have their own `tls` in [[relay.route]] and [relay.smart_host]."""

    domain: Annotated[
        str,
        text(
            "The domain, or *.example.org for all below example.org (not itself).",
            kind=Kind.DOMAIN_PATTERN,
        ),
    ]
    tls: Annotated[TlsLevel, choice("As `relay.tls`.")]
    names: Annotated[
        tuple[str, ...],
        text(
            'With tls = "verified": names that the certificate may be for, like "example.org" or'
            ' "*.example.net". Empty: the MX host\'s, which unsigned DNS can be made to lie about.',
            kind=Kind.DOMAIN_PATTERN,
        ),
    ] = ()
    uses_published: Annotated[
        bool,
        choice(
            "Whether the domain's own DANE records and MTA-STS policy count too. False gets mail to"
            " a domain whose records are broken."
        ),
    ] = True


class Fetch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """HTTPS that goes out because of what others publish: MTA-STS policies. To port 443 and public
    addresses only, without redirects."""

    octets_max: Annotated[
        int,
        octets(
            "Size of an answer (RFC 8461 §3.3 suggests 64 KiB).",
            low=KIB,
            high=MIB,
            reached="nothing of it counts; an older policy goes on counting",
        ),
    ] = 64 * KIB
    timeout_s: Annotated[
        float,
        seconds(
            "Look-up, connection and answer together.",
            low=1.0,
            high=600.0,
            reached="nothing of it counts; an older policy goes on counting",
        ),
    ] = 60.0
    mail_waits_s: Annotated[
        float,
        seconds(
            "How long a message waits for a policy that is being fetched.",
            low=0.1,
            high=60.0,
            reached="it goes by an older policy, or as if there were none",
        ),
    ] = 10.0
