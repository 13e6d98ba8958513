"""`posthouse resolve` against a name server on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from posthouse.cli.output import ExitCode
from posthouse.sim.dns import DnsFault, Zones
from posthouse.sim.dns_server import LabDns

from .conftest import Cli

ZONE = (
    """
$TTL 300
@        IN SOA  ns hostmaster 1 3600 600 604800 60
@        IN NS   ns
@        IN MX   20 backup
@        IN MX   10 mail
@        IN TXT  "v=spf1 mx" " -all"
mail     IN A    192.0.2.25
mail     IN AAAA 2001:db8::25
backup   IN A    198.51.100.25
alias    IN CNAME mail
_25._tcp.mail IN TLSA 3 1 0 00112233
_25._tcp.backup IN TLSA 3 1 1 """
    + "ab" * 32
    + """
null     IN MX   0 .
bare     IN A    203.0.113.9
"""
)


@pytest_asyncio.fixture
async def place() -> AsyncIterator[str]:
    zones = Zones()
    zones.load("example.net", ZONE)
    zones.add("9.113.0.203.in-addr.arpa", "PTR", "bare.example.net.")
    zones.sign("example.net")
    zones.fault("broken.example.net", DnsFault.SERVFAIL)
    server = LabDns(zones)
    await server.serve_loopback()
    yield f"{server.address[0]}:{server.address[1]}"
    server.close()


async def resolve(cli: Cli, place: str, *arguments: str) -> tuple[int, str, str]:
    return await asyncio.to_thread(cli, "resolve", *arguments, "--resolver", place)


@pytest.mark.parametrize(
    ("kind", "name", "records"),
    [
        ("a", "mail.example.net", ["mail.example.net\tA\t192.0.2.25"]),
        ("aaaa", "mail.example.net.", ["mail.example.net\tAAAA\t2001:db8::25"]),
        ("txt", "example.net", ["example.net\tTXT\tv=spf1 mx -all"]),
        ("tlsa", "_25._tcp.mail.example.net", ["_25._tcp.mail.example.net\tTLSA\t3 1 0 00112233"]),
        ("a", "alias.example.net", ["mail.example.net\tA\t192.0.2.25"]),
        (
            "ptr",
            "203.0.113.9",
            ["9.113.0.203.in-addr.arpa\tPTR\tbare.example.net"],
        ),
    ],
)
async def test_records_are_shown_with_status_ad_bit_and_ttl(
    kind: str, name: str, records: list[str], cli: Cli, place: str
) -> None:
    code, out, err = await resolve(cli, place, kind, name)
    assert (code, out.splitlines()) == (ExitCode.OK, records)
    proof = "not proven by DNSSEC (AD 0)" if kind == "ptr" else "proven by DNSSEC (AD 1)"
    owner = records[0].split("\t")[0]
    assert err == f"{owner} {kind.upper()}: found, {proof}, TTL 5m\n"


async def test_mx_shows_what_routing_would_do(cli: Cli, place: str) -> None:
    Path("posthouse.toml").write_text("relay.allow_private_addresses = true\n")
    code, out, _ = await resolve(cli, place, "mx", "Example.NET")
    assert code == ExitCode.OK
    assert out.splitlines()[-6:] == [
        "mail goes by mx, to these in turn:",
        "  1. mail.example.net port 25 (10): 2001:db8::25, 192.0.2.25",
        "     TLS required (dane without a usable record)",
        "  2. backup.example.net port 25 (20): 198.51.100.25",
        "     TLS dane",
        f"     TLSA 3 1 1 {'AB' * 32}",
    ]


async def test_a_host_whose_policy_cannot_hold_is_passed_over(cli: Cli, place: str) -> None:
    Path("posthouse.toml").write_text(
        'relay.allow_private_addresses = true\n[[relay.tls_policy]]\ndomain = "example.net"\n'
        'tls = "dane"\n[[relay.tls_policy]]\ndomain = "bare.example.net"\ntls = "dane"\n'
    )
    code, out, _ = await resolve(cli, place, "mx", "example.net")
    assert code == ExitCode.OK
    assert "     passed over: DANE is configured for the domain, and no usable TLSA" in out
    code, out, _ = await resolve(cli, place, "mx", "bare.example.net", "--json")
    assert code == ExitCode.TEMPORARY
    (host,) = json.loads(out)["route"]["hosts"]
    assert host["tls"]["level"] == "dane" and host["tls"]["refusal"]


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("null.example.net", 4, "5.1.10 556 null.example.net says that it takes no mail"),
        ("gone.example.net", 4, "5.1.2 the domain gone.example.net does not exist"),
        ("broken.example.net", 75, "4.4.3 looking up the MX of broken.example.net failed"),
    ],
)
async def test_mail_that_cannot_go_is_told_why(
    name: str, code: int, said: str, cli: Cli, place: str
) -> None:
    found, out, _ = await resolve(cli, place, "mx", name)
    assert found == code
    last = out.splitlines()[-1]
    assert last.startswith(f"mail cannot go: {said}")
    assert last.endswith("returned to the sender" if code == 4 else "tried again later")


async def test_json_has_answer_and_route(cli: Cli, place: str) -> None:
    Path("posthouse.toml").write_text(
        'relay.allow_private_addresses = true\n[[relay.route]]\ndomain = "routed.example.net"\n'
        'hosts = ["mail.example.net:2525"]\n'
    )
    said = json.loads((await resolve(cli, place, "mx", "routed.example.net", "--json"))[1])
    assert said["servers"] == [place]
    assert said["answer"]["status"] == "no such name"
    assert said["route"]["kind"] == "route"
    assert [(h["name"], h["port"]) for h in said["route"]["hosts"]] == [("mail.example.net", 2525)]


async def test_our_own_domains_stay_here(house: Cli, place: str) -> None:
    code, out, _ = await resolve(house, place, "mx", "example.org")
    assert code == ExitCode.OK
    assert out.splitlines()[0] == "mail stays here"


async def test_a_server_that_is_not_there_is_a_temporary_failure(cli: Cli) -> None:
    code, out, err = await resolve(cli, "127.0.0.1:1", "a", "mail.example.net")
    assert (code, out) == (ExitCode.TEMPORARY, "")
    assert err.startswith("mail.example.net A: temporary failure: 127.0.0.1 port 1: ")
    assert err.endswith("; asked 127.0.0.1:1\n")


@pytest.mark.parametrize("resolver", ["localhost", "127.0.0.1:0", "127.0.0.1:x", "[::1", ""])
def test_a_resolver_is_an_address(resolver: str, cli: Cli) -> None:
    code, _, err = cli("resolve", "a", "mail.example.net", "--resolver", resolver)
    assert code == ExitCode.USAGE
    assert err.splitlines()[0] == (
        f"error: --resolver takes an IP address with or without a port, and {resolver!r} is none"
    )


def test_a_name_without_a_type_gets_the_whole_command_as_a_hint(cli: Cli) -> None:
    code, _, err = cli("resolve", "example.org")
    assert code == ExitCode.USAGE
    assert err.startswith("error: before the name comes a type: a, ")
    assert err.splitlines()[-1] == "hint: posthouse resolve mx example.org"
    assert "hint: see " in cli("resolve", "mxx", "example.org")[2]
