"""The relay over a resolver whose servers lie, fail or lead in circles (F23, F24, H48)."""

from __future__ import annotations

import msgspec
import pytest

from posthouse.dns.options import Options as DnsOptions
from posthouse.dns.resolver import CachingResolver
from posthouse.kernel.tls_result import PolicyType
from posthouse.queue.item import State
from posthouse.sim.dns import DnsFault
from posthouse.sim.dns_server import LabDns
from posthouse.sim.personality import Personality, Starttls
from posthouse.sim.world import run_virtual
from tests.relay.certificates import STRANGER, in_zone, serving, tlsa_3_1_1, trusting
from tests.relay.house import ROUTES, RelayHouse

SERVER = "198.51.100.253"
MX = "mx1.there.example"
PUBLIC = msgspec.structs.replace(ROUTES, allow_private_addresses=False)


async def asking(folder, world, *, is_trusted: bool = False, **options) -> RelayHouse:
    """A house whose resolver asks a server over the simulated network."""
    server = LabDns(world.zones)
    await server.serve_sim(world.network, SERVER)
    resolver = CachingResolver(
        DnsOptions(servers=((SERVER, 53),), is_trusted=is_trusted, ttl_s_min=0.0, error_ttl_s=1.0),
        network=world.network,
        clock=world.clock,
        chance=world.chance,
    )
    return RelayHouse(folder, world, resolver=resolver, **options)


USELESS = [
    DnsFault.SERVFAIL,
    DnsFault.TIMEOUT,
    DnsFault.REFUSED,
    DnsFault.FORMERR,
    DnsFault.TRUNCATED_ALWAYS,
    DnsFault.WRONG_ID,
    DnsFault.WRONG_QUESTION,
    DnsFault.LAME,
    DnsFault.CNAME_LOOP,
    DnsFault.GARBAGE,
]


# F23, P8: of the domain itself, and of the only host it names
@pytest.mark.parametrize("name", ["there.example", MX])
@pytest.mark.parametrize("fault", USELESS)
def test_no_error_of_the_dns_is_taken_for_an_answer(tmp_path, fault, name):
    async def main(world):
        house = await asking(tmp_path, world)
        peer = await house.host()
        world.zones.fault(name, fault)
        message = house.accept("bob@there.example")
        await house.run_for(3600)
        assert house.states(message) == [State.QUEUED]
        assert not peer.counts["connections"]
        attempts = house.attempts(message)
        assert attempts and all(not one.host for one in attempts)
        assert "failed" in house.last_reply(message)
        world.zones.heal(name)
        await house.run_for(4 * 3600)
        assert house.states(message) == [State.RELAYED]
        house.check()
        house.store.close_now()

    run_virtual(main)


# F23: answers that are only odd
@pytest.mark.parametrize("fault", [DnsFault.TRUNCATED, DnsFault.NO_EDNS])
def test_what_can_be_asked_again_another_way_is(tmp_path, fault):
    async def main(world):
        house = await asking(tmp_path, world)
        await house.host()
        world.zones.fault("there.example", fault)
        world.zones.fault(MX, fault)
        message = house.accept("bob@there.example")
        await house.run_for(60)
        assert house.states(message) == [State.RELAYED]
        house.store.close_now()

    run_virtual(main)


# F23: an empty NOERROR says that there is no MX; the domain's own address counts then
def test_an_empty_answer_is_an_answer(tmp_path):
    async def main(world):
        house = await asking(tmp_path, world)
        peer = await house.host()
        world.zones.add("empty.example", "A", peer.address[0])
        world.zones.fault("empty.example", DnsFault.EMPTY, times=1)
        message = house.accept("bob@empty.example")
        await house.run_for(60)
        assert house.states(message) == [State.RELAYED]
        assert house.attempts(message)[0].route == "implicit mx"
        house.store.close_now()

    run_virtual(main)


# F24: A for everything, loopback, and our own address; nothing is delivered to ourselves
@pytest.mark.parametrize(
    ("kind", "address", "words"),
    [
        ("A", "192.0.2.1", "would come back to this server"),
        ("A", "127.0.0.1", "private addresses only"),
        ("A", "10.0.0.1", "private addresses only"),
        ("AAAA", "::1", "private addresses only"),
        ("AAAA", "::ffff:127.0.0.1", "private addresses only"),
        ("AAAA", "64:ff9b::7f00:1", "private addresses only"),
    ],
)
@pytest.mark.parametrize("way", ["everything", "mx"])
def test_names_that_lead_back_or_inside_are_returned(tmp_path, way, kind, address, words):
    async def main(world):
        house = await asking(tmp_path, world, routes=PUBLIC)
        world.zones.add("*.wild.example", kind, address)
        if way == "mx":
            world.zones.add("x.wild.example", "MX", "10 any.wild.example.")
        message = house.accept("bob@x.wild.example")
        await house.run_for(30)
        assert house.states(message) == [State.RETURNED]
        assert not world.network.log or not any(
            f" {address}:25" in line for line in world.network.log
        )
        assert words in house.last_reply(message)
        house.check()
        house.store.close_now()

    run_virtual(main)


# H48: the AD bit of a resolver that is not on this machine, and that nobody called trusted
@pytest.mark.parametrize("is_trusted", [False, True])
def test_dane_believes_the_ad_bit_of_a_trusted_resolver_only(tmp_path, is_trusted):
    async def main(world):
        house = await asking(tmp_path, world, is_trusted=is_trusted)
        house.relay._contexts = trusting()
        other = tlsa_3_1_1(STRANGER.issue_cert("nobody.example"))
        certificate = STRANGER.issue_cert(MX)
        await house.host(Personality(starttls=Starttls.WORKS), tls=serving(certificate))
        world.zones.sign("there.example")
        world.zones.add(f"_25._tcp.{MX}", "TLSA", in_zone(other))
        message = house.accept("bob@there.example")
        await house.run_for(30)
        expected = State.QUEUED if is_trusted else State.RELAYED
        assert house.states(message) == [expected]
        kind = PolicyType.TLSA if is_trusted else PolicyType.NONE
        assert {one.policy_type for one in house.told} == {kind}
        house.store.close_now()

    run_virtual(main)


# H48: a thousand records, of which one matches
def test_a_thousand_records_are_looked_at_in_part(tmp_path):
    async def main(world):
        house = await asking(tmp_path, world, is_trusted=True)
        house.relay._contexts = trusting()
        certificate = STRANGER.issue_cert(MX)
        await house.host(Personality(starttls=Starttls.WORKS), tls=serving(certificate))
        world.zones.sign("there.example")
        flood = [f"3 1 1 {number:064x}" for number in range(1000)]
        world.zones.add(f"_25._tcp.{MX}", "TLSA", *flood)
        message = house.accept("bob@there.example")
        await house.run_for(30)
        assert house.states(message) == [State.QUEUED]
        assert len(house.told[0].policy_strings) == 20
        assert "matches none of its TLSA records" in house.last_reply(message)
        house.store.close_now()

    run_virtual(main)
