"""The decision record: every decision about a message as recorded values.

Stored with the message and shown by `posthouse explain`; later checks add their findings.
"""

from __future__ import annotations

from typing import Final

import msgspec


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


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found out."""

    name: str
    result: str
    evidence: str = ""


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    session: SessionFacts
    recipients: tuple[RecipientDecision, ...]
    findings: tuple[Finding, ...] = ()
    verdict: str = "accept"


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(DecisionRecord)


def encode(record: DecisionRecord) -> bytes:
    return _ENCODER.encode(record)


def decode(octets: bytes) -> DecisionRecord:
    return _DECODER.decode(octets)
