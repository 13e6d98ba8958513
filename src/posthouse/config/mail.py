"""Sections about mail on its way: SMTP in, content, routing, the queue, relay, notices."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import msgspec

from posthouse.config.setting import (
    DAY_S,
    GIB,
    HOUR_S,
    KIB,
    MIB,
    Kind,
    Unit,
    choice,
    count,
    factor,
    octets,
    seconds,
    text,
)
from posthouse.config.transport import RelayTlsPolicy, TlsLevel


class BareNewline(Enum):
    """What becomes of a CR or LF that is not part of a CRLF."""

    REFUSE = "refuse"
    NORMALIZE = "normalize"
    ALLOW = "allow"


class RouteTls(Enum):
    """TLS towards a host that the config names."""

    OFF = "off"
    OPPORTUNISTIC = "opportunistic"
    REQUIRED = "required"
    VERIFIED = "verified"
    IMPLICIT = "implicit"


class Smtp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Mail coming in, on port 25 and (where [submission] says nothing else) from our users."""

    message_octets_max: Annotated[
        int,
        octets(
            "Size of a message, announced by SIZE (RFC 1870).",
            low=64 * KIB,
            high=2 * GIB,
            reached="552 5.3.4 at MAIL, or once the final dot is read; BDAT at once",
        ),
    ] = 50 * MIB
    command_octets_max: Annotated[
        int,
        octets(
            "A command line, CRLF included.",
            low=512,
            high=MIB,
            reached="500 5.5.2, the rest of the line is thrown away; counts as an error",
        ),
    ] = 2_048
    auth_octets_max: Annotated[
        int,
        octets(
            "A line of AUTH (RFC 4954 §4).",
            low=512,
            high=MIB,
            reached="500 5.5.6",
        ),
    ] = 12_288
    recipients_max: Annotated[
        int,
        count(
            "Recipients of one transaction on port 25 (RFC 9422 RCPTMAX).",
            low=100,
            reached="452 4.5.3 for each further one",
        ),
    ] = 1_000
    unknown_recipients_max: Annotated[
        int,
        count(
            "Unknown recipients in a session that are answered at once.",
            reached="550 5.1.1 after `smtp.errors_delay_s` each",
        ),
    ] = 10
    unknown_recipients_close: Annotated[
        int,
        count("Unknown recipients in a session that end it.", reached="421 4.7.0, closed"),
    ] = 25
    errors_soft_max: Annotated[
        int,
        count(
            "Protocol errors in a session that are answered at once.",
            reached="each further reply waits `smtp.errors_delay_s`",
        ),
    ] = 5
    errors_delay_s: Annotated[
        float,
        seconds(
            "Wait before the reply to each further protocol error or unknown recipient.", high=60.0
        ),
    ] = 1.0
    errors_max: Annotated[
        int, count("Protocol errors in a session.", reached="421 4.7.0, closed")
    ] = 15
    errors_stress_max: Annotated[
        int,
        count(
            "Protocol errors in a session while the server is under stress.",
            reached="421 4.7.0, closed",
        ),
    ] = 1
    junk_commands_max: Annotated[
        int,
        count(
            "Commands that move no mail (NOOP, RSET, VRFY, HELO) in a session.",
            reached="421 4.7.0, closed",
        ),
    ] = 50
    junk_commands_stress_max: Annotated[
        int,
        count("The same while the server is under stress.", reached="421 4.7.0, closed"),
    ] = 1
    transactions_max: Annotated[
        int,
        count(
            "Transactions of one session (RFC 9422 MAILMAX).",
            reached="421 4.7.0 after the reply, closed",
        ),
    ] = 100
    idle_s: Annotated[
        float,
        seconds(
            "Silence between commands (RFC 5321 §4.5.3.2.7 asks for 300).",
            reached="421 4.4.2, closed",
        ),
    ] = 300.0
    idle_stress_s: Annotated[
        float,
        seconds("The same while the server is under stress.", reached="421 4.4.2, closed"),
    ] = 10.0
    command_s: Annotated[
        float,
        seconds("A whole command line, from its first octet.", reached="421 4.4.2, closed"),
    ] = 60.0
    data_idle_s: Annotated[
        float,
        seconds("Silence within a message.", reached="421 4.4.2, closed; nothing is kept"),
    ] = 180.0
    data_rate_min: Annotated[
        int,
        octets(
            "Slowest arrival of a message, over a minute.",
            unit=Unit.OCTETS_PER_S,
            reached="421 4.4.2, closed; nothing is kept",
        ),
    ] = 500
    login_s: Annotated[
        float,
        seconds("From the greeting to a login, where one is needed.", reached="421 4.4.2, closed"),
    ] = 120.0
    session_s: Annotated[
        float,
        seconds("Age of a session.", reached="421 4.3.2 between transactions, closed"),
    ] = 3_600.0
    messages_per_minute: Annotated[
        int,
        count("Messages taken from one address a minute on port 25.", reached="451 4.7.1 at MAIL"),
    ] = 120
    octets_per_minute: Annotated[
        int,
        octets("Octets taken from one address a minute on port 25.", reached="451 4.7.1 at MAIL"),
    ] = 500 * MIB
    text_line_octets_max: Annotated[
        int,
        octets("A line of a message (RFC 5321 says 1,000).", low=1_000, reached="550 5.6.0"),
    ] = 100_000
    hops_max: Annotated[
        int,
        count(
            "Received fields of a message (RFC 5321 §6.3).",
            low=10,
            high=1_000,
            reached="554 5.4.6, to the submitter or in a DSN",
        ),
    ] = 50
    output_octets_max: Annotated[
        int,
        octets(
            "Replies that a peer leaves unread.",
            low=4 * KIB,
            reached="reading pauses; after `net.write_s` the connection is closed",
        ),
    ] = 64 * KIB
    bare_newline: Annotated[
        BareNewline,
        choice(
            "A CR or LF alone within a message: refuse it with 550 5.6.0, normalize it to CRLF, or"
            " allow it as an octet like others. It never ends a message."
        ),
    ] = BareNewline.REFUSE
    relay_networks: Annotated[
        tuple[str, ...],
        text(
            "Networks whose hosts may send to anybody without a login. Keep it empty unless you own"
            " every address in it; a network as wide as 0.0.0.0/0 is refused.",
            kind=Kind.NETWORK,
        ),
    ] = ()


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Mail from our own users, after a login."""

    recipients_max: Annotated[
        int,
        count("Recipients of one transaction.", low=100, reached="452 4.5.3 for each further one"),
    ] = 500
    per_hour: Annotated[
        int,
        count(
            "Recipients of one account an hour.",
            reached="450 4.7.1 naming the time it ends; what is queued goes on",
        ),
    ] = 300
    per_day: Annotated[
        int,
        count(
            "Recipients of one account a day.",
            reached="450 4.7.1 naming the time it ends; what is queued goes on",
        ),
    ] = 2_000


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The header section of a message (RFC 5322)."""

    header_octets_max: Annotated[
        int,
        octets(
            "The header section.",
            low=4 * KIB,
            high=16 * MIB,
            reached="552 5.3.4; in the store the rest is ignored",
        ),
    ] = 256 * KIB
    field_octets_max: Annotated[
        int, octets("One header field.", low=KIB, high=16 * MIB, reached="550 5.6.0")
    ] = 100 * KIB
    fields_max: Annotated[
        int, count("Header fields.", low=50, high=1_000_000, reached="550 5.6.0")
    ] = 1_000


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From an address to where its mail goes."""

    subaddress_separator: Annotated[
        str,
        text("What divides user and tag in user+tag@example.org. Empty: there are no tags."),
    ] = "+"
    alias_depth_max: Annotated[
        int,
        count(
            "Aliases within aliases.", high=100, reached="451 4.2.4, and a notice to the postmaster"
        ),
    ] = 10
    members_max: Annotated[
        int,
        count(
            "Addresses that one alias expands to; a repeated one counts once.",
            reached="451 4.2.4, and a notice to the postmaster",
        ),
    ] = 1_000


class Queue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Accepted mail until all of it is settled."""

    lifetime_s: Annotated[
        float,
        seconds(
            "How long a message is tried (RFC 5321 §4.5.4.1 asks for 4 to 5 days).",
            low=60.0,
            reached="returned to its sender with a DSN",
        ),
    ] = 5 * DAY_S
    dsn_lifetime_s: Annotated[
        float,
        seconds(
            "How long a DSN is tried.",
            low=60.0,
            reached="dropped; the ledger says `double-bounce`",
        ),
    ] = 2 * DAY_S
    delay_notice_s: Annotated[
        float,
        seconds(
            "After how long the sender is told of a delay, once.",
            low=60.0,
            reached="a delay DSN to the sender",
        ),
    ] = 4 * HOUR_S
    recipients_max: Annotated[
        int, count("Recipients in the queue.", reached="452 4.3.1 at MAIL")
    ] = 1_000_000
    lease_s: Annotated[
        float,
        seconds(
            "How long a node owns a recipient it is working on without saying so again.",
            low=10.0,
            reached="another node takes the recipient over",
        ),
    ] = 120.0


class RelayConcurrency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sessions to one destination: grows on success, halves on trouble, 1 probe when dead."""

    initial: Annotated[int, count("Sessions to a destination at first.", high=1_000)] = 2
    max: Annotated[
        int,
        count(
            "Sessions to a destination that takes everything.",
            high=1_000,
            reached="further recipients wait",
        ),
    ] = 20


class RelayRetry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a deferred recipient is tried again."""

    first_s: Annotated[
        float, seconds("Wait after the first attempt; greylisting hosts accept soon.", low=1.0)
    ] = 120.0
    growth: Annotated[
        float, factor("Each wait is this many times the one before.", low=1.0, high=10.0)
    ] = 2.0
    max_s: Annotated[float, seconds("Longest wait between attempts.", low=60.0)] = 4 * HOUR_S
    jitter: Annotated[
        float, factor("Part of the wait by which chance may move it.", low=0.0, high=0.5)
    ] = 0.1


class SmartHost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One host that all mail to others goes through. Empty host: straight to each domain's MX."""

    host: Annotated[
        str,
        text("Name or IP address; its MX records are not asked.", kind=Kind.HOST_PORT),
    ] = ""
    port: Annotated[int, count("TCP port.", high=65_535)] = 587
    tls: Annotated[
        RouteTls,
        choice(
            "off, opportunistic (if offered, name not checked), required (name not checked),"
            " verified (STARTTLS, name checked), implicit (TLS from the start, name checked)."
        ),
    ] = RouteTls.VERIFIED
    username: Annotated[str, text("Name to log in with. Empty: no login.")] = ""
    password_file: Annotated[
        str,
        text("File whose first line is the password, readable by nobody else.", kind=Kind.PATH),
    ] = ""


class RelayRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hosts to use for a domain in place of its MX; the first route that matches counts, and it
    comes before the smart host."""

    domain: Annotated[
        str,
        text(
            "The domain, or *.example.org for all below example.org (not itself).",
            kind=Kind.DOMAIN_PATTERN,
        ),
    ]
    hosts: Annotated[
        tuple[str, ...],
        text(
            'Hosts in order of preference, like "mx.example.net:2525" or "[192.0.2.1]" (port 25'
            " when not given).",
            kind=Kind.HOST_PORT,
        ),
    ]
    tls: Annotated[RouteTls, choice("As in [relay.smart_host].")] = RouteTls.OPPORTUNISTIC


class Relay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Mail going out to other hosts."""

    connect_s: Annotated[float, seconds("Opening a connection.", reached="next address")] = 30.0
    helo_s: Annotated[
        float, seconds("Reply to the connection and to EHLO.", reached="next host, or retry later")
    ] = 300.0
    mail_s: Annotated[
        float,
        seconds("Reply to MAIL (RFC 5321 §4.5.3.2.2).", reached="next host, or retry later"),
    ] = 300.0
    rcpt_s: Annotated[
        float,
        seconds("Reply to RCPT (RFC 5321 §4.5.3.2.3).", reached="next host, or retry later"),
    ] = 300.0
    data_s: Annotated[
        float,
        seconds("Reply to DATA (RFC 5321 §4.5.3.2.4).", reached="next host, or retry later"),
    ] = 120.0
    block_s: Annotated[
        float,
        seconds(
            "Sending a block of the message (RFC 5321 §4.5.3.2.5).",
            reached="next host, or retry later",
        ),
    ] = 180.0
    dot_s: Annotated[
        float,
        seconds("Reply to the final dot (RFC 5321 §4.5.3.2.6).", reached="retry later"),
    ] = 600.0
    attempt_s: Annotated[
        float,
        seconds(
            "A whole attempt, beside what sending takes at `relay.data_rate_min`.",
            low=1.0,
            reached="retry later",
        ),
    ] = 900.0
    data_rate_min: Annotated[
        int,
        octets(
            "Slowest rate at which a host may take a message.",
            unit=Unit.OCTETS_PER_S,
            reached="retry later",
        ),
    ] = 500
    idle_s: Annotated[
        float,
        seconds("How long a session is kept for the next message.", reached="QUIT"),
    ] = 10.0
    messages_max: Annotated[
        int, count("Messages sent in one session.", reached="QUIT, then a new session")
    ] = 100
    sessions_max: Annotated[
        int, count("Sessions to all hosts together.", reached="further recipients wait")
    ] = 500
    addresses_max: Annotated[
        int, count("Addresses tried in one attempt.", high=100, reached="retry later")
    ] = 10
    hosts_max: Annotated[
        int, count("Hosts used in one attempt.", high=100, reached="retry later")
    ] = 5
    reply_lines_max: Annotated[
        int, count("Lines of a reply.", reached="as a 421: next host, or retry later")
    ] = 100
    line_octets_max: Annotated[
        int,
        octets(
            "A line of a reply, CRLF included.",
            low=512,
            reached="as a 421: next host, or retry later",
        ),
    ] = 2_048
    reply_octets_max: Annotated[int, octets("What is kept of a reply.", low=512, reached="cut")] = (
        4 * KIB
    )
    allow_private_addresses: Annotated[
        bool,
        choice(
            "Relay also to loopback, private and link-local addresses that DNS gives for a domain."
            " Hosts named in the config may always be there."
        ),
    ] = False
    tls: Annotated[
        TlsLevel,
        choice(
            "TLS with hosts that the DNS names, at least: off, opportunistic (if offered, any"
            " certificate), required (any certificate), verified (a trusted authority's certificate"
            " for the host's name), dane (TLSA records that DNSSEC proves). Where a domain's own"
            " DANE records or MTA-STS policy ask for more, they count too."
        ),
    ] = TlsLevel.OPPORTUNISTIC
    is_dane: Annotated[
        bool,
        choice(
            "Hold hosts to their TLSA records (RFC 7672). It takes a resolver that validates"
            " DNSSEC: one on this machine, or `dns.is_trusted`."
        ),
    ] = True
    is_mta_sts: Annotated[bool, choice("Hold domains to their MTA-STS policies (RFC 8461).")] = True
    concurrency: RelayConcurrency = RelayConcurrency()
    retry: RelayRetry = RelayRetry()
    smart_host: SmartHost = SmartHost()
    route: tuple[RelayRoute, ...] = ()
    tls_policy: tuple[RelayTlsPolicy, ...] = ()


class Dsn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Notices about messages (RFC 3464)."""

    return_octets_max: Annotated[
        int,
        octets("Largest message returned whole in a DSN.", low=KIB, reached="header section only"),
    ] = 64 * KIB
