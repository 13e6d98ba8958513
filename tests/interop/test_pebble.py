"""Certificates from a real ACME server: each way of proving, renewal under open connections, what
follows a failure, keys that change in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from posthouse.config import build_acme, schema
from posthouse.config.schema import Config, Service
from posthouse.sim.dns import Zones
from posthouse.sim.dns_server import LabDns
from posthouse.sim.ground import Loopback
from posthouse.sim.lab import Lab, LabNode
from posthouse.tls.tlsa import tlsa_3_1_1
from tests.crash.server import ROOT, Server, free_port_base
from tests.interop.knot import SECRET, free_port, running_knot
from tests.interop.pebble import Pebble, running_pebble
from tests.interop.programs import needs_program

pytestmark = needs_program("pebble", package="pebble")

HOST = "mail.north.example"
WITHIN_S = 30.0


@pytest.fixture(autouse=True)
def _nothing_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class House(msgspec.Struct):
    """A node and its authority."""

    lab: Lab
    pebble: Pebble
    ports: dict[Service, int]

    @property
    def node(self) -> LabNode:
        return self.lab.node("north")

    def events(self, name: str) -> list[dict[str, str]]:
        lines = [msgspec.json.decode(line) for line in self.node.log_lines]
        return [line for line in lines if line["event"] == name]

    async def until(self, event: str, count: int = 1) -> list[dict[str, str]]:
        async with asyncio.timeout(WITHIN_S):
            while len(self.events(event)) < count:
                self.node.raise_failure()
                await asyncio.sleep(0.02)
        return self.events(event)

    def served(self, service: Service = Service.IMAPS, name: str = HOST) -> x509.Certificate:
        """What a client that verifies by the authority's root is shown."""
        tls, leaf = self.shake(service, name)
        tls.close()
        return leaf

    def shake(self, service: Service, name: str) -> tuple[ssl.SSLSocket, x509.Certificate]:
        context = ssl.create_default_context(cadata=self.pebble.root().decode())
        port = self.ports.get(service) or self.node.place(service)[1]
        raw = socket.create_connection((self.node.address, port), WITHIN_S)
        tls = context.wrap_socket(raw, server_hostname=name)
        der = tls.getpeercert(binary_form=True)
        assert der is not None
        return tls, x509.load_der_x509_certificate(der)

    async def certificate(
        self, service: Service = Service.IMAPS, name: str = HOST
    ) -> x509.Certificate:
        return await asyncio.to_thread(self.served, service, name)


Change = Callable[[Config], Config]


@contextlib.asynccontextmanager
async def house(
    folder: Path, change: Change = lambda config: config, **pebble: object
) -> AsyncIterator[House]:
    dns_port, ports = free_port(), {Service.HTTP: free_port(), Service.HTTPS: free_port()}
    ground = Loopback(dns_port=dns_port)
    dns = f"{ground.address(0)}:{dns_port}"
    with running_pebble(
        folder, dns, http_port=ports[Service.HTTP], tls_port=ports[Service.HTTPS], **pebble
    ) as authority:

        def with_acme(config: Config) -> Config:
            address = config.listener[0].addresses
            listeners = tuple(
                schema.Listener(service=service, addresses=address, port=port)
                for service, port in ports.items()
            )
            acme = schema.Acme(
                is_enabled=True, accepts_terms=True, directory=authority.directory,
                ca_file=str(authority.ca_file), contact=("ada@north.example",),
            )  # fmt: skip
            config = msgspec.structs.replace(
                config, listener=(*config.listener, *listeners), acme=acme
            )
            return change(config)

        async with Lab(ground, domains={"north.example": ("ada",)}, change=with_acme) as lab:
            yield House(lab, authority, ports)


def challenge(kind: schema.AcmeChallenge) -> Change:
    def change(config: Config) -> Config:
        acme = msgspec.structs.replace(config.acme, challenge=kind)
        return msgspec.structs.replace(config, acme=acme)

    return change


# RFC 8555 §8.3, RFC 8737 §3
@pytest.mark.parametrize("kind", [schema.AcmeChallenge.HTTP_01, schema.AcmeChallenge.TLS_ALPN_01])
async def test_a_certificate_is_obtained_and_served_on_every_port(
    tmp_path: Path, kind: schema.AcmeChallenge
) -> None:
    async with house(tmp_path, challenge(kind)) as made:
        await made.until("certificate.obtained")
        for service in (Service.IMAPS, Service.SUBMISSIONS, Service.HTTPS):
            leaf = await made.certificate(service)
            assert "Pebble Intermediate" in leaf.issuer.rfc4514_string()
        held = made.node.node.own_certificates.folder.held(HOST)
        assert held is not None and held.about.challenge == kind.value
        for path in (made.node.folder / "tls" / "acme").rglob("*"):
            assert path.is_symlink() or path.stat().st_mode & 0o077 == 0, path
        assert not made.node.node.own_certificates.answers.texts
        assert not made.node.node.own_certificates.answers.contexts


async def ask(made: House, name: str = HOST) -> None:
    """As `posthouse certificate renew` has it."""
    folder = made.node.node.own_certificates.folder
    token = "a1"
    folder.ask(name, token)
    async with asyncio.timeout(WITHIN_S):
        while folder.status(name).answered != token:
            await asyncio.sleep(0.02)


# F35: the files are replaced under open connections
async def test_a_renewal_is_served_to_new_connections_while_old_ones_stay(tmp_path: Path) -> None:
    async with house(tmp_path, refuses_nonces=40) as made:
        await made.until("certificate.obtained")
        old_tls, old = await asyncio.to_thread(made.shake, Service.IMAPS, HOST)
        assert old_tls.recv(100).startswith(b"* OK")
        await ask(made)
        assert len(made.events("certificate.obtained")) == 2
        new = await made.certificate()
        assert new.serial_number != old.serial_number
        assert new.public_key() == old.public_key(), "the key stays, and so does TLSA"
        await asyncio.to_thread(old_tls.sendall, b"a NOOP\r\n")
        assert (await asyncio.to_thread(old_tls.recv, 100)).startswith(b"a OK")
        old_tls.close()
        folder = made.node.node.own_certificates.folder
        files = folder.files(HOST)
        assert files is not None and files.chain.parent.name.endswith("@2")
        status = folder.status(HOST)
        assert status.next_at is not None and status.next_at < new.not_valid_after_utc


async def test_a_restart_serves_what_was_obtained_and_orders_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        await made.until("certificate.obtained")
        before = await made.certificate()
        await made.node.stop()
        await made.node.start()
        assert await made.certificate() == before
        await made.node.node.own_certificates._look()
        assert len(made.events("certificate.obtained")) == 1


async def test_a_failure_is_told_with_what_to_do_and_tried_again(tmp_path: Path) -> None:
    nowhere = Loopback().address(77)

    async with house(tmp_path, challenge(schema.AcmeChallenge.HTTP_01)) as made:
        await made.until("certificate.obtained")
        made.lab.zones.remove(HOST, "A")
        made.lab.zones.add(HOST, "A", nowhere, ttl_s=0)
        await ask(made)
        [failed] = made.events("certificate.failed")
        assert HOST in failed["detail"] and "(connection)" in failed["detail"]
        assert "port 80" in failed["hint"] and HOST in failed["hint"]
        status = made.node.node.own_certificates.folder.status(HOST)
        assert status.failures == 1 and status.problem == failed["detail"]
        assert "Pebble" in (await made.certificate()).issuer.rfc4514_string(), "the old one stays"

        made.lab.zones.remove(HOST, "A")
        made.lab.zones.add(HOST, "A", made.node.address, ttl_s=0)
        folder = made.node.node.own_certificates.folder
        await made.node.node.own_certificates._look()
        assert folder.status(HOST).failures == 1, "not before its time"
        now = made.node.node.world.clock.now()
        folder.put_status(HOST, msgspec.structs.replace(folder.status(HOST), next_at=now))
        await made.node.node.own_certificates._look()
        assert folder.status(HOST).failures == 0
        assert len(made.events("certificate.obtained")) == 2


async def test_where_one_way_is_shut_the_next_attempt_takes_the_other(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        await made.until("certificate.obtained")
        folder = made.node.node.own_certificates.folder
        held = folder.held(HOST)
        assert held is not None and held.about.challenge == "http-01"
        folder.put_status(HOST, msgspec.structs.replace(folder.status(HOST), failures=1))
        await ask(made)
        held = folder.held(HOST)
        assert held is not None and held.about.challenge == "tls-alpn-01"


# RFC 8461 §3.3
async def test_the_policy_host_of_a_domain_gets_a_certificate_once_it_has_an_address(
    tmp_path: Path,
) -> None:
    name = "mta-sts.north.example"
    async with house(tmp_path) as made:
        await made.until("certificate.obtained")
        waits = await made.until("certificate.waits")
        assert waits[0]["name"] == name and not made.events("certificate.failed")
        made.lab.zones.add(name, "A", made.node.address)
        made.node.node.resolver.forget()
        await ask(made, name)
        tls, leaf = await asyncio.to_thread(made.shake, Service.HTTPS, name)
        assert "Pebble" in leaf.issuer.rfc4514_string()
        request = f"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: {name}\r\n\r\n"
        await asyncio.to_thread(tls.sendall, request.encode())
        answer = await asyncio.to_thread(tls.recv, 4096)
        assert answer.startswith(b"HTTP/1.1 200") and b"mx: mail.north.example\r\n" in answer
        tls.close()
        assert "Pebble" in (await made.certificate()).issuer.rfc4514_string()


# RFC 8555 §7.3.4
async def test_an_account_is_bound_to_a_contract_where_the_authority_wants_it(
    tmp_path: Path,
) -> None:
    key = tmp_path / "eab"
    key.write_text("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n")

    def bound(config: Config) -> Config:
        acme = msgspec.structs.replace(config.acme, eab_key_id="kid-1", eab_key_file=str(key))
        return msgspec.structs.replace(config, acme=acme)

    async with house(tmp_path, bound, eab={"kid-1": key.read_text().strip()}) as made:
        await made.until("certificate.obtained")


async def test_without_that_key_the_authority_s_words_are_told(tmp_path: Path) -> None:
    async with house(tmp_path, eab={"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajV"}) as made:
        [failed] = await made.until("certificate.failed")
        assert "externalAccountRequired" in failed["detail"] and "acme.eab_key_id" in failed["hint"]


# RFC 7671 §8.1: publish, wait two TTLs, use, drop
async def test_a_new_key_waits_until_the_dns_has_shown_its_tlsa_record(tmp_path: Path) -> None:
    def rotating(config: Config) -> Config:
        acme = msgspec.structs.replace(config.acme, rotates_key_days=30)
        return msgspec.structs.replace(config, acme=acme)

    async with house(tmp_path, rotating) as made:
        await made.until("certificate.obtained")
        own = made.node.node.own_certificates
        folder, clock = own.folder, made.node.node.world.clock
        config = made.node.node.config
        first, upcoming = build_acme.own_tlsa(config)
        old = await made.certificate()
        assert tlsa_3_1_1(old) == first.data
        owner = f"_25._tcp.{HOST}"
        made.lab.zones.add(owner, "TLSA", f"3 1 1 {first.data.hex()}", ttl_s=0)

        held = folder.held(HOST)
        assert held is not None
        about = msgspec.structs.replace(held.about, key_made_at=clock.now() - timedelta(days=31))
        held.files.chain.with_name("about.json").write_bytes(msgspec.json.encode(about))

        async def look() -> str:
            """As after some minutes, with what the resolver knew forgotten."""
            made.node.node.resolver.forget()
            status = msgspec.structs.replace(folder.status(HOST), looked_at=None)
            folder.put_status(HOST, status)
            await own._look()
            return folder.status(HOST).waits_for

        assert "publish it beside" in await look() and upcoming.data.hex() in await look()
        made.lab.zones.add(owner, "TLSA", f"3 1 1 {upcoming.data.hex()}", ttl_s=0)
        assert "older answers are forgotten by" in await look()
        assert await made.certificate() == old
        seen_at = clock.now() - timedelta(hours=3)
        folder.put_status(HOST, msgspec.structs.replace(folder.status(HOST), tlsa_seen_at=seen_at))
        assert await look() == ""
        new = await made.certificate()
        assert tlsa_3_1_1(new) == upcoming.data
        now_published = build_acme.own_tlsa(config)
        assert now_published[0] == upcoming and first not in now_published
        assert len(now_published) == 2, "and the one after is ready"


# --- dns-01, with a real name server ---

HOOK = """\
import sys
import dns.query, dns.tsig, dns.update
action, name, ttl = sys.argv[1:]
key = dns.tsig.Key("posthouse.key", {secret!r})
update = dns.update.UpdateMessage("example.test", keyring=key)
for line in sys.stdin.read().splitlines():
    if action == "put":
        update.add(name + ".", int(ttl), "TXT", line)
    else:
        update.delete(name + ".", "TXT", line)
sys.exit(dns.query.tcp(update, "127.0.0.1", 5, {port}).rcode())
"""


@needs_program("knotd", package="knot")
@pytest.mark.parametrize("by_hook", [False, True])
async def test_dns_01_by_dynamic_updates_and_by_a_command_also_for_wildcards(
    tmp_path: Path, by_hook: bool
) -> None:
    with running_knot(tmp_path) as knot:
        hook = tmp_path / "hook.py"
        hook.write_text(HOOK.format(secret=SECRET, port=knot.port))
        update = schema.DnsUpdate(
            server="" if by_hook else f"127.0.0.1:{knot.port}",
            key_name="posthouse.key",
            key_file=str(knot.key_file),
            hook=(sys.executable, str(hook)) if by_hook else (),
            settle_s=0.1,
        )
        with running_pebble(
            tmp_path, f"127.0.0.1:{knot.port}", http_port=free_port(), tls_port=free_port()
        ) as authority:

            def by_dns(config: Config) -> Config:
                return msgspec.structs.replace(
                    config,
                    acme=schema.Acme(
                        is_enabled=True, accepts_terms=True, directory=authority.directory,
                        ca_file=str(authority.ca_file), names=("*.example.test",),
                    ),
                    web=schema.Web(addresses=config.listener[0].addresses),
                    net=msgspec.structs.replace(config.net, port_base=40_000),
                    mta_sts=schema.MtaSts(is_published=False),
                    dns_update=update,
                    dns=schema.Dns(servers=(f"127.0.0.1:{knot.port}",)),
                )  # fmt: skip

            async with Lab(domains={"example.test": ("ada",)}, change=by_dns) as lab:
                async with asyncio.timeout(WITHIN_S):
                    node = lab.node("example")
                    folder = node.node.own_certificates.folder
                    while len(folder.names()) < 2:
                        await asyncio.sleep(0.05)
                assert folder.names() == ("*.example.test", "mail.example.test")
                for name in folder.names():
                    held = folder.held(name)
                    assert held is not None and held.about.challenge == "dns-01"
                assert knot.texts("_acme-challenge.mail.example.test") == set()
                assert knot.texts("_acme-challenge.example.test") == set()
                certificates = node.node.certificates
                assert certificates.for_name("other.example.test").names == ("*.example.test",)


# --- the command line ---

CLI_HOST = "mail.cli.example"

ACME_CONFIG = """
[dns]
servers = ["{dns}"]
[acme]
is_enabled = true
accepts_terms = true
directory = "{directory}"
ca_file = "{ca_file}"
challenge = "{challenge}"
rotates_key_days = 90
[web]
addresses = "127.0.0.1"
[mta_sts]
is_published = false
"""


class Shell(msgspec.Struct, frozen=True):
    """Commands on a configured house."""

    server: Server

    async def __call__(self, *words: str) -> tuple[int, str, str]:
        def run() -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "posthouse", *words, "--config"]
            return subprocess.run(
                [*command, str(self.server.config)], capture_output=True, text=True, cwd=ROOT
            )

        done = await asyncio.to_thread(run)
        return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("kind", ["http-01", "tls-alpn-01"])
async def test_certificates_are_obtained_renewed_and_listed_by_command(
    tmp_path: Path, kind: str
) -> None:
    zones = Zones()
    zones.add(CLI_HOST, "A", "127.0.0.1", ttl_s=0)
    dns = LabDns(zones)
    await dns.serve_loopback()
    place = f"{dns.address[0]}:{dns.address[1]}"
    base = free_port_base()
    with running_pebble(tmp_path, place, http_port=base + 81, tls_port=base + 443) as authority:
        more = ACME_CONFIG.format(
            dns=place, directory=authority.directory, ca_file=authority.ca_file, challenge=kind
        )
        server = Server(tmp_path / "house", host=CLI_HOST, more=more, base=base)
        shell = Shell(server)
        await asyncio.to_thread(server.add, "cli.example", ["ada"])
        try:
            await _without_a_server(shell, zones, authority)
            await asyncio.to_thread(server.start)
            await _with_a_server(shell, zones, authority, kind)
        finally:
            if server.pid:
                server.kill()
            dns.close()


async def _without_a_server(shell: Shell, zones: Zones, authority: Pebble) -> None:
    code, out, err = await shell("certificate", "list")
    assert (code, "not obtained yet" in out) == (0, True), err
    code, out, err = await shell("certificate", "renew")
    assert code == 4 and "posthouse certificate obtain" in err
    code, out, err = await shell("certificate", "obtain", "other.example")
    assert code == 4 and "add it to acme.names" in err

    zones.remove(CLI_HOST, "A")  # what a newcomer forgets
    code, out, err = await shell("certificate", "obtain")
    left, error, hint = err.splitlines()
    assert left == "autoconfig.cli.example: left until the DNS has an address for it"
    assert code == 1 and error == f"error: {CLI_HOST}: the DNS has no address for it"
    assert hint.startswith("hint: ") and CLI_HOST in hint
    zones.add(CLI_HOST, "A", "127.0.0.1", ttl_s=0)
    code, out, err = await shell("certificate", "obtain", "--json")
    assert code == 0, (out, err, authority.said())
    assert msgspec.json.decode(out)[0]["ok"] is True
    code, out, err = await shell("certificate", "obtain")
    assert code == 0 and "every other name has a certificate" in err


async def _with_a_server(shell: Shell, zones: Zones, authority: Pebble, kind: str) -> None:
    code, out, err = await shell("certificate", "list", "--json")
    shown, autoconfig = msgspec.json.decode(out)
    assert autoconfig["name"] == "autoconfig.cli.example" and not autoconfig["expires"]
    assert shown["how"] == kind and shown["state"] == "in use"
    assert "Pebble" in shown["issuer"] and shown["next_at"] < shown["expires"]
    assert shown["tlsa"].startswith("3 1 1 ") and shown["next_tlsa"] != shown["tlsa"]
    before = await asyncio.to_thread(_serial, shell.server, authority)
    code, out, err = await shell("certificate", "renew", CLI_HOST)
    assert code == 0 and f"{CLI_HOST}: obtained, good until" in out, (out, err)
    assert "asking the running server" in err
    assert await asyncio.to_thread(_serial, shell.server, authority) != before
    zones.remove(CLI_HOST, "A")
    code, out, err = await shell("certificate", "renew")
    assert code == 1 and f"error: {CLI_HOST}: " in err and "hint: " in err
    code, out, err = await shell("certificate", "list")
    assert code == 0 and "failed once: " in out and "hint: " in err


def _serial(server: Server, authority: Pebble) -> int:
    context = ssl.create_default_context(cadata=authority.root().decode())
    with (
        socket.create_connection(("127.0.0.1", server.port("imaps")), WITHIN_S) as raw,
        context.wrap_socket(raw, server_hostname=CLI_HOST) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number
