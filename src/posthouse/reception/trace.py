"""The trace fields we put in front of a message (RFC 5321 §4.4): Received, Return-Path and
Delivered-To. What was received is never changed; these stand before it."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.message.address import format_address
from posthouse.message.dates import format_date
from posthouse.message.fields import HeaderSection

WITH: Final = {
    # (extended, TLS, authenticated) -> protocol name, RFC 3848 and RFC 6531 §4.3
    (False, False, False): "SMTP",
    (True, False, False): "ESMTP",
    (True, True, False): "ESMTPS",
    (True, False, True): "ESMTPA",
    (True, True, True): "ESMTPSA",
}
UTF8: Final = {
    "ESMTP": "UTF8SMTP",
    "ESMTPS": "UTF8SMTPS",
    "ESMTPA": "UTF8SMTPA",
    "ESMTPSA": "UTF8SMTPSA",
}
LMTP: Final = {"SMTP": "LMTP", "ESMTP": "LMTP", "ESMTPS": "LMTPS", "ESMTPA": "LMTPA"}


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """What a Received field says of the session the message came by."""

    hello: str
    peer: str
    """IP address."""
    by: str
    """Our host name."""
    is_extended: bool
    tls: str = ""
    """Version and cipher, as "TLSv1.3 TLS_AES_256_GCM_SHA384"; "" in plaintext."""
    is_authenticated: bool = False
    is_lmtp: bool = False


def received(
    hop: Hop, *, queue_id: str, recipient: Address | None, is_smtputf8: bool, at: datetime
) -> bytes:
    """A Received field. The recipient is named only when it is the only one (privacy)."""
    head = _received_head(hop, is_smtputf8=is_smtputf8)
    to = f"\r\n\tfor <{_path(recipient)}>" if recipient is not None else ""
    return f"{head} id {queue_id}{to};\r\n\t{format_date(at)}\r\n".encode()


@lru_cache(maxsize=4096)
def _received_head(hop: Hop, *, is_smtputf8: bool) -> str:
    name = WITH[hop.is_extended or hop.is_authenticated, bool(hop.tls), hop.is_authenticated]
    if hop.is_lmtp:
        name = LMTP.get(name, name)
    elif is_smtputf8:
        name = UTF8.get(name, name)
    literal = f"[IPv6:{hop.peer}]" if ":" in hop.peer else f"[{hop.peer}]"
    tls = f"\r\n\t({hop.tls})" if hop.tls else ""
    return f"Received: from {hop.hello} ({literal})\r\n\tby {hop.by} with {name}{tls}"


@lru_cache(maxsize=4096)
def return_path(reverse_path: Address | None) -> bytes:
    """The Return-Path field final delivery puts on top (RFC 5321 §4.4)."""
    path = _path(reverse_path) if reverse_path is not None else ""
    return f"Return-Path: <{path}>\r\n".encode()


@lru_cache(maxsize=4096)
def delivered_to(address: str) -> bytes:
    """Says which address it was that brought the message here, and ends loops (F42)."""
    return f"Delivered-To: {address}\r\n".encode()


def is_looping(section: HeaderSection, address: str) -> bool:
    """Whether the message was delivered to this address before."""
    wanted = address.encode().lower()
    return any(value.lower() == wanted for value in section.every(b"delivered-to"))


def _path(address: Address) -> str:
    return format_address(address) if address.domain else address.local_part
