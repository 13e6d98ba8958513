"""What a step of a SASL exchange can come to (RFC 4422). Shared by both sides of all mechanisms."""

from __future__ import annotations

import msgspec


class Challenge(msgspec.Struct, frozen=True):
    """Server side: ask the client on."""

    octets: bytes


class Credentials(msgspec.Struct, frozen=True):
    """Server side: the exchange is complete; whether it is true is for the caller to find out.

    `repr` shows no password, so that none gets into a log by accident.
    """

    authentication_id: str
    authorization_id: str
    """Whom to act as; "" is whoever authenticated. Another one than that needs a right to it."""
    password: str

    def __repr__(self) -> str:
        return (
            f"Credentials(authentication_id={self.authentication_id!r}, "
            f"authorization_id={self.authorization_id!r}, password='***')"
        )


class Failure(msgspec.Struct, frozen=True):
    """The exchange is over without success; `reason` is for the log, never for the peer."""

    reason: str
    is_malformed: bool
    """The response breaks the grammar (501 5.5.2); else it is just wrong (535 5.7.8)."""


Step = Challenge | Credentials | Failure
