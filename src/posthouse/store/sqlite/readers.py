"""Reader threads: each with a connection of its own, each query on a snapshot of its own."""

from __future__ import annotations

import queue
from collections.abc import Callable

import apsw

from posthouse.store.sqlite.connection import SqliteTransaction, as_fault
from posthouse.store.sqlite.units import Outcome, Unit


class Readers:
    """A queue of reading functions and what its threads run."""

    def __init__(
        self,
        *,
        connect: Callable[[], apsw.Connection],
        transaction: Callable[[apsw.Connection], SqliteTransaction],
        tell: Callable[[Outcome], None],
    ) -> None:
        """Args:
        tell: hands an outcome to the event loop.
        """
        self._connect = connect
        self._transaction = transaction
        self._tell = tell
        self._waiting: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
        self._threads = 0

    @property
    def waiting(self) -> int:
        return self._waiting.qsize()

    def put(self, unit: Unit) -> None:
        self._waiting.put(unit)

    def close(self, threads: int) -> None:
        for _ in range(threads):
            self._waiting.put(None)

    def run(self) -> None:
        """One of the threads."""
        connection: apsw.Connection | None = None
        while (unit := self._waiting.get()) is not None:
            try:
                connection = connection or self._connect()
                outcome = self._read(unit, connection)
            except Exception as error:
                fault = as_fault(error) if isinstance(error, apsw.Error) else None
                outcome = (unit.done, None, fault or error)
            self._tell(outcome)
        if connection is not None:
            connection.close()

    def _read(self, unit: Unit, connection: apsw.Connection) -> Outcome:
        connection.execute("BEGIN").fetchall()
        try:
            return unit.done, unit.function(self._transaction(connection)), None
        finally:
            connection.execute("COMMIT").fetchall()
