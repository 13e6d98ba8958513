"""Passwords: argon2id (RFC 9106) in PHC strings, checked for length and commonness when set.

CPU work of milliseconds: callers run `verify` and `derive` through the `Workers` port.
"""

from __future__ import annotations

import hmac
from typing import Final

import msgspec
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from posthouse.kernel.errors import UserError

CHARACTERS_MIN: Final = 12
OCTETS_MAX: Final = 1024
SALT_OCTETS: Final = 16

# Whoever tries passwords tries these first; the list is of patterns people fall back to when
# twelve characters are asked for.
COMMON: Final = frozenset(
    [
        "passwordpassword",
        "passwort1234",
        "password1234",
        "password12345",
        "password123456",
        "123456789012",
        "1234567890123",
        "qwertyuiop12",
        "qwertyuiopas",
        "qwerty123456",
        "administrator",
        "letmeinletmein",
        "iloveyou1234",
        "welcome12345",
        "changeme1234",
        "changemechangeme",
        "aaaaaaaaaaaa",
        "111111111111",
        "000000000000",
        "abcdefghijkl",
        "abc123abc123",
        "1q2w3e4r5t6y",
        "adminadminadmin",
        "rootrootroot",
        "testtesttest",
        "postmaster123",
        "secretsecret",
    ]
)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """argon2id's parameters; at least 19 MiB, 2 passes, 1 lane."""

    memory_kib: int = 19 * 1024
    iterations: int = 2
    lanes: int = 1


def check_new(password: str, *, owner: str = "") -> None:
    """Refuse a password that is too short, too long or known to everybody.

    Args:
        owner: the address it is for, which is no secret either.

    Raises:
        UserError: with what to do; it never holds the password.
    """
    count = len(password)
    if count < CHARACTERS_MIN:
        raise UserError(
            f"the password has {count} character{'s' * (count != 1)},"
            f" at least {CHARACTERS_MIN} are needed",
            hint="four or five random words make a good one",
        )
    if len(password.encode()) > OCTETS_MAX:  # what hashing it may cost, so octets
        raise UserError(
            f"the password is too long: {count} characters",
            hint=f"{OCTETS_MAX} are allowed, fewer where they are not ASCII",
        )
    folded = password.casefold()
    is_own_name = bool(owner) and folded in (owner.casefold(), owner.partition("@")[0].casefold())
    if folded in COMMON or is_own_name or len(set(password)) < 4:
        raise UserError(
            "this password is one of those that are tried first",
            hint="four or five random words make a good one",
        )


def derive(password: str, *, salt: bytes, cost: Cost) -> str:
    """The PHC string to store. `salt` is `SALT_OCTETS` unguessable octets."""
    return Argon2id(
        salt=salt,
        length=32,
        iterations=cost.iterations,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
    ).derive_phc_encoded(password.encode())


def verify(password: str, phc: str) -> bool:
    """Whether the password is the one `phc` was made from.

    Raises:
        MemoryError: nobody can tell, for lack of memory (F20).
    """
    try:
        Argon2id.verify_phc_encoded(password.encode(), phc)
    except (InvalidKey, ValueError):
        return False
    return True


def is_weaker(phc: str, cost: Cost) -> bool:
    """Whether the hash was made with less than today's cost, so that a login should raise it."""
    wanted = f"m={cost.memory_kib},t={cost.iterations},p={cost.lanes}"
    return not hmac.compare_digest(phc.split("$")[3] if phc.count("$") >= 4 else "", wanted)
