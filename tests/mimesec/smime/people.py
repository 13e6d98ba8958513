"""A small authority, people with certificates of it, and cutting up what they send."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from functools import lru_cache

from posthouse.mimesec.smime.chain import Trust
from posthouse.mimesec.smime.identity import Identity
from posthouse.mimesec.smime.make import KeyKind, make_authority, make_identity
from posthouse.mimesec.smime.opener import SmimeOpener

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ALICE = "alice@example.org"
BOB = "bob@example.net"
ENTITY = (
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n"
    b"\r\n"
    b"Tea at five?\r\n"
    b"  \r\n"
    b"=E2=98=95\r\n"
)


@lru_cache
def authority() -> Identity:
    return make_authority("Small Authority", at=AT)


@lru_cache
def identity(
    address: str = ALICE,
    kind: KeyKind = KeyKind.P256,
    *,
    can_sign: bool = True,
    can_decrypt: bool = True,
) -> Identity:
    return make_identity(
        [address],
        at=AT,
        kind=kind,
        issuer=authority(),
        can_sign=can_sign,
        can_decrypt=can_decrypt,
    )


@lru_cache
def trust() -> Trust:
    return Trust(roots=[authority().certificate])


def opener(*identities: Identity, expected: str = ALICE, trusted: Trust | None = None):
    return SmimeOpener(
        identities=identities, trust=trusted or trust(), expected_addresses=[expected]
    )


def halves(message: bytes) -> tuple[bytes, bytes]:
    """The first part of a multipart/signed and the decoded second, for `Opener.verify`."""
    boundary = b"--" + message.split(b'boundary="', 1)[1].split(b'"', 1)[0]
    _, first, second, end = message.split(boundary)
    assert first[:2] == first[-2:] == b"\r\n" and end == b"--\r\n"
    return first[2:-2], decoded(second)


def decoded(entity: bytes) -> bytes:
    """The content of an entity in base64."""
    head, body = entity.split(b"\r\n\r\n", 1)
    assert b"Content-Transfer-Encoding: base64" in head
    return base64.b64decode(body)
