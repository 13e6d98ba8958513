"""The Web Key Directory (draft-koch-openpgp-webkey-service): where the key of an address lies on
the web server of its domain."""

from __future__ import annotations

from hashlib import sha1
from typing import Final
from urllib.parse import parse_qs, quote

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.message.address import parse_mailbox

FOLDER: Final = "/.well-known/openpgpkey/"
HOST: Final = "openpgpkey."
"""In front of the domain: where the advanced method asks."""
HASH_CHARACTERS: Final = 32
POLICY_FILE, SUBMISSION_FILE = "policy", "submission-address"
_ALPHABET: Final = "ybndrfg8ejkmcpqxot1uwisza345h769"  # z-base-32


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is for."""

    domain: str
    """A-labels, lower case."""
    hash: str = ""
    """Of the local-part; "" asks for a file."""
    file: str = ""
    """POLICY_FILE or SUBMISSION_FILE."""
    local_part: str = ""
    """As the request says it in ?l=; "" where it does not."""


def local_hash(local_part: str) -> str:
    """Of an address: SHA-1 of the local-part with ASCII letters made small, in z-base-32."""
    small = "".join(c.lower() if "A" <= c <= "Z" else c for c in local_part)
    digest = sha1(small.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    number = int.from_bytes(digest, "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(155, -1, -5))


def urls(address: str) -> tuple[str, str]:
    """Where to ask: by the advanced method, and by the direct one, which counts only where the
    domain has no host for the first.

    Raises:
        AddressError: it is no address.
    """
    parsed = parse_mailbox(address)
    return advanced_url(parsed), direct_url(parsed)


def advanced_url(address: Address) -> str:
    tail = f"hu/{local_hash(address.local_part)}?l={quote(address.local_part, safe='')}"
    return f"https://{HOST}{address.domain}{FOLDER}{address.domain}/{tail}"


def direct_url(address: Address) -> str:
    tail = f"hu/{local_hash(address.local_part)}?l={quote(address.local_part, safe='')}"
    return f"https://{address.domain}{FOLDER}{tail}"


def policy(submission_address: str) -> bytes:
    """Keys may be sent to that address; whoever did is known by the login, without a mail back."""
    return f"auth-submit\nsubmission-address: {submission_address}\n".encode("ascii")


def asked(host: str, target: str) -> Asked | None:
    """What a request to our own server is for, by either method; None where it is for nothing of
    this directory.

    Args:
        host: as the request names it, lower case, without a port.
        target: its path with the query.
    """
    path, _, query = target.partition("?")
    if not path.startswith(FOLDER):
        return None
    tail = path.removeprefix(FOLDER)
    domain = host
    if host.startswith(HOST):
        domain, _, tail = tail.partition("/")
        if domain.lower() != host.removeprefix(HOST):
            return None
    if tail in (POLICY_FILE, SUBMISSION_FILE):
        return Asked(domain=domain.lower(), file=tail)
    folder, _, found = tail.partition("/")
    if folder != "hu" or len(found) != HASH_CHARACTERS or set(found) - set(_ALPHABET):
        return None
    return Asked(domain=domain.lower(), hash=found, local_part=_local_part(query))


def _local_part(query: str) -> str:
    try:
        values = parse_qs(query, max_num_fields=5, errors="strict").get("l", [""])
    except ValueError:
        return ""
    return values[0]
