"""Sections about reading mail: IMAP and POP3."""

from __future__ import annotations

from typing import Annotated

import msgspec

from posthouse.config.setting import KIB, MIB, count, octets, seconds


class Imap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """IMAP (RFC 9051, RFC 3501)."""

    sessions_max: Annotated[
        int, count("Sessions of one account.", reached="`NO [LIMIT]` at login")
    ] = 50
    login_s: Annotated[
        float, seconds("From the greeting to a login.", reached="`* BYE`, closed")
    ] = 120.0
    idle_s: Annotated[
        float,
        seconds(
            "Silence after login; RFC 9051 §5.4 allows no less than 30 minutes.",
            low=1_800.0,
            reached="`* BYE`, closed",
        ),
    ] = 1_800.0
    errors_max: Annotated[
        int, count("`BAD` replies in a session after login.", reached="`* BYE`, closed")
    ] = 20
    errors_before_login_max: Annotated[
        int, count("`BAD` replies in a session before login.", reached="`* BYE`, closed")
    ] = 3
    line_octets_max: Annotated[
        int,
        octets(
            "A command line without its literals.",
            low=8 * KIB,
            high=16 * MIB,
            reached="`BAD [TOOBIG]`",
        ),
    ] = 64 * KIB
    line_before_login_octets_max: Annotated[
        int, octets("The same before login.", low=KIB, high=MIB, reached="`BAD [TOOBIG]`")
    ] = 8 * KIB
    literal_octets_max: Annotated[
        int,
        octets(
            "Literals of one command together; APPEND has `smtp.message_octets_max`.",
            low=4 * KIB,
            high=64 * MIB,
            reached="`BAD [TOOBIG]` and no `+`",
        ),
    ] = MIB
    literal_before_login_octets_max: Annotated[
        int,
        octets("The same before login.", low=KIB, high=MIB, reached="`BAD [TOOBIG]` and no `+`"),
    ] = 4 * KIB
    literal_discard_octets_max: Annotated[
        int,
        octets(
            "A refused literal sent without asking (LITERAL+) that is read and thrown away.",
            reached="`* BYE`, closed",
        ),
    ] = 16 * MIB
    depth_max: Annotated[
        int, count("Parentheses within parentheses.", high=200, reached="`BAD [LIMIT]`")
    ] = 50
    search_keys_max: Annotated[int, count("Keys of one SEARCH.", reached="`BAD [LIMIT]`")] = 1_000
    set_items_max: Annotated[int, count("Items of one sequence set.", reached="`BAD [LIMIT]`")] = (
        10_000
    )
    fetch_items_max: Annotated[int, count("Data items of one FETCH.", reached="`BAD [LIMIT]`")] = (
        1_000
    )
    pipeline_max: Annotated[
        int, count("Commands sent ahead.", reached="reading pauses until they are answered")
    ] = 32
    output_octets_max: Annotated[
        int,
        octets(
            "Output that a client leaves unread.",
            low=64 * KIB,
            reached="pauses; after `net.write_s` the connection is closed",
        ),
    ] = MIB
    mailboxes_max: Annotated[
        int, count("Mailboxes of one account.", low=10, reached="`NO [LIMIT]`")
    ] = 10_000
    name_octets_max: Annotated[
        int, octets("A mailbox name, in UTF-8.", low=64, high=4 * KIB, reached="`NO [LIMIT]`")
    ] = 1_000
    hierarchy_max: Annotated[
        int, count("Levels of a mailbox name.", high=100, reached="`NO [LIMIT]`")
    ] = 20
    keywords_max: Annotated[
        int, count("Keywords of one mailbox.", low=10, high=10_000, reached="`NO [LIMIT]`")
    ] = 500
    subscriptions_max: Annotated[
        int, count("Subscriptions of one account.", low=10, reached="`NO [LIMIT]`")
    ] = 10_000


class Pop3(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POP3 (RFC 1939)."""

    line_octets_max: Annotated[
        int, octets("A command line, CRLF included.", low=255, high=64 * KIB, reached="`-ERR`")
    ] = 512
    errors_max: Annotated[
        int, count("`-ERR` for malformed commands in a session.", reached="closed")
    ] = 3
    idle_s: Annotated[
        float,
        seconds(
            "Silence; RFC 1939 §3 allows no less than 10 minutes.",
            low=600.0,
            reached="closed without deleting",
        ),
    ] = 600.0
    login_s: Annotated[
        float, seconds("From the greeting to a login.", reached="`-ERR`, closed")
    ] = 120.0
