"""`posthouse dns` and `posthouse domain keys|rotate` against a name server on loopback."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import dns.zone
import pytest
import pytest_asyncio

from posthouse.cli.dns import words_in_lines
from posthouse.cli.output import ExitCode
from posthouse.sim.dns import DnsFault, Zones
from posthouse.sim.dns_server import LabDns

from .conftest import Cli

HEAD = "$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 604800 60\n@ IN NS ns\nns IN A 192.0.2.53\n"
DOMAIN = "example.org"


class World:
    """A house, a name server for its domain, and commands that ask it."""

    def __init__(self, cli: Cli, server: LabDns) -> None:
        self.cli = cli
        self.zones = server.zones
        self.place = f"{server.address[0]}:{server.address[1]}"

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(self.cli, *arguments)

    async def ask(self, *arguments: str) -> tuple[int, str, str]:
        return await self.run(*arguments, "--resolver", self.place)

    async def publish(self, *arguments: str) -> None:
        """What `dns records` prints becomes the zone."""
        code, out, err = await self.run("dns", "records", DOMAIN, *arguments)
        assert (code, err) == (0, "")
        self.zones.load(DOMAIN, HEAD + out)

    async def checked(self) -> dict[str, list[str]]:
        """Subjects by state."""
        _, out, _ = await self.ask("dns", "check", DOMAIN, "--dns-only", "--json")
        found: dict[str, list[str]] = {}
        for each in json.loads(out)["checked"]:
            found.setdefault(each["state"], []).append(each["subject"])
        return found

    async def states(self) -> list[str]:
        _, out, _ = await self.ask("domain", "keys", DOMAIN, "--json")
        return [key["state"] for key in json.loads(out)]


@pytest_asyncio.fixture
async def world(house: Cli) -> AsyncIterator[World]:
    with Path("posthouse.toml").open("a") as file:
        file.write("\n[relay]\nallow_private_addresses = true\n")
    server = LabDns(Zones())
    await server.serve_loopback()
    made = World(house, server)
    server.zones.add("1.0.0.127.in-addr.arpa", "PTR", "mail.example.org.")
    yield made
    server.close()


def test_records_are_a_zone_file_by_default_and_json_on_request(house: Cli) -> None:
    code, out, err = house("dns", "records", DOMAIN, "--address", "192.0.2.25")
    assert (code, err) == (0, "")
    zone = dns.zone.from_text(HEAD + out, DOMAIN, relativize=False)
    assert zone.get_rdataset("mail.example.org.", "A") is not None
    assert house("dns", "records", DOMAIN, "--address", "192.0.2.25", "--zone")[1] == out
    code, out, _ = house("dns", "records", DOMAIN, "--json", "--dmarc", "reject")
    found = json.loads(out)
    assert {each["type"] for each in found} >= {"MX", "A", "TXT", "PTR"}
    assert any("p=reject" in each["value"] for each in found)
    assert all(each["why"] for each in found)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("records", "example.net"), 4, "the domain example.net is not known here"),
        (("check", "example.net"), 4, "the domain example.net is not known here"),
        (("records", DOMAIN, "--address", "here"), 2, "--address takes an IP address"),
        (("records", DOMAIN, "--zone", "--json"), 2, "--zone and --json cannot both be"),
        (("records", DOMAIN, "--dmarc", "perhaps"), 2, "'perhaps' is not one of"),
        (("check", DOMAIN, "--resolver", "nowhere"), 2, "--resolver takes an IP address"),
        (("records", DOMAIN, "--resolver", "nowhere"), 2, "--resolver takes an IP address"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], code: int, words: str, house: Cli) -> None:
    found, _, err = house("dns", *arguments)
    assert found == code
    assert words in err


async def test_records_says_what_is_there_already(world: World) -> None:
    code, out, err = await world.ask("dns", "records", DOMAIN, "--address", "127.0.0.1")
    assert code == ExitCode.OK
    total = int(err.split()[0])
    assert err == f"{total} records: 1 there already, {total - 1} not there yet\n", "the PTR is"
    await world.publish("--address", "127.0.0.1")
    world.zones.remove(f"_dmarc.{DOMAIN}", "TXT")
    world.zones.add(f"_dmarc.{DOMAIN}", "TXT", '"v=DMARC1; p=reject"')
    world.zones.remove(DOMAIN, "MX")
    code, out, err = await world.ask("dns", "records", DOMAIN, "--address", "127.0.0.1")
    counts = f"{total - 2} there already, 1 not there yet, 1 with another value"
    assert (code, err) == (ExitCode.OK, f"{total} records: {counts}\n")
    assert '; something else is there: "v=DMARC1; p=reject"\n_dmarc.example.org. 3600' in out
    assert "; it is not there yet\nexample.org. 3600 IN MX" in out
    assert "; it is there already\nexample.org. 3600 IN TXT" in out
    dns.zone.from_text(HEAD + out, DOMAIN, relativize=False)
    code, out, err = await world.ask("dns", "records", DOMAIN, "--json")
    assert (code, err) == (ExitCode.OK, "")
    found = {(each["name"], each["type"]): each for each in json.loads(out)}
    assert found["_dmarc.example.org.", "TXT"]["presence"] == "other"
    assert found["_dmarc.example.org.", "TXT"]["found"] == ['"v=DMARC1; p=reject"']
    assert found["example.org.", "MX"]["presence"] == "missing"
    assert found["mail.example.org.", "A"]["presence"] == "unknown", "no --address to compare"
    assert "presence" not in (await world.run("dns", "records", DOMAIN, "--json"))[1]


async def test_records_of_a_dns_that_does_not_answer_are_printed_all_the_same(house: Cli) -> None:
    asked = ("dns", "records", DOMAIN, "--resolver", "127.0.0.1:1")
    code, out, err = await asyncio.to_thread(house, *asked)
    assert code == ExitCode.TEMPORARY
    assert "whether it is there could not be found out" in out and "not known" in err
    assert "example.org. 3600 IN MX" in out


async def test_what_records_prints_passes_the_check(world: World) -> None:
    await world.publish("--address", "127.0.0.1")
    code, out, err = await world.ask("dns", "check", DOMAIN, "--dns-only")
    assert code == ExitCode.OK, out + err
    assert "nothing to mend\n" in err
    assert re.search(r"^right +MX of example\.org$", out, re.MULTILINE)
    assert "this server passes, 1 of 10 look-ups used" in out


# Issue 4: five records broken one by one.
@pytest.mark.parametrize(
    ("name", "kind", "value", "subject"),
    [
        (DOMAIN, "MX", "10 other.example.", "mx"),
        (DOMAIN, "TXT", '"v=spf1 -all"', "spf"),
        ("_dmarc.example.org", "TXT", '"v=DMARC1 p=none"', "dmarc"),
        ("mail.example.org", "A", "127.0.0.9", "ptr"),
        ("_smtp._tls.example.org", "TXT", '"v=TLSRPTv1"', "tls-rpt"),
    ],
)
async def test_a_broken_record_is_named_with_what_should_be(
    name: str, kind: str, value: str, subject: str, world: World
) -> None:
    await world.publish("--address", "127.0.0.1")
    world.zones.remove(name, kind)
    world.zones.add(name, kind, value)
    code, out, err = await world.ask("dns", "check", DOMAIN, "--dns-only")
    assert code == ExitCode.FAILED
    assert re.search(r"^\d+ things? to mend$", err, re.MULTILINE)
    found = await world.checked()
    assert subject in found.get("wrong", []) + found.get("missing", [])
    assert "wanted:" in out


async def test_reports_to_an_address_that_nobody_has_are_found(world: World) -> None:
    await world.publish("--address", "127.0.0.1")
    for local_part, code in (("you", ExitCode.OK), ("dmarc", ExitCode.FAILED)):
        world.zones.remove("_dmarc.example.org", "TXT")
        record = f'"v=DMARC1; p=none; rua=mailto:{local_part}@example.org"'
        world.zones.add("_dmarc.example.org", "TXT", record)
        found, out, _ = await world.ask("dns", "check", DOMAIN, "--dns-only")
        assert found == code, out
    assert "dmarc@example.org does not exist on this server" in " ".join(out.split())


async def test_broken_dnssec_is_named(world: World) -> None:
    await world.publish("--address", "127.0.0.1")
    for name in ("example.org", "mail.example.org", "_dmarc.example.org"):
        world.zones.fault(name, DnsFault.BOGUS)
    code, out, _ = await world.ask("dns", "check", DOMAIN, "--dns-only")
    assert code == ExitCode.FAILED
    assert "the DNSSEC signatures of example.org do not fit" in " ".join(out.split())


async def test_an_empty_zone_has_everything_missing(world: World) -> None:
    world.zones.load(DOMAIN, HEAD)
    code, out, _ = await world.ask("dns", "check", DOMAIN, "--dns-only")
    assert code == ExitCode.FAILED
    found = await world.checked()
    assert found["missing"] == ["mx", "address", "spf", "dkim", "dkim", "dmarc"]
    assert "publish the record" in out


async def test_a_dns_that_does_not_answer_is_no_fault_of_the_zone(house: Cli) -> None:
    run = asyncio.to_thread(
        house, "dns", "check", DOMAIN, "--dns-only", "--resolver", "127.0.0.1:1"
    )
    code, out, err = await run
    assert code == ExitCode.TEMPORARY
    assert "MISSING" not in out and "WRONG" not in out
    assert "could not be found out" in err


async def test_ports_that_are_closed_are_told(world: World) -> None:
    await world.publish("--address", "127.0.0.1")
    code, out, _ = await world.ask("dns", "check", DOMAIN)
    assert code == ExitCode.FAILED
    assert "connection refused, as seen from this machine" in out
    assert "is the server running" in " ".join(out.split())


# --- keys ---


async def test_a_first_key_signs_once_it_is_published(world: World) -> None:
    world.zones.load(DOMAIN, HEAD)
    code, out, _ = await world.ask("domain", "keys", DOMAIN)
    assert code == ExitCode.OK
    assert "publish its record: posthouse dns records example.org" in out
    assert await world.states() == ["waiting", "waiting"]
    await world.publish()
    assert await world.states() == ["signing", "signing"]
    code, out, _ = await world.ask("domain", "keys", DOMAIN)
    assert [line.split("\t")[4:] for line in out.splitlines()] == [["shown", "nothing to do"]] * 2


async def test_a_rotation_prints_its_records_and_waits_for_them(world: World) -> None:
    await world.publish()
    assert await world.states() == ["signing", "signing"]
    code, out, err = await world.run("domain", "rotate", DOMAIN)
    assert code == ExitCode.OK
    assert err.splitlines() == [
        "publish these records; the keys sign once the DNS shows them",
        "to see how far it is: posthouse domain keys example.org",
    ]
    assert len(out.splitlines()) == 2
    code, again, _ = await world.run("domain", "rotate", DOMAIN)
    assert (code, again) == (0, out), "asked twice, it begins once"
    assert await world.states() == ["signing", "signing", "waiting", "waiting"]
    await world.publish()
    code, out, _ = await world.ask("domain", "keys", DOMAIN)
    assert out.count("when no cache is left without it") == 2


async def test_a_forced_rotation_signs_at_once(world: World) -> None:
    await world.publish()
    assert await world.states() == ["signing", "signing"]
    code, _, err = await world.run("domain", "rotate", DOMAIN, "--force")
    assert code == ExitCode.OK
    assert err == "these keys sign from now on: publish their records at once\n"
    await world.publish()
    assert await world.states() == ["retired", "retired", "signing", "signing"]
    code, out, _ = await world.ask("domain", "keys", DOMAIN)
    assert out.count("leave its record until") == 2


async def test_a_retired_record_removed_too_early_is_to_be_put_back(world: World) -> None:
    await world.publish()
    assert await world.states() == ["signing", "signing"]
    await world.run("domain", "rotate", DOMAIN, "--force")
    await world.publish()
    assert await world.states() == ["retired", "retired", "signing", "signing"]
    _, out, _ = await world.ask("domain", "keys", DOMAIN, "--json")
    name, record = (json.loads(out)[0][key] for key in ("name", "record"))
    world.zones.remove(name, "TXT")
    code, out, err = await world.ask("domain", "keys", DOMAIN)
    assert code == ExitCode.OK
    assert out.splitlines()[0].split("\t")[2] == "retired", "one answer wipes nothing"
    assert re.search(r"put its record back until \d{4}-\d\d-\d\d: mail signed with it", out)
    assert f"the DNS has for {name}: no record" in err
    [back] = [line for line in err.splitlines() if line.startswith("put back: ")]
    assert back.startswith(f"put back: {name}. 3600 IN TXT ")
    assert "".join(re.findall('"([^"]*)"', back)) == record
    assert await world.states() == ["retired", "retired", "signing", "signing"]
    code, out, _ = await world.ask("dns", "check", DOMAIN, "--dns-only", "--json")
    found = next(c for c in json.loads(out)["checked"] if c["what"].split()[2] in name.split("."))
    assert (code, found["state"]) == (ExitCode.FAILED, "missing")
    assert found["wanted"] == [f'"{record}"']
    assert "put it back until" in found["words"]


async def test_something_else_at_the_keys_name_is_shown(world: World) -> None:
    await world.publish()
    _, out, _ = await world.run("dns", "records", DOMAIN, "--json")
    name = next(r["name"] for r in json.loads(out) if r["name"].startswith("e20"))
    world.zones.remove(name, "TXT")
    world.zones.add(name, "TXT", '"v=DKIM1; k=ed25519; p=AAAA"')
    _, _, err = await world.ask("domain", "keys", DOMAIN)
    assert err == f"the DNS has for {name.rstrip('.')}: v=DKIM1; k=ed25519; p=AAAA\n"


def test_a_lost_node_key_is_told_and_new_keys_end_it(house: Cli) -> None:
    assert house("domain", "rotate", DOMAIN, "--force")[0] == 0
    Path("node.key").unlink()
    code, _, err = house("domain", "rotate", DOMAIN)
    assert code == ExitCode.LOCKED
    assert err.splitlines()[0].endswith("is missing, and secrets here are sealed by it")
    assert (
        "hint: is it lost for good? Make new keys: posthouse domain rotate --lost-node-key" in err
    )
    assert not Path("node.key").exists()
    code, out, err = house("domain", "rotate", "--lost-node-key")
    assert code == ExitCode.OK, err
    assert len(out.splitlines()) == 2
    code, _, err = house("domain", "rotate", "--lost-node-key")
    assert code == ExitCode.FAILED
    assert "nothing is lost" in err
    with closing(sqlite3.connect("posthouse.db")) as database:
        states = database.execute("SELECT state, private IS NULL FROM domain_key ORDER BY id")
        assert states.fetchall() == [(3, 1), (3, 1), (1, 0), (1, 0)]


def test_where_dkim_is_off_no_keys_are_made(house: Cli) -> None:
    with Path("posthouse.toml").open("a") as file:
        file.write("\n[dkim]\nis_enabled = false\n")
    code, _, err = house("domain", "add", "example.net")
    assert code == ExitCode.OK
    assert "DKIM" not in err
    assert house("domain", "rotate", "example.net")[0] == ExitCode.FAILED
    _, out, _ = house("dns", "records", "example.net", "--json")
    assert "_domainkey" not in out


def test_no_name_is_broken_at_its_hyphen() -> None:
    words = (
        f"{'word ' * 15}and then https://mta-sts.example.test/.well-known/mta-sts.txt is fetched"
    )
    assert " ".join(words_in_lines(words)) == words
    assert any(
        "https://mta-sts.example.test/.well-known/" in line for line in words_in_lines(words)
    )


@pytest.mark.parametrize("arguments", [(), (DOMAIN, "--lost-node-key")])
def test_rotate_wants_a_domain_or_all(arguments: tuple[str, ...], house: Cli) -> None:
    assert house("domain", "rotate", *arguments)[0] == ExitCode.USAGE
