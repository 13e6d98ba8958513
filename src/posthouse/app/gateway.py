"""The parts of signing, encrypting and opening mail, put together for one node."""

from __future__ import annotations

from posthouse.accounts.policies import Policies
from posthouse.accounts.sealing import NodeKey
from posthouse.app.world import World
from posthouse.config import build_mimesec
from posthouse.config.schema import Config
from posthouse.gateway.at_rest import AtRest
from posthouse.gateway.incoming import Incoming
from posthouse.gateway.key_places import Authorities, KeyPlaces
from posthouse.gateway.key_search import KeySearch
from posthouse.gateway.options import Options
from posthouse.gateway.outgoing import Outgoing
from posthouse.gateway.own_copies import OwnCopies
from posthouse.gateway.revocations import Revocations
from posthouse.kernel.ports import Fetch, Resolver
from posthouse.message.fields import read_section
from posthouse.reception.authentication import Examiner
from posthouse.store.transaction import Store


class Gateway:
    """One for each node."""

    def __init__(
        self,
        config: Config,
        *,
        world: World,
        store: Store,
        policies: Policies,
        node_key: NodeKey,
        resolver: Resolver,
        fetch: Fetch,
        examiner: Examiner,
        at_rest: AtRest,
    ) -> None:
        """Raises UserError when a file that the config names cannot be used."""
        options = build_mimesec.gateway_options(config)
        self._authorities = Authorities(options.roots, clock=world.clock, workers=world.workers)
        self.key_search = KeySearch(
            build_mimesec.key_search_options(config),
            store=store,
            places=KeyPlaces(resolver=resolver, fetch=fetch, authorities=self._authorities),
            clock=world.clock,
        )
        self.outgoing = Outgoing(
            options,
            store=store,
            policies=policies,
            node_key=node_key,
            finder=self.key_search,
            clock=world.clock,
            workers=world.workers,
        )
        self.revocations = Revocations(
            build_mimesec.revocation_options(config),
            fetch=fetch,
            clock=world.clock,
            workers=world.workers,
        )
        self.incoming = Incoming(
            options,
            store=store,
            policies=policies,
            node_key=node_key,
            isolated=world.isolated,
            clock=world.clock,
            workers=world.workers,
            revocations=self.revocations,
            finder=self.key_search,
            without_forged=lambda octets: examiner.without_forged(read_section(octets)),
        )
        self.own_copies = OwnCopies(store, incoming=self.incoming, at_rest=at_rest)

    def set_options(self, config: Config, options: Options) -> None:
        """A reloaded config.

        Args:
            options: `build_mimesec.gateway_options` of it, made before anything is applied.
        """
        self.incoming.options = self.outgoing.options = options
        self._authorities.roots = options.roots
        self.key_search.options = build_mimesec.key_search_options(config)
        self.revocations.options = build_mimesec.revocation_options(config)
