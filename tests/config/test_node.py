"""Settings and the machine's limits reach the parts of a node that obey them."""

from __future__ import annotations

import errno
import re
import ssl
import sys
from functools import partial
from pathlib import Path

import msgspec
import pytest

from posthouse.app import Node
from posthouse.app.housekeeping import measure_outside
from posthouse.app.restart import UNTIL_RESTART
from posthouse.cli.serve import log_unraisable, place, real_world
from posthouse.config import schema
from posthouse.config.catalogue import settings
from posthouse.config.machine import TlsVersion
from posthouse.config.schema import Config, Service
from posthouse.dns.options import Options as DnsOptions
from posthouse.dns.resolver import CachingResolver
from posthouse.kernel.errors import UserError
from posthouse.observe.log import Log
from posthouse.observe.options import LogFormat, LogOptions
from posthouse.queue.item import Reason
from posthouse.sim.ground import Simulated
from posthouse.sim.lab import PASSWORD, Lab
from posthouse.sim.world import run_virtual
from tests.reception.house import ADA, ONE, greeted, simulated


class WithoutIpv6:
    """A host whose kernel refuses `::` with the given errno."""

    def __init__(self, network, number: int) -> None:
        self._network = network
        self._number = number

    def __getattr__(self, name: str):
        return getattr(self._network, name)

    async def listen(self, factory, address: str, port: int):
        if ":" in address:
            raise UserError(f"cannot listen on {address} port {port}") from OSError(
                self._number, "no"
            )
        return await self._network.listen(factory, address, port)


def start(tmp_path, config: Config, number: int) -> tuple[list[Service], list[bytes]]:
    """The services that listen once a node without IPv6 has started, and its log."""
    lines: list[bytes] = []
    services: list[Service] = []

    async def main(world) -> None:
        ground = Simulated(world)
        ports = ground.ports_of("198.51.100.7", tmp_path)
        ports = msgspec.structs.replace(ports, network=WithoutIpv6(ports.network, number))
        log = Log(
            lines.append, unix_us=world.clock.unix_us, options=LogOptions(format=LogFormat.JSON)
        )
        try:
            async with Node(config, ports, log=log) as node:
                services.extend(service for service, _ in node.listeners)
        finally:
            ground.close()

    run_virtual(main)
    return services, lines


def config_of(tmp_path, *listeners: schema.Listener) -> Config:
    return Config(
        node=schema.Node(hostname="mail.here.example", data_folder=str(tmp_path), drain_s=1.0),
        metrics=schema.Metrics(is_enabled=False),
        listener=listeners,
    )


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
@pytest.mark.parametrize("listeners", [(), (schema.Listener(service=Service.MX),)])
def test_a_machine_without_ipv6_serves_by_ipv4(tmp_path, number, listeners) -> None:
    services, lines = start(tmp_path, config_of(tmp_path, *listeners), number)
    assert Service.MX in services and len(services) == len(set(services))
    told = [line for line in lines if b'"event":"listener.failed"' in line]
    assert len(told) == len(services)
    assert all(b"IPv4" in line for line in told)


@pytest.mark.parametrize(
    ("addresses", "number"), [(("::",), errno.EAFNOSUPPORT), ((), errno.EADDRINUSE)]
)
def test_an_address_somebody_named_or_a_port_in_use_ends_the_start(
    tmp_path, addresses, number
) -> None:
    listener = schema.Listener(service=Service.MX, addresses=addresses)
    with pytest.raises(UserError, match="cannot listen on ::"):
        start(tmp_path, config_of(tmp_path, listener), number)


def short_memory(config: Config) -> Config:
    return msgspec.structs.replace(config, auth=msgspec.structs.replace(config.auth, cache_s=5.0))


@simulated(change=short_memory)
async def test_a_verified_password_is_remembered_as_long_as_the_config_says(lab: Lab) -> None:
    workers, clock = lab.ground.world.workers, lab.ground.clock
    authenticator = lab.node("north").node.authenticator

    async def hashed() -> int:
        before = workers.finished
        result = await authenticator.authenticate(
            name=ADA, password=PASSWORD, peer="192.0.2.9", service="imap"
        )
        assert result.principal is not None
        return workers.finished - before

    assert await hashed() == 1
    await clock.sleep(4)
    assert await hashed() == 0
    await clock.sleep(2)
    assert await hashed() == 1


# F6: as a full disk, and well again without a restart
@simulated(domains=ONE)
async def test_a_disk_without_inodes_takes_no_mail(lab: Lab) -> None:
    disk = lab.ground.disks[lab.node("north").folder]
    disk.inodes = 999
    await lab.ground.clock.sleep(1)
    talk = await greeted(lab)
    assert (await talk.say(b"MAIL FROM:<a@b.example>")).startswith(b"452 4.3.1")
    disk.inodes = 1_000
    await lab.ground.clock.sleep(1)
    assert (await talk.say(b"MAIL FROM:<a@b.example>")).startswith(b"250")


# F21
@pytest.mark.parametrize(("limit", "passed"), [(64, 64), (-1, None), (None, None)])
def test_the_limit_of_descriptors_reaches_every_listener(tmp_path, limit, passed) -> None:
    world = real_world(config_of(tmp_path), limit)
    assert world.descriptors_max == passed

    async def main(virtual) -> None:
        ground = Simulated(virtual)
        ports = ground.ports_of("198.51.100.7", tmp_path)
        ports = msgspec.structs.replace(
            ports,
            network=WithoutIpv6(ports.network, errno.EAFNOSUPPORT),
            descriptors_max=world.descriptors_max,
        )
        log = Log(lambda line: None, unix_us=virtual.clock.unix_us, options=LogOptions())
        try:
            async with Node(config_of(tmp_path), ports, log=log) as node:
                found = {listener.options.descriptors_max for _, listener in node.listeners}
                assert found == {passed}
        finally:
            ground.close()

    run_virtual(main)


def test_what_nobody_could_catch_is_in_the_log(monkeypatch) -> None:
    lines: list[bytes] = []
    log = Log(lines.append, unix_us=lambda: 0, options=LogOptions(format=LogFormat.JSON))
    monkeypatch.setattr(sys, "unraisablehook", partial(log_unraisable, log))

    class Broken:
        def __del__(self) -> None:
            raise ValueError("in a finaliser")

    broken = Broken()
    del broken
    (line,) = lines
    assert b"in a finaliser" in line and b"__del__" in line


def changed(config: Config, section: str, **values) -> Config:
    part = msgspec.structs.replace(getattr(config, section), **values)
    return msgspec.structs.replace(config, **{section: part})


# F36
@simulated(domains=ONE)
async def test_a_reload_applies_what_can_change_and_names_what_cannot(lab: Lab) -> None:
    node = lab.node("north").node
    lines: list[bytes] = []
    node.log = Log(lines.append, unix_us=lambda: 0, options=LogOptions(format=LogFormat.JSON))
    before = node.config
    config = changed(before, "net", connections_max=77, per_address_max=3)
    config = changed(config, "queue", lifetime_s=7_200.0, lease_s=60.0)
    config = changed(config, "node", hostname="other.example")
    config = changed(config, "dns", tries=5)
    config = changed(config, "tls", minimum_version=TlsVersion.TLS_1_3)
    node.reload(config)
    assert node.process.connections_max == 77
    assert node.config.queue == config.queue
    assert node.tls_context().minimum_version is ssl.TLSVersion.TLSv1_3
    assert node.config.node.hostname == before.node.hostname
    assert node.smtp_services[0].options.hello.host == before.node.hostname
    (line,) = [line for line in lines if b"config.restart_needed" in line]
    assert msgspec.json.decode(line)["keys"] == [
        "node.hostname",
        "net.per_address_max",
        "dns.tries",
    ]
    lines.clear()
    node.reload(before)
    assert not any(b"config.restart_needed" in line for line in lines)


# F36
@simulated(domains=ONE)
async def test_what_an_account_has_sent_is_remembered_through_a_reload(lab: Lab) -> None:
    node = lab.node("north").node
    node.reload(changed(node.config, "submission", per_hour=2))
    assert node.admission.submission(1, 0.0) is None
    assert node.admission.submission(1, 0.0) is None
    assert node.admission.submission(1, 0.0) is not None
    node.reload(changed(node.config, "submission", per_hour=3))
    assert node.admission.submission(1, 0.0) is None
    assert node.admission.submission(1, 0.0) is not None
    assert all(made.admission is node.admission for made in node.smtp_services)


def test_every_setting_kept_until_a_restart_exists() -> None:
    keys = set(settings()) | {"listener"}
    for kept in UNTIL_RESTART:
        assert kept in keys or any(key.startswith(f"{kept}.") for key in keys), kept


@simulated(domains=ONE)
async def test_what_queue_and_dns_count_is_in_the_metrics(lab: Lab) -> None:
    node = lab.node("north").node
    world = node.world
    node.resolver = CachingResolver(
        DnsOptions(servers=(("192.0.2.53", 53),)),
        network=world.network,
        clock=world.clock,
        chance=world.chance,
    )
    node.runner.counts.notices = 3
    node.runner.counts.endings.update({Reason.JUNK: 2, Reason.NOTIFY_NEVER: 1, Reason.EXPIRED: 4})
    node.resolver.counts.questions, node.resolver.counts.failures = 9, 5
    measure_outside(node)
    metrics = node.metrics
    assert metrics.dsns.total == 3
    assert metrics.recipients_settled["dropped"].total == 3
    assert metrics.recipients_settled["expired"].total == 4
    assert (metrics.dns_questions.total, metrics.dns_failures.total) == (9, 5)


def test_every_open_port_is_in_the_log(tmp_path) -> None:
    services, lines = start(tmp_path, config_of(tmp_path), errno.EAFNOSUPPORT)
    opened = [msgspec.json.decode(line) for line in lines if b'"listener.opened"' in line]
    assert [line["service"] for line in opened] == [service.value for service in services]
    assert all(line["port"] for line in opened)


def test_the_settings_that_need_a_restart_are_in_the_guide() -> None:
    guide = Path(__file__).parents[2].joinpath("docs/guides/operations.md").read_text()
    [part] = re.findall(r"^Some settings keep.*?\n\n", guide, re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"`([a-z_.]+)`", part))
    whole = {"store", "net"}  # told with their exception, or by what they limit
    missing = {key for key in UNTIL_RESTART if key not in named and key.split(".")[0] not in whole}
    assert not missing
    assert {"web.addresses", "net.port_base", "net.exempt_networks", "store"} <= named


@pytest.mark.parametrize(
    ("address", "shown"),
    [("::", "[::]:25"), ("2001:db8::1", "[2001:db8::1]:25"), ("0.0.0.0", "0.0.0.0:25")],
)
def test_a_listener_s_line_keeps_address_and_port_apart(address: str, shown: str) -> None:
    assert place(address, 25) == shown
