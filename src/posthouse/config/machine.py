"""Sections about the node itself: its name, listeners, TLS, DNS, threads, storage, watching."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import msgspec

from posthouse.config.setting import (
    DAY_S,
    KIB,
    MIB,
    Kind,
    choice,
    count,
    days,
    octets,
    seconds,
    text,
)
from posthouse.observe.options import LogFormat, LogLevel


class Service(Enum):
    """What a listener speaks."""

    MX = "mx"
    SUBMISSION = "submission"
    SUBMISSIONS = "submissions"
    IMAP = "imap"
    IMAPS = "imaps"
    POP3 = "pop3"
    POP3S = "pop3s"
    LMTP = "lmtp"
    METRICS = "metrics"
    HTTP = "http"
    HTTPS = "https"


class TlsVersion(Enum):
    """Oldest TLS version that is spoken (RFC 8996 ended 1.0 and 1.1)."""

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """This machine: its name, where its data lives, how it stops."""

    hostname: Annotated[
        str,
        text(
            "Name in greetings, EHLO, Received and Message-ID; it should resolve to this machine"
            " and back.",
            kind=Kind.HOSTNAME,
            computed="the system's fully qualified name, or localhost",
        ),
    ] = "localhost"
    data_folder: Annotated[
        str,
        text(
            "Folder of the database, the messages and the self-signed certificate; a path that is"
            " not absolute starts at the config file's folder.",
            kind=Kind.PATH,
        ),
    ] = "/var/lib/posthouse"
    drain_s: Annotated[
        float,
        seconds(
            "After SIGTERM, how long open transactions may take to finish.",
            reached="421 4.3.2, then closed; accepted mail is kept",
        ),
    ] = 30.0


class Listener(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One service on one port. Without any such table every mail service but LMTP listens on its
    standard port (shifted by `net.port_base`) on all addresses. HTTP and HTTPS that [acme] or [web]
    open need no table."""

    service: Annotated[
        Service,
        choice(
            "What is spoken: SMTP for other hosts (mx) or our users (submission with STARTTLS,"
            " submissions with TLS from the start), IMAP or POP3 with either, LMTP, metrics, HTTP"
            " or HTTPS."
        ),
    ]
    addresses: Annotated[
        tuple[str, ...],
        text(
            "Addresses to listen on; empty means all (127.0.0.1 and ::1 for lmtp and metrics).",
            kind=Kind.ADDRESS,
        ),
    ] = ()
    port: (
        Annotated[
            int,
            count(
                "TCP port. 0 takes any free port.",
                low=0,
                high=65_535,
                computed="the service's own port (25, 587, 465, 143, 993, 110, 995; lmtp 24, http"
                " 80, https 443),"
                " shifted by `net.port_base`",
            ),
        ]
        | None
    ) = None
    proxy_networks: Annotated[
        tuple[str, ...],
        text(
            "Networks of proxies that must begin with a PROXY protocol header (v1 or v2), whose"
            " client address is then believed. From others such a header closes the connection.",
            kind=Kind.NETWORK,
        ),
    ] = ()


class Net(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Connections, however they come in."""

    port_base: (
        Annotated[
            int,
            count(
                "Shifts every standard port: N listens on N+25, N+587, N+465, N+143, N+993, N+110,"
                " N+995 (metrics N+80, http N+81, https N+443), so no privilege is needed.",
                high=64_000,
                computed="none: the standard ports",
            ),
        ]
        | None
    ) = None
    connections_max: Annotated[
        int,
        count(
            "Open connections of the whole process.",
            reached="421 4.3.2 (IMAP `* BYE`, POP3 `-ERR`) and closed, never left in the backlog",
            computed="10,000, or 80 % of the open files allowed (RLIMIT_NOFILE) if that is less",
        ),
    ] = 10_000
    per_address_max: Annotated[
        int,
        count("SMTP and LMTP connections of one address.", reached="421 4.7.0, closed"),
    ] = 20
    per_network_max: Annotated[
        int,
        count("SMTP and LMTP connections of one /24 or /64.", reached="421 4.7.0, closed"),
    ] = 60
    per_address_imap_max: Annotated[
        int,
        count("IMAP and POP3 connections of one address.", reached="`* BYE [LIMIT]`, closed"),
    ] = 50
    per_network_imap_max: Annotated[
        int,
        count("IMAP and POP3 connections of one /24 or /64.", reached="`* BYE [LIMIT]`, closed"),
    ] = 200
    rate_per_minute: Annotated[
        int,
        count("New SMTP connections of one address a minute.", reached="421 4.7.0, closed"),
    ] = 60
    rate_imap_per_minute: Annotated[
        int,
        count(
            "New IMAP and POP3 connections of one address a minute.",
            reached="`* BYE [LIMIT]`, closed",
        ),
    ] = 120
    exempt_networks: Annotated[
        tuple[str, ...],
        text(
            "Networks that the limits per address and per network do not count, such as a"
            " gateway's. Limits per session still hold.",
            kind=Kind.NETWORK,
        ),
    ] = ()
    write_s: Annotated[
        float,
        seconds(
            "How long a peer may leave our output unread.",
            reached="the connection is closed without a word",
        ),
    ] = 300.0


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """TLS on our own ports. Without files a self-signed certificate is made at first start."""

    certificate: Annotated[
        str,
        text(
            "PEM file with the certificate and its chain; read again when it changes. Empty: self-"
            "signed.",
            kind=Kind.PATH,
        ),
    ] = ""
    key: Annotated[
        str,
        text("PEM file with the private key, not encrypted. Empty: self-signed.", kind=Kind.PATH),
    ] = ""
    minimum_version: Annotated[TlsVersion, choice("Oldest TLS version spoken (RFC 9325).")] = (
        TlsVersion.TLS_1_2
    )
    handshake_s: Annotated[
        float, seconds("How long a TLS handshake may take.", reached="closed")
    ] = 20.0


class AuthFailures(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Failed logins, counted per address and per account with address."""

    per_minute: Annotated[
        int,
        count(
            "Failed logins a minute.",
            reached="421 4.7.0 or `NO [UNAVAILABLE]` before the password is looked at",
        ),
    ] = 10
    per_day: Annotated[
        int,
        count(
            "Failed logins a day.",
            reached="421 4.7.0 or `NO [UNAVAILABLE]` before the password is looked at",
        ),
    ] = 50
    per_network_day: Annotated[
        int,
        count(
            "Failed logins a day from one /24 or /64.",
            reached="421 4.7.0 or `NO [UNAVAILABLE]` before the password is looked at",
        ),
    ] = 500
    ban_minute_s: Annotated[
        float, seconds("How long too many failures in a minute are answered so.")
    ] = 600.0
    ban_day_s: Annotated[float, seconds("How long too many failures in a day are answered so.")] = (
        DAY_S
    )
    delay_s: Annotated[
        float, seconds("Wait before the reply to a failed login; doubles with each one.", high=60.0)
    ] = 1.0
    delay_max_s: Annotated[
        float, seconds("Longest wait before the reply to a failed login.", high=60.0)
    ] = 15.0


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Logins, on every service."""

    attempts_max: Annotated[
        int, count("Failed SASL exchanges in one session.", reached="421 4.7.0, closed")
    ] = 3
    cache_s: Annotated[
        float,
        seconds(
            "How long a verified password need not be hashed again; a changed password counts at"
            " once."
        ),
    ] = 60.0
    plaintext_networks: Annotated[
        tuple[str, ...],
        text(
            "Networks from which IMAP and POP3 take a password without TLS, such as a proxy's on"
            " the same machine. Everywhere else TLS comes first.",
            kind=Kind.NETWORK,
        ),
    ] = ()
    failures: AuthFailures = AuthFailures()


class Workers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Threads for work that would keep the event loop (hashing passwords, RSA)."""

    hash_max: Annotated[
        int,
        count(
            "Password hashes computed at once.",
            high=1024,
            reached="others wait in line",
            computed="the number of processor cores",
        ),
    ] = 2
    hash_waiting_max: Annotated[
        int, count("Password hashes waiting in line.", reached="454 4.7.0, `NO [UNAVAILABLE]`")
    ] = 100


class Dns(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How names are looked up."""

    servers: Annotated[
        tuple[str, ...],
        text(
            'Recursive resolvers to ask, in order, like "127.0.0.1:5353" (port 53 when not given).',
            kind=Kind.ADDRESS_PORT,
            computed="those of /etc/resolv.conf",
        ),
    ] = ()
    is_trusted: Annotated[
        bool,
        choice(
            "These resolvers validate DNSSEC and nobody can alter the way to them: believe their"
            " AD bit. A resolver on this machine (127.0.0.0/8, ::1) is believed without it."
        ),
    ] = False
    timeout_s: Annotated[
        float, seconds("How long one question waits for its answer.", reached="next try")
    ] = 5.0
    tries: Annotated[
        int,
        count(
            "How often a question is asked, over all servers.",
            high=10,
            reached="temporary failure: mail is deferred, never bounced",
        ),
    ] = 2
    answer_octets_max: Annotated[
        int,
        octets("Size of one answer.", low=512, high=65_535, reached="temporary failure"),
    ] = 65_535
    cname_max: Annotated[
        int, count("CNAMEs followed for one question.", high=64, reached="temporary failure")
    ] = 8
    per_message_max: Annotated[
        int,
        count(
            "Questions that checking one message may cause.",
            low=32,
            high=1_000,
            reached="temperror for the check that asks on, finding dns-budget",
        ),
    ] = 100
    per_session_max: Annotated[
        int,
        count(
            "The same for all messages of one session.",
            low=32,
            high=100_000,
            reached="as dns.per_message_max",
        ),
    ] = 500
    cache_entries_max: Annotated[
        int, count("Answers kept.", low=16, reached="the least recently used go")
    ] = 100_000
    ttl_min_s: Annotated[float, seconds("Shortest time an answer is kept.", low=0.0)] = 5.0
    ttl_max_s: Annotated[float, seconds("Longest time an answer is kept.")] = DAY_S
    failure_ttl_s: Annotated[
        float, seconds("How long a temporary failure is kept before asking again.", low=0.0)
    ] = 5.0
    blocklists: Annotated[
        tuple[str, ...],
        text(
            "Lists of bad senders (RFC 5782) that `posthouse dns check` looks for this server's"
            " addresses in. Mail that comes in is not judged by them.",
            kind=Kind.HOSTNAME,
        ),
    ] = (
        "zen.spamhaus.org",
        "bl.spamcop.net",
        "psbl.surriel.com",
        "bl.mailspike.net",
    )


class Store(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The database and the disk under it."""

    free_octets_min: Annotated[
        int,
        octets(
            "Free disk that accepting mail must leave; local delivery and expunging go on until"
            " half of it.",
            reached="452 4.3.1 at MAIL",
            computed="500 MiB, or twice smtp.message_octets_max if that is more",
        ),
    ] = 500 * MIB
    free_inodes_min: Annotated[
        int,
        count("Free inodes that accepting mail must leave.", reached="452 4.3.1 at MAIL"),
    ] = 1_000
    busy_s: Annotated[
        float,
        seconds(
            "How long to wait for a database that another process keeps locked.",
            reached="451 4.3.2, `NO [UNAVAILABLE]`",
        ),
    ] = 20.0
    waiting_max: Annotated[
        int,
        count(
            "Units of work waiting for the writer.",
            reached="451 4.3.2 after the final dot, 421 4.3.2 for new connections",
        ),
    ] = 2_000
    waiting_octets_max: Annotated[
        int,
        octets(
            "Octets of the units of work waiting for the writer.",
            reached="451 4.3.2 after the final dot, 421 4.3.2 for new connections",
        ),
    ] = 256 * MIB
    wal_octets_max: Annotated[
        int,
        octets("Size of the write-ahead log.", low=MIB, reached="commits wait for a checkpoint"),
    ] = 64 * MIB
    decisions_days: Annotated[
        int,
        days(
            "How long the decision record of a message is kept for `posthouse explain` after all"
            " its recipients are settled."
        ),
    ] = 30


class Blob(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the octets of messages are kept."""

    inline_octets_max: Annotated[
        int,
        octets(
            "Messages up to this size live in the database, larger ones in segment files.",
            low=0,
            high=16 * MIB,
        ),
    ] = 16 * KIB
    segment_octets_max: Annotated[
        int, octets("Size at which a new segment file is begun.", low=MIB)
    ] = 256 * MIB
    sweep_grace_s: Annotated[
        float, seconds("How long octets that no row names are kept before a sweep removes them.")
    ] = 300.0


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """/metrics for Prometheus and /health, on a loopback address. To serve them elsewhere, write a
    [[listener]] table with service = "metrics"."""

    is_enabled: Annotated[bool, choice("Serve /metrics and /health.")] = True
    address: Annotated[str, text("A loopback address.", kind=Kind.ADDRESS)] = "127.0.0.1"
    port: (
        Annotated[
            int,
            count(
                "TCP port. 0 takes any free port.",
                low=0,
                high=65_535,
                computed="9925, or N+80 where `net.port_base` is N",
            ),
        ]
        | None
    ) = None


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line for each event; never message content, never a secret."""

    format: Annotated[LogFormat, choice("One JSON object, or text for reading, on each line.")] = (
        LogFormat.JSON
    )
    level: Annotated[LogLevel, choice("Events below this level are not written.")] = LogLevel.INFO
    file: Annotated[
        str,
        text("File to append to, opened again on reload. Empty: standard error.", kind=Kind.PATH),
    ] = ""
    field_octets_max: Annotated[
        int,
        octets(
            "Length of one field of a line, escaped.",
            low=64,
            high=64 * KIB,
            reached="cut, and marked by an ellipsis",
        ),
    ] = KIB
    lines_waiting_max: Annotated[
        int,
        count(
            "Lines waiting for a slow file or pipe.",
            low=16,
            high=1_000_000,
            reached="further lines are dropped and counted; mail goes on",
        ),
    ] = 10_000


class Guard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is remembered of peers."""

    rows_max: Annotated[
        int,
        count("Addresses and accounts whose rates and bans are remembered.", reached="oldest out"),
    ] = 1_000_000
