"""The resolver: asks recursive servers over UDP and TCP and remembers what they said.

Every way a question can fail is the value `DnsStatus.TEMPFAIL` (promise P8): a caller can take
"there is no MX" for true only when a server said so. RFC 1035 §7, RFC 2308, RFC 7766.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import msgspec

from posthouse.dns.cache import Cache, Key
from posthouse.dns.options import Options
from posthouse.dns.tcp import exchange_tcp
from posthouse.kernel.ports import Chance, Clock, DnsAnswer, DnsStatus, Network, RecordType
from posthouse.protocol.dns.grammar import (
    Alias,
    Answered,
    Truncated,
    Unusable,
    canonical,
    encode_question,
    read_response,
)
from posthouse.protocol.dns.wire import BadName

Server = tuple[str, int]

TIMED_OUT: Final = "no answer in time"


class Counts:
    """What the resolver did since it was made, for metrics."""

    __slots__ = ("cache_hits", "failures", "questions", "shared", "tcp")

    def __init__(self) -> None:
        self.questions = 0  # messages sent
        self.tcp = 0  # of them, over TCP
        self.cache_hits = 0
        self.shared = 0  # waited for an equal question of somebody else
        self.failures = 0  # questions that ended as TEMPFAIL


class _Heard(msgspec.Struct, frozen=True):
    """A settled answer, and its octets on the wire."""

    answer: DnsAnswer
    octets: int


class _Question(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    record_type: RecordType
    deadline_s: float
    chain_max: int  # CNAMEs that may still be followed


class CachingResolver:
    """The port `Resolver` over the port `Network`."""

    def __init__(self, options: Options, *, network: Network, clock: Clock, chance: Chance) -> None:
        self._options = options
        self._network = network
        self._clock = clock
        self._chance = chance
        self._cache = Cache(
            entries_max=options.cache_entries_max, octets_max=options.cache_octets_max
        )
        self._asking: dict[Key, asyncio.Event] = {}
        self._turns = asyncio.Semaphore(options.in_flight_max)
        self._first = 0  # index of the server to ask first: the last one that answered
        self.counts = Counts()

    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        """As `Resolver.resolve`. Takes at most `timeout_s` × `tries` once it has its turn."""
        try:
            key = (canonical(name), record_type)
            encode_question(name, record_type, message_id=0)
        except BadName as error:  # no zone can hold it
            return DnsAnswer(status=DnsStatus.NO_NAME, name=name, detail=str(error))
        while (answer := self._cache.get(key, self._clock.monotonic_s())) is None:
            if (asking := self._asking.get(key)) is not None:
                self.counts.shared += 1
                await asking.wait()  # then it is cached, or its asker was cancelled: our turn
                continue
            return await self._ask_once_for_all(key)
        self.counts.cache_hits += 1
        return answer

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        """As `Resolver.known`: from the cache."""
        try:
            key = (canonical(name), record_type)
        except BadName as error:
            return DnsAnswer(status=DnsStatus.NO_NAME, name=name, detail=str(error))
        answer = self._cache.get(key, self._clock.monotonic_s())
        self.counts.cache_hits += answer is not None
        return answer

    def forget(self) -> None:
        """Empty the cache, for the admin and after a change of servers."""
        self._cache.clear()

    async def _ask_once_for_all(self, key: Key) -> DnsAnswer:
        done = self._asking[key] = asyncio.Event()
        try:
            async with self._turns:
                heard = await self._ask(*key)
            answer = self._clamped(heard.answer)
            now_s = self._clock.monotonic_s()
            self._cache.put(key, answer, now_s=now_s, octets=heard.octets)
            return answer
        finally:
            del self._asking[key]
            done.set()

    def _clamped(self, answer: DnsAnswer) -> DnsAnswer:
        options = self._options
        if answer.status is DnsStatus.TEMPFAIL:
            self.counts.failures += 1
            ttl_s = options.error_ttl_s
        else:
            ttl_s = min(max(answer.ttl_s, options.ttl_s_min), options.ttl_s_max)
        return msgspec.structs.replace(answer, ttl_s=ttl_s)

    async def _ask(self, name: str, record_type: RecordType) -> _Heard:
        """Ask for `name`, and on for the target when a server leaves a CNAME chain open."""
        options = self._options
        question = _Question(
            name=name,
            record_type=record_type,
            deadline_s=self._clock.monotonic_s() + options.timeout_s * options.tries,
            chain_max=options.chain_max,
        )
        ttl_s, is_authenticated = float("inf"), True
        while isinstance(found := await self._ask_servers(question), Alias):
            ttl_s = min(ttl_s, found.ttl_s)
            is_authenticated &= found.is_authenticated
            question = msgspec.structs.replace(
                question, name=found.target, chain_max=question.chain_max - found.links
            )
        answer = msgspec.structs.replace(
            found.answer,
            ttl_s=min(found.answer.ttl_s, ttl_s),
            is_authenticated=found.answer.is_authenticated and is_authenticated,
        )
        return _Heard(answer, found.octets)

    async def _ask_servers(self, question: _Question) -> _Heard | Alias:
        """One question, from server to server: whoever says nothing useful is not asked again,
        whoever is silent has another try in its turn."""
        servers, first = self._options.servers, self._first
        plain: set[Server] = set()
        useless: set[Server] = set()
        details: dict[Server, str] = {}
        for turn in range(len(servers) * self._options.tries):
            index = (first + turn) % len(servers)
            server = servers[index]
            if server in useless or question.deadline_s <= self._clock.monotonic_s():
                continue
            heard = await self._try(question, server, has_edns=server not in plain)
            if not isinstance(heard, Unusable):
                self._first = index
                return heard
            details[server] = heard.detail
            if heard.is_edns_refused and server not in plain:
                plain.add(server)
            elif heard.detail != TIMED_OUT:
                useless.add(server)
        heard_text = (f"{host} port {port}: {details[host, port]}" for host, port in details)
        return _failed("; ".join(heard_text) or TIMED_OUT)

    async def _try(
        self, question: _Question, server: Server, *, has_edns: bool
    ) -> _Heard | Alias | Unusable:
        """One server, once: UDP, and TCP when the answer was cut."""
        left_s = question.deadline_s - self._clock.monotonic_s()
        timeout_s = min(left_s, self._options.timeout_s)
        message_id = int.from_bytes(self._chance.token(2))
        read = partial(
            read_response,
            name=question.name,
            record_type=question.record_type,
            message_id=message_id,
            chain_max=question.chain_max,
        )
        try:
            octets = encode_question(
                question.name,
                question.record_type,
                message_id=message_id,
                has_edns=has_edns,
                is_unchecked=self._options.is_unchecked,
            )
            async with asyncio.timeout(timeout_s):
                self.counts.questions += 1
                answer = await self._network.exchange(octets, *server, timeout_s=timeout_s)
                response = read(answer)
                if isinstance(response, Truncated):
                    self.counts.tcp += 1
                    answer = await exchange_tcp(self._network, octets, *server, timeout_s=timeout_s)
                    response = read(answer)
        except BadName as error:  # a CNAME to nonsense
            return _failed(str(error))
        except TimeoutError:
            return Unusable(detail=TIMED_OUT)
        except OSError as error:
            return Unusable(detail=f"unreachable: {error.strerror or error}")
        return self._judge(response, answer, server)

    def _judge(
        self, response: Answered | Alias | Truncated | Unusable, octets: bytes, server: Server
    ) -> _Heard | Alias | Unusable:
        match response:
            case Truncated():
                return Unusable(detail="truncated over TCP too")
            case Unusable():
                return response
            case _ if len(octets) > self._options.answer_octets_max:
                return Unusable(detail=f"more than {self._options.answer_octets_max} octets")
            case Answered(answer):
                kept = answer if self._options.trusts(server) else _without_ad(answer)
                return _Heard(kept, len(octets))
            case Alias():
                is_kept = response.is_authenticated and self._options.trusts(server)
                return msgspec.structs.replace(response, is_authenticated=is_kept)


def _without_ad(answer: DnsAnswer) -> DnsAnswer:
    return msgspec.structs.replace(answer, is_authenticated=False)


def _failed(detail: str) -> _Heard:
    return _Heard(DnsAnswer(status=DnsStatus.TEMPFAIL, detail=detail), len(detail))
