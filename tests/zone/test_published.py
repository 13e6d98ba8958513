"""Whether a record is in the DNS already."""

from __future__ import annotations

import pytest

from posthouse.sim.dns import DnsFault, ZoneResolver, Zones
from posthouse.zone.published import Presence, Published, look_up
from posthouse.zone.records import Record, zone_file

DOMAIN, HOST = "example.org", "mail.example.org"
THERE, OTHER, MISSING, UNKNOWN = Presence.THERE, Presence.OTHER, Presence.MISSING, Presence.UNKNOWN
SPF = '"v=spf1 mx -all"'
KEY = '"v=DKIM1; k=rsa; p=' + "A" * 390 + '"'
SITE = '"site-verification=1"'


def record(name: str, kind: str, value: str) -> Record:
    return Record(name=f"{name}.", type=kind, value=value, why="why")


async def look(zones: Zones, wanted: Record) -> Published:
    found = await look_up([wanted], ZoneResolver(zones, timeout_s=0.0))
    return found[wanted]


@pytest.mark.parametrize(
    ("name", "kind", "value", "there", "presence"),
    [
        (DOMAIN, "MX", f"10 {HOST}.", (f"5 {HOST}.",), THERE),
        (DOMAIN, "MX", f"10 {HOST}.", ("10 mx.example.net.",), OTHER),
        (DOMAIN, "MX", f"10 {HOST}.", ("0 .",), OTHER),
        (DOMAIN, "MX", f"10 {HOST}.", (), MISSING),
        (DOMAIN, "TXT", SPF, (SITE, SPF), THERE),
        (DOMAIN, "TXT", SPF, (SITE, '"V=SPF1 a  -all"'), OTHER),
        (DOMAIN, "TXT", SPF, (SITE, '"v=spf10 mx -all"'), MISSING),
        (f"_dmarc.{DOMAIN}", "TXT", '"v=DMARC1; p=none"', ('"v=DMARC1;p=none"',), THERE),
        (f"_dmarc.{DOMAIN}", "TXT", '"v=DMARC1; p=none"', (SITE,), OTHER),
        (f"k._domainkey.{DOMAIN}", "TXT", KEY, (f'{KEY[:200]}" "{KEY[200:]}',), THERE),
        (f"k._domainkey.{DOMAIN}", "TXT", KEY, (f'{KEY[:200]}"',), OTHER),
        (f"_imaps._tcp.{DOMAIN}", "SRV", f"0 1 993 {HOST}.", (f"9 9 993 {HOST}.",), THERE),
        (f"_imaps._tcp.{DOMAIN}", "SRV", f"0 1 993 {HOST}.", (f"0 1 143 {HOST}.",), OTHER),
        (HOST, "A", "192.0.2.25", ("192.0.2.24", "192.0.2.25"), THERE),
        (HOST, "A", "192.0.2.25", ("192.0.2.24",), OTHER),
        (HOST, "AAAA", "2001:db8::25", ("2001:db8:0::25",), THERE),
        (HOST, "A", "<the public IPv4 address>", ("192.0.2.24",), UNKNOWN),
        (HOST, "A", "<the public IPv4 address>", (), MISSING),
        ("25.2.0.192.in-addr.arpa", "PTR", f"{HOST}.", ("Mail.Example.ORG.",), THERE),
        (f"_25._tcp.{HOST}", "TLSA", f"3 1 1 {'ab' * 32}", (f"3 1 1 {'AB' * 32}",), THERE),
        (f"_25._tcp.{HOST}", "TLSA", f"3 1 1 {'ab' * 32}", (f"3 1 1 {'cd' * 32}",), OTHER),
        (HOST, "CAA", '0 issue "letsencrypt.org"', ('0 issue "letsencrypt.org"',), THERE),
        (HOST, "CAA", '0 issue "letsencrypt.org"', ('0 issue "other.example"',), OTHER),
        (f"mta-sts.{DOMAIN}", "CNAME", f"{HOST}.", (f"{HOST}.",), THERE),
        (f"mta-sts.{DOMAIN}", "CNAME", f"{HOST}.", ("other.example.",), OTHER),
        (f"mta-sts.{DOMAIN}", "CNAME", f"{HOST}.", (), MISSING),
    ],
)
async def test_a_record_is_there_or_not(
    name: str, kind: str, value: str, there: tuple[str, ...], presence: Presence
) -> None:
    zones = Zones()
    if there:
        zones.add(name, kind, *there)
    found = await look(zones, record(name, kind, value))
    assert found.presence is presence
    assert (found.found == ()) is (presence is MISSING)


async def test_addresses_do_for_an_alias_where_they_are_the_hosts() -> None:
    zones = Zones()
    zones.add(HOST, "A", "192.0.2.25", "192.0.2.26")
    zones.add(f"mta-sts.{DOMAIN}", "A", "192.0.2.25")
    alias = record(f"mta-sts.{DOMAIN}", "CNAME", f"{HOST}.")
    assert await look(zones, alias) == Published(presence=THERE, found=("192.0.2.25",))
    zones.add(f"mta-sts.{DOMAIN}", "AAAA", "2001:db8::1")
    assert (await look(zones, alias)).presence is OTHER


async def test_what_has_no_name_yet_is_not_asked_and_silence_says_nothing() -> None:  # P8
    zones = Zones()
    zones.fault(DOMAIN, DnsFault.SERVFAIL)
    silent = await look(zones, record(DOMAIN, "TXT", SPF))
    assert silent.presence is UNKNOWN and "SERVFAIL" in silent.trouble
    zones.fault(f"mta-sts.{DOMAIN}", DnsFault.SERVFAIL)
    assert (await look(zones, record(f"mta-sts.{DOMAIN}", "CNAME", f"{HOST}."))).trouble
    hole = record("<the public address, reversed>", "PTR", f"{HOST}.")
    assert await look(zones, hole) == Published(presence=UNKNOWN)


def test_no_remark_gets_out_of_its_comment() -> None:
    wanted = record(DOMAIN, "TXT", SPF)
    evil = "there: \n@ IN A 192.0.2.66\r\x85\u2028\x00x"
    text = zone_file([wanted], domain=DOMAIN, remarks={wanted: evil})
    lines = [line for line in text.splitlines() if line and not line.startswith(";")]
    assert lines == [f"example.org. 3600 IN TXT {SPF}"]
    assert "\x00" not in text and "; there: ?@ IN A 192.0.2.66" in text
