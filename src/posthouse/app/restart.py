"""Which settings a running server keeps until its next start, whatever a reloaded config says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from posthouse.config.schema import Config

UNTIL_RESTART: Final = (
    "node.hostname",
    "node.data_folder",
    "listener",
    "net.port_base",
    "net.per_address_max",
    "net.per_network_max",
    "net.per_address_imap_max",
    "net.per_network_imap_max",
    "net.rate_per_minute",
    "net.rate_imap_per_minute",
    "net.exempt_networks",
    "tls.handshake_s",
    "acme.is_enabled",
    "web",
    "dkim.key_file",
    "auth.cache_s",
    "auth.failures",
    "route",
    "relay.concurrency",
    "dns",
    "reports.is_enabled",
    "reports.dmarc_local_part",
    "reports.tls_local_part",
    "store.free_octets_min",
    "store.free_inodes_min",
    "store.busy_s",
    "store.waiting_max",
    "store.waiting_octets_max",
    "store.wal_octets_max",
    "blob",
    "workers",
    "guard",
    "log.file",
    "log.lines_waiting_max",
    "metrics",
)
"""Settings and whole sections."""


def kept_until_restart(old: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """`new` with the old values of what cannot change while running, and the keys that differed."""
    effective: Any = new
    keys: list[str] = []
    for key in UNTIL_RESTART:
        path = key.split(".")
        before, after = _at(old, path), _at(new, path)
        if before != after:
            keys.extend(_differing(key, before, after))
            effective = _with(effective, path, before)
    return effective, tuple(keys)


def _at(value: Any, path: list[str]) -> Any:
    for name in path:
        value = getattr(value, name)
    return value


def _with(value: Any, path: list[str], leaf: Any) -> Any:
    if not path:
        return leaf
    inner = _with(getattr(value, path[0]), path[1:], leaf)
    return msgspec.structs.replace(value, **{path[0]: inner})


def _differing(key: str, before: Any, after: Any) -> Iterator[str]:
    if not isinstance(before, msgspec.Struct):
        yield key
        return
    for name in before.__struct_fields__:
        if getattr(before, name) != getattr(after, name):
            yield from _differing(f"{key}.{name}", getattr(before, name), getattr(after, name))
