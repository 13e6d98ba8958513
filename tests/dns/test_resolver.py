"""The caching resolver against the laboratory's DNS, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from posthouse.dns.options import Options, servers_of
from posthouse.dns.resolver import CachingResolver
from posthouse.kernel.ports import DnsAnswer, DnsStatus, MxRecord, RecordType, TlsaRecord
from posthouse.sim.dns import DnsFault
from posthouse.sim.dns_server import LabDns
from posthouse.sim.faults import Faults
from posthouse.sim.world import World, run_virtual

ONE, OTHER = "192.0.2.53", "192.0.2.54"
BOTH = ((ONE, 53), (OTHER, 53))


def in_lab(
    main: Callable[[World, CachingResolver], Awaitable[Any]],
    servers: tuple[str, ...] = (ONE,),
    **options: Any,
) -> Any:
    """Run `main` with a resolver whose servers all know the same zones."""

    async def live(world: World) -> Any:
        zones = world.zones
        zones.add("example.test", "MX", "10 mail.example.test.", "20 spare.example.test.")
        zones.add("mail.example.test", "A", "192.0.2.1")
        zones.add("mail.example.test", "AAAA", "2001:db8::1")
        zones.add("example.test", "TXT", '"v=spf1 " "-all"')
        zones.add("_25._tcp.mail.example.test", "TLSA", "3 1 1 " + "ab" * 32)
        zones.add("1.2.0.192.in-addr.arpa", "PTR", "Mail.Example.TEST.")
        zones.add("www.example.test", "CNAME", "mail.example.test.")
        zones.add("null.test", "MX", "0 .")
        for server in servers:
            await LabDns(zones).serve_sim(world.network, server)
        given = tuple((server, 53) for server in servers)
        resolver = CachingResolver(
            Options(**{"servers": given, **options}),
            network=world.network,
            clock=world.clock,
            chance=world.chance,
        )
        return await main(world, resolver)

    return run_virtual(live)


@pytest.mark.parametrize(
    ("name", "record_type", "records", "owner"),
    [
        (
            "Example.TEST.",
            RecordType.MX,
            {MxRecord(10, "mail.example.test"), MxRecord(20, "spare.example.test")},
            "example.test",
        ),
        ("mail.example.test", RecordType.A, {"192.0.2.1"}, "mail.example.test"),
        ("mail.example.test", RecordType.AAAA, {"2001:db8::1"}, "mail.example.test"),
        ("example.test", RecordType.TXT, {b"v=spf1 -all"}, "example.test"),
        (
            "_25._tcp.mail.example.test",
            RecordType.TLSA,
            {TlsaRecord(3, 1, 1, b"\xab" * 32)},
            "_25._tcp.mail.example.test",
        ),
        ("1.2.0.192.in-addr.arpa", RecordType.PTR, {"mail.example.test"}, "1.2.0.192.in-addr.arpa"),
        ("www.example.test", RecordType.CNAME, {"mail.example.test"}, "www.example.test"),
        ("www.example.test", RecordType.A, {"192.0.2.1"}, "mail.example.test"),
        ("null.test", RecordType.MX, {MxRecord(0, "")}, "null.test"),
    ],
)
def test_every_record_type_is_read(
    name: str, record_type: RecordType, records: set[Any], owner: str
) -> None:
    async def main(_: World, resolver: CachingResolver) -> DnsAnswer:
        return await resolver.resolve(name, record_type)

    answer = in_lab(main)
    assert answer.status is DnsStatus.FOUND
    assert set(answer.records) == records
    assert answer.name == owner
    assert answer.ttl_s == 300


def test_absent_names_and_absent_types_are_told_apart() -> None:
    async def main(_: World, resolver: CachingResolver) -> list[DnsStatus]:
        names = ["missing.example.test", "mail.example.test", "a..b", "x" * 64 + ".test", "ü.test"]
        return [(await resolver.resolve(name, RecordType.MX)).status for name in names]

    gone, nothing = DnsStatus.NO_NAME, DnsStatus.NO_DATA
    assert in_lab(main) == [gone, nothing, gone, gone, gone]


# F23, P8: an error is never taken for "there is no MX"
@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        (DnsFault.SERVFAIL, "SERVFAIL"),
        (DnsFault.TIMEOUT, "no answer in time"),
        (DnsFault.REFUSED, "REFUSED"),
        (DnsFault.FORMERR, "FORMERR"),
        (DnsFault.TRUNCATED_ALWAYS, "truncated over TCP too"),
        (DnsFault.WRONG_ID, "no answer in time"),
        (DnsFault.WRONG_QUESTION, "another question"),
        (DnsFault.LAME, "lame"),
        (DnsFault.CNAME_LOOP, "CNAMEs"),
        (DnsFault.GARBAGE, "malformed"),
    ],
)
def test_what_a_broken_server_says_is_a_temporary_failure_in_words(
    fault: DnsFault, detail: str
) -> None:
    async def main(world: World, resolver: CachingResolver) -> tuple[DnsAnswer, float]:
        world.zones.fault("example.test", fault)
        answer = await resolver.resolve("example.test", RecordType.MX)
        return answer, world.clock.monotonic_s()

    answer, took_s = in_lab(main)
    assert answer.status is DnsStatus.TEMPFAIL
    assert answer.records == ()
    assert detail in answer.detail
    assert ONE in answer.detail
    assert took_s <= 10.0


# F23
@pytest.mark.parametrize("fault", list(DnsFault))
def test_a_second_server_answers_where_the_first_is_broken(fault: DnsFault) -> None:
    async def main(world: World, resolver: CachingResolver) -> tuple[DnsAnswer, float]:
        world.zones.fault("example.test", fault, times=1)
        answer = await resolver.resolve("example.test", RecordType.MX)
        return answer, world.clock.monotonic_s()

    answer, took_s = in_lab(main, servers=(ONE, OTHER))
    expected = DnsStatus.NO_DATA if fault is DnsFault.EMPTY else DnsStatus.FOUND
    assert answer.status is expected
    assert took_s < 5.1  # one time limit at most, where the first was silent


# F23
def test_a_truncated_answer_is_fetched_over_tcp() -> None:
    async def main(world: World, resolver: CachingResolver) -> tuple[DnsAnswer, DnsAnswer]:
        texts = [f'"{number:0200}"' for number in range(300)]  # 64 KiB, more than UDP carries
        world.zones.add("big.example.test", "TXT", *texts)
        world.zones.fault("example.test", DnsFault.TRUNCATED)
        world.network.fault(ONE, Faults(is_cut_at_random=True))
        big = await resolver.resolve("big.example.test", RecordType.TXT)
        mx = await resolver.resolve("example.test", RecordType.MX)
        assert resolver.counts.tcp == 2
        await world.clock.sleep(1)
        assert not world.network.connections
        return big, mx

    big, mx = in_lab(main)
    assert len(big.records) == 300
    assert len(mx.records) == 2


def test_tcp_that_ends_early_or_never_ends_is_a_temporary_failure() -> None:
    async def main(world: World, resolver: CachingResolver) -> list[DnsAnswer]:
        world.zones.fault("example.test", DnsFault.TRUNCATED)
        answers = []
        for faults in (Faults(reset_after_octets=60), Faults(vanish_after_octets=60)):
            world.network.fault(ONE, faults)
            answers.append(await resolver.resolve("example.test", RecordType.MX))
            resolver.forget()
        return answers

    reset, silent = in_lab(main)
    assert reset.status is silent.status is DnsStatus.TEMPFAIL
    assert "unreachable" in reset.detail
    assert "no answer in time" in silent.detail


def test_a_server_that_is_gone_is_a_temporary_failure_at_once() -> None:
    async def main(world: World, resolver: CachingResolver) -> tuple[DnsAnswer, float]:
        world.network.fault(ONE, Faults(is_refusing=True))
        answer = await resolver.resolve("example.test", RecordType.MX)
        return answer, world.clock.monotonic_s()

    answer, took_s = in_lab(main)
    assert answer.status is DnsStatus.TEMPFAIL
    assert "unreachable" in answer.detail
    assert took_s < 0.1


def test_a_dead_first_server_costs_its_time_limit_once() -> None:
    async def main(world: World, resolver: CachingResolver) -> list[float]:
        world.network.fault(ONE, Faults(is_silent=True))
        times = []
        for name in ("example.test", "mail.example.test", "www.example.test"):
            assert (await resolver.resolve(name, RecordType.A)).status is not DnsStatus.TEMPFAIL
            times.append(world.clock.monotonic_s())
        return times

    first, _, last = in_lab(main, servers=(ONE, OTHER))
    assert 5.0 <= first < 5.1
    assert last - first < 0.1


def test_a_late_answer_within_the_time_limit_counts() -> None:
    async def main(world: World, resolver: CachingResolver) -> DnsAnswer:
        world.zones.fault("example.test", None, delay_s=4.5)
        return await resolver.resolve("example.test", RecordType.MX)

    assert in_lab(main).status is DnsStatus.FOUND


# F23: chains that no server follows for us
def test_an_open_cname_chain_is_followed_to_its_limit() -> None:
    async def main(world: World, resolver: CachingResolver) -> list[DnsStatus]:
        world.zones.add("c0.chain.test", "A", "192.0.2.7")
        for number in range(1, 12):
            world.zones.add(f"c{number}.chain.test", "CNAME", f"c{number - 1}.chain.test.")
        world.zones.add("a.loop.test", "CNAME", "b.loop.test.")
        world.zones.add("b.loop.test", "CNAME", "a.loop.test.")
        names = ("c8.chain.test", "c9.chain.test", "a.loop.test")
        return [(await resolver.resolve(name, RecordType.A)).status for name in names]

    found, failed = DnsStatus.FOUND, DnsStatus.TEMPFAIL
    assert in_lab(main) == [found, failed, failed]


# --- caching ---


def test_an_answer_is_kept_for_its_ttl_and_shows_what_is_left_of_it() -> None:
    async def main(world: World, resolver: CachingResolver) -> tuple[float, float, int]:
        await resolver.resolve("example.test", RecordType.MX)
        await world.clock.sleep(200)
        kept = await resolver.resolve("EXAMPLE.test.", RecordType.MX)
        await world.clock.sleep(100)
        fresh = await resolver.resolve("example.test", RecordType.MX)
        return kept.ttl_s, fresh.ttl_s, len(world.zones.questions)

    kept_s, fresh_s, questions = in_lab(main)
    assert 99 < kept_s < 101
    assert fresh_s == 300
    assert questions == 2


# RFC 2308 §5
@pytest.mark.parametrize("name", ["missing.example.test", "mail.example.test"])
def test_an_absence_is_kept_for_the_minimum_of_the_soa(name: str) -> None:
    async def main(world: World, resolver: CachingResolver) -> list[int]:
        counts = []
        for pause_s in (0, 59, 2):
            await world.clock.sleep(pause_s)
            await resolver.resolve(name, RecordType.MX)
            counts.append(len(world.zones.questions))
        return counts

    assert in_lab(main) == [1, 1, 2]


def test_a_failure_is_not_asked_again_for_a_while() -> None:
    async def main(world: World, resolver: CachingResolver) -> list[int]:
        world.zones.fault("example.test", DnsFault.SERVFAIL)
        counts = []
        for pause_s in (0, 4, 2):
            await world.clock.sleep(pause_s)
            await resolver.resolve("example.test", RecordType.MX)
            counts.append(len(world.zones.questions))
        return counts

    assert in_lab(main) == [1, 1, 2]


@pytest.mark.parametrize(("ttl_s", "kept_s"), [(0, 5), (1, 5), (60, 60), (10**7, 86_400)])
def test_lifetimes_are_kept_within_bounds(ttl_s: int, kept_s: float) -> None:
    async def main(world: World, resolver: CachingResolver) -> float:
        world.zones.add("kept.example.test", "A", "192.0.2.9", ttl_s=ttl_s)
        return (await resolver.resolve("kept.example.test", RecordType.A)).ttl_s

    assert in_lab(main) == kept_s


def test_the_least_recently_used_answer_goes_first() -> None:
    async def main(world: World, resolver: CachingResolver) -> list[str]:
        for name in ("a.test", "b.test", "a.test", "c.test", "a.test", "b.test"):
            await resolver.resolve(name, RecordType.A)
        return [name for name, _ in world.zones.questions]

    asked = in_lab(main, cache_entries_max=2)
    assert asked == ["a.test.", "b.test.", "c.test.", "b.test."]


def test_large_answers_do_not_fill_the_memory() -> None:
    async def main(world: World, resolver: CachingResolver) -> tuple[int, int]:
        for number in range(20):
            name = f"n{number}.example.test"
            world.zones.add(name, "TXT", *(f'"{each:0200}"' for each in range(100)))
            await resolver.resolve(name, RecordType.TXT)
        return resolver._cache.octets, len(resolver._cache)

    octets, entries = in_lab(main, cache_octets_max=100_000)
    assert 0 < octets <= 100_000
    assert entries == 4


def test_equal_questions_are_asked_once_while_one_is_open() -> None:
    async def main(world: World, resolver: CachingResolver) -> tuple[set[DnsStatus], int]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(resolver.resolve("example.test", RecordType.MX))
                for _ in range(50)
            ]
        return {task.result().status for task in tasks}, len(world.zones.questions)

    assert in_lab(main) == ({DnsStatus.FOUND}, 1)


def test_a_cancelled_asker_leaves_the_question_to_the_next() -> None:
    async def main(world: World, resolver: CachingResolver) -> DnsAnswer:
        world.zones.fault("example.test", None, delay_s=1.0)
        first = asyncio.create_task(resolver.resolve("example.test", RecordType.MX))
        await world.clock.sleep(0.1)
        second = asyncio.create_task(resolver.resolve("example.test", RecordType.MX))
        await world.clock.sleep(0.1)
        first.cancel()
        return await second

    assert in_lab(main).status is DnsStatus.FOUND


def test_no_more_questions_are_open_at_once_than_allowed() -> None:
    async def main(world: World, resolver: CachingResolver) -> float:
        names = [f"n{number}.example.test" for number in range(6)]
        for name in names:
            world.zones.fault(name, None, delay_s=1.0)
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(resolver.resolve(name, RecordType.A))
        return world.clock.monotonic_s()

    assert 3.0 < in_lab(main, in_flight_max=2) < 3.1


# --- what the answer is worth ---


# H48
@pytest.mark.parametrize(
    ("server", "is_trusted", "expected"),
    [(ONE, False, False), (ONE, True, True), ("127.0.0.1", False, True), ("::1", False, True)],
)
def test_the_ad_bit_counts_only_from_a_trusted_server(
    server: str, is_trusted: bool, expected: bool
) -> None:
    async def main(world: World, resolver: CachingResolver) -> list[bool]:
        world.zones.add("plain.test", "A", "192.0.2.3")
        world.zones.sign("example.test")
        names = ("mail.example.test", "missing.example.test", "plain.test")
        return [(await resolver.resolve(name, RecordType.A)).is_authenticated for name in names]

    assert in_lab(main, servers=(server,), is_trusted=is_trusted) == [expected, expected, False]


def test_an_alias_out_of_a_signed_zone_into_an_unsigned_one_is_not_authenticated() -> None:
    async def main(world: World, resolver: CachingResolver) -> bool:
        world.zones.add("plain.test", "A", "192.0.2.3")
        world.zones.add("alias.example.test", "CNAME", "plain.test.")
        world.zones.sign("example.test")
        answer = await resolver.resolve("alias.example.test", RecordType.A)
        assert answer.records == ("192.0.2.3",)
        return answer.is_authenticated

    assert in_lab(main, is_trusted=True) is False


def test_a_server_that_knows_no_edns_is_asked_without_it() -> None:
    async def main(world: World, resolver: CachingResolver) -> DnsAnswer:
        world.zones.fault("example.test", DnsFault.NO_EDNS)
        return await resolver.resolve("example.test", RecordType.MX)

    assert in_lab(main).status is DnsStatus.FOUND


def test_message_ids_come_from_chance() -> None:
    async def main(world: World, resolver: CachingResolver) -> list[bytes]:
        seen: list[bytes] = []
        reply = world.zones.reply

        def spy(octets: bytes, *, is_tcp: bool) -> Any:
            seen.append(octets[:2])
            return reply(octets, is_tcp=is_tcp)

        world.zones.reply = spy  # type: ignore[method-assign]
        for number in range(8):
            await resolver.resolve(f"n{number}.example.test", RecordType.A)
        return seen

    assert len(set(in_lab(main))) == 8


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("", ["127.0.0.1"]),
        ("nameserver 192.0.2.1\nnameserver 2001:db8::1 # a\n", ["192.0.2.1", "2001:db8::1"]),
        ("search test\nnameserver\nnameserver x.test\n;nameserver 192.0.2.9\n", ["127.0.0.1"]),
        ("\tnameserver   fe80::1%eth0\noptions edns0", ["fe80::1%eth0"]),
    ],
)
def test_servers_come_from_resolv_conf(text: str, addresses: list[str]) -> None:
    assert servers_of(text) == tuple((address, 53) for address in addresses)
