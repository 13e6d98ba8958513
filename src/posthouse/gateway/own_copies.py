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


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The account does not take the message."""

    reason: str
    """In words; nothing of the message is in it."""
    is_for_now: bool
    """The next try may do better."""


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
        self, accounts: Sequence[AccountId], octets: bytes, *, is_author_proven: bool = False
    ) -> Made:
        """
        Args:
            octets: the message without our trace fields.
            is_author_proven: as `Incoming.open`.

        Raises:
            CannotSeal: an account keeps mail encrypted and has no key for it now. It may not wait
                in the open either.
            Fault: the store cannot be read.
        """
        if not self.is_active or not accounts:
            return Made()
        opened = await self._incoming.open(accounts, octets, is_author_proven=is_author_proven)
        held = {
            account: Held(reason=one.refusal, is_for_now=one.is_for_now)
            for account, one in opened.items()
            if one.refusal
        }
        taken = {account: one for account, one in opened.items() if account not in held}
        plain = {account: one.octets for account, one in taken.items() if one.is_changed}
        wanting = [account for account in accounts if account not in held]
        sealed = await self._at_rest.copies(wanting, octets, own=plain)
        copies = {
            account: Copy(octets=sealed.get(account, one.octets), fields=one.fields)
            for account, one in taken.items()
            if one.fields or one.is_changed
        }
        for account, own in sealed.items():
            copies.setdefault(account, Copy(octets=own))
        findings = dict.fromkeys(each for one in opened.values() for each in one.findings)
        return Made(copies=copies, held=held, findings=tuple(findings))

    async def make_for(
        self, addresses: Sequence[Address], directory: DirectoryOptions, octets: bytes
    ) -> Made:
        """As `make`, for the accounts that these addresses lead to."""
        if not self.is_active:
            return Made()

        def lead(tx: Transaction) -> list[AccountId]:
            found = [look_up(tx, address, directory) for address in addresses]
            return [target.account for one in found for target in one.local]

        accounts = await self._store.read(lead)
        return await self.make(list(dict.fromkeys(accounts)), octets)
