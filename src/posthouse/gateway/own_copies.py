"""What an account gets in the place of a message: opened by its keys, encrypted to its own, or both
one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from posthouse.accounts.directory import Options as DirectoryOptions
from posthouse.accounts.directory import look_up
from posthouse.gateway.at_rest import AtRest
from posthouse.gateway.incoming import Incoming
from posthouse.kernel.envelope import Address
from posthouse.kernel.finding import Finding
from posthouse.kernel.ids import AccountId
from posthouse.store.transaction import Store, Transaction


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    octets: bytes
    """Without our trace fields."""
    fields: bytes = b""
    """Ours about it, to be put in front."""
    is_sealed: bool = False
    """Encrypted to the account's key, as its policy says: it waits so, too."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The account does not take the message."""

    reason: str
    """In words; nothing of the message is in it."""
    is_for_now: bool
    """The next try may do better."""
    may_wait: bool = True
    """Whether the message may wait as it came: False where that is in the open, and the account
    keeps nothing so."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    copies: Mapping[AccountId, Copy] = {}
    """All other accounts get the message itself."""
    held: Mapping[AccountId, Held] = {}
    findings: tuple[Finding, ...] = ()
    """Each once, whomever it is about."""


class OwnCopies:
    """One for each process."""

    def __init__(self, store: Store, *, incoming: Incoming, at_rest: AtRest) -> None:
        self._store = store
        self._incoming = incoming
        self._at_rest = at_rest

    @property
    def is_active(self) -> bool:
        """Whether anything has to be asked at all."""
        return self._at_rest.is_active

    async def make(
        self,
        accounts: Sequence[AccountId],
        octets: bytes,
        *,
        is_author_proven: bool = False,
        is_autocrypt_proven: bool = False,
        is_ours: bool = False,
    ) -> Made:
        """
        Args:
            octets: the message without our trace fields.
            is_author_proven: as `Incoming.open`.
            is_autocrypt_proven: likewise.
            is_ours: it waits in the queue already, so that an account without a key is held and
                the others get it.

        Raises:
            CannotSeal: an account keeps mail encrypted and has no key for it now. It may not wait
                in the open either.
            Fault: the store cannot be read.
        """
        if not self.is_active or not accounts:
            return Made()
        opened = await self._incoming.open(
            accounts,
            octets,
            is_author_proven=is_author_proven,
            is_autocrypt_proven=is_autocrypt_proven,
        )
        closed = [account for account, one in opened.items() if one.refusal]
        barred = await self._at_rest.refused_open(closed, octets) if closed else frozenset()
        held = {
            account: Held(
                reason=one.refusal,
                is_for_now=one.is_for_now,
                may_wait=not one.is_for_now or account not in barred,
            )
            for account, one in opened.items()
            if one.refusal
        }
        plain = {
            account: one.octets
            for account, one in opened.items()
            if one.is_changed and account not in held
        }
        wanting = [account for account in accounts if account not in held]
        keyless: dict[AccountId, str] | None = {} if is_ours else None
        stored: list[Finding] = []
        sealed = await self._at_rest.copies(
            wanting, octets, own=plain, keyless=keyless, found=stored
        )
        for account, reason in (keyless or {}).items():
            held[account] = Held(reason=reason, is_for_now=True)
        copies = {
            account: Copy(
                octets=sealed.get(account, one.octets),
                fields=one.fields,
                is_sealed=account in sealed,
            )
            for account, one in opened.items()
            if account not in held and (one.fields or one.is_changed)
        }
        for account, own in sealed.items():
            copies.setdefault(account, Copy(octets=own, is_sealed=True))
        found = [each for one in opened.values() for each in one.findings]
        findings = tuple(dict.fromkeys([*found, *stored]))
        return Made(copies=copies, held=held, findings=findings)

    async def make_for(
        self, addresses: Sequence[Address], directory: DirectoryOptions, octets: bytes
    ) -> Made:
        """As `make`, for the accounts that these addresses lead to, of a message in the queue."""
        if not self.is_active:
            return Made()

        def lead(tx: Transaction) -> list[AccountId]:
            found = [look_up(tx, address, directory) for address in addresses]
            return [target.account for one in found for target in one.local]

        accounts = await self._store.read(lead)
        return await self.make(list(dict.fromkeys(accounts)), octets, is_ours=True)
