"""What `config` decides about ACME."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import msgspec

from posthouse.kernel.secret import Secret


class Kind(Enum):
    """Challenge types (RFC 8555 §8, RFC 8737 §3)."""

    HTTP_01 = "http-01"
    TLS_ALPN_01 = "tls-alpn-01"
    DNS_01 = "dns-01"


class KeyKind(Enum):
    ECDSA = "ecdsa"
    RSA = "rsa"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    directory: str
    accepts_terms: bool = False
    contact: tuple[str, ...] = ()
    """Mail addresses."""
    challenge: Kind | None = None
    """None takes what is there, one after the other when it fails."""
    key_kind: KeyKind = KeyKind.ECDSA
    rotates_key_days: int | None = None
    warns_days: int = 10
    order_s: float = 180.0
    ca_file: Path | None = None
    eab_key_id: str = ""
    eab_key: Secret | None = None
    """Base64url (RFC 8555 §7.3.4)."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A name that should have a certificate."""

    name: str
    """In A-labels and lower case, perhaps `*.` in front."""
    is_optional: bool = False
    """Nothing is asked before the DNS has an address for it: a policy host nobody set up."""
