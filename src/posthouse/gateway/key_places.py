"""Where a domain shows the keys of its addresses: asked without a store, so for a person, too.

S/MIME certificates stand in SMIMEA records (RFC 8162). What comes with DNSSEC is believed for the
address that was asked for, and for no other that the key names; without DNSSEC it does not count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from posthouse.accounts import key_material
from posthouse.accounts.mail_keys import KeyMaterial, Source, fold_address
from posthouse.kernel.errors import UserError
from posthouse.kernel.ports import DnsStatus, Fetch, RecordType, Resolver
from posthouse.message.address import AddressError
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.smime import smimea

KEYS_MAX: Final = 5
"""Of one address that are kept of what one place shows."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What one place said."""

    where: str
    keys: tuple[KeyMaterial, ...] = ()
    """Each names the address that was asked for, and is kept for no other."""
    source: Source = Source.DNS
    words: str = ""
    """Why there is none."""
    is_for_now: bool = False
    """Of that: the next try may find one."""


class KeyPlaces:
    def __init__(self, *, resolver: Resolver, fetch: Fetch) -> None:
        self._resolver = resolver
        self._fetch = fetch

    async def ask(self, address: str, *, deadline_s: float) -> tuple[Told, ...]:
        """All places beside each other; one without an answer in time says so."""
        places: dict[str, Callable[[str], Awaitable[Told]]] = {"SMIMEA record": self._smimea}
        waiting = {where: asyncio.ensure_future(ask(address)) for where, ask in places.items()}
        try:
            await asyncio.wait(waiting.values(), timeout=deadline_s)
        finally:
            for task in waiting.values():
                task.cancel()
        return tuple(
            task.result()
            if task.done() and not task.cancelled()
            else Told(where=where, words="no answer in time", is_for_now=True)
            for where, task in waiting.items()
        )

    async def _smimea(self, address: str) -> Told:
        where = "SMIMEA record"
        try:
            name = smimea.name(address)
        except AddressError as error:
            return Told(where=where, words=str(error))
        answer = await self._resolver.resolve(name, RecordType.SMIMEA)
        if answer.status is not DnsStatus.FOUND:
            is_for_now = answer.status is DnsStatus.TEMPFAIL
            words = answer.detail or "there is none"
            return Told(where=where, words=words, is_for_now=is_for_now)
        if not answer.is_authenticated:
            return Told(where=where, words="there is one, but without DNSSEC it does not count")
        certificates = smimea.certificates(answer.records)
        if not certificates:
            return Told(where=where, words="there is one, but it holds no whole certificate")
        return fitting(where, Source.DNS, address, Scheme.SMIME, *certificates[:KEYS_MAX])


def fitting(where: str, source: Source, address: str, scheme: Scheme, *octets: bytes) -> Told:
    """The keys in it that name the address."""
    found: list[KeyMaterial] = []
    words = "what is there names another address"
    for each in octets:
        try:
            read = key_material.read_found(scheme, each)
        except UserError as error:
            words = error.text
            continue
        found += [
            msgspec.structs.replace(one, addresses=(address,))
            for one in read
            if address in map(fold_address, one.addresses)
        ]
    if not found:
        return Told(where=where, source=source, words=words)
    return Told(where=where, source=source, keys=tuple(found[:KEYS_MAX]))
