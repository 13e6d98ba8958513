"""Our own MTA-STS policy as senders read it (RFC 8461 §3.2), and the id that announces it (§3.1).

`wellknown` serves it; `zone` prints the TXT record with the id. Both come from the same text, so a
changed policy has a new id by itself.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

POLICY_HOST: Final = "mta-sts"
"""The label in front of a domain (RFC 8461 §3.3)."""
MAX_AGE_S: Final = 31_557_600  # RFC 8461 §3.2
DAY_S: Final = 86_400
ID_CHARACTERS: Final = 20
"""Of at most 32 letters and digits (RFC 8461 §3.1)."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    mode: str
    """"none", "testing" or "enforce"."""
    mx: tuple[str, ...]
    """Host names in A-labels, or `*.` and a domain."""
    max_age_days: int


def policy_text(policy: Policy) -> bytes:
    """The body of mta-sts.txt."""
    lines = ["version: STSv1", f"mode: {policy.mode}"]
    if policy.mode != "none":
        lines += [f"mx: {host}" for host in policy.mx]
    lines.append(f"max_age: {min(policy.max_age_days * DAY_S, MAX_AGE_S)}")
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def policy_id(text: bytes) -> str:
    """The id= of `_mta-sts`: the same for the same text, another for another."""
    return hashlib.sha256(text).hexdigest()[:ID_CHARACTERS]


def policy_host(domain: str) -> str:
    return f"{POLICY_HOST}.{domain}"
