"""Real signatures: knotd signs, unbound validates, and the relay believes what unbound proves."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rdatatype
import pytest

from posthouse.dns.options import Options
from posthouse.dns.resolver import CachingResolver
from posthouse.kernel.ports import RecordType
from posthouse.net.world import SystemChance, SystemClock, SystemNetwork
from posthouse.relay.plan import RouteOptions, RoutePlan, Tls
from posthouse.relay.route import plan_route
from tests.interop.knot import free_port
from tests.interop.programs import find_program, needs_program

pytestmark = [
    needs_program("knotd", package="knot"),
    needs_program("unbound", package="unbound"),
]

WITHIN_S = 15.0
RECORD = "3 1 1 " + "ab" * 32
KNOT = """\
server:
    rundir: "{folder}"
    listen: 127.0.0.1@{port}
log:
  - target: stderr
    any: warning
database:
    storage: "{folder}"
template:
  - id: default
    storage: "{folder}"
    file: "%s.zone"
zone:
  - domain: signed.test
    dnssec-signing: on
  - domain: bogus.test
    dnssec-signing: on
  - domain: plain.test
"""
ZONE = """\
$ORIGIN {zone}.
$TTL 300
@ SOA ns hostmaster 1 3600 600 604800 60
@ NS ns
ns A 127.0.0.1
@ MX 10 mx
mx A 192.0.2.1
_25._tcp.mx TLSA {record}
bare MX 10 without
without A 192.0.2.2
away MX 10 alias
alias CNAME mx.plain.test.
_25._tcp.alias TLSA {record}
round MX 10 turn
turn CNAME mx
"""
UNBOUND = """\
server:
    interface: 127.0.0.1
    port: {port}
    directory: "{folder}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    logfile: ""
    do-daemonize: no
    do-not-query-localhost: no
    module-config: "validator iterator"
    local-zone: "test." nodefault
    {anchors}
remote-control:
    control-enable: no
"""
STUB = """\
stub-zone:
    name: "{zone}"
    stub-addr: 127.0.0.1@{port}
"""
ZONES = ("signed.test", "bogus.test", "plain.test")


@pytest.fixture(scope="module")
def validating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of unbound."""
    folder = tmp_path_factory.mktemp("dnssec")
    authority, port = free_port(), free_port()
    (folder / "knot.conf").write_text(KNOT.format(folder=folder, port=authority))
    for zone in ZONES:
        (folder / f"{zone}.zone").write_text(ZONE.format(zone=zone, record=RECORD))
    with running(folder, "knotd", "-c", str(folder / "knot.conf")):
        keys = {zone: key_of(zone, authority) for zone in ("signed.test", "bogus.test")}
        anchors = [
            f'trust-anchor: "signed.test. DNSKEY {keys["signed.test"]}"',
            # Another zone's key: nothing under it can be proven.
            f'trust-anchor: "bogus.test. DNSKEY {keys["signed.test"]}"',
        ]
        text = UNBOUND.format(port=port, folder=folder, anchors="\n    ".join(anchors))
        stubs = "".join(STUB.format(zone=zone, port=authority) for zone in ZONES)
        (folder / "unbound.conf").write_text(text + stubs)
        with running(folder, "unbound", "-d", "-c", str(folder / "unbound.conf")):
            until_answered(port, "plain.test", dns.rdatatype.MX)
            yield port


@contextlib.contextmanager
def running(folder: Path, name: str, *arguments: str) -> Iterator[None]:
    program = find_program(name)
    assert program is not None
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def until_answered(port: int, name: str, kind: dns.rdatatype.RdataType) -> dns.message.Message:
    end = time.monotonic() + WITHIN_S
    query = dns.message.make_query(name, kind, want_dnssec=True)
    while True:
        with contextlib.suppress(OSError, dns.exception.DNSException):
            answer = dns.query.tcp(query, "127.0.0.1", 1.0, port)
            if answer.answer:
                return answer
        assert time.monotonic() < end, f"no answer about {name} on port {port}"
        time.sleep(0.05)


def key_of(zone: str, port: int) -> str:
    """The key that signs the keys, as zone files have it."""
    answer = until_answered(port, zone, dns.rdatatype.DNSKEY)
    (key,) = (
        key
        for rrset in answer.answer
        if rrset.rdtype == dns.rdatatype.DNSKEY
        for key in rrset
        if key.flags & 1
    )
    return str(key.to_text())


def resolver(port: int) -> CachingResolver:
    return CachingResolver(
        Options(servers=(("127.0.0.1", port),)),
        network=SystemNetwork(),
        clock=SystemClock(),
        chance=SystemChance(),
    )


async def planned(port: int, domain: str) -> RoutePlan:
    return await plan_route(
        domain,
        route=None,
        resolver=resolver(port),
        chance=SystemChance(),
        options=RouteOptions(allow_private_addresses=True),
    )


async def test_a_signed_zone_with_records_makes_dane(validating: int) -> None:
    plan = await planned(validating, "signed.test")
    (host,) = plan.hosts
    assert plan.is_authenticated and host.is_authenticated
    assert host.policy.tls is Tls.DANE and len(host.policy.tlsa) == 1
    assert host.policy.tlsa_names == ("mx.signed.test", "signed.test")


async def test_that_there_are_no_records_is_proven_too(validating: int) -> None:
    (host,) = (await planned(validating, "bare.signed.test")).hosts
    assert host.policy.tls is Tls.OPPORTUNISTIC and host.policy.refusal is None
    answer = await resolver(validating).resolve("_25._tcp.without.signed.test", RecordType.TLSA)
    assert not answer.records and answer.is_authenticated


async def test_an_unsigned_zone_has_no_dane(validating: int) -> None:
    plan = await planned(validating, "plain.test")
    assert not plan.is_authenticated
    assert plan.hosts[0].policy.tls is Tls.OPPORTUNISTIC


# RFC 7672 §2.1.2: bogus is an error, and no mail goes
async def test_a_zone_whose_signatures_do_not_verify_is_not_used(validating: int) -> None:
    plan = await planned(validating, "bogus.test")
    assert plan.failure is not None and not plan.failure.is_permanent


# RFC 7672 §2.2.2
async def test_a_signed_alias_into_an_unsigned_zone_has_its_own_records(validating: int) -> None:
    (host,) = (await planned(validating, "away.signed.test")).hosts
    assert not host.is_authenticated and host.canonical == "mx.plain.test"
    assert host.policy.tlsa_base == "alias.signed.test"


async def test_a_signed_alias_is_followed_to_its_end(validating: int) -> None:
    (host,) = (await planned(validating, "round.signed.test")).hosts
    assert host.policy.tlsa_base == "mx.signed.test"
