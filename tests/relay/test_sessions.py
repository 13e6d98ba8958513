"""TLS with hosts, and how sessions are shared out."""

from __future__ import annotations

import asyncio
import ssl

import msgspec
import pytest
import trustme
from cryptography import x509

from posthouse.queue.item import State
from posthouse.relay.options import TlsContexts, tls_contexts
from posthouse.relay.plan import Login, Route, SmartHost, Tls
from posthouse.sim import personality as p
from posthouse.sim.faults import Faults
from posthouse.sim.personality import Personality, Stage, Starttls
from posthouse.sim.world import run_virtual
from posthouse.tls.contexts import server_context
from posthouse.tls.peers import Verifier
from tests.relay.house import ROUTES, RelayHouse

AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("mx1.there.example")


def trusting() -> TlsContexts:
    contexts = tls_contexts()
    AUTHORITY.configure_trust(contexts.trusting)
    root = x509.load_pem_x509_certificate(AUTHORITY.cert_pem.bytes())
    return msgspec.structs.replace(contexts, verifier=Verifier([root]))


def serving(certificate: trustme.LeafCert = CERTIFICATE) -> ssl.SSLContext:
    context = server_context()
    certificate.configure_cert(context)
    return context


def routed(tls: Tls):
    route = Route(domain="there.example", hosts=("mx1.there.example",), tls=tls)
    return msgspec.structs.replace(ROUTES, routes=(route,))


@pytest.mark.parametrize("tls", [Tls.OPPORTUNISTIC, Tls.REQUIRED, Tls.VERIFIED])
def test_mail_goes_over_tls_where_the_host_has_it(tmp_path, tls):
    async def main(world):
        house = RelayHouse(tmp_path, world, routes=routed(tls))
        house.relay._contexts = trusting()
        peer = await house.host(Personality(starttls=Starttls.WORKS), tls=serving())
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]
        assert peer.messages[0].is_tls
        assert house.attempts(message)[0].tls.startswith("TLSv1.3 ")

    run_virtual(main)


def test_a_certificate_for_another_name_matters_only_where_names_are_checked(tmp_path):  # F28
    async def main(world):
        for number, tls in enumerate((Tls.OPPORTUNISTIC, Tls.VERIFIED)):
            house = RelayHouse(tmp_path / str(number), world, routes=routed(tls))
            house.relay._contexts = trusting()
            other = serving(AUTHORITY.issue_cert("other.example"))
            if number == 0:
                peer = await house.host(Personality(starttls=Starttls.WORKS), tls=other)
            message = house.accept("bob@there.example")
            await house.run_for(10)
            expected = [State.RELAYED, State.QUEUED][number]
            assert house.states(message) == [expected]
        assert len(peer.messages) == 1

    run_virtual(main)


def test_a_host_with_broken_tls_is_not_asked_for_it_each_time(tmp_path):  # F28
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host(Personality(starttls=Starttls.GARBAGE))
        house.accept("bob@there.example")
        await house.run_for(60)
        house.accept("bob@there.example")
        await house.run_for(60)
        assert len(peer.messages) == 2
        assert sum(command == b"STARTTLS" for command in peer.commands) == 1

    run_virtual(main)


def test_the_whole_pool_has_a_bound_and_everything_gets_its_turn(tmp_path):  # P9 P11
    async def main(world):
        house = RelayHouse(tmp_path, world, sessions_max=3)
        most = 0
        for number in range(12):
            await house.host(Personality(reply_delay_s=0.1), domain=f"d{number}.example")

        def watch():
            nonlocal most
            most = max(most, sum(len(peer.sessions) for peer in house.peers))
            world.loop.call_later(0.05, watch)

        watch()
        messages = [house.accept(f"bob@d{n % 12}.example") for n in range(36)]
        await house.run_for(300)
        assert all(house.states(message) == [State.RELAYED] for message in messages)
        assert most <= 4  # one may still be closing

    run_virtual(main)


def test_concurrency_grows_with_success_to_its_bound(tmp_path):
    async def main(world):
        house = RelayHouse(tmp_path, world, concurrency_max=5)
        peer = await house.host(Personality(reply_delay_s=0.5))
        most = 0

        def watch():
            nonlocal most
            most = max(most, len(peer.sessions))
            world.loop.call_later(0.1, watch)

        watch()
        messages = [house.accept("bob@there.example") for _ in range(200)]
        await house.run_for(600)
        assert all(house.states(message) == [State.RELAYED] for message in messages)
        assert most == 5

    run_virtual(main)


def test_trouble_shrinks_concurrency(tmp_path):
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host()
        for _ in range(100):
            house.accept("bob@there.example")
        await house.run_for(5)
        (destination,) = house.relay._destinations.values()
        grown = destination.concurrency
        assert grown > 5
        peer.personality = Personality(at={Stage.MAIL: p.TEMPORARY})
        for _ in range(3):
            house.accept("bob@there.example")
        await house.run_for(5)
        assert destination.concurrency < grown / 4

    run_virtual(main)


def test_a_session_carries_a_bounded_number_of_messages(tmp_path):
    async def main(world):
        house = RelayHouse(tmp_path, world, messages_max=10, concurrency_max=1, concurrency_first=1)
        peer = await house.host()
        messages = [house.accept("bob@there.example") for _ in range(35)]
        await house.run_for(20)
        assert all(house.states(message) == [State.RELAYED] for message in messages)
        assert house.relay.counts.sessions == 4
        assert len(peer.messages) == 35

    run_virtual(main)


def test_a_session_that_the_host_closed_while_it_was_kept_costs_no_attempt(tmp_path):  # F31
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host()
        house.accept("bob@there.example")

        def cut():
            for session in list(peer.sessions):
                session.abort()
            house.accept("eve@there.example")

        world.loop.call_later(3, cut)
        await house.run_for(6)
        assert len(peer.messages) == 2
        assert house.check().states["relayed"] == 2

    run_virtual(main)


def test_a_tarpit_beside_a_healthy_domain(tmp_path):  # P11
    async def main(world):
        house = RelayHouse(tmp_path, world)
        await house.host(Personality(reply_delay_s=60.0), domain="tarpit.example")
        await house.host()
        for number in range(500):
            house.accept(f"u{number}@tarpit.example")
        healthy = [house.accept(f"u{number}@there.example") for number in range(200)]
        await house.run_for(20)
        assert all(house.states(message) == [State.RELAYED] for message in healthy)
        house.check()

    run_virtual(main)


def test_a_smart_host_is_logged_in_to_over_tls(tmp_path):  # P12
    async def main(world):
        smart = SmartHost(
            host="mx1.there.example", port=25, tls=Tls.VERIFIED, login=Login("user", "secret")
        )
        routes = msgspec.structs.replace(ROUTES, smart_host=smart)
        house = RelayHouse(tmp_path, world, routes=routes)
        house.relay._contexts = trusting()
        peer = await house.host(
            Personality(starttls=Starttls.WORKS, extensions=(*p.EXTENSIONS, "AUTH PLAIN")),
            tls=serving(),
        )
        house.accept("bob@far.example")
        await house.run_for(10)
        sent = [command for command in peer.commands if command.upper().startswith(b"AUTH")]
        assert sent == [b"AUTH PLAIN AHVzZXIAc2VjcmV0"]

    run_virtual(main)


def test_a_partition_heals_without_losing_anything(tmp_path):  # F31 P4
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host()
        world.network.fault("198.51.100.1", Faults(latency_s=0.2, jitter_s=0.1))
        messages = [house.accept("bob@there.example") for _ in range(30)]
        world.loop.call_later(1.0, world.network.partition, ["192.0.2.1"], ["198.51.100.1"])
        world.loop.call_later(400.0, world.network.heal)
        await house.run_for(4 * 3600)
        assert all(house.states(message) == [State.RELAYED] for message in messages)
        assert len(peer.messages) >= 30
        house.check()

    run_virtual(main)


def test_nothing_is_left_of_a_closed_relay(tmp_path):  # P14
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host(Personality(reply_delay_s=1.0))
        house.accept("bob@there.example")
        running = asyncio.ensure_future(house.relay.run())
        queue = asyncio.ensure_future(house.runner.run())
        await world.clock.sleep(2.5)
        await house.runner.drain(30)
        await asyncio.gather(running, queue)
        await world.clock.sleep(5)
        assert house.check().states["relayed"] == 1
        assert not peer.sessions and house.relay.sessions == 0

    run_virtual(main)
