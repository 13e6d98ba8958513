"""The port `Isolated` without processes: the work runs on the loop, after a chosen virtual time."""

from __future__ import annotations

import asyncio
import importlib

from posthouse.kernel.ports import IsolationFailed


class InlineIsolation:
    """Runs each piece of work whole and in order, so that a run can be repeated; of the bounds it
    keeps the one on the result, and the one on time in virtual time.

    `work_s` is what a piece takes. While `fault` is set every piece ends with it and does not run.
    """

    def __init__(self, *, work_s: float = 0.0) -> None:
        self.work_s = work_s
        self.fault: IsolationFailed | None = None
        self.finished = 0

    async def run(
        self, work: str, octets: bytes, *, timeout_s: float, memory_octets: int, result_octets: int
    ) -> bytes:
        await asyncio.sleep(min(self.work_s, timeout_s))
        if self.fault is not None:
            raise self.fault
        if self.work_s > timeout_s:
            raise IsolationFailed(f"it took longer than {timeout_s:g} s")
        module, _, name = work.partition(":")
        try:
            result: bytes = getattr(importlib.import_module(module), name)(octets)
        except Exception as error:
            raise IsolationFailed(f"it failed with {type(error).__name__}") from error
        if len(result) > result_octets:
            raise IsolationFailed(
                f"its result is larger than {result_octets} octets", is_for_now=False
            )
        self.finished += 1
        return result

    def close(self) -> None:
        """There is nothing to end."""
