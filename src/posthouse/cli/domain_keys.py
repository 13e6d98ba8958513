"""DKIM keys on the command line: for `posthouse domain`, `dns` and `quickstart`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from posthouse.accounts import domain_keys, rotation
from posthouse.accounts.domain_keys import DomainKey, KeyState, day_of, minute_of
from posthouse.accounts.rotation import Sight
from posthouse.accounts.sealing import NodeKey
from posthouse.cli.resolver import caching_resolver, dns_options
from posthouse.config import build_keys
from posthouse.config.schema import Config
from posthouse.mailauth.dkim.sign import NewKey
from posthouse.net.world import SystemChance
from posthouse.store.sqlite.engine import SqliteStore
from posthouse.zone.records import dkim_records, record_line


class KeyShown(msgspec.Struct, frozen=True, kw_only=True):
    """A key as `posthouse domain keys` shows it."""

    selector: str
    algorithm: str
    state: str
    """ "waiting", "signing", "retired" or "revoked"."""
    since: str
    dns: str
    """What the DNS says of its record: "shown", "not shown", "unknown"; "" when not asked."""
    found: str
    """What is there in its place."""
    next: str
    """What to do, or what happens next."""
    name: str
    """Of its record."""
    record: str


def node_key(config: Config) -> NodeKey:
    return NodeKey(build_keys.node_key_path(config), SystemChance())


def new_keys(config: Config) -> tuple[NewKey, ...]:
    """For a new domain; none where DKIM is off."""
    if not config.dkim.is_enabled:
        return ()
    options = build_keys.rotation_options(config)
    return domain_keys.generate_keys(options.algorithms, rsa_bits=options.rsa_bits)


def look(config: Config, resolver: str | None, keys: Sequence[DomainKey]) -> dict[int, Sight]:
    """What the DNS says of them now."""
    options = dns_options(config, resolver)

    async def ask() -> dict[int, Sight]:
        return await rotation.look(keys, caching_resolver(options))

    return asyncio.run(ask())


def advanced(
    store: SqliteStore, config: Config, domain: str, resolver: str | None
) -> tuple[tuple[DomainKey, ...], dict[int, Sight]]:
    """The domain's keys after every step that the DNS lets them take now."""
    sights = look(config, resolver, store.read_now(lambda tx: domain_keys.keys(tx, domain)))
    options = build_keys.rotation_options(config)
    store.write_now(lambda tx: rotation.advance(tx, domain, sights, options))
    return store.read_now(lambda tx: domain_keys.keys(tx, domain)), sights


def shown(
    keys: Sequence[DomainKey], sights: Mapping[int, Sight], config: Config, *, now_us: int
) -> tuple[KeyShown, ...]:
    options = build_keys.rotation_options(config)
    return tuple(
        KeyShown(
            selector=key.selector,
            algorithm=key.algorithm,
            state=key.state.name.lower(),
            since=day_of(_since(key)),
            dns=_dns_word(sights.get(key.id)),
            found=_found(sights.get(key.id)),
            next=next_step(key, sights.get(key.id), options, now_us=now_us),
            name=key.record_name,
            record=key.record,
        )
        for key in keys
    )


def next_step(key: DomainKey, seen: Sight | None, options: rotation.Options, *, now_us: int) -> str:
    """What to do about a key, or what happens next, in words."""
    is_shown = seen.is_shown if seen is not None else None
    if seen is not None and is_shown is None:
        return f"the DNS could not be asked: {seen.found}"
    match key.state:
        case KeyState.WAITING if is_shown and key.ready_at is not None:
            return f"signs from {minute_of(key.ready_at)} on, when no cache is left without it"
        case KeyState.WAITING:
            return f"publish its record: posthouse dns records {key.domain}"
        case KeyState.SIGNING if is_shown is False:
            return "publish its record NOW: nobody can verify what it signs"
        case KeyState.SIGNING:
            return "nothing to do"
        case KeyState.RETIRED if rotation.is_needless(key, now_us, options):
            return "remove its record from the DNS"
        case KeyState.RETIRED:
            until = day_of(rotation.needed_until(key, options))
            if seen is not None and seen.is_revoked:
                return f"nothing: its record revokes it, and it is wiped on {until}"
            if is_shown is False:
                return (
                    f"put its record back until {until}: mail signed with it is under way and"
                    " cannot be verified"
                )
            return f"leave its record until {until}: mail signed with it is under way"
    return "nothing: it is gone"


def record_lines(keys: Sequence[DomainKey]) -> tuple[str, ...]:
    """The records to publish of keys, as zone lines."""
    return tuple(map(record_line, dkim_records(keys)))


def put_back_lines(
    keys: Sequence[DomainKey], sights: Mapping[int, Sight], config: Config, *, now_us: int
) -> tuple[str, ...]:
    """Records of retired keys that were removed too early, as zone lines."""
    options = build_keys.rotation_options(config)
    return record_lines(
        [
            key
            for key in keys
            if key.state is KeyState.RETIRED
            and (seen := sights.get(key.id)) is not None
            and seen.is_shown is False
            and not seen.is_revoked
            and not rotation.is_needless(key, now_us, options)
        ]
    )


def _since(key: DomainKey) -> int:
    times = {
        KeyState.WAITING: key.created_at,
        KeyState.SIGNING: key.signs_at,
        KeyState.RETIRED: key.retired_at,
        KeyState.REVOKED: key.revoked_at,
    }
    return times[key.state] or key.created_at


def _dns_word(seen: Sight | None) -> str:
    if seen is None:
        return ""
    return {True: "shown", False: "not shown", None: "unknown"}[seen.is_shown]


def _found(seen: Sight | None) -> str:
    return "" if seen is None or seen.is_shown else seen.found
