"""Questions to the DNS, each asked once."""

from __future__ import annotations

import asyncio

from posthouse.kernel.ports import DnsAnswer, RecordType, Resolver


class Asking:
    """What looks that run side by side ask; a question of two of them is one."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._asked: dict[tuple[str, RecordType], asyncio.Task[DnsAnswer]] = {}

    async def ask(self, name: str, record_type: RecordType) -> DnsAnswer:
        key = (name.rstrip("."), record_type)
        if key not in self._asked:
            self._asked[key] = asyncio.ensure_future(self._resolver.resolve(*key))
        return await asyncio.shield(self._asked[key])

    async def addresses(self, name: str) -> tuple[DnsAnswer, DnsAnswer]:
        """Its A and AAAA records."""
        return await asyncio.gather(self.ask(name, RecordType.A), self.ask(name, RecordType.AAAA))
