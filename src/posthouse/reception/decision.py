"""The decision record: every decision about a message as recorded values.

Stored with the message and shown by `posthouse explain`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.kernel.finding import Finding


class SessionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Who brought it, and how."""

    trace: str
    service: str
    peer: str
    hello: str
    tls: str = ""
    login: str = ""


class RecipientDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one RCPT: where its address led."""

    address: str
    reply: str
    accounts: tuple[str, ...] = ()
    relayed: tuple[str, ...] = ()
    via: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    """Report addresses: what comes there is read as a report."""


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    session: SessionFacts
    recipients: tuple[RecipientDecision, ...]
    findings: tuple[Finding, ...] = ()
    verdict: str = "accept"
    why: str = ""
    """Where the verdict is not a plain accept, or somebody's wish was overridden."""


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(DecisionRecord)


def encode(record: DecisionRecord) -> bytes:
    return _ENCODER.encode(record)


def decode(octets: bytes) -> DecisionRecord:
    return _DECODER.decode(octets)
