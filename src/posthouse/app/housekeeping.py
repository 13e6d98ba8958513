"""What a node does beside its sessions: counts, stress, pruning, sweeping, certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.config import build
from posthouse.dns.resolver import CachingResolver
from posthouse.kernel.errors import Fault
from posthouse.observe import events
from posthouse.queue.item import Reason, State
from posthouse.store import queue as queue_rows
from posthouse.store.blobs.sweep import Sweeper

if TYPE_CHECKING:
    from posthouse.app.node import Node

QUEUE_STATES: Final = {State.QUEUED: "waiting", State.LEASED: "leased", State.HELD: "held"}
ENDINGS: Final = {
    Reason.RELAYED: "relayed",
    Reason.DEFERRED: "deferred",
    Reason.FAILED: "failed",
}
DROPPED: Final = (
    Reason.DOUBLE_BOUNCE,
    Reason.NULL_REVERSE_PATH,
    Reason.NOTIFY_NEVER,
    Reason.JUNK,
    Reason.UNRETURNABLE,
)
"""Ends without delivery and without a notice."""
HOUSEKEEPING_S: Final = 1.0
SWEEP_S: Final = 600.0
CERTIFICATE_LOOK_S: Final = 30.0
PRUNE_S: Final = 60.0
PROBE_S: Final = 5.0
STRESS_SHARE: Final = 0.8
CALM_SHARE: Final = 0.5
STRESS_AFTER_S: Final = 2.0
CALM_AFTER_S: Final = 30.0


async def keep_house(node: Node) -> None:
    """Once a second: counts for metrics and limits, and whether we are under stress."""
    clock = node.world.clock
    hot_since = calm_since = clock.monotonic_s()
    pruned_s = clock.monotonic_s()
    while True:
        now = clock.monotonic_s()
        share = max(
            node.store.waiting_share,
            node.process.open / node.process.connections_max,
        )
        hot_since = hot_since if share >= STRESS_SHARE else now
        calm_since = calm_since if share <= CALM_SHARE else now
        if now - hot_since >= STRESS_AFTER_S:
            set_stress(node, is_stressed=True)
        elif now - calm_since >= CALM_AFTER_S:
            set_stress(node, is_stressed=False)
        if now - pruned_s >= PRUNE_S:
            pruned_s = now
            node.failures.prune(now)
            for connections in node.connections:
                connections.prune(now)
        await measure_queue(node)
        await clock.sleep(HOUSEKEEPING_S * node.world.leisure)


def set_stress(node: Node, *, is_stressed: bool) -> None:
    if bool(node.metrics.stress.value) is is_stressed:
        return
    node.metrics.stress.value = float(is_stressed)
    node.log.write(events.STRESS_ENTERED if is_stressed else events.STRESS_LEFT)
    for service in node.smtp_services:
        service.is_stressed = is_stressed


async def measure_queue(node: Node) -> None:
    metrics, store = node.metrics, node.store
    metrics.store_waiting.value = store.waiting_units
    metrics.unknown_commits.total = store.stats.unknown_commits
    measure_outside(node)
    try:
        counts = await store.read(queue_rows.open_counts)
        oldest = await store.read(queue_rows.oldest_open)
    except Fault:
        return
    age_us = 0 if oldest is None else node.world.clock.unix_us() - oldest
    metrics.queue_oldest_seconds.value = max(0.0, age_us / 1_000_000)
    node.open_recipients = sum(counts.values())
    for state, name in QUEUE_STATES.items():
        metrics.queue_recipients[name].value = counts.get(state, 0)


def measure_outside(node: Node) -> None:
    """Counts that the queue, the relay and DNS keep for themselves."""
    metrics, endings = node.metrics, node.runner.counts.endings
    for reason, name in ENDINGS.items():
        metrics.attempts[name].total = endings.get(reason, 0)
    settled = metrics.recipients_settled
    settled["relayed"].total = endings.get(Reason.RELAYED, 0)
    settled["failed"].total = endings.get(Reason.FAILED, 0)
    settled["expired"].total = endings.get(Reason.EXPIRED, 0)
    settled["dropped"].total = sum(endings.get(reason, 0) for reason in DROPPED)
    metrics.dsns.total = node.runner.counts.notices
    metrics.relay_sessions.value = node.relay.sessions
    metrics.relay_handshakes["failed"].total = node.relay.counts.handshakes_failed
    for by, count in node.relay.counts.secured.items():
        metrics.relay_secured[by].total = count
    for result, count in node.relay.counts.tls_failures.items():
        metrics.relay_tls_failures[result].total = count
    metrics.duplicates.total = node.relay.counts.unknown + node.runner.counts.reclaimed
    if isinstance(node.resolver, CachingResolver):
        metrics.dns_questions.total = node.resolver.counts.questions
        metrics.dns_failures.total = node.resolver.counts.failures
        metrics.dns_cached.total = node.resolver.counts.cache_hits


async def sweep(node: Node) -> None:
    sweeper = Sweeper(
        node.store,
        node.store.segments,
        node.world.clock,
        grace_s=build.store_options(node.config).sweep_grace_s,
    )
    while True:
        await node.world.clock.sleep(SWEEP_S)
        try:
            await sweeper.run_once()
        except Fault as fault:
            node.log.write(events.FAULT_MET, kind=type(fault).__name__, detail=str(fault))


async def watch_certificates(node: Node) -> None:
    while True:
        await node.world.clock.sleep(CERTIFICATE_LOOK_S * node.world.leisure)
        node.reload_certificates()


async def probe_disk(node: Node) -> None:
    """The store could only be opened for reading (F3): see when a sync works again."""
    disk = node.world.disk
    probe = f"{node.config.node.data_folder}/blobs/probe"
    while not node.revived.done():
        await node.world.clock.sleep(PROBE_S)
        try:
            disk.append(probe, b".")
            disk.sync(probe)
            disk.remove(probe)
        except OSError:
            continue
        node.revived.set_result(None)
