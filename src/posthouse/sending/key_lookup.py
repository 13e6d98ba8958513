"""Keys of others, where their domains show them: `await find_keys("bob@example.net")`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.message.address import AddressError, parse_mailbox
from posthouse.mimesec import lookup
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.header_protection import address_key, address_keys
from posthouse.mimesec.lookup import KEYS_MAX, Shown
from posthouse.mimesec.ports import ProtectionError, Recipient
from posthouse.sending.errors import MessageError

if TYPE_CHECKING:
    from posthouse.kernel.ports import Fetch, Resolver

__all__ = ["FoundKey", "FoundKeys", "find_keys"]

RESOLV_CONF: Final = Path("/etc/resolv.conf")


class FoundKey(msgspec.Struct, frozen=True, kw_only=True):
    recipient: Recipient
    """To encrypt to: a `PgpRecipient` or `SmimeRecipient`, for the address that was asked for.
    Nobody vouches for others that it may name."""
    where: str
    """ "WKD", "OPENPGPKEY record", "SMIMEA record"."""


class FoundKeys(msgspec.Struct, frozen=True, kw_only=True):
    keys: tuple[FoundKey, ...] = ()
    nothing: tuple[str, ...] = ()
    """Of places that show none, why: "SMIMEA record: there is none"."""
    is_for_now: bool = False
    """One of them gave no answer: the next try may find more."""


async def find_keys(
    address: str,
    *,
    deadline_s: float = 10.0,
    resolver: Resolver | None = None,
    fetch: Fetch | None = None,
) -> FoundKeys:
    """Ask the domain of an address for its keys: its Web Key Directory, by HTTPS, and its
    OPENPGPKEY and SMIMEA records, which count with DNSSEC only.

    Args:
        resolver: None asks the servers of /etc/resolv.conf, whose word on DNSSEC counts where they
            are on this machine.
        fetch: None goes to public addresses only.

    Raises:
        MessageError: it is no address.
    """
    try:
        wanted = address_key(parse_mailbox(address.strip()))
    except AddressError as error:
        raise MessageError(f"{address!r} is no address: {error}", field="address") from None
    resolver = resolver or _resolver()
    fetch = fetch or _fetch(resolver)
    asking = {
        lookup.WKD: asyncio.ensure_future(lookup.in_directory(address, fetch)),
        lookup.OPENPGPKEY: asyncio.ensure_future(lookup.in_openpgpkey(address, resolver)),
        lookup.SMIMEA: asyncio.ensure_future(lookup.in_smimea(address, resolver)),
    }
    try:
        await asyncio.wait(asking.values(), timeout=deadline_s)
    finally:
        for task in asking.values():
            task.cancel()
    keys: list[FoundKey] = []
    nothing: list[str] = []
    is_for_now = False
    for where, task in asking.items():
        if not task.done() or task.cancelled():
            nothing.append(f"{where}: no answer in time")
            is_for_now = True
            continue
        shown = task.result()
        is_for_now |= shown.is_for_now
        found, words = _read(shown, address, wanted)
        keys += [FoundKey(recipient=one, where=where) for one in found]
        if not found:
            nothing.append(f"{where}: {words}")
    return FoundKeys(keys=tuple(keys), nothing=tuple(nothing), is_for_now=is_for_now)


def _read(shown: Shown, address: str, wanted: object) -> tuple[list[Recipient], str]:
    """The keys in it that name the address, for that address; or why there are none."""
    found: list[Recipient] = []
    words = shown.words or "what is there names another address"
    for octets in shown.octets:
        try:
            read = _pgp(octets) if shown.scheme is Scheme.OPENPGP else _smime(octets)
        except ProtectionError as error:
            words = error.text
            continue
        found += [one for one in read if wanted in address_keys(one.addresses)]
    return found[:KEYS_MAX], words


def _pgp(octets: bytes) -> list[Recipient]:
    from posthouse.mimesec.pgp import PgpRecipient, read_public

    return [PgpRecipient(one) for one in read_public(octets)]


def _smime(octets: bytes) -> list[Recipient]:
    from posthouse.mimesec.smime import SmimeRecipient, read_certificates

    return [SmimeRecipient(one) for one in read_certificates(octets)[:1]]


def _resolver() -> Resolver:
    from posthouse.dns.options import Options, servers_of
    from posthouse.dns.resolver import CachingResolver
    from posthouse.net.world import SystemChance, SystemClock, SystemNetwork

    try:
        text = RESOLV_CONF.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return CachingResolver(
        Options(servers=servers_of(text)),
        network=SystemNetwork(),
        clock=SystemClock(),
        chance=SystemChance(),
    )


def _fetch(resolver: Resolver) -> Fetch:
    from posthouse.net.fetch import HttpsFetch
    from posthouse.tls.contexts import verifying_client_context

    return HttpsFetch(resolver, context=verifying_client_context())
