"""Mail of our users signed and encrypted as it leaves, where their policy says so
(`MailPolicy.sign`, `MailPolicy.encrypt`).

It is encrypted for all recipients or for none. Whoever is not named in To or Cc gets a copy of
their own, as an encrypted message names its readers. What the sender's own program has encrypted
already is left alone, and so is its signature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, Protocol

import msgspec

from posthouse.accounts import key_material
from posthouse.accounts.mail_keys import (
    FINGERPRINT_SHOWN,
    MailKey,
    fold_address,
    of_owner,
    private_half,
)
from posthouse.accounts.mail_policy import MailPolicy, Mode
from posthouse.accounts.policies import Policies
from posthouse.accounts.sealing import NodeKey
from posthouse.gateway.autocrypt_fields import gossip_fields, own_field
from posthouse.gateway.options import Options
from posthouse.kernel.envelope import Address
from posthouse.kernel.errors import PosthouseError, UserError
from posthouse.kernel.finding import Evidence, Finding
from posthouse.kernel.ids import AccountId
from posthouse.kernel.ports import Clock, Workers
from posthouse.message.address import format_address
from posthouse.message.address_list import parse_address_list
from posthouse.message.fields import HeaderSection, read_section
from posthouse.message.mime import Part
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import autocrypt
from posthouse.mimesec.ports import ProtectionError, Recipient, Signer
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.sealed import is_sealed, may_be_sealed
from posthouse.mimesec.smime.capabilities import OWN
from posthouse.store import accounts
from posthouse.store.transaction import Store, Transaction

FINDING: Final = "protection"
"""Of the decision record: what was done, or why nothing was."""
SIGNERS_MAX: Final = 500
"""Loaded keys that are kept in memory."""
SHOWN_MAX: Final = 3
_VISIBLE: Final = (b"to", b"cc", b"resent-to", b"resent-cc")


End = Address | AccountId


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """One recipient of the envelope, and the ends it leads to."""

    address: Address
    accounts: tuple[AccountId, ...] = ()
    remote: tuple[Address, ...] = ()

    @property
    def ends(self) -> tuple[End, ...]:
        return (*self.accounts, *self.remote)


class OutgoingCopy(msgspec.Struct, frozen=True, kw_only=True):
    octets: bytes
    destinations: tuple[Destination, ...]
    """Whom it is for."""


class Protected(msgspec.Struct, frozen=True, kw_only=True):
    """What leaves in the place of a message."""

    copies: tuple[OutgoingCopy, ...] = ()
    """Each recipient is in one of them; empty where the message stays as it is."""
    fields: bytes = b""
    """To be put in front of each."""
    findings: tuple[Finding, ...] = ()


class NotProtected(PosthouseError):
    """The policy is "always or refuse", and it cannot be done. `str()` says why, in words for the
    sender; it names no more than they know."""

    def __init__(self, reason: str, *, is_for_now: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_for_now = is_for_now


class KeyFinder(Protocol):
    async def find_each(self, addresses: Sequence[str]) -> Mapping[str, Sequence[MailKey]]:
        """The keys that can be used for each address, by `fold_address`, the best first. Raises
        Fault."""
        ...


class _Sender(msgspec.Struct, frozen=True, kw_only=True):
    """What the store has of whoever sends."""

    signing: tuple[tuple[MailKey, bytes], ...]
    """With the private half."""
    own: tuple[MailKey, ...]
    """To encrypt to, so that the sender can read what they sent."""
    trouble: str = ""
    """Why a private half cannot be used."""

    def __repr__(self) -> str:
        return f"_Sender({len(self.signing)} keys)"


class Outgoing:
    """One for each process."""

    def __init__(
        self,
        options: Options,
        *,
        store: Store,
        policies: Policies,
        node_key: NodeKey,
        finder: KeyFinder,
        clock: Clock,
        workers: Workers,
    ) -> None:
        self.options = options
        self._store = store
        self._policies = policies
        self._node_key = node_key
        self._finder = finder
        self._clock = clock
        self._workers = workers
        self._signers: dict[tuple[int, bytes, tuple[str, ...], bool], Signer] = {}

    @property
    def is_active(self) -> bool:
        """Whether anything has to be asked at all."""
        return self._policies.is_any

    async def protect(
        self, account: AccountId, octets: bytes, destinations: Sequence[Destination]
    ) -> Protected:
        """The message as it leaves.

        Args:
            account: who sends it.
            octets: the whole message, with all fields that the author's side puts in it.

        Raises:
            NotProtected: it may not leave as it is.
            Fault: the store cannot be read.
        """
        if not self.is_active:
            return Protected()
        policy = (await self._policies.of([account]))[0]
        if policy.sign is Mode.NEVER and policy.encrypt is Mode.NEVER:
            return Protected()
        if may_be_sealed(octets) and await self._workers.run(partial(is_sealed, octets)):
            return _untouched("the sender has encrypted it already")
        section = read_section(octets)
        author = _author(section)
        sender = await self._store.read(
            partial(_sender, account=account, author=author, node_key=self._node_key)
        )
        if policy.open is not Mode.NEVER:
            sender = msgspec.structs.replace(sender, own=_opened_here(sender.own))
        candidates = await self._candidates(policy, destinations)
        work = partial(
            self._protect, octets, policy, sender, destinations, candidates, _is_signed(section)
        )
        made = await self._workers.run(work)
        if not self.options.sends_autocrypt or autocrypt.FIELD in section:
            return made
        prefers = policy.encrypt is not Mode.NEVER
        now_us = self._clock.unix_us()
        field = own_field(sender.own, author, now_us, prefers_encryption=prefers)
        return msgspec.structs.replace(made, fields=field)

    async def _candidates(
        self, policy: MailPolicy, destinations: Sequence[Destination]
    ) -> Mapping[End, Sequence[MailKey]]:
        """For each end the keys there are."""
        if policy.encrypt is Mode.NEVER:
            return {}
        remote = {address for one in destinations for address in one.remote}
        local = list({account: None for one in destinations for account in one.accounts})
        if len(remote) + len(local) > self.options.recipients_max:
            return {}
        texts = {address: fold_address(format_address(address)) for address in remote}
        found = await self._finder.find_each(tuple(texts.values())) if texts else {}

        policies = dict(zip(local, await self._policies.of(local), strict=True))

        def own(tx: Transaction) -> dict[End, Sequence[MailKey]]:
            known = {account: of_owner(tx, account=account) for account in local}
            return {
                account: keys if policies[account].open is Mode.NEVER else _opened_here(keys)
                for account, keys in known.items()
            }

        candidates = await self._store.read(own)
        candidates.update({address: found.get(text, ()) for address, text in texts.items()})
        return candidates

    # --- on a worker ---

    def _protect(
        self,
        octets: bytes,
        policy: MailPolicy,
        sender: _Sender,
        destinations: Sequence[Destination],
        candidates: Mapping[End, Sequence[MailKey]],
        is_signed: bool,
    ) -> Protected:
        plan, why_open = self._plan(policy, destinations, candidates, sender)
        if plan is None and policy.encrypt is Mode.ALWAYS:
            raise NotProtected(f"your mail has to be encrypted, and {why_open}")
        signer, why_unsigned = None, "the sender has signed it already"
        if policy.sign is not Mode.NEVER and not is_signed:
            scheme = plan.scheme if plan is not None else policy.scheme
            opens = policy.open is not Mode.NEVER
            signer, why_unsigned = self._signer(
                sender, scheme, is_strict=plan is not None, opens=opens
            )
            if signer is None and policy.sign is Mode.ALWAYS:
                raise NotProtected(
                    f"your mail has to be signed, and {why_unsigned}",
                    is_for_now=bool(sender.trouble),
                )
        if plan is None and signer is None:
            reasons = [] if policy.encrypt is Mode.NEVER else [why_open]
            reasons += [] if policy.sign is Mode.NEVER else [why_unsigned]
            return _untouched("; ".join(reasons))
        try:
            return _made(octets, plan, signer, destinations, self._clock.now())
        except ProtectionError as error:
            if Mode.ALWAYS in (policy.sign, policy.encrypt):
                raise NotProtected(error.text) from error
            return _untouched(error.text)

    def _plan(
        self,
        policy: MailPolicy,
        destinations: Sequence[Destination],
        candidates: Mapping[End, Sequence[MailKey]],
        sender: _Sender,
    ) -> tuple[_Plan | None, str]:
        """Whom to encrypt to by one scheme, or why that cannot be."""
        if policy.encrypt is Mode.NEVER:
            return None, ""
        if not candidates:
            return None, f"it has more than {self.options.recipients_max} recipients"
        now = self._clock.now()
        why = ""
        preferred = policy.scheme or Scheme.SMIME
        for scheme in sorted(Scheme, key=lambda one: one is not preferred):
            found: dict[End, Recipient] = {}
            missing: list[str] = []
            for one in destinations:
                for end in one.ends:
                    recipient = _usable(candidates.get(end, ()), scheme, now)
                    if recipient is not None:
                        found[end] = recipient
                    else:
                        missing.append(format_address(one.address))
            if not missing:
                return _Plan(scheme=scheme, to=found, own=_usable(sender.own, scheme, now)), ""
            if not why:
                shown = list(dict.fromkeys(missing))
                more = f" and {len(shown) - SHOWN_MAX} others" if len(shown) > SHOWN_MAX else ""
                why = f"there is no key to encrypt to for {', '.join(shown[:SHOWN_MAX])}{more}"
        return None, why

    def _signer(
        self, sender: _Sender, scheme: Scheme | None, *, is_strict: bool, opens: bool
    ) -> tuple[Signer | None, str]:
        """
        Args:
            is_strict: only a key of that scheme will do.
            opens: what is encrypted to the sender is opened here.
        """
        keys = sorted(sender.signing, key=lambda one: one[0].scheme is not (scheme or Scheme.SMIME))
        why = sender.trouble or "there is no key of yours here that names your address"
        for key, private in keys:
            if is_strict and key.scheme is not scheme:
                continue
            try:
                return self._loaded(key, private, opens), ""
            except ProtectionError as error:
                why = f"the key {key.fingerprint[:FINGERPRINT_SHOWN]} cannot sign: {error.text}"
        return None, why

    def _loaded(self, key: MailKey, private: bytes, opens: bool) -> Signer:
        wanted = (key.id, key.public, key.reads, opens)
        known = self._signers.get(wanted)
        if known is None:
            known = key_material.signer(key, private, opens=opens)
            if len(self._signers) >= SIGNERS_MAX:
                self._signers.clear()
            self._signers[wanted] = known
        return known


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    scheme: Scheme
    to: Mapping[End, Recipient]
    own: Recipient | None


def _made(
    octets: bytes,
    plan: _Plan | None,
    signer: Signer | None,
    destinations: Sequence[Destination],
    now: datetime,
) -> Protected:
    """Raises ProtectionError: then there is no copy at all."""
    if plan is None:
        assert signer is not None
        signed = protect(octets, Protection(signer=signer), at=now)
        copies: tuple[OutgoingCopy, ...] = (
            OutgoingCopy(octets=signed, destinations=tuple(destinations)),
        )
        return Protected(copies=copies, findings=(_finding("signed", signer, plan),))
    visible = _visible(read_section(octets))
    seen = [one for one in destinations if _folded(one.address) in visible]
    if plan.scheme is Scheme.OPENPGP:
        shown = [(_folded(one.address), plan.to[end]) for one in seen for end in one.ends]
        octets = gossip_fields(shown) + octets
    # Whoever is hidden may not be named by what the others get, nor the others by theirs.
    groups = ([tuple(seen)] if seen else []) + [
        (one,) for one in destinations if _folded(one.address) not in visible
    ]
    copies = tuple(
        OutgoingCopy(octets=protect(octets, _wish(group, plan, signer), at=now), destinations=group)
        for group in groups
    )
    result = "encrypted" if signer is None else "signed and encrypted"
    return Protected(copies=copies, findings=(_finding(result, signer, plan),))


def _wish(group: Sequence[Destination], plan: _Plan, signer: Signer | None) -> Protection:
    ends = [end for one in group for end in one.ends]
    return Protection(
        signer=signer,
        recipients=tuple(plan.to[end] for end in ends),
        own=plan.own,
        sealer=key_material.sealer(plan.scheme),
    )


def _finding(result: str, signer: Signer | None, plan: _Plan | None) -> Finding:
    evidence = []
    if signer is not None:
        evidence.append(Evidence("signed by", ", ".join(signer.addresses[:SHOWN_MAX])))
    if plan is not None:
        evidence += [Evidence("encrypted to", one.key) for one in plan.to.values()]
    scheme = plan.scheme if plan is not None else signer.scheme if signer is not None else None
    return Finding(
        name=FINDING,
        result=result,
        reason=scheme.value if scheme is not None else "",
        evidence=tuple(evidence),
    )


def _untouched(reason: str) -> Protected:
    return Protected(findings=(Finding(name=FINDING, result="none", reason=reason),))


def _opened_here(keys: Sequence[MailKey]) -> tuple[MailKey, ...]:
    """Of an account whose mail is decrypted here: those that are read by us."""
    return tuple(
        msgspec.structs.replace(key, reads=OWN.words) if key.has_private else key for key in keys
    )


def _usable(keys: Sequence[MailKey], scheme: Scheme, now: datetime) -> Recipient | None:
    """The first that something can be encrypted to."""
    now_us = int(now.timestamp() * 1e6)
    for key in keys:
        if key.scheme is scheme and key.is_usable(now_us):
            try:
                found = key_material.recipient(key)
            except ProtectionError:
                continue
            if not found.why_unusable(now):
                return found
    return None


# --- what a message says ---


def _author(section: HeaderSection) -> str:
    value = section.raw(b"from")
    found = parse_address_list(value, addresses_max=2).addresses() if value is not None else []
    return _folded(found[0]) if found else ""


def _visible(section: HeaderSection) -> frozenset[str]:
    """Whom its readers see as recipients."""
    values = [section.value(field) for field in section.fields if field.name in _VISIBLE]
    return frozenset(
        _folded(one) for value in values for one in parse_address_list(value).addresses()
    )


def _folded(address: Address) -> str:
    return fold_address(format_address(address))


def _is_signed(section: HeaderSection) -> bool:
    root = Part(section, len(section.octets))
    return (root.maintype, root.subtype) == (b"multipart", b"signed")


def _sender(tx: Transaction, *, account: AccountId, author: str, node_key: NodeKey) -> _Sender:
    """The keys that name the author's address, of the account and of its domain."""
    own = list(of_owner(tx, account=account))
    row = accounts.account_by_id(tx, account)
    domain = accounts.domain_by_name(tx, row.name.rpartition("@")[2]) if row is not None else None
    signing: list[tuple[MailKey, bytes]] = []
    trouble = ""
    now_us = tx.now_us()
    for key in [*own, *(of_owner(tx, domain=domain.id) if domain is not None else ())]:
        if key.has_private and key.is_usable(now_us) and author in key.addresses:
            try:
                signing.append((key, private_half(tx, key, node_key)))
            except UserError as error:
                trouble = error.text
    return _Sender(signing=tuple(signing), own=tuple(own), trouble=trouble)
