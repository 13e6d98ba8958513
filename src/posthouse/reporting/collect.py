"""Sums what reception and relay see, and writes the sums to the store about once a minute.

`add` is called on the hot path and touches memory only. A crash loses what was not written yet: at
most a minute of statistics, which nobody was promised. No mail depends on it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import msgspec

from posthouse.kernel.errors import Fault
from posthouse.kernel.ports import Clock
from posthouse.observe import events
from posthouse.observe.limits import LimitWatch
from posthouse.observe.log import Log
from posthouse.reporting.options import Options
from posthouse.reporting.rows import DmarcRow, TlsRow
from posthouse.store import reports as rows
from posthouse.store.reports import ResultKind, ResultRow
from posthouse.store.transaction import Store, Transaction

FLUSH_S: Final = 60.0
ROWS_AT_ONCE: Final = 500
"""Written in one unit of work."""

Key = TypeVar("Key", DmarcRow, TlsRow)
_ENCODER: Final = msgspec.json.Encoder()


class Collector:
    """One for each process. `run` flushes; call `flush` once more when the process stops."""

    def __init__(
        self, options: Options, *, store: Store, clock: Clock, log: Log, limits: LimitWatch
    ) -> None:
        self._options = options
        self._store = store
        self._clock = clock
        self._log = log
        self._limits = limits
        self._dmarc: dict[tuple[int, DmarcRow], int] = {}
        self._tls: dict[tuple[int, TlsRow], int] = {}
        self.lost = 0
        """Messages and sessions that found no room since the start."""
        self._lost_since_flush = 0
        self._is_filled = asyncio.Event()

    def set_options(self, options: Options) -> None:
        """A reloaded config."""
        self._options = options

    @property
    def waiting(self) -> int:
        """Sums in memory."""
        return len(self._dmarc) + len(self._tls)

    def add(self, row: DmarcRow, messages: int = 1) -> None:
        """Count a judged message for the report of its policy domain."""
        if self._options.sends_dmarc:
            self._add(self._dmarc, row, messages)

    def add_tls(self, row: TlsRow, sessions: int = 1) -> None:
        """Count a session, or a policy that could not be had."""
        if self._options.sends_tls:
            self._add(self._tls, row, sessions)

    def _add(self, sums: dict[tuple[int, Key], int], row: Key, count: int) -> None:
        self._is_filled.set()
        key = (self._begin_at(), row)
        known = sums.get(key)
        if known is not None:
            sums[key] = known + count
        elif self.waiting < self._options.rows_max:
            sums[key] = count
        else:
            self._lost_since_flush += count

    def _begin_at(self) -> int:
        interval = self._options.interval_us
        now = self._clock.unix_us()
        return now - now % interval

    async def run(self) -> None:
        """Flush a minute after something came, for ever."""
        while True:
            await self._is_filled.wait()
            await self._clock.sleep(FLUSH_S)
            self._is_filled.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write what is in memory. What cannot be written now stays there for the next time."""
        if self._lost_since_flush:
            self._tell_lost("reports.rows_max", self._options.rows_max, self._lost_since_flush)
            self._lost_since_flush = 0
        dmarc, self._dmarc = self._dmarc, {}
        await self._write(ResultKind.DMARC, dmarc, self._dmarc_again, _dmarc_result)
        tls, self._tls = self._tls, {}
        await self._write(ResultKind.TLS, tls, self._tls_again, _tls_result)

    async def _write(
        self,
        kind: ResultKind,
        sums: dict[tuple[int, Key], int],
        again: Callable[[dict[tuple[int, Key], int]], None],
        result: Callable[[int, Key, int], ResultRow],
    ) -> None:
        waiting = list(sums.items())
        while waiting:
            now, waiting = waiting[:ROWS_AT_ONCE], waiting[ROWS_AT_ONCE:]
            results = [result(begin_at, row, count) for (begin_at, row), count in now]
            most = self._options.results_max
            try:
                lost = await self._store.submit(partial(_add, kind, results, most))
            except Fault as fault:
                self._log.write(events.FAULT_MET, kind=type(fault).__name__, detail=str(fault))
                again(dict(now + waiting))
                return
            if lost:
                self._tell_lost("reports.results_max", most, lost)

    def _dmarc_again(self, sums: dict[tuple[int, DmarcRow], int]) -> None:
        for key, count in self._dmarc.items():
            sums[key] = sums.get(key, 0) + count
        self._dmarc = sums
        self._is_filled.set()

    def _tls_again(self, sums: dict[tuple[int, TlsRow], int]) -> None:
        for key, count in self._tls.items():
            sums[key] = sums.get(key, 0) + count
        self._tls = sums
        self._is_filled.set()

    def _tell_lost(self, name: str, value: int, lost: int) -> None:
        self.lost += lost
        self._limits.reached(name, value=value, observed=value + lost)


def _add(kind: ResultKind, results: list[ResultRow], most: int, tx: Transaction) -> int:
    """How many found no room."""
    room = max(0, most - rows.result_count(tx, kind))
    return rows.add_results(tx, kind, results, room=room)[1]


def _dmarc_result(begin_at: int, row: DmarcRow, count: int) -> ResultRow:
    return _result(row.policy.domain, begin_at, row.policy, row.facts, count)


def _tls_result(begin_at: int, row: TlsRow, count: int) -> ResultRow:
    return _result(row.domain, begin_at, row.policy, row.facts, count)


def _result(
    domain: str, begin_at: int, policy: msgspec.Struct, facts: msgspec.Struct, count: int
) -> ResultRow:
    policy_octets, facts_octets = _ENCODER.encode(policy), _ENCODER.encode(facts)
    digest = hashlib.sha256(policy_octets + b"\n" + facts_octets).digest()
    return ResultRow(
        domain=domain,
        begin_at=begin_at,
        digest=digest,
        policy=policy_octets,
        facts=facts_octets,
        total=count,
    )
