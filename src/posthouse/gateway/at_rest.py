"""Mail that is stored encrypted to its owner's key (`MailPolicy.at_rest`).

The header fields stay in the open, as IMAP lists and searches by them; who wants them hidden lets
the sender encrypt. What came encrypted already is stored as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from posthouse.accounts.key_material import recipient, sealer
from posthouse.accounts.mail_keys import MailKey, Source, of_owner
from posthouse.accounts.mail_policy import MailPolicy, Mode, policy_of
from posthouse.accounts.policies import Policies
from posthouse.kernel.errors import PosthouseError
from posthouse.kernel.finding import Finding
from posthouse.kernel.ids import AccountId
from posthouse.kernel.ports import Clock, Workers
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.header_policy import HeaderPolicy
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.sealed import is_sealed, may_be_sealed
from posthouse.store.transaction import Store, Transaction

FINDING: Final = "at-rest"


class CannotSeal(PosthouseError):
    """The owner wants nothing stored in the open, and there is no key to encrypt to. `reason` says
    which, for the log and the decision record; it holds nothing of the message."""

    def __init__(self, account: AccountId, reason: str) -> None:
        super().__init__(reason)
        self.account = account
        self.reason = reason


class AtRest:
    """Makes the copies that are stored. One for each process."""

    def __init__(self, store: Store, policies: Policies, *, clock: Clock, workers: Workers) -> None:
        self._store = store
        self._policies = policies
        self._clock = clock
        self._workers = workers

    @property
    def is_active(self) -> bool:
        """Whether anything has to be asked at all."""
        return self._policies.is_any

    async def copies(
        self,
        accounts: Sequence[AccountId],
        octets: bytes,
        *,
        own: Mapping[AccountId, bytes] = {},
        is_appended: bool = False,
        keyless: dict[AccountId, str] | None = None,
        found: list[Finding] | None = None,
    ) -> Mapping[AccountId, bytes]:
        """The octets to store for each account that keeps its mail encrypted.

        Args:
            octets: the message without our trace fields.
            own: what an account gets in its place.
            is_appended: its owner puts it there by IMAP.
            keyless: gets whoever says "always" where it cannot be, with the reason, in the place of
                an error.
            found: gets what was done, for the decision record.

        Raises:
            CannotSeal: an account says "always", and it cannot be.
            Fault: the store cannot be read.
        """
        if not self.is_active:
            return {}
        is_common_sealed = await self._is_sealed(octets)
        open_ones = [
            account
            for account in accounts
            if not (await self._is_sealed(own[account]) if account in own else is_common_sealed)
        ]
        if not open_ones:
            return {}
        wanted = await self._store.read(
            partial(_wanted, accounts=open_ones, is_appended=is_appended)
        )
        copies: dict[AccountId, bytes] = {}
        for account, mode, keys in wanted:
            plain = own.get(account, octets)
            try:
                sealed, key = await self._workers.run(partial(self._seal, plain, keys))
            except ProtectionError as error:
                if mode is not Mode.ALWAYS:
                    continue
                if keyless is None:
                    raise CannotSeal(account, error.text) from error
                keyless[account] = error.text
            else:
                copies[account] = sealed
                if found is not None:
                    found.append(_finding(key))
        return copies

    def sealed_now(self, tx: Transaction, account: AccountId, octets: bytes) -> bytes | None:
        """Inside of a unit of work, for what is small and ours: the octets to keep for an account.
        None where it keeps them in the open, or has no key."""
        for _, _, keys in _wanted(tx, accounts=[account], is_appended=False):
            with contextlib.suppress(ProtectionError):
                return self._seal(octets, keys)[0]
        return None

    async def refused_open(
        self, accounts: Sequence[AccountId], octets: bytes
    ) -> frozenset[AccountId]:
        """Which of the accounts a message may not wait for as it is: it is in the open, and they
        keep nothing so. Raises Fault."""
        if not self.is_active or await self._is_sealed(octets):
            return frozenset()
        policies = await self._policies.of(accounts)
        return frozenset(
            account
            for account, policy in zip(accounts, policies, strict=True)
            if policy.at_rest is Mode.ALWAYS
        )

    async def _is_sealed(self, octets: bytes) -> bool:
        return may_be_sealed(octets) and await self._workers.run(partial(is_sealed, octets))

    def _seal(self, octets: bytes, keys: Sequence[MailKey]) -> tuple[bytes, MailKey]:
        now = self._clock.now()
        reason = "the account has no key to encrypt to"
        for key in keys:
            try:
                to = recipient(key)
            except ProtectionError as error:  # of a scheme that is not there
                reason = error.text
                continue
            if why := to.why_unusable(now):
                reason = why
                continue
            wish = Protection(
                recipients=(to,),
                sealer=sealer(key.scheme),
                header_policy=HeaderPolicy.NO_CONFIDENTIALITY,
                has_legacy_display=False,
                keeps_bcc=True,
            )
            return protect(octets, wish, at=now), key
        raise ProtectionError(reason)


def _finding(key: MailKey) -> Finding:
    return Finding(
        name=FINDING,
        result="encrypted",
        reason=f"stored encrypted to {key.fingerprint}, {key.scheme.value}",
    )


def _wanted(
    tx: Transaction, *, accounts: Sequence[AccountId], is_appended: bool
) -> list[tuple[AccountId, Mode, list[MailKey]]]:
    found: list[tuple[AccountId, Mode, list[MailKey]]] = []
    for account in accounts:
        policy = policy_of(tx, account)
        mode = policy.at_rest_append if is_appended else policy.at_rest
        if mode is not Mode.NEVER:
            found.append((account, mode, usable_keys(tx, account, policy)))
    return found


def usable_keys(tx: Transaction, account: AccountId, policy: MailPolicy) -> list[MailKey]:
    """The account's own keys that are not revoked or over: those that were made or imported here
    first, then the preferred scheme, then the newest. A key that came by mail is read by a program
    of its owner's alone, and who knows the account's password could have sent one of their own."""
    now_us = tx.now_us()
    keys = [key for key in of_owner(tx, account=account) if key.is_usable(now_us)]
    preferred = policy.scheme or Scheme.SMIME
    return sorted(
        keys, key=lambda key: (key.source is Source.SUBMITTED, key.scheme is not preferred)
    )
