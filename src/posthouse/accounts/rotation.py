"""Rotation of DKIM keys in three steps that wait for the DNS: publish, sign, revoke.

1. A key that signs is old: the next one is made and waits for the DNS to show its record.
2. The DNS shows it, and has done so for one TTL, so that no cache is left without it: it signs, and
   the key before it retires. No mail is ever signed with a key that receivers cannot find.
3. Mail signed with the retired key has arrived or expired: its record may go. Once the DNS shows it
   no more (or an empty `p=`, RFC 6376 §3.6.1) the key is revoked and its private half wiped. Before
   that time nothing is wiped, whatever the DNS says: an answer may be wrong, or the record was
   removed by mistake and has to come back.

`advance` is the whole of it as a unit of work; `Rotation` calls it in the server, and
`posthouse domain keys` for somebody who does not want to wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

import msgspec

from posthouse.accounts.domain_keys import (
    DomainKey,
    KeyState,
    generate_keys,
    keys,
    make_keys,
    revokes,
    shows,
)
from posthouse.accounts.sealing import NodeKey
from posthouse.kernel.errors import Fault, PosthouseError
from posthouse.kernel.ports import (
    Clock,
    DnsAnswer,
    DnsStatus,
    DnsUpdateFailed,
    DnsUpdater,
    RecordType,
    Resolver,
    Workers,
)
from posthouse.mailauth.dkim.grammar import ED25519, RSA
from posthouse.observe import events
from posthouse.observe.events import Event
from posthouse.observe.log import Log
from posthouse.store import domain_keys as rows
from posthouse.store.transaction import DirectoryChanged, Store, Transaction

LOOK_S: Final = 3_600.0
LOOK_SOON_S: Final = 300.0
"""While a new key waits for the DNS and somebody may be publishing it."""
SOON_FOR_S: Final = 2 * 86_400.0
TTL_WAIT_MIN_S: Final = 3_600.0
"""At least: the answer may have lain in a cache, and that there was no such record is often kept
longer than the record itself."""
TTL_WAIT_MAX_S: Final = 86_400.0
FOUND_OCTETS_MAX: Final = 1_000
"""Of a record that is shown to people."""
TTL_S: Final = 3_600
"""Of the records we publish ourselves."""
US: Final = 1_000_000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    algorithms: tuple[str, ...] = (RSA, ED25519)
    rsa_bits: int = 2048
    is_rotated: bool = True
    rotation_s: float = 180 * 86_400.0
    lifetime_s: float = 19 * 86_400.0
    """How long mail signed with a key may be under way: the queue's lifetime and x= together."""


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What the DNS says of a key's record."""

    is_shown: bool | None
    """None: it could not be asked."""
    ttl_s: float = 0.0
    found: str = ""
    """What is there in its place, or why nothing could be learnt, in words."""
    is_revoked: bool = False
    """What is there revokes it (RFC 6376 §3.6.1): no mistake."""


NOT_YET: Final = Sight(is_shown=False)
"""Of a key made a moment ago."""


class Step(Enum):
    """What a look at a domain's keys can lead to."""

    MADE = "made"
    SHOWN = "shown"  # the DNS shows it; it signs after one TTL
    GONE = "gone"  # the DNS showed it, and does so no more
    SIGNS = "signs"
    NOT_SHOWN = "not shown"  # it signs, but receivers cannot find it
    RETIRED = "retired"
    TOO_EARLY = "too early"  # retired; its record is gone while it is needed still
    MAY_GO = "may go"  # its record is needed no more
    REVOKED = "revoked"


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    key: DomainKey
    """As it was before."""
    step: Step
    detail: str = ""


class Advanced(msgspec.Struct, frozen=True, kw_only=True):
    transitions: tuple[Transition, ...]
    wanted: tuple[str, ...]
    """Algorithms that the domain needs a new key of."""


# --- what the DNS shows ---


async def look(domain_keys: Sequence[DomainKey], resolver: Resolver) -> dict[int, Sight]:
    """What the DNS says of each key that is not revoked."""
    alive = [key for key in domain_keys if key.state is not KeyState.REVOKED]
    answers = await asyncio.gather(
        *(resolver.resolve(key.record_name, RecordType.TXT) for key in alive)
    )
    return {key.id: sight(key, answer) for key, answer in zip(alive, answers, strict=True)}


def sight(key: DomainKey, answer: DnsAnswer) -> Sight:
    """Two records at one name count as none: a receiver may take either (RFC 6376 §3.6.2.2)."""
    if answer.status is DnsStatus.TEMPFAIL:
        return Sight(is_shown=None, found=answer.detail or "no answer")
    texts = [bytes(record) for record in answer.records]
    if not texts:
        return Sight(is_shown=False, ttl_s=answer.ttl_s, found="no record")
    if len(texts) > 1:
        return Sight(is_shown=False, ttl_s=answer.ttl_s, found=f"{len(texts)} TXT records, not one")
    is_shown = shows(texts[0], key)
    found = texts[0][:FOUND_OCTETS_MAX].decode("ascii", "replace")
    return Sight(
        is_shown=is_shown,
        ttl_s=answer.ttl_s,
        found=found,
        is_revoked=not is_shown and revokes(texts[0]),
    )


# --- what follows from it ---


def advance(
    tx: Transaction, domain: str, sights: Mapping[int, Sight], options: Options
) -> Advanced:
    """Take every step that is due for a domain's keys. May be run again at any time."""
    walk = _Walk(tx, keys(tx, domain), sights, options)
    walk.waiting()
    walk.signing()
    walk.retired()
    if any(each.step in _CHANGES for each in walk.transitions):
        tx.changed(DirectoryChanged())
    return Advanced(transitions=tuple(walk.transitions), wanted=walk.wanted())


_CHANGES: Final = frozenset({Step.SIGNS, Step.RETIRED, Step.REVOKED})


class _Walk:
    def __init__(
        self,
        tx: Transaction,
        found: Sequence[DomainKey],
        sights: Mapping[int, Sight],
        options: Options,
    ) -> None:
        self._tx = tx
        self._now = tx.now_us()
        self._keys = found
        self._sights = sights
        self._options = options
        self.transitions: list[Transition] = []

    def _in(self, state: KeyState, algorithm: str | None = None) -> list[DomainKey]:
        return [
            key for key in self._keys if key.state is state and algorithm in (None, key.algorithm)
        ]

    def _note(self, key: DomainKey, step: Step, detail: str = "") -> None:
        self.transitions.append(Transition(key=key, step=step, detail=detail))

    def waiting(self) -> None:
        for key in self._in(KeyState.WAITING):
            seen = self._sights.get(key.id)
            if seen is None or seen.is_shown is None:
                continue
            if not seen.is_shown:
                if key.shown_at is not None:
                    rows.set_shown(self._tx, key.id, shown_at=None, ready_at=None)
                    self._note(key, Step.GONE, seen.found)
                continue
            ready_at = key.ready_at
            if ready_at is None:
                ready_at = self._now + self._wait_us(key, seen)
                rows.set_shown(self._tx, key.id, shown_at=self._now, ready_at=ready_at)
                self._note(key, Step.SHOWN)
            if ready_at <= self._now:
                self._sign(key)

    def _wait_us(self, key: DomainKey, seen: Sight) -> int:
        """The first key of its kind has none to take over from: mail signed with a key that a few
        caches do not have yet is no worse off than mail that is not signed."""
        if not self._in(KeyState.SIGNING, key.algorithm):
            return 0
        return int(min(max(seen.ttl_s, TTL_WAIT_MIN_S), TTL_WAIT_MAX_S) * US)

    def _sign(self, key: DomainKey) -> None:
        for before in self._in(KeyState.SIGNING, key.algorithm):
            self._retire(before)
        rows.set_signing(self._tx, key.id, KeyState.SIGNING)
        self._note(key, Step.SIGNS)
        self._keys = keys(self._tx, key.domain)

    def _retire(self, key: DomainKey) -> None:
        rows.set_retired(self._tx, key.id, KeyState.RETIRED)
        self._note(key, Step.RETIRED)

    def signing(self) -> None:
        for key in self._in(KeyState.SIGNING):
            seen = self._sights.get(key.id)
            if seen is not None and seen.is_shown is False:
                self._note(key, Step.NOT_SHOWN, seen.found)
            others = [k for k in self._in(KeyState.SIGNING) if k.algorithm != key.algorithm]
            if self._is_old(key) and key.algorithm not in self._options.algorithms and others:
                self._retire(key)
                self._keys = keys(self._tx, key.domain)

    def retired(self) -> None:
        for key in self._in(KeyState.RETIRED):
            seen = self._sights.get(key.id)
            is_gone = seen is not None and seen.is_shown is False
            if not is_needless(key, self._now, self._options):
                if seen is not None and is_gone and not seen.is_revoked:
                    self._note(key, Step.TOO_EARLY, seen.found)
            elif is_gone:
                rows.set_revoked(self._tx, key.id, KeyState.REVOKED)
                self._note(key, Step.REVOKED)
            else:
                self._note(key, Step.MAY_GO)

    def wanted(self) -> tuple[str, ...]:
        """When one key is old, all that the domain should have and has not."""
        if not any(map(self._is_old, self._in(KeyState.SIGNING))):
            return ()
        return tuple(
            algorithm
            for algorithm in self._options.algorithms
            if not self._in(KeyState.WAITING, algorithm)
            and all(map(self._is_old, self._in(KeyState.SIGNING, algorithm)))
        )

    def _is_old(self, key: DomainKey) -> bool:
        age_us = self._now - (key.signs_at or self._now)
        return self._options.is_rotated and age_us >= self._options.rotation_s * US


def is_needless(key: DomainKey, now_us: int, options: Options) -> bool:
    """A retired key whose record nobody needs any more."""
    until = needed_until(key, options)
    return until is not None and now_us >= until


def needed_until(key: DomainKey, options: Options) -> int | None:
    """When the last mail signed with a retired key has arrived or expired."""
    return None if key.retired_at is None else key.retired_at + int(options.lifetime_s * US)


def sign_now(tx: Transaction, domain: str) -> tuple[Transition, ...]:
    """Let the waiting keys sign whatever the DNS shows: for somebody who knows better, or whose
    old key is out in the world."""
    waiting = [key.id for key in keys(tx, domain) if key.state is KeyState.WAITING]
    now = tx.now_us()
    for key in waiting:
        rows.set_shown(tx, key, shown_at=now, ready_at=now)
    sights = {key: Sight(is_shown=True) for key in waiting}
    return advance(tx, domain, sights, Options(is_rotated=False)).transitions


# --- in the server ---

_EVENTS: Final[dict[Step, Event]] = {
    Step.MADE: events.KEY_MADE,
    Step.SHOWN: events.KEY_SHOWN,
    Step.GONE: events.KEY_GONE,
    Step.SIGNS: events.KEY_SIGNS,
    Step.NOT_SHOWN: events.KEY_NOT_SHOWN,
    Step.RETIRED: events.KEY_RETIRED,
    Step.TOO_EARLY: events.KEY_TOO_EARLY,
    Step.MAY_GO: events.KEY_MAY_GO,
    Step.REVOKED: events.KEY_REVOKED,
}


class Rotation:
    """Looks at the keys of all domains now and then, for ever."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        resolver: Resolver,
        workers: Workers,
        node_key: NodeKey,
        options: Options,
        log: Log,
        updater: DnsUpdater | None = None,
    ) -> None:
        self.options = options
        self._store = store
        self._clock = clock
        self._resolver = resolver
        self._workers = workers
        self._node_key = node_key
        self._log = log
        self.updater = updater
        self._told: set[tuple[int, Step]] = set()
        self._unpublished: set[int] = set()

    async def run(self) -> None:
        while True:
            await self._clock.sleep(await self.look_at_all())

    async def look_at_all(self) -> float:
        """One look at each domain; seconds until the next. Faults end a domain's look only."""
        after_s = LOOK_S
        for domain in await self._store.read(rows.domains_with_keys):
            try:
                after_s = min(after_s, await self.look_at(domain))
            except (Fault, PosthouseError) as error:
                self._log.write(events.KEY_LOOK_FAILED, domain=domain, detail=str(error))
        return after_s

    async def look_at(self, domain: str) -> float:
        """Raises UserError when the node key cannot be used, Fault when the store cannot."""
        known = await self._store.read(lambda tx: keys(tx, domain))
        sights = await look(known, self._resolver)
        options = self.options
        done = await self._store.submit(lambda tx: advance(tx, domain, sights, options))
        self._told -= {
            (key, step)
            for key, seen in sights.items()
            for step in (Step.NOT_SHOWN, Step.TOO_EARLY)
            if seen.is_shown
        }
        for transition in done.transitions:
            self._tell(transition)
        if done.wanted:
            await self._make(domain, done.wanted)
        if self.updater is not None:
            await self._publish(self.updater, domain, sights)
        return self._next_s(await self._store.read(lambda tx: keys(tx, domain)))

    async def _make(self, domain: str, algorithms: Sequence[str]) -> None:
        bits = self.options.rsa_bits
        new = await self._workers.run(lambda: generate_keys(algorithms, rsa_bits=bits))
        made = await self._store.submit(lambda tx: make_keys(tx, domain, new, self._node_key))
        for key in made:
            self._tell(Transition(key=key, step=Step.MADE))

    async def _publish(self, updater: DnsUpdater, domain: str, sights: Mapping[int, Sight]) -> None:
        """Records that should be there and are not, and the other way round."""
        now = self._clock.unix_us()
        for key in await self._store.read(lambda tx: keys(tx, domain)):
            seen = sights.get(key.id, NOT_YET)
            is_needed = key.state in (KeyState.WAITING, KeyState.SIGNING)
            try:
                if is_needed and seen.is_shown is False:
                    await updater.put_txt(key.record_name, (key.record,), TTL_S)
                elif seen.is_shown and is_needless(key, now, self.options):
                    await updater.remove_txt(key.record_name, (key.record,))
            except DnsUpdateFailed as error:
                self._tell_unpublished(key, error)
            else:
                self._unpublished.discard(key.id)

    def _tell_unpublished(self, key: DomainKey, error: DnsUpdateFailed) -> None:
        """Once for each key: it is tried again at every look."""
        if key.id not in self._unpublished:
            self._unpublished.add(key.id)
            self._log.write(
                events.KEY_PUBLISH_FAILED,
                domain=key.domain,
                selector=key.selector,
                detail=str(error),
            )

    def _next_s(self, known: Sequence[DomainKey]) -> float:
        """Seconds until the next look: soon while somebody may be publishing, and when the wait
        for caches is over."""
        now, after_s = self._clock.unix_us(), LOOK_S
        for key in known:
            if key.state is not KeyState.WAITING:
                continue
            if key.ready_at is not None:
                after_s = min(after_s, max(1.0, (key.ready_at - now) / US))
            elif now - key.created_at < SOON_FOR_S * US:
                after_s = min(after_s, LOOK_SOON_S)
        return after_s

    def _tell(self, transition: Transition) -> None:
        """A state that lasts is told once, not every hour."""
        key, step = transition.key, transition.step
        if step in (Step.NOT_SHOWN, Step.TOO_EARLY, Step.MAY_GO):
            if (key.id, step) in self._told:
                return
            self._told.add((key.id, step))
        fields = {"domain": key.domain, "selector": key.selector, "algorithm": key.algorithm}
        if transition.detail:
            fields["detail"] = transition.detail
        self._log.write(_EVENTS[step], **fields)
