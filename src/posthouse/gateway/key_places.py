"""Where a domain shows the keys of its addresses (`mimesec.lookup`), asked without a store, so for
a person, too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from posthouse.accounts import key_material
from posthouse.accounts.mail_keys import KeyMaterial, Source, fold_address
from posthouse.gateway.learning import trust_in
from posthouse.kernel.errors import UserError
from posthouse.kernel.ports import Clock, Fetch, Resolver, Workers
from posthouse.mimesec import lookup
from posthouse.mimesec.findings import Scheme, SignatureResult
from posthouse.mimesec.lookup import KEYS_MAX, OPENPGPKEY, SMIMEA, WKD, Shown
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.chain import check_path

__all__ = ["OPENPGPKEY", "SMIMEA", "WKD", "Authorities", "KeyPlaces", "Told"]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What one place said."""

    where: str
    keys: tuple[KeyMaterial, ...] = ()
    """Each names the address that was asked for, and is kept for no other."""
    by_issuer: tuple[str, ...] = ()
    """Fingerprints of those that an authority vouches for, and not the place by itself (SMIMEA
    usage 1)."""
    source: Source = Source.DNS
    scheme: Scheme = Scheme.OPENPGP
    words: str = ""
    """Why there is none."""
    is_for_now: bool = False
    """Of that: the next try may find one."""
    is_answer: bool = True
    """The place was reached, so that what it does not show is there no more."""


class Authorities:
    """Those that S/MIME certificates have to lead to where their domain does not pin them."""

    def __init__(self, roots: tuple[bytes, ...], *, clock: Clock, workers: Workers) -> None:
        """
        Args:
            roots: `gateway.options.Options.roots`.
        """
        self.roots = roots
        self._clock = clock
        self._workers = workers

    async def why_not(self, certificate: bytes, offered: Sequence[bytes]) -> str:
        """Why none of them vouches for it, in words; "" where one does. Both in DER."""

        def work() -> str:
            leaf, trust = Certificate(certificate), trust_in(self.roots)
            between = tuple(map(Certificate, offered))
            found = check_path(leaf, trust, offered=between, at=self._clock.now())
            return "" if found.result is SignatureResult.VALID else found.reason

        return await self._workers.run(work)


class KeyPlaces:
    def __init__(
        self, *, resolver: Resolver, fetch: Fetch, authorities: Authorities | None = None
    ) -> None:
        """
        Args:
            authorities: None where none is trusted.
        """
        self._resolver = resolver
        self._fetch = fetch
        self._authorities = authorities

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
            [
                await self._told(address, task.result())
                if task.done() and not task.cancelled()
                else Told(where=where, words="no answer in time", is_for_now=True, is_answer=False)
                for where, task in waiting.items()
            ]
        )

    async def _told(self, address: str, shown: Shown) -> Told:
        found = told(address, shown)
        if self._authorities is None:
            return found
        keys, words = found.keys, found.words
        by_issuer: list[str] = []
        for each in shown.narrowed:
            why = await self._authorities.why_not(each, shown.issuers)
            if why:
                words = f"its certificate names an authority that is not trusted here: {why}"
                continue
            alone = told(address, msgspec.structs.replace(shown, octets=(each,)))
            keys, words = (*keys, *alone.keys), alone.words
            by_issuer += [one.fingerprint for one in alone.keys]
        return msgspec.structs.replace(
            found,
            keys=keys[:KEYS_MAX],
            by_issuer=tuple(by_issuer),
            words="" if keys else words,
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
    return msgspec.structs.replace(none, keys=tuple(found[:KEYS_MAX]), words="")
