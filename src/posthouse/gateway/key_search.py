"""Finds the key of somebody who is written to: in the store, and else where their domain shows it.

OpenPGP keys are looked for in the domain's Web Key Directory and in OPENPGPKEY records (RFC 7929),
S/MIME certificates in SMIMEA records (RFC 8162). What comes by HTTPS from the domain itself or with
DNSSEC is trusted for its own addresses; records without DNSSEC do not count. What is found is kept
for a while, and so is that nothing was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from posthouse.accounts import key_material, mail_keys
from posthouse.accounts.mail_keys import KeyMaterial, MailKey, Source, fold_address
from posthouse.kernel.errors import UserError
from posthouse.kernel.ports import Clock, DnsStatus, Fetch, RecordType, Resolver
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.smime import smimea
from posthouse.store import mail_keys as rows
from posthouse.store.transaction import Store, Transaction

WKD_OCTETS_MAX: Final = 256 * 1024
KEYS_MAX: Final = 5
"""Of one address that are kept of what one place shows."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    is_enabled: bool = True
    deadline_s: float = 10.0
    found_s: float = 7 * 86_400.0
    missed_s: float = 6 * 3600.0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One place that was asked, for `posthouse key find`."""

    where: str
    found: int
    words: str = ""
    """Why nothing was found there."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    keys: tuple[MailKey, ...]
    """Best first: own, trusted, newest."""
    asked: tuple[Asked, ...] = ()
    """Places that were asked now."""


class KeySearch:
    """One for each process."""

    def __init__(
        self, options: Options, *, store: Store, resolver: Resolver, fetch: Fetch, clock: Clock
    ) -> None:
        self.options = options
        self._store = store
        self._resolver = resolver
        self._fetch = fetch
        self._clock = clock

    async def find_each(self, addresses: Sequence[str]) -> dict[str, tuple[MailKey, ...]]:
        """For each address the keys that `find` finds, beside each other and under one deadline."""
        folded = list(dict.fromkeys(map(fold_address, addresses)))
        found = await asyncio.gather(*map(self.find, folded))
        return {address: one.keys for address, one in zip(folded, found, strict=True)}

    async def find(self, address: str, *, is_fresh: bool = False) -> Found:
        """Keys that name the address and are in force.

        Args:
            is_fresh: ask outside whatever the store knows, for a person who wants to see it.

        Raises:
            Fault: the store cannot be read.
        """
        address = fold_address(address)
        now_us = self._clock.unix_us()
        known, is_missed = await self._store.read(partial(_known, address=address))
        usable = tuple(key for key in known if key.is_usable(now_us))
        is_over = any(_is_old(key, now_us, self.options.found_s) for key in usable)
        is_settled = is_missed or not self.options.is_enabled or (usable and not is_over)
        if is_settled and not is_fresh:
            return Found(keys=usable)
        asked = await self._ask_outside(address)
        materials = [each for one, found in asked for each in found]
        await self._store.submit(partial(self._keep, address=address, materials=materials))
        again, _ = await self._store.read(partial(_known, address=address))
        return Found(
            keys=tuple(key for key in again if key.is_usable(now_us)),
            asked=tuple(one for one, _ in asked),
        )

    async def _ask_outside(
        self, address: str
    ) -> list[tuple[Asked, list[tuple[KeyMaterial, Source]]]]:
        places: tuple[tuple[str, Callable[[str], Awaitable[_Told]]], ...] = (
            ("SMIMEA record", self._by_smimea),
        )
        waiting = [asyncio.ensure_future(ask(address)) for _, ask in places]
        try:
            await asyncio.wait(waiting, timeout=self.options.deadline_s)
        finally:
            for task in waiting:
                task.cancel()
        told: list[tuple[Asked, list[tuple[KeyMaterial, Source]]]] = []
        for (where, _), task in zip(places, waiting, strict=True):
            if not task.done() or task.cancelled():
                told.append((Asked(where=where, found=0, words="no answer in time"), []))
                continue
            words, found = task.result()
            told.append((Asked(where=where, found=len(found), words=words), found))
        return told

    def _keep(
        self,
        tx: Transaction,
        *,
        address: str,
        materials: Sequence[tuple[KeyMaterial, Source]],
    ) -> None:
        for material, source in materials:
            mail_keys.add_found(tx, material, source=source, is_trusted=True)
        if not materials:
            rows.set_missed(tx, address, tx.now_us() + int(self.options.missed_s * 1e6))

    # --- places ---

    async def _by_smimea(self, address: str) -> _Told:
        answer = await self._resolver.resolve(smimea.name(address), RecordType.SMIMEA)
        if answer.status is not DnsStatus.FOUND:
            return answer.detail or answer.status.value, []
        if not answer.is_authenticated:
            return "there is one, but without DNSSEC it does not count", []
        certificates = smimea.certificates(answer.records[:KEYS_MAX])
        if not certificates:
            return "the record holds no whole certificate", []
        found: list[tuple[KeyMaterial, Source]] = []
        words = ""
        for certificate in certificates:
            words, more = _fitting(address, Scheme.SMIME, certificate, Source.DNS)
            found += more
        return words if not found else "", found


_Told = tuple[str, list[tuple[KeyMaterial, Source]]]


def _fitting(address: str, scheme: Scheme, octets: bytes, source: Source) -> _Told:
    """The keys in it that name the address: others have no business there."""
    try:
        read = key_material.read_found(scheme, octets)
    except UserError as error:
        return error.text, []
    fitting = [
        (each, source)
        for each in read[:KEYS_MAX]
        if address in tuple(map(fold_address, each.addresses))
    ]
    return "" if fitting else "what is there names another address", fitting


def _known(tx: Transaction, *, address: str) -> tuple[tuple[MailKey, ...], bool]:
    until = rows.missed_until(tx, address)
    return mail_keys.by_address(tx, address), until is not None and until > tx.now_us()


def _is_old(key: MailKey, now_us: int, found_s: float) -> bool:
    """A key that its domain may have taken back meanwhile."""
    is_from_outside = key.source in (Source.WKD, Source.DNS) and not key.is_own
    return is_from_outside and key.seen_at < now_us - int(found_s * 1e6)
