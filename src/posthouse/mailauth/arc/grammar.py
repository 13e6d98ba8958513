"""The three fields of an ARC set (RFC 8617 §4.1)."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from posthouse.mailauth.dkim.grammar import (
    DkimSyntaxError,
    Kind,
    Signature,
    base64,
    number,
    read_algorithm,
    read_key_place,
    read_tags,
    required,
    shown,
    signature_of,
)
from posthouse.message.fields import unfold

INSTANCES_MAX: Final = 50  # RFC 8617 §4.2.1
_CFWS: Final = rb"(?:[ \t]|\([^()\\]{0,99}\))*+"
_INSTANCE: Final = re.compile(_CFWS + rb"i[ \t]*+=[ \t]*+([0-9]{1,3})" + _CFWS + b";")
_ARC_SEAL: Final = b"arc-seal"


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """An ARC-Seal field (§4.1.3)."""

    instance: int
    algorithm: str
    domain: str
    selector: str
    signature: bytes
    chain_status: str
    """cv=: "none", "pass" or "fail"."""
    sealed_at: int | None = None


class MessageSignature(msgspec.Struct, frozen=True):
    """An ARC-Message-Signature field (§4.1.2); only the newest has to hold."""

    instance: int
    tags: dict[str, str]

    def signature(self) -> Signature:
        """Raises DkimSyntaxError.

        RFC 8617 §4.1.2 keeps all ARC fields out of h=, but sealers older than the RFC put the
        results of their own set in, which harms nobody. A seal cannot be covered: it is made later.
        """
        found = signature_of(self.tags, Kind.ARC_MESSAGE)
        if _ARC_SEAL in found.names:
            raise DkimSyntaxError("h= covers ARC-Seal")
        return found


def read_seal(value: bytes) -> Seal:
    """Raises DkimSyntaxError."""
    tags = read_tags(value)
    if "h" in tags:
        raise DkimSyntaxError("h= is not allowed in a seal")
    status = required(tags, "cv")
    if status not in ("none", "pass", "fail"):
        raise DkimSyntaxError(f'cv= is "{shown(status)}"')
    domain, selector = read_key_place(required(tags, "d"), required(tags, "s"))
    return Seal(
        instance=_instance(tags),
        algorithm=read_algorithm(required(tags, "a")),
        domain=domain,
        selector=selector,
        signature=base64("b", required(tags, "b")),
        chain_status=status,
        sealed_at=number("t", tags["t"]) if "t" in tags else None,
    )


def read_message_signature(value: bytes) -> MessageSignature:
    """Raises DkimSyntaxError."""
    tags = read_tags(value)
    return MessageSignature(_instance(tags), tags)


def read_results(value: bytes) -> tuple[int, bytes]:
    """The instance of an ARC-Authentication-Results field and what stands behind it, unfolded.

    Nothing else is read: RFC 8617 §3.4 says that the rest does not decide about the chain.

    Raises:
        DkimSyntaxError: it does not begin with an instance.
    """
    value = unfold(value)
    found = _INSTANCE.match(value)
    if found is None:
        raise DkimSyntaxError("no instance (i=) stands first")
    return _checked(int(found[1])), value[found.end() :].strip(b" \t")


def _instance(tags: dict[str, str]) -> int:
    return _checked(number("i", required(tags, "i"), 3))


def _checked(instance: int) -> int:
    if not 1 <= instance <= INSTANCES_MAX:
        raise DkimSyntaxError(f"i={instance} is not within 1 to {INSTANCES_MAX}")
    return instance
