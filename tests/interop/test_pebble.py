"""Certificates from a real ACME server: each way of proving, renewal under open connections, failure
and what follows, keys that change in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from posthouse.config import schema
from posthouse.config.schema import Config, Service
from posthouse.net.world import SystemNetwork
from posthouse.sim.ground import Loopback
from posthouse.sim.lab import Lab, LabNode
from tests.interop.knot import free_port, running_knot
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
