"""What a whole node does about its certificates and its web ports, over real sockets."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import trustme
from cryptography import x509

from posthouse.accounts import admin
from posthouse.config import build_acme, schema
from posthouse.config.schema import Config, Service
from posthouse.kernel.errors import UserError
from posthouse.sim.lab import Lab, LabNode
from posthouse.tls import served as served_now
from posthouse.tls.acme.folder import About, Status
from posthouse.tls.acme.trouble import OrderFailed
from posthouse.tls.certificates import CertificateFiles, load_certificate
from posthouse.tls.self_signed import make_self_signed
from posthouse.tls.tlsa import tlsa_3_1_1
from tests.interop.knot import free_port

HOST = "mail.north.example"
DOMAINS = {"north.example": ("ada",)}


def told(node: LabNode, event: str) -> list[dict[str, str]]:
    lines = [msgspec.json.decode(line) for line in node.log_lines]
    return [line for line in lines if line["event"] == event]


async def served(node: LabNode, name: str = HOST, port: int = 0) -> x509.Certificate:
    def shake() -> x509.Certificate:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        place = (node.address, port or node.place(Service.IMAPS)[1])
        with (
            socket.create_connection(place, 10) as raw,
            context.wrap_socket(raw, server_hostname=name) as tls,
        ):
            der = tls.getpeercert(binary_form=True)
            assert der is not None
            return x509.load_der_x509_certificate(der)

    return await asyncio.to_thread(shake)


def with_files(files: CertificateFiles) -> Callable[[Config], Config]:
    tls = schema.Tls(certificate=str(files.chain), key=str(files.key))
    return lambda config: msgspec.structs.replace(config, tls=tls)


# F35: replaced, half written, expired, with a wrong key; connections go on, and it is in the log
async def test_certificate_files_that_change_under_a_running_node(tmp_path: Path) -> None:
    authority, now = trustme.CA(), datetime.now(UTC)
    files = CertificateFiles(chain=tmp_path / "c.pem", key=tmp_path / "k.pem")

    def issue() -> tuple[bytes, bytes]:
        leaf = authority.issue_cert(HOST)
        return leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()

    def put(chain: bytes, key: bytes) -> None:
        files.chain.write_bytes(chain)
        files.key.write_bytes(key)
        files.key.chmod(0o600)

    put(*issue())
    async with Lab(domains=DOMAINS, change=with_files(files)) as lab:
        node = lab.node("north")
        first = await served(node)
        chain, key = issue()
        expired = make_self_signed([HOST], now - timedelta(days=9), valid_days=1)
        bad = [
            (chain[: len(chain) // 2], key, "no complete certificate"),
            (chain, key[: len(key) // 2], "no complete private key"),
            (b"", b"", "no complete certificate"),
            (chain, issue()[1], "does not belong"),
            (*expired, "expired"),
        ]
        for refused, (bad_chain, bad_key, words) in enumerate(bad, 1):
            put(bad_chain, bad_key)
            node.node.reload_certificates()
            node.node.reload_certificates()
            alarms = told(node, "certificate.refused")
            assert len(alarms) == refused and words in alarms[-1]["detail"]
            assert alarms[-1]["path"] == str(files.chain)
            assert await served(node) == first
            assert await lab.send("ada@north.example", "ada@north.example", subject=words)
        files.key.unlink()
        node.node.reload_certificates()
        assert await served(node) == first
        put(chain, key)
        node.node.reload_certificates()
        new = await served(node)
        assert new == x509.load_pem_x509_certificate(chain) != first
        assert told(node, "certificate.loaded")[-1]["path"] == str(files.chain)
        await lab.inbox("ada@north.example", count=5)


async def test_our_own_certificate_is_for_this_machine_too_where_it_serves_that() -> None:
    async with Lab(domains=DOMAINS) as lab:
        node = lab.node("north")
        names = (await served(node)).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        found = set(names.value.get_values_for_type(x509.DNSName))
        assert found == {HOST, "localhost"}
        addresses = set(map(str, names.value.get_values_for_type(x509.IPAddress)))
        assert addresses == {"127.0.0.1", "::1", node.address}


# F35, F36: a config that names a bad certificate changes nothing at all
async def test_a_reload_with_a_bad_certificate_applies_nothing(tmp_path: Path) -> None:
    chain, key = make_self_signed([HOST], datetime.now(UTC) - timedelta(days=9), valid_days=1)
    files = CertificateFiles(chain=tmp_path / "c.pem", key=tmp_path / "k.pem")
    files.chain.write_bytes(chain)
    files.key.write_bytes(key)
    async with Lab(domains=DOMAINS) as lab:
        node = lab.node("north")
        before, config = await served(node), node.node.config
        wanted = with_files(files)(config)
        wanted = msgspec.structs.replace(wanted, imap=schema.Imap(sessions_max=1))
        with pytest.raises(UserError, match="expired"):
            node.node.reload(wanted)
        assert node.node.config is config and node.node.imap.options.sessions_max == 50
        assert await served(node) == before


def about() -> About:
    now = datetime.now(UTC)
    return About(
        directory="https://127.0.0.1:1/", challenge="http-01", obtained_at=now, key_made_at=now
    )


def with_acme(config: Config) -> Config:
    """Port 1 is nobody's: every order fails at once."""
    acme = schema.Acme(
        is_enabled=True, accepts_terms=True, directory="https://127.0.0.1:1/", order_s=10.0
    )
    web = schema.Web(addresses=config.listener[0].addresses)
    listeners = tuple(
        schema.Listener(service=service, addresses=web.addresses, port=free_port())
        for service in (Service.HTTP, Service.HTTPS)
    )
    return msgspec.structs.replace(
        config, acme=acme, web=web, listener=(*config.listener, *listeners)
    )


async def test_what_acme_obtained_is_served_from_the_start_even_when_expired() -> None:
    async with Lab(domains=DOMAINS, change=with_acme) as lab:
        node = lab.node("north")
        self_signed = await served(node)
        await node.stop()
        folder = build_acme.acme_folder(node.config)
        now = datetime.now(UTC)
        old = make_self_signed([HOST], now - timedelta(days=9), valid_days=1)
        other = make_self_signed(["mta-sts.north.example"], now, valid_days=9)
        folder.put(HOST, *old, about())
        folder.put("mta-sts.north.example", *other, about())
        await node.start()
        assert await served(node) == x509.load_pem_x509_certificate(old[0]) != self_signed
        seen = await served(node, "mta-sts.north.example")
        assert seen == x509.load_pem_x509_certificate(other[0])

        fresh = make_self_signed([HOST], now, valid_days=90)
        files = folder.put(HOST, *fresh, about())  # as another process does it
        node.node.own_certificates.obtained(HOST, files, not_after=now)
        assert await served(node) == x509.load_pem_x509_certificate(fresh[0])
        assert await served(node, "unknown.example") == x509.load_pem_x509_certificate(fresh[0])
        [record] = build_acme.own_tlsa(node.config)
        assert record.data == tlsa_3_1_1(x509.load_pem_x509_certificate(fresh[0]))


# F35: at start
async def test_damaged_files_of_acme_do_not_keep_a_node_from_starting() -> None:
    async with Lab(domains=DOMAINS, change=with_acme) as lab:
        node = lab.node("north")
        self_signed = await served(node)
        await node.stop()
        folder = build_acme.acme_folder(node.config)
        files = folder.put(HOST, *make_self_signed([HOST], datetime.now(UTC)), about())
        files.key.write_bytes(b"half")
        await node.start()
        assert await served(node) == self_signed
        assert "no complete private key" in told(node, "certificate.refused")[-1]["detail"]
        shutil.rmtree(folder.root / ".versions")
        await node.stop()
        await node.start()
        assert await served(node) == self_signed


async def test_postmaster_gets_mail_when_a_certificate_is_about_to_expire() -> None:
    async with Lab(domains=DOMAINS, change=with_acme) as lab:
        node = lab.node("north")
        failure = OrderFailed(f"{HOST}: no way", hint="open port 80")
        not_after = datetime(2026, 6, 1, tzinfo=UTC)
        await node.node.own_certificates.expiring(HOST, not_after, failure)
        [message] = await lab.inbox("ada@north.example", count=1)
        assert f"Subject: The certificate for {HOST} cannot be renewed".encode() in message
        for words in (b"2026-06-01 00:00 UTC", b"no way", b"open port 80", b"certificate renew"):
            assert words in message
        assert b"Auto-Submitted: auto-generated" in message and b"Return-Path: <>" in message
        assert told(node, "certificate.expiring")[0]["name"] == HOST


async def test_postmaster_gets_one_mail_about_names_that_never_had_a_certificate() -> None:
    async with Lab(domains=DOMAINS, change=with_acme) as lab:
        node = lab.node("north")
        since = datetime(2026, 6, 1, tzinfo=UTC)
        status = Status(failures=5, failing_since=since, problem="no way", hint="open port 80")
        names = {f"n{number}.north.example": status for number in range(25)}
        assert await node.node.own_certificates.missing({HOST: status} | names)
        [message] = await lab.inbox("ada@north.example", count=1)
        assert f"Subject: No certificate yet for {HOST} and 25 more".encode() in message
        assert message.count(b"What to do: open port 80") == 20 and b"... and 6 more" in message
        assert b"5 attempts" in message and b"certificate obtain" in message
        assert told(node, "certificate.missing")[0]["name"] == HOST


async def test_failures_and_expiry_are_in_the_metrics_and_the_log() -> None:
    async with Lab(domains=DOMAINS, change=with_acme) as lab:
        node = lab.node("north")
        async with asyncio.timeout(20):
            while not (failed := told(node, "certificate.failed")):
                await asyncio.sleep(0.02)
        assert failed[0]["name"] == HOST and "does not answer" in failed[0]["detail"]
        text = node.node.metrics.exposition().decode()
        assert 'posthouse_certificate_orders_total{outcome="failed"} 1.0' in text
        line = next(x for x in text.splitlines() if x.startswith("posthouse_certificate_expiry"))
        assert float(line.split()[1]) > 3e8, "the self-signed one is all there is"
        chain, key = make_self_signed(["other.example"], datetime.now(UTC), valid_days=2)
        folder = build_acme.acme_folder(node.config)
        folder.put("other.example", chain, key, about())
        await node.node.own_certificates._look()


async def test_the_web_ports_follow_the_domains_and_the_limits_are_counted() -> None:
    async with Lab(domains=DOMAINS, change=with_acme) as lab:
        node = lab.node("north")
        port = node.node.address(Service.HTTP)[1]

        async def get(host: str, flood: bytes = b"") -> bytes:
            reader, writer = await asyncio.open_connection(node.address, port)
            writer.write(
                f"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: {host}\r\n".encode()
                + flood
                + b"Connection: close\r\n\r\n"
            )
            try:
                return await reader.read()
            finally:
                writer.close()

        async def is_known(host: str) -> bool:
            return (await get(host)).startswith(b"HTTP/1.1 301")

        await lab.until(lambda: is_known("mta-sts.north.example"))
        assert not await is_known("mta-sts.other.example")
        await node.write(lambda tx: admin.add_domain(tx, "other.example"))
        await lab.until(lambda: is_known("mta-sts.other.example"))
        flood = b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 1000
        assert (await get("mta-sts.north.example", flood))[:12] in {b"", b"HTTP/1.1 400"}
        assert node.node.metrics.limits["web.header_octets_max"].total == 1


# F36: key files that a changed config names
async def test_a_reload_with_a_key_that_is_not_there_applies_nothing(tmp_path: Path) -> None:
    async with Lab(domains=DOMAINS, change=with_acme) as lab:
        node = lab.node("north")
        config = node.node.config
        bound = msgspec.structs.replace(
            config.acme, eab_key_id="k1", eab_key_file=str(tmp_path / "none")
        )
        update = schema.DnsUpdate(
            server="192.0.2.53", key_name="k.example", key_file=str(tmp_path / "none")
        )
        for changed in (
            msgspec.structs.replace(config, acme=bound),
            msgspec.structs.replace(config, dns_update=update),
        ):
            with pytest.raises(UserError, match=f"{tmp_path}/none"):
                node.node.reload(changed)
            assert node.node.config is config
        longer = msgspec.structs.replace(config.acme, warns_days=20)
        node.node.reload(msgspec.structs.replace(config, acme=longer))
        assert node.node.own_certificates.keeper().options.warns_days == 20


def put_pair(folder: Path, name: str = "own") -> CertificateFiles:
    chain, key = make_self_signed([HOST], datetime.now(UTC))
    files = CertificateFiles(chain=folder / f"{name}.pem", key=folder / f"{name}.key")
    files.chain.write_bytes(chain)
    files.key.write_bytes(key)
    files.key.chmod(0o600)
    return files


# F35: the log says which certificate a reload took, and no other
async def test_a_certificate_that_a_reload_takes_is_logged_and_written_down(
    tmp_path: Path,
) -> None:
    files = put_pair(tmp_path)
    async with Lab(domains=DOMAINS, change=with_acme) as lab:
        node = lab.node("north")
        folder = build_acme.acme_folder(node.config)
        data_folder = Path(node.config.node.data_folder)
        obtained = folder.put(HOST, *make_self_signed([HOST], datetime.now(UTC)), about())
        node.node.own_certificates.obtained(HOST, obtained, not_after=datetime.now(UTC))
        assert [each.chain for each in served_now.noted(data_folder) or ()] == [str(obtained.chain)]

        before = len(told(node, "certificate.loaded"))
        node.node.reload(with_files(files)(node.node.config))
        loaded = told(node, "certificate.loaded")[before:]
        assert [line["path"] for line in loaded] == [str(files.chain)]
        leaf = x509.load_pem_x509_certificate(files.chain.read_bytes())
        assert loaded[0]["expires"] == leaf.not_valid_after_utc.isoformat()
        assert await served(node) == leaf

        files.chain.write_bytes(b"-----BEGIN CERT")
        node.node.reload_certificates()
        [written] = served_now.noted(data_folder) or ()
        assert (written.chain, written.leaf) == (str(files.chain), leaf)
        own = node.node.own_certificates.wanted()
        assert HOST not in {each.name for each in own}, "a damaged file is no reason to order one"


async def test_a_server_with_acme_is_seen_to_take_orders() -> None:
    async with Lab(domains=DOMAINS, change=with_acme) as lab:
        node = lab.node("north")
        folder = build_acme.acme_folder(node.config)

        async def is_attended() -> bool:
            return folder.is_attended()

        await lab.until(is_attended)
        await node.stop()
        assert not folder.is_attended()


def test_what_is_written_down_about_certificates_can_be_damaged(tmp_path: Path) -> None:
    assert served_now.noted(tmp_path) is None
    loaded = load_certificate(put_pair(tmp_path), datetime.now(UTC))
    served_now.note(tmp_path, [loaded])
    assert [each.leaf for each in served_now.noted(tmp_path) or ()] == [loaded.leaf]
    assert served_now.of_running(tmp_path) is None, "no server runs here"
    path = tmp_path / "tls" / "served.json"
    assert path.stat().st_mode & 0o777 == 0o600
    for octets in (
        b"",
        b"[]",
        b'[{"chain": "x", "pem": "x"}]',
        b'[{"chain": "x", "pem": "\xc3\xa9"}]',
    ):
        path.write_bytes(octets)
        assert served_now.noted(tmp_path) is None
    path.unlink()
    path.mkdir()
    served_now.note(tmp_path, [loaded])
    assert served_now.noted(tmp_path) is None
