"""Section about DMARC and TLS reports: those we send, and those that others send us."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import msgspec

from posthouse.config.setting import DAY_S, HOUR_S, MIB, choice, count, days, octets, seconds, text


class FailureReports(Enum):
    """Reports about single messages, for domains that ask for them (RFC 9991)."""

    OFF = "off"
    REDACTED = "redacted"


class Reports(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """DMARC and TLS reports: which are sent, and what is taken of those that come."""

    is_enabled: Annotated[
        bool,
        choice(
            "Take reports about your domains at addresses of their own, read them, and show them"
            " with `posthouse report`."
        ),
    ] = True
    dmarc_local_part: Annotated[
        str, text("Where each of your domains takes DMARC reports: this, then @ and the domain.")
    ] = "dmarc-reports"
    tls_local_part: Annotated[
        str, text("Where each of your domains takes TLS reports, likewise.")
    ] = "tls-reports"
    sends_dmarc: Annotated[
        bool,
        choice("Send aggregate reports to domains whose DMARC record asks for them (RFC 9990)."),
    ] = True
    sends_tls: Annotated[
        bool,
        choice("Send reports about TLS to domains whose record asks for them (RFC 8460)."),
    ] = True
    failure: Annotated[
        FailureReports,
        choice(
            'Also tell of single messages that fail DMARC where the record asks for it: "off", or'
            ' "redacted" for a report without body, subject and local-parts (RFC 9991).'
        ),
    ] = FailureReports.OFF
    failures_per_hour: Annotated[
        int,
        count("Failure reports to one organization.", high=1000, reached="counted, not sent"),
    ] = 10
    per_organization_max: Annotated[
        int,
        count(
            "Reports of one day (or `interval_s`) that go to one organization's domains. The one"
            " about the domain that it registered goes in any case.",
            high=100_000,
            reached="not sent",
        ),
    ] = 20
    organization: Annotated[
        str, text("Who reports, as reports name it.", computed="node.hostname")
    ] = ""
    contact: Annotated[
        str,
        text(
            "Address for people who have a question about a report.",
            computed="postmaster at the domain of from_address",
        ),
    ] = ""
    from_address: Annotated[
        str,
        text(
            "What reports are sent from. Its domain needs a DKIM key here, or others will not"
            " believe them.",
            computed="postmaster at node.hostname, which reaches the first account",
        ),
    ] = ""
    interval_s: Annotated[
        float,
        seconds(
            "Time that one report covers; a day begins at midnight UTC.", low=HOUR_S, high=DAY_S
        ),
    ] = DAY_S
    rows_max: Annotated[
        int,
        count(
            "Different results kept in memory until they are written, once a minute.",
            high=1_000_000,
            reached="not reported",
        ),
    ] = 20_000
    results_max: Annotated[
        int,
        count(
            "Different results kept for reports of one kind that are not sent yet.",
            high=100_000_000,
            reached="not reported",
        ),
    ] = 500_000
    mail_octets_max: Annotated[
        int,
        octets(
            "A report that is sent.",
            low=64 * 1024,
            high=100 * MIB,
            reached="the smallest results are left out",
        ),
    ] = 10 * MIB
    packed_octets_max: Annotated[
        int,
        octets("A report that came, as it came.", high=1024 * MIB, reached="kept unread"),
    ] = 10 * MIB
    unpacked_octets_max: Annotated[
        int,
        octets("A report that came, unpacked.", high=4096 * MIB, reached="kept unread"),
    ] = 100 * MIB
    ratio_max: Annotated[
        int,
        count("How many times larger a report may be unpacked.", high=1100, reached="kept unread"),
    ] = 200
    records_max: Annotated[
        int, count("Records in a report that came.", high=10_000_000, reached="kept unread")
    ] = 100_000
    keep_days: Annotated[int, days("How long reports that came are kept.")] = 400
    stored_max: Annotated[
        int,
        count(
            "Reports that came and are kept, of all domains together.",
            high=10_000_000,
            reached="the oldest go, first of those that proved nothing",
        ),
    ] = 100_000
    unproven_max: Annotated[
        int,
        count(
            "Of these, reports that could not be read or whose mail did not prove whom it is from.",
            high=10_000_000,
            reached="the oldest of them go",
        ),
    ] = 10_000
