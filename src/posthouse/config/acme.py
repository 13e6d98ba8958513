"""Sections about certificates by ACME, the web listeners, our MTA-STS policy and DNS updates."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import msgspec

from posthouse.config.setting import KIB, MIB, Kind, choice, count, days, octets, seconds, text

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class AcmeChallenge(Enum):
    """How we prove to the authority that a name is ours."""

    AUTO = "auto"
    HTTP_01 = "http-01"
    TLS_ALPN_01 = "tls-alpn-01"
    DNS_01 = "dns-01"


class AcmeKey(Enum):
    """Kinds of certificate keys."""

    ECDSA = "ecdsa"
    RSA = "rsa"


class Acme(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Certificates from an authority that speaks ACME (RFC 8555), obtained and renewed by the
    server itself; needs `pip install 'posthouse[acme]'`. Each name has a certificate of its own, so
    that one whose DNS is not ready holds up no other."""

    is_enabled: Annotated[
        bool,
        choice(
            "Obtain and renew certificates for `node.hostname`, `acme.names`, the policy hosts of"
            " [mta_sts] and `autoconfig.` in front of each domain. Where [tls]"
            " names a certificate, its names are left to it."
        ),
    ] = False
    accepts_terms: Annotated[
        bool,
        choice("You have read and accept the terms of the authority; without it nothing is asked."),
    ] = False
    directory: Annotated[
        str,
        text("The authority's directory, a URL that begins with https://.", kind=Kind.HTTPS_URL),
    ] = LETS_ENCRYPT
    contact: Annotated[
        tuple[str, ...],
        text(
            "Mail addresses the authority may write to about certificates, like you@example.org.",
            kind=Kind.MAIL_ADDRESS,
        ),
    ] = ()
    names: Annotated[
        tuple[str, ...],
        text(
            'Further names, like "imap.example.org". A wildcard ("*.example.org") is proved by'
            " dns-01 only.",
            kind=Kind.DOMAIN_PATTERN,
        ),
    ] = ()
    challenge: Annotated[
        AcmeChallenge,
        choice(
            'How a name is proved to be ours: by port 80 ("http-01"), port 443 ("tls-alpn-01") or'
            ' a record in the DNS ("dns-01", through [dns_update]). "auto" takes dns-01 where'
            " [dns_update] is set, else http-01 and tls-alpn-01 in turn."
        ),
    ] = AcmeChallenge.AUTO
    key_type: Annotated[
        AcmeKey, choice("New keys: ECDSA on P-256, or RSA of 2048 bits for very old clients.")
    ] = AcmeKey.ECDSA
    rotates_key_days: (
        Annotated[
            int,
            days(
                "Age at which a key is replaced. The next one is made in advance, and used only"
                " after the DNS shows its TLSA record for two TTLs (where TLSA is published).",
                low=30,
                computed="none: the key stays the same at every renewal, and so does TLSA",
            ),
        ]
        | None
    ) = None
    warns_days: Annotated[
        int,
        days(
            "Renewals that fail with fewer days left than this are told to postmaster by mail.",
            high=60,
        ),
    ] = 10
    order_s: Annotated[
        float, seconds("How long one order may take, the authority's checks included.", low=10.0)
    ] = 180.0
    ca_file: Annotated[
        str,
        text(
            "PEM file of the roots that the authority's own server is trusted by, for an authority"
            " inside your network. Empty: the system's.",
            kind=Kind.PATH,
        ),
    ] = ""
    eab_key_id: Annotated[
        str,
        text("Key identifier for authorities that bind accounts to customers (RFC 8555 §7.3.4)."),
    ] = ""
    eab_key_file: Annotated[
        str,
        text("File with the MAC key that belongs to `acme.eab_key_id`, base64url.", kind=Kind.PATH),
    ] = ""


class Web(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """HTTP and HTTPS on ports 80 and 443: ACME's challenges, our MTA-STS policy, and what mail
    clients ask. They are open when [acme] or [web] is enabled, or a [[listener]] table asks for
    them."""

    is_enabled: Annotated[bool, choice("Open ports 80 and 443 also without [acme].")] = False
    addresses: Annotated[
        tuple[str, ...],
        text("Addresses to listen on; empty means all.", kind=Kind.ADDRESS),
    ] = ()
    serves_autoconfig: Annotated[
        bool,
        choice(
            "Tell mail clients our host and ports, as"
            " https://autoconfig.DOMAIN/mail/config-v1.1.xml. Set it to false where another server"
            " does."
        ),
    ] = True
    serves_api: Annotated[
        bool,
        choice(
            "Take mail from programs by HTTPS (POST /api/v1/messages), with the logins, rules and"
            " limits of the submission port, and tell them what became of it."
        ),
    ] = False
    request_s: Annotated[
        float,
        seconds(
            "Time for a whole request, and for a connection to stay idle between two.",
            low=1.0,
            high=300.0,
            reached="408, closed",
        ),
    ] = 15.0
    header_octets_max: Annotated[
        int,
        octets("A request line with its header section.", low=KIB, high=MIB, reached="400, closed"),
    ] = 16 * KIB
    per_address_max: Annotated[
        int, count("HTTP connections of one address.", reached="503, closed")
    ] = 20
    per_network_max: Annotated[
        int, count("HTTP connections of one /24 or /64.", reached="503, closed")
    ] = 60
    rate_per_minute: Annotated[
        int, count("New HTTP connections of one address a minute.", reached="503, closed")
    ] = 120


class MtaStsMode(Enum):
    """What senders do when our hosts cannot be verified (RFC 8461 §5)."""

    NONE = "none"
    TESTING = "testing"
    ENFORCE = "enforce"


class MtaSts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Our own MTA-STS policy (RFC 8461), served as https://mta-sts.DOMAIN/.well-known/mta-sts.txt.
    Senders look for it once the DNS has the records that `posthouse dns records` prints."""

    is_published: Annotated[
        bool, choice("Serve a policy for our domains, where ports 80 and 443 are open.")
    ] = True
    mode: Annotated[
        MtaStsMode,
        choice(
            'With "enforce" other hosts send to us only over verified TLS, with "testing" they only'
            ' report; "none" takes an earlier policy back.'
        ),
    ] = MtaStsMode.TESTING
    max_age_days: Annotated[
        int, days("How long senders keep the policy (RFC 8461 §3.2 asks for weeks).", high=365)
    ] = 14
    mx: Annotated[
        tuple[str, ...],
        text(
            "Every MX host of our domains, or patterns like *.example.net.",
            kind=Kind.DOMAIN_PATTERN,
            computed="`node.hostname`",
        ),
    ] = ()
    domains: Annotated[
        tuple[str, ...],
        text(
            "Domains that have the policy.",
            kind=Kind.HOSTNAME,
            computed="all that mail is taken for",
        ),
    ] = ()


class TsigAlgorithm(Enum):
    """RFC 8945 §6."""

    HMAC_SHA256 = "hmac-sha256"
    HMAC_SHA384 = "hmac-sha384"
    HMAC_SHA512 = "hmac-sha512"


class DnsUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How Posthouse may change the DNS itself, for dns-01 and new DKIM keys: by dynamic updates
    (RFC 2136) with a TSIG key, or by a command of yours. Without it you publish by hand."""

    server: Annotated[
        str,
        text(
            'The primary name server that takes updates, like "192.0.2.53". Empty: none.',
            kind=Kind.ADDRESS_PORT,
        ),
    ] = ""
    zone: Annotated[
        str,
        text(
            "The zone that updates go to.",
            kind=Kind.HOSTNAME,
            computed="the nearest zone above each name, by its SOA record",
        ),
    ] = ""
    key_name: Annotated[
        str, text("Name of the TSIG key, as the name server has it.", kind=Kind.HOSTNAME)
    ] = ""
    key_file: Annotated[
        str,
        text(
            "File with the TSIG key's secret in base64, or as `tsig-keygen` wrote it.",
            kind=Kind.PATH,
        ),
    ] = ""
    algorithm: Annotated[TsigAlgorithm, choice("Of the TSIG key.")] = TsigAlgorithm.HMAC_SHA256
    hook: Annotated[
        tuple[str, ...],
        text(
            "A command with its arguments, run without a shell, in place of a server. It is given"
            " `put` or `remove`, the name and the TTL as further arguments, the texts on its"
            " standard input, a line each, and must end with 0 once the servers have the change."
        ),
    ] = ()
    hook_s: Annotated[float, seconds("How long the command may take.", low=1.0, high=3_600.0)] = (
        60.0
    )
    settle_s: Annotated[
        float,
        seconds(
            "How long secondary name servers need to have a change, before the authority is asked"
            " to look.",
            low=0.0,
            high=3_600.0,
        ),
    ] = 10.0
