"""Where a domain shows the keys of its addresses: asked without a store, so for a person, too.

OpenPGP keys lie in the domain's Web Key Directory and in OPENPGPKEY records (RFC 7929), S/MIME
certificates in SMIMEA records (RFC 8162). What comes by HTTPS from the domain itself or with DNSSEC
is believed for the address that was asked for, and for no other that the key names; records without
DNSSEC do not count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from posthouse.accounts import key_material
from posthouse.accounts.mail_keys import KeyMaterial, Source, fold_address
from posthouse.kernel.errors import UserError
from posthouse.kernel.ports import (
    DnsAnswer,
    DnsStatus,
    Fetch,
    FetchFailed,
    FetchTrouble,
    RecordType,
    Resolver,
)
from posthouse.message.address import AddressError
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import dns as pgp_dns
from posthouse.mimesec.pgp import wkd
from posthouse.mimesec.smime import smimea

WKD, OPENPGPKEY, SMIMEA = "WKD", "OPENPGPKEY record", "SMIMEA record"
WKD_OCTETS_MAX: Final = 256 * 1024
WKD_S: Final = 10.0
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
        places: dict[str, Callable[[str], Awaitable[Told]]] = {
            WKD: self._wkd,
            OPENPGPKEY: self._openpgpkey,
            SMIMEA: self._smimea,
        }
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

    async def _wkd(self, address: str) -> Told:
        try:
            advanced, direct = wkd.urls(address)
        except AddressError as error:
            return Told(where=WKD, words=str(error))
        told = await self._fetched(address, advanced)
        # The direct place counts only where the domain has no host for the advanced one.
        told = told or await self._fetched(address, direct)
        return told or Told(where=WKD, words="there is none")

    async def _fetched(self, address: str, url: str) -> Told | None:
        """None where the host does not exist."""
        try:
            got = await self._fetch.get(url, octets_max=WKD_OCTETS_MAX, timeout_s=WKD_S)
        except FetchFailed as error:
            if error.kind is FetchTrouble.DNS and url.startswith(f"https://{wkd.HOST}"):
                return None
            is_for_now = error.kind in (FetchTrouble.TIMEOUT, FetchTrouble.CONNECT)
            return Told(where=WKD, words=str(error), is_for_now=is_for_now)
        if got.status != 200:
            words = "there is none" if got.status == 404 else f"the directory said {got.status}"
            return Told(where=WKD, words=words, is_for_now=got.status >= 500)
        return fitting(WKD, Source.WKD, address, Scheme.OPENPGP, got.octets)

    async def _openpgpkey(self, address: str) -> Told:
        answer = await self._answer(OPENPGPKEY, address, pgp_dns.name, RecordType.OPENPGPKEY)
        if isinstance(answer, Told):
            return answer
        found = pgp_dns.keys(answer.records)
        return fitting(OPENPGPKEY, Source.DNS, address, Scheme.OPENPGP, *found)

    async def _smimea(self, address: str) -> Told:
        answer = await self._answer(SMIMEA, address, smimea.name, RecordType.SMIMEA)
        if isinstance(answer, Told):
            return answer
        certificates = smimea.certificates(answer.records)
        if not certificates:
            return Told(where=SMIMEA, words="there is one, but it holds no whole certificate")
        return fitting(SMIMEA, Source.DNS, address, Scheme.SMIME, *certificates[:KEYS_MAX])

    async def _answer(
        self, where: str, address: str, name: Callable[[str], str], kind: RecordType
    ) -> DnsAnswer | Told:
        """Records that count, or why there are none."""
        try:
            answer = await self._resolver.resolve(name(address), kind)
        except AddressError as error:
            return Told(where=where, words=str(error))
        if answer.status is not DnsStatus.FOUND:
            is_for_now = answer.status is DnsStatus.TEMPFAIL
            words = answer.detail if is_for_now and answer.detail else "there is none"
            return Told(where=where, words=words, is_for_now=is_for_now)
        if not answer.is_authenticated:
            return Told(where=where, words="there is one, but without DNSSEC it does not count")
        return answer


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
