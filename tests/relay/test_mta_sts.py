"""MTA-STS policies found, fetched, kept and refreshed, in virtual time (RFC 8461 §3.3, §5)."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.kernel.ports import Fetched, FetchFailed, FetchTrouble, RecordType
from posthouse.kernel.tls_result import PolicyType, ResultType
from posthouse.relay.mta_sts import FAILED_S, LATE, NOTHING, Options, StsPolicies
from posthouse.relay.sts_policy import PATH, Mode
from posthouse.relay.tls_result import TlsResult
from posthouse.sim.dns import DnsFault, ZoneResolver
from posthouse.sim.web import Web
from posthouse.sim.world import run_virtual
from posthouse.store import mta_sts as rows
from tests.queue.house import open_store

DOMAIN = "there.example"
URL = f"https://mta-sts.{DOMAIN}{PATH}"
DAY_S = 86_400.0


def text(mode: str = "enforce", *, mx: str = "*.there.example", age_s: int = 604_800) -> str:
    return f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {age_s}\n"


class House:
    def __init__(self, folder, world) -> None:
        self.world = world
        self.folder = folder
        self.web = Web()
        self.told: list[TlsResult] = []
        self.store = open_store(folder, world.clock)
        self.policies = self.new()

    def new(self, **options) -> StsPolicies:
        """As after a restart."""
        return StsPolicies(
            Options(**options),
            resolver=ZoneResolver(self.world.zones),
            fetch=self.web,
            clock=self.world.clock,
            store=self.store,
            on_tls=self.told.append,
        )

    def publish(self, record: str, policy: str | None = None) -> None:
        zones = self.world.zones
        zones.remove(f"_mta-sts.{DOMAIN}", "TXT")
        zones.add(f"_mta-sts.{DOMAIN}", "TXT", f'"v=STSv1; id={record};"')
        if policy is not None:
            self.web.put_policy(DOMAIN, policy)

    def row(self) -> rows.StsRow | None:
        return self.store.read_now(lambda tx: rows.policy_of(tx, DOMAIN))


def in_house(tmp_path, story):
    async def main(world):
        house = House(tmp_path, world)
        await story(house)
        house.store.close_now()

    run_virtual(main)


def test_a_domain_without_record_is_asked_for_nothing(tmp_path) -> None:
    async def story(house):
        house.web.put_policy(DOMAIN, text())
        assert await house.policies.policy_for(DOMAIN) == NOTHING
        assert not house.web.asked

    in_house(tmp_path, story)


def test_a_policy_is_fetched_once_and_kept_over_a_restart(tmp_path) -> None:
    async def story(house):
        house.publish("1", text())
        for policies in (house.policies, house.policies, house.new()):
            found = await policies.policy_for(DOMAIN)
            assert found.policy.mode is Mode.ENFORCE and found.trouble is None
        assert house.web.asked == [URL]
        assert house.row().record_id == "1"

    in_house(tmp_path, story)


def test_another_id_means_another_policy(tmp_path) -> None:
    async def story(house):
        house.publish("1", text())
        await house.policies.policy_for(DOMAIN)
        house.publish("2", text("testing"))
        assert (await house.policies.policy_for(DOMAIN)).policy.mode is Mode.TESTING
        assert house.row().record_id == "2"

    in_house(tmp_path, story)


def test_a_policy_that_is_none_is_no_policy_and_takes_the_old_one_away(tmp_path) -> None:
    async def story(house):
        house.publish("1", text())
        await house.policies.policy_for(DOMAIN)
        house.publish("2", "version: STSv1\nmode: none\nmax_age: 86400\n")
        assert await house.policies.policy_for(DOMAIN) == NOTHING
        house.world.zones.remove(f"_mta-sts.{DOMAIN}", "TXT")
        assert await house.policies.policy_for(DOMAIN) == NOTHING

    in_house(tmp_path, story)


# RFC 8461 §3.3: what was fetched counts whatever happens to the DNS and the web
@pytest.mark.parametrize("fault", [None, DnsFault.SERVFAIL, DnsFault.TIMEOUT])
def test_a_record_that_is_gone_or_cannot_be_asked_changes_nothing(tmp_path, fault) -> None:
    async def story(house):
        house.publish("1", text())
        await house.policies.policy_for(DOMAIN)
        if fault is None:
            house.world.zones.remove(f"_mta-sts.{DOMAIN}", "TXT")
        else:
            house.world.zones.fault(f"_mta-sts.{DOMAIN}", fault)
        for policies in (house.policies, house.new()):
            assert (await policies.policy_for(DOMAIN)).policy.mode is Mode.ENFORCE

    in_house(tmp_path, story)


def test_a_policy_ends_with_its_max_age(tmp_path) -> None:
    async def story(house):
        house.publish("1", text(age_s=3600))
        await house.policies.policy_for(DOMAIN)
        house.world.zones.remove(f"_mta-sts.{DOMAIN}", "TXT")
        await house.world.clock.sleep(3590)
        assert (await house.policies.policy_for(DOMAIN)).policy is not None
        await house.world.clock.sleep(20)
        for policies in (house.policies, house.new()):
            assert await policies.policy_for(DOMAIN) == NOTHING

    in_house(tmp_path, story)


BROKEN = [
    (FetchFailed("refused", FetchTrouble.CONNECT), ResultType.STS_POLICY_FETCH_ERROR),
    (FetchFailed("no address", FetchTrouble.DNS), ResultType.STS_POLICY_FETCH_ERROR),
    (FetchFailed("127.0.0.1", FetchTrouble.ADDRESS), ResultType.STS_POLICY_FETCH_ERROR),
    (FetchFailed("a certificate of nobody", FetchTrouble.TLS), ResultType.STS_WEBPKI_INVALID),
    (Fetched(status=404, media_type="text/plain", octets=b""), ResultType.STS_POLICY_FETCH_ERROR),
    (
        Fetched(status=301, media_type="text/plain", octets=text().encode()),
        ResultType.STS_POLICY_FETCH_ERROR,
    ),
    (
        Fetched(status=200, media_type="text/html", octets=text().encode()),
        ResultType.STS_POLICY_INVALID,
    ),
    (
        Fetched(status=200, media_type="text/plain", octets=text(mx="*.*.com").encode()),
        ResultType.STS_POLICY_INVALID,  # H47
    ),
    (
        Fetched(status=200, media_type="text/plain", octets=b"x" * 70_000),
        ResultType.STS_POLICY_FETCH_ERROR,
    ),
]


@pytest.mark.parametrize(("answer", "result"), BROKEN)
def test_a_fetch_that_fails_keeps_the_old_policy_and_says_why(tmp_path, answer, result) -> None:
    async def story(house):
        house.web.pages[URL] = answer
        house.publish("1")
        found = await house.policies.policy_for(DOMAIN)
        assert found.policy is None and found.trouble.result is result
        house.publish("2", text())
        assert (await house.policies.policy_for(DOMAIN)).trouble is None
        house.publish("3")
        house.web.pages[URL] = answer
        found = await house.policies.policy_for(DOMAIN)
        assert found.policy.mode is Mode.ENFORCE and found.trouble.result is result

    in_house(tmp_path, story)


# RFC 8461 §3.3
def test_a_fetch_that_failed_is_not_repeated_for_five_minutes(tmp_path) -> None:
    async def story(house):
        house.publish("1")
        for _ in range(10):
            assert (await house.policies.policy_for(DOMAIN)).trouble is not None
        assert len(house.web.asked) == 1
        await house.world.clock.sleep(FAILED_S + 1)
        house.web.put_policy(DOMAIN, text())
        assert (await house.policies.policy_for(DOMAIN)).policy is not None
        assert len(house.web.asked) == 2

    in_house(tmp_path, story)


def test_mail_waits_a_while_and_the_fetch_goes_on_without_it(tmp_path) -> None:
    async def story(house):
        clock = house.world.clock
        running = asyncio.ensure_future(house.policies.run())
        await asyncio.sleep(0)
        house.publish("1", text())
        house.web.delays_s[URL] = 30.0
        began_s = clock.monotonic_s()
        found = await asyncio.gather(*(house.policies.policy_for(DOMAIN) for _ in range(5)))
        assert clock.monotonic_s() - began_s <= 10.1
        assert all(one.policy is None and one.trouble == LATE for one in found)
        await clock.sleep(25)
        assert (await house.policies.policy_for(DOMAIN)).policy is not None
        assert len(house.web.asked) == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_house(tmp_path, story)


def test_without_anybody_running_it_the_fetch_ends_with_the_wait(tmp_path) -> None:
    async def story(house):
        house.publish("1", text())
        house.web.delays_s[URL] = 30.0
        began_s = house.world.clock.monotonic_s()
        assert (await house.policies.policy_for(DOMAIN)).trouble == LATE
        assert house.world.clock.monotonic_s() - began_s <= 10.1

    in_house(tmp_path, story)


def test_ending_while_something_is_fetched_ends_that_too(tmp_path) -> None:
    async def story(house):
        running = asyncio.ensure_future(house.policies.run())
        await asyncio.sleep(0)
        house.publish("1", text())
        house.web.delays_s[URL] = 30.0
        waiting = asyncio.ensure_future(house.policies.policy_for(DOMAIN))
        await house.world.clock.sleep(1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert (await waiting).policy is None

    in_house(tmp_path, story)


# RFC 8461 §3.3: refreshed before it expires, once a day
def test_a_policy_in_use_never_expires_while_its_host_is_there(tmp_path) -> None:
    async def story(house):
        house.publish("1", text(age_s=3 * int(DAY_S)))
        running = asyncio.ensure_future(house.policies.run())
        for _ in range(20):
            assert (await house.policies.policy_for(DOMAIN)).policy is not None
            await house.world.clock.sleep(DAY_S)
        assert 15 <= len(house.web.asked) <= 21
        assert house.row().expires_at > house.world.clock.unix_us()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_house(tmp_path, story)


def test_what_nobody_writes_to_is_refreshed_for_a_month_and_then_forgotten(tmp_path) -> None:
    async def story(house):
        house.publish("1", text(age_s=7 * int(DAY_S)))
        await house.policies.policy_for(DOMAIN)
        running = asyncio.ensure_future(house.policies.run())
        await house.world.clock.sleep(60 * DAY_S)
        assert 25 <= len(house.web.asked) <= 32
        assert house.row() is None
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    in_house(tmp_path, story)


# RFC 8461 §6: a refresh that fails is told, but for mode none
@pytest.mark.parametrize("mode", ["enforce", "testing", "none"])
def test_a_refresh_that_fails_is_told(tmp_path, mode: str) -> None:
    async def story(house):
        house.publish("1", text(mode, age_s=30 * int(DAY_S)))
        await house.policies.policy_for(DOMAIN)
        house.web.pages.clear()
        await house.world.clock.sleep(2 * DAY_S)
        await house.policies.refresh()
        expected = [] if mode == "none" else [ResultType.STS_POLICY_FETCH_ERROR]
        assert [one.result for one in house.told] == expected
        for one in house.told:
            assert (one.policy_type, one.domain) == (PolicyType.STS, DOMAIN)
            assert one.mx_patterns == ("*.there.example",)
        assert house.row() is not None

    in_house(tmp_path, story)


def test_a_row_of_another_release_is_fetched_anew(tmp_path) -> None:
    async def story(house):
        house.publish("1", text())
        await house.policies.policy_for(DOMAIN)
        house.store.write_now(
            lambda tx: tx.run("UPDATE mta_sts_policy SET policy = ?", (b'{"mode": 7}',))
        )
        assert (await house.new().policy_for(DOMAIN)).policy is not None
        assert len(house.web.asked) == 2

    in_house(tmp_path, story)


def test_the_record_may_be_somebody_elses_by_cname(tmp_path) -> None:  # RFC 8461 §8.2
    async def story(house):
        zones = house.world.zones
        zones.add(f"_mta-sts.{DOMAIN}", "CNAME", "_mta-sts.provider.example.")
        zones.add("_mta-sts.provider.example", "TXT", '"v=STSv1; " "id=9"')
        house.web.put_policy(DOMAIN, text())
        assert (await house.policies.policy_for(DOMAIN)).policy is not None
        asked = [name for name, kind in zones.questions if kind == RecordType.TXT.value]
        assert asked == [f"_mta-sts.{DOMAIN}."]

    in_house(tmp_path, story)
