"""What S/MIME and OpenPGP prove of a message, for `posthouse check mail`."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import datetime
from pathlib import Path

import msgspec

from posthouse.accounts.admin import known_account
from posthouse.accounts.sealing import NodeKey
from posthouse.cli.data import open_store
from posthouse.cli.output import CommandError
from posthouse.cli.resolver import caching_resolver, https_fetch
from posthouse.config import build, build_keys, build_mimesec
from posthouse.config.schema import Config
from posthouse.dns.options import Options
from posthouse.gateway.incoming import authors_of, is_decrypted, is_protected, open_with
from posthouse.gateway.opening_keys import OpeningKeys, opening_keys
from posthouse.gateway.revocations import Revocations
from posthouse.kernel.finding import Finding
from posthouse.kernel.ids import AccountId
from posthouse.kernel.ports import IsolationFailed
from posthouse.mimesec import explain
from posthouse.mimesec.opening import Opened
from posthouse.net.isolated import ProcessIsolation
from posthouse.net.workers import ThreadWorkers
from posthouse.net.world import SystemChance, SystemClock
from posthouse.store.transaction import Transaction


class ProtectionFound(msgspec.Struct, frozen=True, kw_only=True):
    found: tuple[Finding, ...] = ()
    lines: tuple[str, ...] = ()
    """For people."""


def protection_of(
    config: Config, octets: bytes, whom: str | None, at: datetime, *, dns: Options
) -> ProtectionFound:
    """Nothing for a message that is neither signed nor encrypted.

    Args:
        dns: where issuers of certificates are looked up.

    Raises:
        CommandError, UserError: there is no such account, or it could not be opened at all.
    """
    if not is_protected(octets):
        return ProtectionFound()
    keys = _keys(config, octets, whom)
    try:
        opened = asyncio.run(_opened(config, keys, octets, at, dns))
    except IsolationFailed as error:
        raise CommandError(
            f"the message could not be opened: {error}",
            hint="the bounds are mimesec.open_s, mimesec.open_memory_octets and"
            " mimesec.opened_octets_max",
        ) from error
    return ProtectionFound(
        found=explain.findings(opened, is_shown=is_decrypted(opened)),
        lines=tuple(explain.lines(opened)),
    )


async def _opened(
    config: Config, keys: OpeningKeys, octets: bytes, at: datetime, dns: Options
) -> Opened:
    options = build_mimesec.gateway_options(config)
    with (
        closing(ProcessIsolation()) as isolated,
        closing(ThreadWorkers()) as workers,
    ):
        resolver = caching_resolver(dns)
        revocations = Revocations(
            build_mimesec.revocation_options(config),
            fetch=https_fetch(config, resolver),
            clock=SystemClock(),
            workers=workers,
        )
        opened, _ = await open_with(
            keys, octets, options, isolated=isolated, revocations=revocations, at=at
        )
        return opened


def _keys(config: Config, octets: bytes, whom: str | None) -> OpeningKeys:
    if whom is None and not Path(build.store_options(config).folder, "posthouse.db").exists():
        return OpeningKeys(own_ids=())  # a message can be looked at where there is no server
    node_key = NodeKey(build_keys.node_key_path(config), SystemChance())

    def look(tx: Transaction) -> OpeningKeys:
        account: AccountId | None = known_account(tx, whom).id if whom is not None else None
        return opening_keys(tx, account=account, authors=authors_of(octets), node_key=node_key)

    with open_store(config) as store:
        return store.read_now(look)
