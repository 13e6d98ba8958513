"""GnuPG's own client publishes a key from beginning to end: it looks up where to send it, and the
key of that address, in our directory over HTTPS; what it writes is sent by submission.

It goes to port 443 of openpgpkey.example.test and believes the authorities of the system. So it is
run where that name is this machine, our certificate is the system's only one, and a proxy leads
from the port to ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import subprocess
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from posthouse.config import schema
from posthouse.config.schema import Config, Service
from posthouse.mimesec.pgp import wkd
from posthouse.sending import Message
from posthouse.testing import MailServer
from posthouse.testing import server as test_server
from posthouse.tls.self_signed import CHAIN_NAME, KEY_NAME, make_self_signed
from tests.gateway.house import ADA, PASSWORD, House
from tests.interop.programs import find_program, needs_program

SHOWN_BY = "openpgpkey.example.test"
SUBMISSION = "key-submission@example.test"
CLIENT = find_program("gpg-wks-client") or "/usr/lib/gnupg/gpg-wks-client"
TIMEOUT_S = 60.0


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """With a web door whose certificate names where the directory is."""
    plain_config = test_server._config

    def config(folder: Path) -> Config:
        made = plain_config(folder)
        chain, key = make_self_signed([test_server.NAME, SHOWN_BY], datetime.now(UTC))
        (folder / "tls").mkdir()
        (folder / "tls" / CHAIN_NAME).write_bytes(chain)
        (folder / "tls" / KEY_NAME).write_bytes(key)
        door = schema.Listener(service=Service.HTTPS, addresses=(test_server.HOST,), port=0)
        return msgspec.structs.replace(made, listener=(*made.listener, door))

    monkeypatch.setattr(test_server, "_config", config)
    with MailServer.ephemeral({ADA: PASSWORD}, takes_anything=False) as server:
        yield House(server)


class Proxy:
    """Whatever name is asked for, it is the web door (RFC 9110 §9.3.6)."""

    def __init__(self, door: tuple[str, int]) -> None:
        self.asked: list[str] = []
        self.port = 0
        self._door = door

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1")
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()

    async def _serve(self, client: StreamReader, answer: StreamWriter) -> None:
        self.asked.append((await client.readuntil(b"\r\n\r\n")).split()[1].decode())
        page, ask = await asyncio.open_connection(*self._door)
        answer.write(b"HTTP/1.0 200 connected\r\n\r\n")
        with closing(answer), closing(ask):
            await asyncio.gather(_pump(client, ask), _pump(page, answer))


async def _pump(source: StreamReader, target: StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while octets := await source.read(65536):
            target.write(octets)
        target.write_eof()


class Elsewhere:
    """A machine of GnuPG's own, as far as names and authorities go."""

    def __init__(self, folder: Path, proxy_port: int, ca: str) -> None:
        self._home = folder / "gpg"
        self._home.mkdir(mode=0o700)
        settings = f"http-proxy http://127.0.0.1:{proxy_port}\nstandard-resolver\n"
        (self._home / "dirmngr.conf").write_text(settings)
        (folder / "hosts").write_text(f"127.0.0.1 localhost {SHOWN_BY}\n")
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        mounts = (
            (str(folder / "hosts"), "/etc/hosts"),
            (str(folder / "resolv.conf"), "/etc/resolv.conf"),
            (ca, "/etc/ssl/certs/ca-certificates.crt"),
        )
        binds = [shlex.join(["mount", "--bind", ours, theirs]) for ours, theirs in mounts]
        self._script = " && ".join([*binds, 'exec "$@"'])

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Mounts are seen by it and what it starts alone."""
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", self._script, "sh", *arguments],
            capture_output=True,
            env={**os.environ, "GNUPGHOME": str(self._home), "LC_ALL": "C"},
            check=False,
            timeout=TIMEOUT_S,
        )

    def ask(self, *arguments: str) -> bytes:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@pytest.fixture
def proxy(house: House) -> Iterator[Proxy]:
    made = Proxy(house.server.address("https"))
    house.server._call(made.open())
    yield made
    house.server._call(made.close())


@pytest.fixture
def elsewhere(house: House, proxy: Proxy, tmp_path: Path) -> Iterator[Elsewhere]:
    made = Elsewhere(tmp_path, proxy.port, house.server.ca)
    if made.run("true").returncode != 0:
        pytest.skip("nothing can be mounted here")
    yield made
    made.run("gpgconf", "--kill", "all")


def wait_for(claim: Callable[[], bool], within_s: float = 30.0) -> None:
    until = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < until
        time.sleep(0.2)


def is_shown(house: House, local_part: str) -> bool:
    """GnuPG remembers for long that a domain has no directory: it is asked when there is one."""
    shown = house.node.own_certificates.known.sites.keys.get("example.test", {})
    return wkd.local_hash(local_part) in shown


@needs_program("unshare", package="util-linux", root=True)
@needs_program(CLIENT, package="gpg-wks-client")
def test_the_client_of_gnupg_finds_out_where_and_publishes(
    house: House, proxy: Proxy, elsewhere: Elsewhere
) -> None:
    wait_for(lambda: is_shown(house, "key-submission"))
    elsewhere.ask("gpg", "--batch", "--passphrase", "", "--quick-generate-key", ADA)
    listed = elsewhere.ask("gpg", "--batch", "--with-colons", "--list-keys", ADA).decode()
    fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line[:3] == "fpr")
    assert elsewhere.run(CLIENT, "--check", ADA).returncode != 0
    assert elsewhere.run(CLIENT, "--supported", ADA).returncode == 0

    asked = elsewhere.run(CLIENT, "--verbose", "--create", fingerprint, ADA)
    assert asked.returncode == 0, asked.stderr.decode()
    assert f"submitting request to '{SUBMISSION}'" in asked.stderr.decode()
    assert f"no confirmation required for '{ADA}'" in asked.stderr.decode()
    octets = asked.stdout.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    house.send(ADA, [], message=Message(raw=octets))

    wait_for(lambda: bool(house.server.inbox(ADA)))
    assert house.server.inbox(ADA)[0].message.subject == "Your key is published"
    wait_for(lambda: is_shown(house, "ada"))
    checked = elsewhere.run(CLIENT, "--check", ADA)
    assert checked.returncode == 0, checked.stderr.decode()
    assert set(proxy.asked) == {f"{SHOWN_BY}:443"}
