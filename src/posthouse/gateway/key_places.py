"""Where a domain shows the keys of its addresses (`mimesec.lookup`), asked without a store, so for
a person, too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from posthouse.accounts import key_material
from posthouse.accounts.mail_keys import KeyMaterial, Source, fold_address
from posthouse.kernel.errors import UserError
from posthouse.kernel.ports import Fetch, Resolver
from posthouse.mimesec import lookup
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.lookup import KEYS_MAX, OPENPGPKEY, SMIMEA, WKD, Shown

__all__ = ["OPENPGPKEY", "SMIMEA", "WKD", "KeyPlaces", "Told"]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What one place said."""

    where: str
    keys: tuple[KeyMaterial, ...] = ()
    """Each names the address that was asked for, and is kept for no other."""
    source: Source = Source.DNS
    scheme: Scheme = Scheme.OPENPGP
    words: str = ""
    """Why there is none."""
    is_for_now: bool = False
    """Of that: the next try may find one."""
    is_answer: bool = True
    """The place was reached, so that what it does not show is there no more."""


class KeyPlaces:
    def __init__(self, *, resolver: Resolver, fetch: Fetch) -> None:
        self._resolver = resolver
        self._fetch = fetch

    async def ask(self, address: str, *, deadline_s: float) -> tuple[Told, ...]:
        """All places beside each other; one without an answer in time says so."""
        places: dict[str, Callable[[], Awaitable[Shown]]] = {
            WKD: lambda: lookup.in_directory(address, self._fetch),
            OPENPGPKEY: lambda: lookup.in_openpgpkey(address, self._resolver),
            SMIMEA: lambda: lookup.in_smimea(address, self._resolver),
        }
        waiting = {where: asyncio.ensure_future(ask()) for where, ask in places.items()}
        try:
            await asyncio.wait(waiting.values(), timeout=deadline_s)
        finally:
            for task in waiting.values():
                task.cancel()
        return tuple(
            told(address, task.result())
            if task.done() and not task.cancelled()
            else Told(where=where, words="no answer in time", is_for_now=True, is_answer=False)
            for where, task in waiting.items()
        )


def told(address: str, shown: Shown) -> Told:
    """The keys in it that name the address."""
    none = Told(
        where=shown.where,
        source=Source.WKD if shown.where == WKD else Source.DNS,
        scheme=shown.scheme,
        words=shown.words,
        is_for_now=shown.is_for_now,
        is_answer=shown.is_answer,
    )
    if not shown.octets:
        return none
    found: list[KeyMaterial] = []
    words = "what is there names another address"
    for each in shown.octets:
        try:
            read = key_material.read_found(shown.scheme, each)
        except UserError as error:
            words = error.text
            continue
        found += [
            msgspec.structs.replace(one, addresses=(address,))
            for one in read
            if address in map(fold_address, one.addresses)
        ]
    if not found:
        return msgspec.structs.replace(none, words=words)
    return msgspec.structs.replace(none, keys=tuple(found[:KEYS_MAX]))
