"""Sections about who a message is from: checking others' mail, and signing our own."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import msgspec

from posthouse.config.setting import Kind, choice, count, days, octets, seconds, text
from posthouse.mailauth.policy import DmarcAction, SpfAction


class Mailauth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """SPF, DKIM, DMARC, ARC and reverse DNS of mail that comes to port 25."""

    is_enabled: Annotated[
        bool, choice("Check mail from strangers. Off, nothing is asked and nothing is refused.")
    ] = True
    dmarc: Annotated[
        DmarcAction,
        choice(
            '"enforce" does what the policy of the author\'s domain asks, but puts into Junk what'
            " should be refused and looks passed on by a mailing list or forwarder;"
            ' "quarantine" puts all of it into Junk; "mark" only says it in'
            " Authentication-Results."
        ),
    ] = DmarcAction.ENFORCE
    spf: Annotated[
        SpfAction,
        choice(
            'For mail that SPF fails where no DMARC policy says more: "mark" only says it, "junk"'
            ' puts it into Junk, "refuse" answers 550 5.7.23.'
        ),
    ] = SpfAction.MARK
    trusted_forwarders: Annotated[
        tuple[str, ...],
        text(
            "Networks of hosts that forward mail to you (a list server, an old provider): a DMARC"
            " failure of mail they bring is overridden.",
            kind=Kind.NETWORK,
        ),
    ] = ()
    trusted_sealers: Annotated[
        tuple[str, ...],
        text(
            "Domains whose ARC seal is believed: where the chain is valid and the first of them"
            " says that DMARC passed, a failure here is overridden (RFC 8617 §7.2)."
        ),
    ] = ()
    adds_received_spf: Annotated[
        bool, choice("Also add a Received-SPF field (RFC 7208 §9.1), for old filters.")
    ] = False
    deadline_s: Annotated[
        float,
        seconds(
            "Time for all checks of one message.",
            low=1.0,
            high=60.0,
            reached="what is not known by then counts as a temporary error",
        ),
    ] = 20.0
    signatures_max: Annotated[
        int,
        count(
            "DKIM signatures verified, the author's domain's first.",
            high=50,
            reached="the rest are not checked",
        ),
    ] = 8
    key_octets_max: Annotated[
        int, octets("Size of a DKIM key record.", low=512, high=65_535, reached="permerror")
    ] = 65_535
    rsa_bits_min: Annotated[
        int,
        count(
            "Smallest RSA key believed (RFC 8301 §3.2 forbids less than 1024).",
            low=1024,
            high=4096,
            reached="permerror",
        ),
    ] = 1024
    rsa_bits_max: Annotated[
        int, count("Largest RSA key verified.", low=2048, high=8192, reached="permerror")
    ] = 4096
    accepts_partial: Annotated[
        bool,
        choice("Believe signatures whose l= leaves a part of the body unsigned (RFC 6376 §8.2)."),
    ] = False
    clock_skew_s: Annotated[
        float,
        seconds(
            "How far a signature's t= may be in the future and its x= in the past.",
            low=1.0,
            high=86_400.0,
        ),
    ] = 300.0


class DkimKeys(Enum):
    """Which keys a domain signs with (RFC 8301, RFC 8463)."""

    BOTH = "both"
    RSA = "rsa"
    ED25519 = "ed25519"


class Dkim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Signing what our users and this server send, with keys of their domains."""

    is_enabled: Annotated[bool, choice("Sign mail of domains that have a key.")] = True
    keys: Annotated[
        DkimKeys,
        choice(
            "Keys that a new domain gets; each message is signed with all of them. Hosts that do"
            " not know Ed25519 take the RSA signature."
        ),
    ] = DkimKeys.BOTH
    rsa_bits: Annotated[int, count("Size of new RSA keys.", low=2048, high=4096)] = 2048
    expires_days: Annotated[
        int, days("How long a signature is good for (x=): mail older than that proves nothing.")
    ] = 14
    rotation_days: Annotated[
        int,
        days(
            "How long a key signs before the next one takes over. Nothing changes before the DNS"
            " shows the new key.",
            low=7,
        ),
    ] = 180
    is_rotated: Annotated[bool, choice("Begin a rotation by itself when a key is that old.")] = True
    key_file: Annotated[
        str,
        text(
            "The node key that seals secrets in the database. Keep a copy of it apart from the"
            " backups of the database.",
            kind=Kind.PATH,
            computed="node.key in node.data_folder, made at the first start",
        ),
    ] = ""
