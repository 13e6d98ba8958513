"""`posthouse serve`: the server in the foreground, until a signal ends it.

SIGTERM and SIGINT drain and stop, a second one stops at once; SIGHUP reads the config again and
applies all of it or nothing. After a failed sync (F2) the process begins anew in its own place, at
most once in five seconds, as only a fresh look at the files tells what they hold.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import signal
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, TextIO

import click
import uvloop

from posthouse.app import Node, World
from posthouse.cli.config import config_option, load_config
from posthouse.cli.output import ExitCode, say
from posthouse.cli.resolver import system_servers
from posthouse.config import build
from posthouse.config.schema import Config, Service
from posthouse.config.settings import ConfigError
from posthouse.dns.resolver import CachingResolver
from posthouse.kernel.errors import DataUnusable, StorageLost, UserError
from posthouse.net.fetch import HttpsFetch
from posthouse.net.isolated import ProcessIsolation
from posthouse.net.own_process import keep_memory_private
from posthouse.net.workers import ThreadWorkers
from posthouse.net.world import (
    SystemChance,
    SystemClock,
    SystemNetwork,
    connections_max_for,
    raise_descriptor_limit,
)
from posthouse.observe import events
from posthouse.observe.log import ForwardHandler, Log, open_log
from posthouse.observe.sink import ThreadSink
from posthouse.store.blobs.disk import FileDisk
from posthouse.store.sqlite.units import crash_point
from posthouse.tls.contexts import verifying_client_context
from posthouse.tls.served import SERVING_LOCK

RESTART_VARIABLE: Final = "POSTHOUSE_RESTARTED_AT"
CRASH_VARIABLE: Final = "POSTHOUSE_CRASH_AT"
RESTART_GAP_S: Final = 5.0
LAST_WORDS_S: Final = 0.1
"""After a failed sync: whoever waited for that commit hears 451 before the sessions end (F2)."""
GC_OBJECTS: Final = 20_000


@click.command()
@config_option
def serve(config_path: str | None) -> int:
    """Run the server in the foreground."""
    loaded = load_config(config_path)
    os.umask(0o077)
    keep_memory_private()
    clock = SystemClock()
    log, sink = open_log(build.log_options(loaded.config), unix_us=clock.unix_us)
    logging.basicConfig(level=logging.WARNING, handlers=[ForwardHandler(log)], force=True)
    sys.unraisablehook = partial(log_unraisable, log)
    try:
        folder_lock = _only_server_of(loaded.config.node.data_folder)
        # What was imported and built stays; sessions and messages make no reference cycles worth
        # looking for after every seven hundred objects.
        gc.freeze()
        gc.set_threshold(GC_OBJECTS, 20, 50)
        lost = uvloop.run(_Server(loaded.config, config_path, log, sink).run())
    except UserError as error:
        log.write(events.SERVER_FAILED, detail=error.text)
        raise
    finally:
        sink.close()
    folder_lock.close()
    if lost is not None:
        _begin_anew(lost)
    return ExitCode.OK


def _only_server_of(folder: str) -> TextIO:
    """Hold the data folder as long as this process lives: two servers on one folder would take
    each other's leases and send mail twice.

    Raises:
        DataUnusable: another server holds it, or the folder cannot be used.
    """
    try:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        held = Path(folder, SERVING_LOCK).open("a+", encoding="ascii")  # noqa: SIM115
    except OSError as error:
        raise DataUnusable(
            f"the data folder {folder} cannot be used: {error.strerror}",
            hint="check that it is a folder and belongs to the user Posthouse runs as",
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.seek(0)
        owner = held.read(20).strip() or "unknown"
        held.close()
        raise DataUnusable(
            f"{folder} is in use by another Posthouse server (process {owner})",
            hint="stop that one first, or give this one a data folder of its own",
        ) from None
    held.truncate(0)
    held.write(f"{os.getpid()}\n")
    held.flush()
    return held


def log_unraisable(log: Log, unraisable: sys.UnraisableHookArgs) -> None:
    """What is raised where nobody can catch it (a finaliser, a callback of C code) is a bug too."""
    error = unraisable.exc_value or RuntimeError(str(unraisable.exc_type))
    text = f"{unraisable.err_msg or 'an exception nobody could catch'}: {unraisable.object!r}"
    log.bug(events.LIBRARY_SPOKE_ERROR, error, logger="python", text=text)


def real_world(config: Config, descriptors_max: int | None = None) -> World:
    """The ports of this machine.

    Args:
        descriptors_max: RLIMIT_NOFILE; None or less than nothing where there is no limit.
    """
    clock, chance, network = SystemClock(), SystemChance(), SystemNetwork()
    point = os.environ.get(CRASH_VARIABLE, "")
    return World(
        clock=clock,
        chance=chance,
        network=network,
        disk=FileDisk(),
        workers=ThreadWorkers(
            hash_max=config.workers.hash_max, queue_max=config.workers.hash_waiting_max
        ),
        isolated=ProcessIsolation(),
        resolver=lambda config: CachingResolver(
            build.dns_options(config, resolv_conf=system_servers),
            network=network,
            clock=clock,
            chance=chance,
        ),
        fetch=lambda config, resolver: HttpsFetch(resolver, context=verifying_client_context()),
        descriptors_max=descriptors_max if descriptors_max and descriptors_max > 0 else None,
        reach=crash_point(point) if point else lambda point: None,
    )


class _Server:
    """One run of the process: signals around a node."""

    def __init__(self, config: Config, config_path: str | None, log: Log, sink: ThreadSink) -> None:
        self._config = config
        self._config_path = config_path
        self._log = log
        self._sink = sink
        self._stop = asyncio.Event()
        self._signals = 0

    async def run(self) -> StorageLost | None:
        descriptors = raise_descriptor_limit()
        loop = asyncio.get_running_loop()
        world = real_world(self._config, descriptors)
        node = Node(self._config, world, log=self._log)
        node.process.connections_max = connections_max_for(
            descriptors, self._config.net.connections_max
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, node)
        with closing(world.isolated):
            async with node:
                loop.add_signal_handler(signal.SIGHUP, self._reload, node)
                self._announce(node)
                await _either(self._stop.wait(), node.lost, node.revived)
                if node.lost.done():
                    await asyncio.sleep(LAST_WORDS_S)
                if node.lost.done() or node.revived.done():
                    await node.stop(drain_s=0.0)
        if node.lost.done():
            return node.lost.result()
        return StorageLost("the data can be written again") if node.revived.done() else None

    def _announce(self, node: Node) -> None:
        for service, listener in node.listeners:
            address, port = listener.address
            say(f"{service.value:<12} {place(address, port)}")
        for wanted in self._config.listeners():
            if wanted.service is Service.METRICS and wanted.port:
                for address in wanted.addresses:
                    say(f"{wanted.service.value:<12} {place(address, wanted.port)}")
        if not node.store.is_writable:
            say("the data can only be read: no mail is taken; looking again every 5 s")
        say("ready")

    def _signalled(self, node: Node) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(ExitCode.INTERRUPTED)  # nothing accepted is lost by that (P14)
        self._stop.set()

    def _reload(self, node: Node) -> None:
        """SIGHUP: all of a changed config or nothing of it (F36)."""
        try:
            loaded = load_config(self._config_path)
            node.reload(loaded.config)
        except (ConfigError, UserError, OSError) as error:
            self._log.write(events.CONFIG_REFUSED, path=self._config_path or "", detail=str(error))
            return
        self._log.configure(build.log_options(loaded.config))
        self._sink.reopen()
        self._log.write(events.CONFIG_RELOADED, path=self._config_path or "")


def place(address: str, port: int) -> str:
    """An address with a port; one of IPv6 wears brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


async def _either(*waits: object) -> None:
    """Wait for the first; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]  # type: ignore[call-overload]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    tasks[0].cancel()


def _begin_anew(lost: StorageLost) -> None:
    """Replace this process by a fresh one, not more often than once in `RESTART_GAP_S` (F3)."""
    last = float(os.environ.get(RESTART_VARIABLE, "0"))
    wait_s = last + RESTART_GAP_S - time.time()
    say(f"starting anew: {lost}")
    if 0 < wait_s <= RESTART_GAP_S:
        time.sleep(wait_s)
    os.environ[RESTART_VARIABLE] = str(time.time())
    os.execv(sys.executable, [sys.executable, "-m", "posthouse", *sys.argv[1:]])  # noqa: S606
