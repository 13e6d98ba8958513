"""Finds the key of somebody who is written to: in the store, and else where their domain shows it.

What is found is kept for a while, and so is that nothing was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from posthouse.accounts import mail_keys
from posthouse.accounts.mail_keys import MailKey, Source, fold_address
from posthouse.gateway.key_places import KeyPlaces, Told
from posthouse.kernel.ports import Clock
from posthouse.store import mail_keys as rows
from posthouse.store.transaction import Store, Transaction

OUTAGE_S: Final = 300.0
"""How long nobody asks again after a place of an address could not be reached."""
OUTAGES_MAX: Final = 10_000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    is_enabled: bool = True
    deadline_s: float = 10.0
    found_s: float = 7 * 86_400.0
    missed_s: float = 6 * 3600.0


class KeySearch:
    """One for each process."""

    def __init__(self, options: Options, *, store: Store, places: KeyPlaces, clock: Clock) -> None:
        self.options = options
        self._store = store
        self._places = places
        self._clock = clock
        self._out_until: dict[str, float] = {}
        """Addresses whose places could not all be reached: each message would wait for them."""

    async def find_each(self, addresses: Sequence[str]) -> dict[str, tuple[MailKey, ...]]:
        """For each address what `find` finds, beside each other and under one deadline."""
        folded = list(dict.fromkeys(map(fold_address, addresses)))
        found = await asyncio.gather(*map(self.find, folded))
        return dict(zip(folded, found, strict=True))

    async def find(self, address: str) -> tuple[MailKey, ...]:
        """Keys that name the address and are in force, best first: own, trusted, newest.

        Raises:
            Fault: the store cannot be read.
        """
        address = fold_address(address)
        now_us = self._clock.unix_us()
        known, is_missed = await self._store.read(partial(_known, address=address))
        usable = tuple(key for key in known if key.is_usable(now_us))
        if not self.options.is_enabled or is_missed or self._is_enough(usable, now_us):
            return usable
        if self.is_unsure(address):
            return usable
        told = await self._places.ask(address, deadline_s=self.options.deadline_s)
        self._note_outage(address, told)
        missed_us = int(self.options.missed_s * 1e6)
        await self._store.submit(partial(keep, address=address, told=told, missed_us=missed_us))
        again, _ = await self._store.read(partial(_known, address=address))
        return tuple(key for key in again if key.is_usable(now_us))

    def is_unsure(self, address: str) -> bool:
        """Whether a place of the address, folded, could not be reached a moment ago, so that there
        may be a key all the same."""
        return self._out_until.get(address, 0.0) > self._clock.monotonic_s()

    def _note_outage(self, address: str, told: Sequence[Told]) -> None:
        self._out_until.pop(address, None)
        if any(one.is_for_now for one in told):
            while len(self._out_until) >= OUTAGES_MAX:
                del self._out_until[next(iter(self._out_until))]
            self._out_until[address] = self._clock.monotonic_s() + OUTAGE_S

    def _is_enough(self, usable: Sequence[MailKey], now_us: int) -> bool:
        """Whether nobody has to be asked: what only mail says of somebody's key (Autocrypt) is
        good where their domain shows none."""
        shown = [key for key in usable if key.is_of_place]
        if shown:  # all places were asked then
            return not any(_is_old(key, now_us, self.options.found_s) for key in shown)
        proven = {key.scheme for key in usable if _is_proven(key)}
        return bool(usable) and all(key.scheme in proven for key in usable)


def keep(tx: Transaction, *, address: str, told: Sequence[Told], missed_us: int) -> None:
    """Remember what places showed, what they show no more, or that there is nothing; an outage is
    not written down, and takes nothing away.

    Args:
        address: by `fold_address`.
    """
    _take_back(tx, address, told)
    now_us = tx.now_us()
    is_any = False
    for one in told:
        for material in one.keys:
            is_trusted = material.fingerprint not in one.by_issuer  # else its authority is asked
            kept = mail_keys.add_found(tx, material, source=one.source, is_trusted=is_trusted)
            is_any |= kept is None or kept.is_usable(now_us)
    if not is_any and not any(one.is_for_now for one in told):
        rows.set_missed(tx, address, now_us + missed_us)


def _take_back(tx: Transaction, address: str, told: Sequence[Told]) -> None:
    """Keys that a place showed for the address before, and now shows no more. What they were shown
    for elsewhere stays. What is revoked is remembered."""
    shown = {(each.scheme, each.fingerprint) for one in told for each in one.keys}
    narrowed = {(one.scheme, fingerprint) for one in told for fingerprint in one.by_issuer}
    reached = {(one.source, one.scheme) for one in told if one.is_answer}
    for key in mail_keys.by_address(tx, address):
        vouched = shown - narrowed if key.is_trusted else shown
        is_asked_for = key.is_of_place and (key.source, key.scheme) in reached
        is_gone = is_asked_for and (key.scheme, key.fingerprint) not in vouched
        if not is_gone or key.revoked_at is not None:
            continue
        mail_keys.forget_for(tx, key, address)


def _known(tx: Transaction, *, address: str) -> tuple[tuple[MailKey, ...], bool]:
    until = rows.missed_until(tx, address)
    return mail_keys.by_address(tx, address), until is not None and until > tx.now_us()


def _is_proven(key: MailKey) -> bool:
    """Our own, or one that a person or an authority vouches for."""
    return key.is_own or key.is_trusted or key.source is Source.LEARNT


def _is_old(key: MailKey, now_us: int, found_s: float) -> bool:
    """A key that its domain may have taken back meanwhile."""
    return key.seen_at < now_us - int(found_s * 1e6)
