"""Mail of our users signed and encrypted as it leaves, where their policy says so
(`MailPolicy.sign`, `MailPolicy.encrypt`).

It is encrypted for all recipients or for none. Whoever is not named in To or Cc gets a copy of
their own, as an encrypted message names the keys of its readers; so does whoever is named by an
alias only, which the keys of its members do not name. What the sender's own program has encrypted
already is left alone, and so is its signature.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, Protocol

import msgspec

from posthouse.accounts import key_material
from posthouse.accounts.mail_keys import (
    FINGERPRINT_SHOWN,
    NAMES,
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
from posthouse.gateway.signed_before import is_signed, may_be_signed
from posthouse.kernel.envelope import Address
from posthouse.kernel.errors import PosthouseError, UserError
from posthouse.kernel.finding import Evidence, Finding
from posthouse.kernel.ids import AccountId
from posthouse.kernel.ports import Clock, Workers
from posthouse.message.address import format_address
from posthouse.message.address_list import parse_address_list
from posthouse.message.fields import HeaderSection, read_section
from posthouse.mimesec.entity import field_octets
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.header_protection import read_authors
from posthouse.mimesec.pgp import autocrypt
from posthouse.mimesec.ports import NotInstalled, ProtectionError, Recipient, Signer
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

    def is_unsure(self, address: str) -> bool:
        """Whether that could not be asked everywhere, so that a key may be found later."""
        ...


class _Sender(msgspec.Struct, frozen=True, kw_only=True):
    """What the store has of whoever sends."""

    signing: tuple[tuple[MailKey, bytes], ...]
    """With the private half."""
    own: tuple[MailKey, ...]
    """To encrypt to, so that the sender can read what they sent."""
    known: tuple[MailKey, ...] = ()
    """That their program's signature may be by."""
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
        looks_signed = may_be_signed(section)
        work = partial(
            self._protect, octets, policy, sender, destinations, candidates, looks_signed
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
        looks_signed: bool,
    ) -> Protected:
        try:
            parts, why_open = self._parts(policy, destinations, candidates, sender), ""
        except _Cannot as cannot:
            parts, why_open = (), cannot.why
            if policy.encrypt is Mode.ALWAYS:
                raise NotProtected(
                    f"your mail has to be encrypted, and {cannot.why}",
                    is_for_now=cannot.is_for_now,
                ) from None
        if policy.sign is Mode.NEVER:
            why_unsigned = ""
        elif looks_signed and is_signed(octets, sender.known, self._clock.now()):
            why_unsigned = "the sender has signed it already"
        else:
            try:
                whole = (_Part(destinations=tuple(destinations)),)
                parts = self._signed(parts or whole, policy, sender)
                why_unsigned = ""
            except _Cannot as cannot:
                why_unsigned = cannot.why
                if policy.sign is Mode.ALWAYS:
                    raise NotProtected(
                        f"your mail has to be signed, and {cannot.why}",
                        is_for_now=cannot.is_for_now,
                    ) from None
        if not parts:
            reasons = [] if policy.encrypt is Mode.NEVER else [why_open]
            reasons += [] if policy.sign is Mode.NEVER else [why_unsigned]
            return _untouched("; ".join(reasons))
        try:
            return _made(octets, parts, self._clock.now())
        except ProtectionError as error:
            if Mode.ALWAYS in (policy.sign, policy.encrypt):
                is_for_now = isinstance(error, NotInstalled)
                raise NotProtected(error.text, is_for_now=is_for_now) from error
            return _untouched(error.text)

    def _parts(
        self,
        policy: MailPolicy,
        destinations: Sequence[Destination],
        candidates: Mapping[End, Sequence[MailKey]],
        sender: _Sender,
    ) -> tuple[_Part, ...]:
        """Whom to encrypt to by which scheme: by one for all where that can be, and else by each
        recipient's own. None of them where nothing is to be encrypted.

        Raises:
            _Cannot: somebody has no key.
        """
        if policy.encrypt is Mode.NEVER:
            return ()
        if not candidates:
            raise _Cannot(f"it has more than {self.options.recipients_max} recipients")
        now = self._clock.now()
        usable = _Usable(candidates, now)
        schemes = sorted(Scheme, key=lambda one: _rank(one, policy, sender))
        chosen: dict[Scheme, list[Destination]] = {}
        for scheme in schemes:
            if all(usable.has(one, scheme) for one in destinations):
                chosen = {scheme: list(destinations)}
                break
        else:
            missing: list[Destination] = []
            for one in destinations:
                found = [scheme for scheme in schemes if usable.has(one, scheme)]
                if found:
                    chosen.setdefault(found[0], []).append(one)
                else:
                    missing.append(one)
            if missing:
                raise self._nobody(missing, usable.trouble)
        return tuple(
            _Part(
                destinations=tuple(whom),
                scheme=scheme,
                to={end: usable.of(end, scheme) for one in whom for end in one.ends},
                own=_recipient(sender.own, scheme, now),
            )
            for scheme, whom in chosen.items()
        )

    def _nobody(self, missing: Sequence[Destination], trouble: str) -> _Cannot:
        """
        Args:
            trouble: why keys cannot be used for now.
        """
        shown = list(dict.fromkeys(format_address(one.address) for one in missing))
        more = f" and {len(shown) - SHOWN_MAX} others" if len(shown) > SHOWN_MAX else ""
        why = f"there is no key to encrypt to for {', '.join(shown[:SHOWN_MAX])}{more}"
        remote = (fold_address(format_address(end)) for one in missing for end in one.remote)
        if not trouble and any(map(self._finder.is_unsure, remote)):
            trouble = f"{why}, and not every place could be asked where there may be one"
        return _Cannot(trouble or why, is_for_now=bool(trouble))

    def _signed(
        self, parts: Sequence[_Part], policy: MailPolicy, sender: _Sender
    ) -> tuple[_Part, ...]:
        """The same, each with its signer. Raises _Cannot where one of them has none; then with
        "when possible" none is signed, as a letter that only some can check confuses all."""
        opens = policy.open is not Mode.NEVER
        return tuple(
            msgspec.structs.replace(part, signer=self._signer(sender, part.scheme, policy, opens))
            for part in parts
        )

    def _signer(
        self, sender: _Sender, scheme: Scheme | None, policy: MailPolicy, opens: bool
    ) -> Signer:
        """
        Args:
            scheme: only a key of that one will do; None for any.
            opens: what is encrypted to the sender is opened here.

        Raises:
            _Cannot: there is none.
        """
        preferred = scheme or policy.scheme or Scheme.SMIME
        keys = sorted(sender.signing, key=lambda one: one[0].scheme is not preferred)
        fitting = [one for one in keys if scheme is None or one[0].scheme is scheme]
        if not fitting:
            why = sender.trouble or "no key of yours here names your address and is good now"
            if keys and scheme is not None:
                others = " and ".join(dict.fromkeys(key.scheme.value for key, _ in keys))
                why = (
                    f"it is encrypted by {scheme.value} as its readers have no other keys, while"
                    f" your key here is for {others}; another is made by: posthouse key make"
                    f" --scheme {NAMES[scheme]}"
                )
            raise _Cannot(why, is_for_now=bool(sender.trouble))
        why, is_for_now = "", False
        for key, private in fitting:
            try:
                return self._loaded(key, private, opens)
            except ProtectionError as error:
                why = f"the key {key.fingerprint[:FINGERPRINT_SHOWN]} cannot sign: {error.text}"
                is_for_now = isinstance(error, NotInstalled)
        raise _Cannot(why, is_for_now=is_for_now)

    def _loaded(self, key: MailKey, private: bytes, opens: bool) -> Signer:
        wanted = (key.id, key.public, key.reads, opens)
        known = self._signers.get(wanted)
        if known is None:
            known = key_material.signer(key, private, opens=opens)
            if len(self._signers) >= SIGNERS_MAX:
                self._signers.clear()
            self._signers[wanted] = known
        return known


class _Cannot(Exception):
    """`why` in words for the sender."""

    def __init__(self, why: str, *, is_for_now: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.is_for_now = is_for_now


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the recipients, who get it in one way."""

    destinations: tuple[Destination, ...]
    scheme: Scheme | None = None
    """To encrypt by; None for in the open."""
    to: Mapping[End, Recipient] = {}
    own: Recipient | None = None
    signer: Signer | None = None


class _Usable:
    """The keys that something can be encrypted to now."""

    def __init__(self, candidates: Mapping[End, Sequence[MailKey]], now: datetime) -> None:
        self.trouble = ""
        """Why some of them cannot be used for now: it is this server's fault."""
        self._found: dict[tuple[End, Scheme], Recipient] = {}
        for end, keys in candidates.items():
            for scheme in Scheme:
                try:
                    found = _recipient(keys, scheme, now)
                except NotInstalled as error:
                    self.trouble = error.text
                    continue
                if found is not None:
                    self._found[end, scheme] = found

    def has(self, destination: Destination, scheme: Scheme) -> bool:
        return all((end, scheme) in self._found for end in destination.ends)

    def of(self, end: End, scheme: Scheme) -> Recipient:
        return self._found[end, scheme]


def _rank(scheme: Scheme, policy: MailPolicy, sender: _Sender) -> tuple[bool, bool]:
    """One that the sender can sign by before one that they cannot, then the preferred one."""
    signs = {key.scheme for key, _ in sender.signing}
    cannot_sign = policy.sign is not Mode.NEVER and scheme not in signs
    return cannot_sign, scheme is not (policy.scheme or Scheme.SMIME)


def _made(octets: bytes, parts: Sequence[_Part], now: datetime) -> Protected:
    """Raises ProtectionError: then there is no copy at all."""
    visible = _visible(read_section(octets))
    copies = tuple(copy for part in parts for copy in _copies(octets, part, visible, now))
    return Protected(copies=copies, findings=(_finding(parts),))


def _copies(
    octets: bytes, part: _Part, visible: frozenset[str], now: datetime
) -> Iterator[OutgoingCopy]:
    if part.scheme is None:
        signed = protect(octets, Protection(signer=part.signer), at=now)
        yield OutgoingCopy(octets=signed, destinations=part.destinations)
        return
    seen = [one for one in part.destinations if _folded(one.address) in visible]
    if part.scheme is Scheme.OPENPGP:
        shown = [(_folded(one.address), part.to[end]) for one in seen for end in one.ends]
        octets = gossip_fields(shown) + octets
    for group in _groups(part, visible):
        wish = Protection(
            signer=part.signer,
            recipients=tuple(part.to[end] for one in group for end in one.ends),
            own=part.own,
            sealer=key_material.sealer(part.scheme),
        )
        yield OutgoingCopy(octets=protect(octets, wish, at=now), destinations=group)


def _groups(part: _Part, visible: frozenset[str]) -> list[tuple[Destination, ...]]:
    """Who gets one copy together. Whoever is hidden may not be named by what the others get, nor
    the others by theirs; and who is behind an alias is for its members alone to know."""
    hidden = [(one,) for one in part.destinations if _folded(one.address) not in visible]
    seen = [one for one in part.destinations if _folded(one.address) in visible]
    together = [one for one in seen if _is_named_by_its_keys(one, part)]
    aliases = sorted((one for one in seen if one not in together), key=lambda one: -len(one.ends))
    groups: list[list[Destination]] = []
    alone: list[Destination] = []
    for one in (*aliases, *together):
        # A member who is named, too, would get it twice.
        known = next((group for group in groups if set(one.ends) <= set(group[0].ends)), None)
        if known is not None:
            known.append(one)
        elif one in together:
            alone.append(one)
        else:
            groups.append([one])
    return [tuple(group) for group in (alone, *groups) if group] + hidden


def _is_named_by_its_keys(destination: Destination, part: _Part) -> bool:
    """Whether the keys tell no more of whom it leads to than its address does."""
    address = _folded(destination.address)
    return all(address in map(fold_address, part.to[end].addresses) for end in destination.ends)


def _finding(parts: Sequence[_Part]) -> Finding:
    signers = [part.signer for part in parts if part.signer is not None]
    sealed = [part for part in parts if part.scheme is not None]
    evidence = [Evidence("signed by", ", ".join(one.addresses[:SHOWN_MAX])) for one in signers]
    evidence += [Evidence("encrypted to", one.key) for part in sealed for one in part.to.values()]
    done = [word for word, is_so in (("signed", signers), ("encrypted", sealed)) if is_so]
    schemes = [part.scheme for part in sealed if part.scheme is not None]
    schemes = schemes or [one.scheme for one in signers]
    return Finding(
        name=FINDING,
        result=" and ".join(done),
        reason=", ".join(dict.fromkeys(one.value for one in schemes)),
        evidence=tuple(evidence),
    )


def _untouched(reason: str) -> Protected:
    return Protected(findings=(Finding(name=FINDING, result="none", reason=reason),))


def _opened_here(keys: Sequence[MailKey]) -> tuple[MailKey, ...]:
    """Of an account whose mail is decrypted here: those that are read by us."""
    return tuple(
        msgspec.structs.replace(key, reads=OWN.words) if key.has_private else key for key in keys
    )


def _recipient(keys: Sequence[MailKey], scheme: Scheme, now: datetime) -> Recipient | None:
    """The first that something can be encrypted to. Raises NotInstalled."""
    now_us = int(now.timestamp() * 1e6)
    for key in keys:
        if key.scheme is scheme and key.is_usable(now_us):
            try:
                found = key_material.recipient(key)
            except NotInstalled:
                raise
            except ProtectionError:
                continue
            if not found.why_unusable(now):
                return found
    return None


# --- what a message says ---


def _author(section: HeaderSection) -> str:
    """ "" where there is not just one, whom all can read: no key is another's word."""
    found = read_authors(field_octets(section, field) for field in section.fields)
    return _folded(found.addresses[0]) if len(found.addresses) == 1 and not found.fault else ""


def _visible(section: HeaderSection) -> frozenset[str]:
    """Whom its readers see as recipients."""
    values = [section.value(field) for field in section.fields if field.name in _VISIBLE]
    return frozenset(
        _folded(one) for value in values for one in parse_address_list(value).addresses()
    )


def _folded(address: Address) -> str:
    return fold_address(format_address(address))


def _sender(tx: Transaction, *, account: AccountId, author: str, node_key: NodeKey) -> _Sender:
    """The keys that name the author's address, of the account and of its domain."""
    own = list(of_owner(tx, account=account))
    row = accounts.account_by_id(tx, account)
    domain = accounts.domain_by_name(tx, row.name.rpartition("@")[2]) if row is not None else None
    signing: list[tuple[MailKey, bytes]] = []
    trouble = ""
    now_us = tx.now_us()
    known = [*own, *(of_owner(tx, domain=domain.id) if domain is not None else ())]
    for key in known:
        if key.has_private and key.is_usable(now_us) and author in key.addresses:
            try:
                signing.append((key, private_half(tx, key, node_key)))
            except UserError as error:
                trouble = error.text
    return _Sender(
        signing=tuple(signing),
        # Who writes as an alias is not to be known by their own key.
        own=tuple(key for key in own if author in key.addresses),
        known=tuple(known),
        trouble=trouble,
    )
