"""What every look at a domain needs: whom to ask, what should be there, and where the host is."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from posthouse.accounts.domain_keys import DomainKey
from posthouse.accounts.rotation import Options as RotationOptions
from posthouse.config.schema import Config, Service
from posthouse.kernel.envelope import Address
from posthouse.kernel.ports import Clock, DnsAnswer, Fetch, Network, RecordType, Resolver
from posthouse.net.addresses import is_public
from posthouse.net.deadlines import Deadlines
from posthouse.tls.peers import Verifier
from posthouse.zone.asking import Asking
from posthouse.zone.records import Record, Wishes


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the world that a look needs."""

    resolver: Resolver
    unchecked: Resolver
    """As `resolver`, and it gives what DNSSEC proves wrong, too."""
    network: Network
    clock: Clock
    deadlines: Deadlines
    fetch: Fetch
    verifier: Verifier
    port_of: Callable[[Service], int]
    """Where other hosts and mail clients would come to."""
    is_unknown: Callable[[Address], bool] = lambda _: False
    """Whether an address is in a domain of ours and nobody has it."""


class Subject:
    """A domain of ours, looked at from outside. What is asked twice is asked once."""

    def __init__(
        self,
        config: Config,
        domain: str,
        *,
        wishes: Wishes,
        wanted: tuple[Record, ...],
        rotation: RotationOptions,
        ports: Ports,
    ) -> None:
        self.config = config
        self.domain = domain
        self.host = config.node.hostname
        self.keys: tuple[DomainKey, ...] = wishes.keys
        self.wishes = wishes
        self.wanted = wanted
        self.rotation = rotation
        self.ports = ports
        self.allows_private = config.relay.allow_private_addresses
        self._asking = Asking(ports.resolver)

    async def ask(self, name: str, record_type: RecordType) -> DnsAnswer:
        return await self._asking.ask(name, record_type)

    async def host_answers(self) -> tuple[DnsAnswer, DnsAnswer]:
        """A and AAAA of our host."""
        return await self._asking.addresses(self.host)

    async def addresses(self) -> tuple[str, ...]:
        """Of our host, as the DNS has them."""
        four, six = await self.host_answers()
        return (*four.records, *six.records)

    def is_reachable(self, address: str) -> bool:
        """Whether the whole Internet could come to it; in a private network, whether anybody."""
        return self.allows_private or is_public(address)

    def wants(self, name: str, record_type: RecordType) -> tuple[Record, ...]:
        """What should be published there."""
        owner = f"{name.rstrip('.')}."
        return tuple(
            record
            for record in self.wanted
            if record.name == owner and record.type == record_type.value
        )
