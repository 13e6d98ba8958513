"""How much of each destination is in hand at once, so that none can take all the room (P11).

A destination begins with a small credit of messages, earns more by finishing them soon, and loses
half on trouble. Domains whose destination has no credit left wait here, not in the ready list.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

WAITING_MAX: Final = 1000
"""Domains remembered as waiting for one destination; the rest is found again by a scan."""
DESTINATIONS_MAX: Final = 10_000
"""Destinations without work whose credit is remembered."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    recipients_max: int = 2000
    """Leased by this process at once."""
    credit_first: int = 8
    """Messages of a destination in hand at first."""
    credit_max: int = 400
    credit_min: int = 2
    soon_s: float = 2.0
    """Work that ends within this time earns its destination credit."""
    ready_max: int = 2000
    """Domains known to have something due."""


class _Destination:
    __slots__ = ("credit", "is_overflown", "messages", "waiting")

    def __init__(self, credit: int) -> None:
        self.credit = credit
        self.messages = 0
        self.waiting: dict[str, None] = {}
        self.is_overflown = False


class Window:
    """Counts what is in hand and says what may be leased next."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._destinations: OrderedDict[str, _Destination] = OrderedDict()
        self._ready: dict[str, str] = {}  # domain → destination, in order of turn
        self._waiting: set[str] = set()
        self.recipients = 0

    @property
    def room(self) -> int:
        """Recipients that may still be leased."""
        return self._options.recipients_max - self.recipients

    @property
    def is_full_of_ready(self) -> bool:
        return len(self._ready) >= self._options.ready_max

    def has_turn(self) -> bool:
        """Whether something may be leased now."""
        return bool(self._ready) and self.room > 0

    def is_known(self, domain: str) -> bool:
        return domain in self._ready or domain in self._waiting

    def offer(self, domain: str, destination: str) -> None:
        """`domain` has something due."""
        if not self.is_known(domain):
            self._place(domain, destination)

    def _place(self, domain: str, key: str) -> None:
        destination = self._destination(key)
        if destination.messages < destination.credit:
            self._ready[domain] = key
        elif len(destination.waiting) < WAITING_MAX:
            destination.waiting[domain] = None
            self._waiting.add(domain)
        else:
            destination.is_overflown = True

    def _destination(self, key: str) -> _Destination:
        destination = self._destinations.get(key)
        if destination is None:
            destination = _Destination(self._options.credit_first)
            self._destinations[key] = destination
            if len(self._destinations) > DESTINATIONS_MAX:
                self._forget()
        return destination

    def _forget(self) -> None:
        """Drop the oldest destinations without work; their credit starts anew."""
        idle = [key for key, d in self._destinations.items() if not d.messages and not d.waiting]
        ready = set(self._ready.values())
        for key in idle[: DESTINATIONS_MAX // 10]:
            if key not in ready:
                del self._destinations[key]

    def take_turn(self) -> list[tuple[str, str, int]]:
        """Domains to lease from now, each with its destination and how many messages at most.

        They leave the ready list; `leased` puts back those that may have more.
        """
        wants: list[tuple[str, str, int]] = []
        promised: dict[str, int] = {}
        room = self.room
        ready, self._ready = self._ready, {}
        for domain, key in ready.items():
            destination = self._destination(key)
            free = destination.credit - destination.messages - promised.get(key, 0)
            count = min(free, room)
            if count > 0:
                promised[key] = promised.get(key, 0) + count
                room -= count
                wants.append((domain, key, count))
            elif room <= 0:
                self._ready[domain] = key
            else:
                self._place_waiting(domain, key, destination)
        return wants

    def _place_waiting(self, domain: str, key: str, destination: _Destination) -> None:
        if destination.messages >= destination.credit:
            self._place(domain, key)
        else:  # another domain of the destination had the rest of its credit in this turn
            self._ready[domain] = key

    def leased(self, domain: str, key: str, *, may_have_more: bool) -> None:
        """The turn of a domain is over."""
        if may_have_more:
            self._place(domain, key)

    def began(self, key: str, recipients: int) -> None:
        """A message of a destination is in hand."""
        self._destination(key).messages += 1
        self.recipients += recipients

    def ended(self, key: str, recipients: int, *, took_s: float, is_trouble: bool) -> bool:
        """A message is out of hand; True when domains may wait that only a scan finds."""
        destination = self._destination(key)
        destination.messages -= 1
        self.recipients -= recipients
        if is_trouble:
            destination.credit = max(destination.credit // 2, self._options.credit_min)
        elif took_s <= self._options.soon_s:
            destination.credit = min(destination.credit + 1, self._options.credit_max)
        if destination.messages < destination.credit and destination.waiting:
            domain = next(iter(destination.waiting))
            del destination.waiting[domain]
            self._waiting.discard(domain)
            self._ready[domain] = key
        if destination.is_overflown and not destination.waiting:
            destination.is_overflown = False
            return True
        return False
