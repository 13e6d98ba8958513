"""Rotation of DKIM keys over simulated months: publish, sign, revoke, each waiting for the DNS."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from posthouse.accounts import admin, domain_keys, rotation
from posthouse.accounts.domain_keys import ED25519, RSA, DomainKey, KeyState
from posthouse.accounts.rotation import Options, Rotation, Step
from posthouse.accounts.sealing import NodeKey
from posthouse.accounts.signers import Signers
from posthouse.dns import options as dns
from posthouse.dns.resolver import CachingResolver
from posthouse.kernel.errors import UserError
from posthouse.kernel.ports import DnsAnswer, DnsStatus, DnsUpdateFailed, RecordType
from posthouse.mailauth import questions
from posthouse.mailauth.dkim.sign import NewKey, sign
from posthouse.mailauth.dkim.verify import prepare, verify
from posthouse.mailauth.results import Result
from posthouse.message.fields import read_section
from posthouse.observe.log import Log
from posthouse.observe.options import LogFormat, LogOptions
from posthouse.sim.dns import DnsFault, ZoneResolver
from posthouse.sim.dns_server import LabDns
from posthouse.sim.world import World, run_virtual
from posthouse.store.blobs.disk import FileDisk
from posthouse.store.options import Options as StoreOptions
from posthouse.store.sqlite.engine import SqliteStore
from tests.accounts.keys import new_key

DOMAIN = "example.org"
HOUR_S, DAY_S = 3_600.0, 86_400.0
TTL_S = 7_200
NEGATIVE_S = 60
MESSAGE = b"From: ada@example.org\r\nSubject: hello\r\n\r\nHello.\r\n"
OPTIONS = Options(
    algorithms=(RSA, ED25519), rsa_bits=2048, rotation_s=10 * DAY_S, lifetime_s=6 * DAY_S
)
WAITING, SIGNING, RETIRED, REVOKED = KeyState


class House:
    """A store, its keys, and the zone of one domain, in virtual time."""

    def __init__(self, world: World, folder: Path, options: Options = OPTIONS) -> None:
        self.world = world
        self.zones = world.zones
        self.node_key = NodeKey(folder / "node.key", world.chance.fork("node key"))
        self.store = SqliteStore.open(
            StoreOptions(folder=str(folder)),
            clock=world.clock,
            disk=FileDisk(),
            is_inline=True,
        )
        self.lines: list[dict[str, Any]] = []
        self.log = Log(
            lambda line: self.lines.append(json.loads(line)),
            unix_us=world.clock.unix_us,
            options=LogOptions(format=LogFormat.JSON),
        )
        self.signers = Signers(self.store, self.node_key, log=self.log)
        self.rotation = Rotation(
            self.store,
            clock=world.clock,
            resolver=ZoneResolver(world.zones),
            workers=world.workers,
            node_key=self.node_key,
            options=options,
            log=self.log,
        )
        self.store.write_now(lambda tx: admin.add_domain(tx, DOMAIN))

    def make(self, algorithms: tuple[str, ...] = (RSA, ED25519)) -> tuple[DomainKey, ...]:
        new = generated(algorithms)
        return self.store.write_now(
            lambda tx: domain_keys.make_keys(tx, DOMAIN, new, self.node_key)
        )

    async def made_and_shown(self) -> DomainKey:
        """A new key whose record the DNS has been seen to show."""
        [key] = self.make((ED25519,))
        self.publish(key)
        await self.look()
        return key

    def all_keys(self) -> tuple[DomainKey, ...]:
        return self.store.read_now(lambda tx: domain_keys.keys(tx, DOMAIN))

    def states(self) -> list[KeyState]:
        return [key.state for key in self.all_keys()]

    def publish(self, key: DomainKey, text: str | None = None, ttl_s: int = TTL_S) -> None:
        record = text or key.record
        strings = " ".join(f'"{record[at : at + 255]}"' for at in range(0, len(record), 255))
        self.zones.remove(key.record_name, "TXT")
        self.zones.add(key.record_name, "TXT", strings, ttl_s=ttl_s)

    def withdraw(self, key: DomainKey) -> None:
        self.zones.remove(key.record_name, "TXT")

    async def look(self) -> list[str]:
        """One look; the events it wrote."""
        before = len(self.lines)
        await self.rotation.look_at_all()
        return [line["event"] for line in self.lines[before:]]

    async def after(self, seconds: float) -> list[str]:
        await self.world.clock.sleep(seconds)
        return await self.look()


def generated(algorithms: tuple[str, ...]) -> tuple[NewKey, ...]:
    return domain_keys.generate_keys(algorithms, rsa_bits=2048)


def live(
    main: Callable[[House], Awaitable[None]], tmp_path: Path, options: Options = OPTIONS
) -> None:
    async def run(world: World) -> None:
        house = House(world, tmp_path, options)
        try:
            await main(house)
        finally:
            house.signers.close()
            await house.store.close()

    run_virtual(run)


def test_a_first_key_signs_as_soon_as_the_dns_shows_it(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        rsa, ed25519 = house.make()
        assert await house.look() == []
        house.publish(rsa)
        assert await house.look() == ["key.shown", "key.signs"]
        assert house.states() == [SIGNING, WAITING]
        await house.signers.refresh()
        assert [key.selector for key in house.signers.keys_for(DOMAIN)] == [rsa.selector]
        house.publish(ed25519)
        assert await house.look() == ["key.shown", "key.signs"]
        assert await house.look() == [], "nothing more to say"

    live(main, tmp_path)


def test_the_next_key_waits_for_the_dns_and_then_for_one_ttl(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        await house.made_and_shown()
        [new] = house.make((ED25519,))
        assert await house.after(DAY_S) == [], "however long nobody publishes it"
        house.publish(new)
        assert await house.look() == ["key.shown"]
        assert house.states() == [SIGNING, WAITING]
        assert await house.after(TTL_S - 1) == []
        assert await house.after(1) == ["key.retired", "key.signs"]
        assert house.states() == [RETIRED, SIGNING]

    live(main, tmp_path)


def test_a_key_whose_record_goes_while_it_waits_begins_to_wait_anew(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        await house.made_and_shown()
        [new] = house.make((ED25519,))
        house.publish(new)
        assert await house.look() == ["key.shown"]
        house.publish(new, "v=DKIM1; k=ed25519; p=AAAA")
        assert await house.after(TTL_S) == ["key.gone"]
        house.publish(new)
        assert await house.look() == ["key.shown"]
        assert await house.after(TTL_S - 1) == []
        assert await house.after(1) == ["key.retired", "key.signs"]

    live(main, tmp_path)


# P8: what the DNS does not say is never taken for an absence.
@pytest.mark.parametrize("fault", [DnsFault.SERVFAIL, DnsFault.TIMEOUT, DnsFault.GARBAGE])
def test_a_dns_that_fails_changes_nothing(fault: DnsFault, tmp_path: Path) -> None:
    async def main(house: House) -> None:
        old = await house.made_and_shown()
        new = await house.made_and_shown()
        for key in (old, new):
            house.zones.fault(key.record_name, fault)
        assert await house.after(TTL_S * 2) == []
        assert house.states() == [SIGNING, WAITING]
        for key in (old, new):
            house.zones.heal(key.record_name)
        assert await house.look() == ["key.retired", "key.signs"]
        house.zones.fault(old.record_name, fault)
        assert await house.look() == []
        assert house.states() == [RETIRED, SIGNING], "a retired key is not taken for revoked"

    live(main, tmp_path)


def test_a_key_that_signs_and_is_not_shown_is_told_once_until_it_is_shown_again(
    tmp_path: Path,
) -> None:
    async def main(house: House) -> None:
        key = await house.made_and_shown()
        house.withdraw(key)
        assert await house.look() == ["key.not_shown"]
        assert await house.after(HOUR_S) == []
        assert house.states() == [SIGNING], "another would be no better"
        house.publish(key)
        assert await house.look() == []
        house.withdraw(key)
        assert await house.look() == ["key.not_shown"]

    live(main, tmp_path)


def test_a_retired_key_may_go_when_its_mail_has_arrived_and_is_wiped_once_it_is_gone(
    tmp_path: Path,
) -> None:
    async def main(house: House) -> None:
        old = await house.made_and_shown()
        await house.made_and_shown()
        await house.after(TTL_S)
        assert await house.after(OPTIONS.lifetime_s - 1) == []
        assert await house.after(1) == ["key.may_go"]
        assert await house.after(HOUR_S) == [], "told once"
        house.publish(old, "v=DKIM1; k=ed25519; p=")
        assert await house.look() == ["key.revoked"]
        assert house.states() == [REVOKED, SIGNING]
        assert [key.has_private for key in house.all_keys()] == [False, True]
        with pytest.raises(UserError, match="is gone"):
            house.store.read_now(lambda tx: domain_keys.signing_key(tx, old, house.node_key))

    live(main, tmp_path)


# A record removed by mistake, or a DNS that is wrong once, costs no key.
def test_a_retired_key_whose_record_goes_too_early_is_told_and_not_wiped(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        old = await house.made_and_shown()
        await house.made_and_shown()
        await house.after(TTL_S)
        house.withdraw(old)
        assert await house.look() == ["key.too_early"]
        assert await house.after(HOUR_S) == [], "told once"
        assert house.states() == [RETIRED, SIGNING]
        assert [key.has_private for key in house.all_keys()] == [True, True]
        house.publish(old)
        assert await house.look() == []
        house.withdraw(old)
        assert await house.look() == ["key.too_early"], "told again when it was back"
        house.publish(old, "v=DKIM1; k=ed25519; p=")  # RFC 6376 §3.6.1: on purpose
        assert await house.after(HOUR_S) == []
        assert house.states() == [RETIRED, SIGNING]
        house.withdraw(old)
        assert await house.after(OPTIONS.lifetime_s) == ["key.revoked"]

    live(main, tmp_path)


def test_an_old_key_gets_a_successor_by_itself_and_only_one(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        for key in house.make():
            house.publish(key)
        await house.look()
        assert await house.after(OPTIONS.rotation_s - 1) == []
        assert await house.after(1) == ["key.made", "key.made"]
        assert await house.after(HOUR_S) == []
        assert house.states() == [SIGNING, SIGNING, WAITING, WAITING]

    live(main, tmp_path)


def test_a_rotation_that_is_switched_off_does_not_begin(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        for key in house.make():
            house.publish(key)
        await house.look()
        assert await house.after(OPTIONS.rotation_s * 3) == []

    live(main, tmp_path, msgspec.structs.replace(OPTIONS, is_rotated=False))


def test_an_algorithm_that_is_wanted_no_more_ends_at_its_rotation(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        for key in house.make():
            house.publish(key)
        await house.look()
        house.rotation.options = msgspec.structs.replace(OPTIONS, algorithms=(RSA,))
        assert await house.after(OPTIONS.rotation_s) == ["key.retired", "key.made"]
        assert house.states() == [SIGNING, RETIRED, WAITING]

    live(main, tmp_path)


def test_signing_at_once_asks_no_dns(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        for key in house.make():
            house.publish(key)
        await house.look()
        house.make()
        done = house.store.write_now(lambda tx: rotation.sign_now(tx, DOMAIN))
        assert [each.step for each in done] == [Step.RETIRED, Step.SIGNS] * 2
        assert house.states() == [RETIRED, RETIRED, SIGNING, SIGNING]

    live(main, tmp_path)


def test_two_records_at_one_name_count_as_none(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        [key] = house.make((ED25519,))
        house.publish(key)
        house.zones.add(key.record_name, "TXT", '"v=DKIM1; p="')
        assert await house.look() == []
        sights = await rotation.look(house.all_keys(), ZoneResolver(house.zones))
        assert sights[key.id].found == "2 TXT records, not one"

    live(main, tmp_path)


class Updater:
    """Changes the zones of the house, or fails."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.is_failing = False

    async def put_txt(self, name: str, values: Any, ttl_s: int) -> None:
        if self.is_failing:
            raise DnsUpdateFailed("the name server refuses it")
        key = next(key for key in self.house.all_keys() if key.record_name == name)
        self.house.publish(key, *values, ttl_s=ttl_s)

    async def remove_txt(self, name: str, values: Any) -> None:
        self.house.zones.remove(name, "TXT")


def test_with_an_updater_a_rotation_needs_nobody(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        house.rotation.updater = updater = Updater(house)
        house.make()
        updater.is_failing = True
        assert await house.look() == ["key.publish_failed"] * 2
        updater.is_failing = False
        await house.look()
        assert await house.look() == ["key.shown", "key.signs"] * 2
        rotating = house.world.loop.create_task(house.rotation.run())
        await house.world.clock.sleep(35 * DAY_S)
        rotating.cancel()
        assert house.states() == [REVOKED] * 4 + [RETIRED] * 2 + [SIGNING] * 2

    live(main, tmp_path)


class Receiver:
    """Somebody who verifies our signatures, with a caching resolver."""

    def __init__(self, world: World, place: tuple[str, int]) -> None:
        self.world = world
        self.resolver = CachingResolver(
            dns.Options(servers=(place,), ttl_s_min=0.0),
            network=world.network.at("198.51.100.9"),
            clock=world.clock,
            chance=world.chance,
        )

    async def results(self, octets: bytes) -> list[Result]:
        now = int(self.world.clock.unix_us() // 1_000_000)
        prepared = prepare(octets, read_section(octets))
        outcomes = await questions.run(verify(prepared, now), self.resolver)
        return [outcome.result for outcome in outcomes]


# Issue 4: a rotation under traffic has no failed verification.
def test_no_signature_ever_fails_while_keys_rotate_under_traffic(tmp_path: Path) -> None:
    async def main(house: House) -> None:
        world = house.world
        house.zones.load(DOMAIN, ZONE)
        await LabDns(house.zones).serve_sim(world.network, "198.51.100.1", 53)
        steady, late = (Receiver(world, ("198.51.100.1", 53)) for _ in range(2))
        for key in house.make():
            house.publish(key)
        rotating = world.loop.create_task(house.rotation.run())
        administering = world.loop.create_task(administer(house, steady))
        await world.clock.sleep(HOUR_S)
        results: list[Result] = []
        under_way: list[tuple[float, bytes]] = []
        while world.clock.monotonic_s() < 40 * DAY_S:
            octets = signed(house)
            results += await steady.results(octets)
            if len(results) % 8 == 0:
                under_way.append((world.clock.monotonic_s() + 5.5 * DAY_S, octets))
            while under_way and under_way[0][0] <= world.clock.monotonic_s():
                results += await late.results(under_way.pop(0)[1])
            await world.clock.sleep(HOUR_S)
        rotating.cancel()
        administering.cancel()
        assert len(results) > 2_000
        assert set(results) == {Result.PASS}
        states = house.states()
        assert states.count(SIGNING) == 2 and states.count(REVOKED) >= 4
        assert states[:4] == [REVOKED] * 4

    live(main, tmp_path)


ZONE = f"""
$TTL {TTL_S}
@ IN SOA ns hostmaster 1 3600 600 604800 {TTL_S}
@ IN NS ns
"""
"""That there is no such name is kept as long as any record."""


async def administer(house: House, receiver: Receiver) -> None:
    """A person who looks twice a day and does what the log says, hours later. Before a record is
    there somebody asks for it, so that its absence is in caches."""
    done = 0
    while True:
        await house.world.clock.sleep(DAY_S / 2)
        for line in house.lines[done:]:
            key = next((k for k in house.all_keys() if k.selector == line.get("selector")), None)
            if line["event"] == "key.made" and key is not None:
                await receiver.resolver.resolve(key.record_name, RecordType.TXT)
                house.publish(key)
            elif line["event"] == "key.may_go" and key is not None:
                house.withdraw(key)
        done = len(house.lines)


def signed(house: House) -> bytes:
    keys = house.signers.keys_for(DOMAIN)
    now = int(house.world.clock.unix_us() // 1_000_000)
    fields = sign(read_section(MESSAGE), keys, now_unix_s=now, expires_s=int(6 * DAY_S))
    return fields + MESSAGE


def test_an_answer_is_read_as_what_it_says() -> None:
    key = new_key()
    found = DnsAnswer(status=DnsStatus.FOUND, records=(key.record.encode(),), ttl_s=60.0)
    assert rotation.sight(key, found) == rotation.Sight(is_shown=True, ttl_s=60.0, found=key.record)
    for status, is_shown in (
        (DnsStatus.NO_NAME, False),
        (DnsStatus.NO_DATA, False),
        (DnsStatus.TEMPFAIL, None),
    ):
        assert rotation.sight(key, DnsAnswer(status=status)).is_shown is is_shown
