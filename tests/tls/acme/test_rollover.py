"""A new key is used only once the DNS has shown its TLSA record long enough (RFC 7671 §8.1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from posthouse.sim.dns import DnsFault, ZoneResolver, Zones
from posthouse.tls.acme.rollover import Sight, look

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOST = "mail.example.org"
OLD, NEW = b"\x01" * 32, b"\x02" * 32


class Dns:
    def __init__(self) -> None:
        self.zones = Zones()
        self.zones.add(HOST, "A", "192.0.2.1")

    def publish(self, port: int, *records: str, ttl_s: int = 300) -> None:
        self.zones.remove(f"_{port}._tcp.{HOST}", "TLSA")
        self.zones.add(f"_{port}._tcp.{HOST}", "TLSA", *records, ttl_s=ttl_s)

    async def look(self, at: datetime = NOW, before: Sight | None = None) -> Sight:
        return await look(
            ZoneResolver(self.zones, timeout_s=0.0),
            HOST,
            NEW,
            now=at,
            seen_at=before.seen_at if before else None,
            ttl_s=before.ttl_s if before else 0.0,
        )


def ee(data: bytes) -> str:
    return f"3 1 1 {data.hex()}"


async def test_without_tlsa_records_a_key_may_change_at_once() -> None:
    dns = Dns()
    assert (await dns.look()).is_ready
    dns.publish(25, "2 1 1 " + "ab" * 32)  # binds the authority, not our key
    assert (await dns.look()).is_ready


async def test_the_new_record_must_stand_beside_the_old_one_for_two_ttls() -> None:
    dns = Dns()
    dns.publish(25, ee(OLD), ttl_s=7200)
    sight = await dns.look()
    assert not sight.is_ready and sight.seen_at is None
    assert f"_25._tcp.{HOST}" in sight.waits_for and NEW.hex() in sight.waits_for
    dns.publish(25, ee(OLD), ee(NEW), ttl_s=7200)
    seen = await dns.look(NOW, sight)
    assert not seen.is_ready and seen.seen_at == NOW
    almost = await dns.look(NOW + timedelta(hours=3, minutes=59), seen)
    assert not almost.is_ready and almost.seen_at == NOW
    assert (await dns.look(NOW + timedelta(hours=4), almost)).is_ready


async def test_a_short_ttl_in_a_cache_does_not_make_it_hasty() -> None:
    dns = Dns()
    dns.publish(25, ee(OLD), ee(NEW), ttl_s=5)
    seen = await dns.look()
    assert not (await dns.look(NOW + timedelta(minutes=119), seen)).is_ready
    assert (await dns.look(NOW + timedelta(minutes=120), seen)).is_ready


async def test_every_port_that_binds_a_key_has_to_show_the_new_one() -> None:
    dns = Dns()
    dns.publish(25, ee(OLD), ee(NEW))
    dns.publish(465, ee(OLD))
    seen = await dns.look()
    assert not seen.is_ready and "_465._tcp." in seen.waits_for and seen.seen_at is None
    dns.publish(465, "1 0 1 " + "cd" * 32)
    assert "_465._tcp." in (await dns.look()).waits_for


async def test_a_record_that_goes_away_again_starts_the_waiting_anew() -> None:
    dns = Dns()
    dns.publish(25, ee(OLD), ee(NEW))
    seen = await dns.look()
    dns.publish(25, ee(OLD))
    gone = await dns.look(NOW + timedelta(hours=1), seen)
    assert gone.seen_at is None
    dns.publish(25, ee(OLD), ee(NEW))
    again = await dns.look(NOW + timedelta(hours=2), gone)
    assert again.seen_at == NOW + timedelta(hours=2)


async def test_a_dns_that_cannot_be_asked_changes_nothing() -> None:
    dns = Dns()
    dns.publish(25, ee(OLD), ee(NEW))
    seen = await dns.look()
    for fault in (DnsFault.SERVFAIL, DnsFault.TIMEOUT, DnsFault.GARBAGE):
        dns.zones.fault(f"_25._tcp.{HOST}", fault)
        sight = await dns.look(NOW + timedelta(days=1), seen)
        assert not sight.is_ready and sight.seen_at == NOW
        assert "could not be asked" in sight.waits_for
    dns.zones.heal(f"_25._tcp.{HOST}")
    assert (await dns.look(NOW + timedelta(days=1), seen)).is_ready
