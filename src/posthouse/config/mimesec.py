"""Section about S/MIME and OpenPGP. Who signs and encrypts what is said by `posthouse key`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from posthouse.config.setting import (
    DAY_S,
    HOUR_S,
    MIB,
    Kind,
    choice,
    count,
    days,
    octets,
    seconds,
    text,
)


class Mimesec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """S/MIME and OpenPGP: keys of others, and bounds on opening what they sent."""

    is_looking_up: Annotated[
        bool,
        choice(
            "Look for keys of recipients where a policy wants to encrypt: OpenPGP by WKD and"
            " OPENPGPKEY records, S/MIME by SMIMEA records. Records count with DNSSEC only."
        ),
    ] = True
    is_learning: Annotated[
        bool,
        choice(
            "Keep certificates that come with validly signed mail, and keys of Autocrypt fields"
            " that the author's domain signed (DKIM) or brought itself (SPF), where the account's"
            " policy opens mail."
        ),
    ] = True
    sends_autocrypt: Annotated[
        bool,
        choice(
            "Put the sender's OpenPGP key into a header field (Autocrypt) of what is sent, where"
            " the account's policy signs or encrypts, so that others can answer encrypted."
        ),
    ] = True
    hosts_wkd: Annotated[
        bool,
        choice(
            "Answer for the Web Key Directory of each domain with the OpenPGP keys that were"
            " published (`posthouse key publish`), where the web door is open."
        ),
    ] = True
    ca_file: Annotated[
        str,
        text(
            "Certificates (PEM) that S/MIME chains have to end in.",
            kind=Kind.PATH,
            computed="those of the system",
        ),
    ] = ""
    is_checking_revocation: Annotated[
        bool,
        choice(
            "Ask the issuers of S/MIME certificates on arriving mail whether they were revoked, by"
            " their lists (CRL) or OCSP. A signature stands where nobody answers."
        ),
    ] = True
    lookup_s: Annotated[
        float,
        seconds(
            "How long a message waits while keys of its recipients are looked for.",
            low=0.5,
            high=60.0,
            reached="as if there were none",
        ),
    ] = 10.0
    found_s: Annotated[
        float,
        seconds("How long a key that was found counts before it is looked for again.", low=HOUR_S),
    ] = 7 * DAY_S
    missed_s: Annotated[float, seconds("How long it counts that there is none.", low=60.0)] = (
        6 * HOUR_S
    )
    revocation_s: Annotated[
        float,
        seconds(
            "How long a message waits for what issuers of its certificates say.",
            low=0.5,
            high=60.0,
            reached="as if nothing was revoked",
        ),
    ] = 5.0
    open_s: Annotated[
        float,
        seconds(
            "Time to decrypt and verify one message, in a child process.",
            low=1.0,
            high=120.0,
            reached="it stays closed and the finding says so; 451 where all has to be open",
        ),
    ] = 15.0
    open_memory_octets: Annotated[
        int,
        octets(
            "Memory for that, besides what the message takes.",
            low=64 * MIB,
            high=16_384 * MIB,
            reached="it stays closed and the finding says so; 550 where all has to be open",
        ),
    ] = 512 * MIB
    opened_octets_max: Annotated[
        int,
        octets(
            "A message when it is decrypted and unpacked.",
            high=4096 * MIB,
            reached="it stays closed and the finding says so; 550 where all has to be open",
        ),
    ] = 100 * MIB
    warn_days: Annotated[
        int,
        days("How long before a key ends its owner is told by mail, and again on the last days."),
    ] = 30
    recipients_max: Annotated[
        int,
        count(
            "Recipients that one message is encrypted to.",
            high=1000,
            reached="550 5.7.5, or in the open where the policy is when possible",
        ),
    ] = 100
