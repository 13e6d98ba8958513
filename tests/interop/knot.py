"""knotd as the primary name server of a zone that takes signed dynamic updates."""

from __future__ import annotations

import base64
import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rdatatype
import msgspec

from tests.interop.programs import find_program

CONFIG = """\
server:
    rundir: "{folder}"
    listen: 127.0.0.1@{port}
log:
  - target: stderr
    any: warning
database:
    storage: "{folder}"
key:
  - id: posthouse.key
    algorithm: hmac-sha256
    secret: {secret}
  - id: other.key
    algorithm: hmac-sha256
    secret: {secret}
acl:
  - id: updates
    key: posthouse.key
    action: update
template:
  - id: default
    storage: "{folder}"
    file: "%s.zone"
zone:
  - domain: example.test
    acl: updates
  - domain: locked.test
"""
ZONE = """\
$ORIGIN {zone}.
$TTL 3600
@ SOA ns hostmaster 1 3600 600 604800 60
@ NS ns
ns A 127.0.0.1
mail A 127.0.0.1
mta-sts A 127.0.0.1
"""
SECRET = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
WITHIN_S = 10.0


class Knot(msgspec.Struct, frozen=True):
    """A running one."""

    folder: Path
    port: int
    key_file: Path

    def texts(self, name: str) -> set[str]:
        """The TXT records of a name."""
        query = dns.message.make_query(name, dns.rdatatype.TXT)
        answer = dns.query.tcp(query, "127.0.0.1", 2.0, self.port)
        return {b"".join(item.strings).decode() for rrset in answer.answer for item in rrset}


@contextlib.contextmanager
def running_knot(folder: Path) -> Iterator[Knot]:
    port = free_port()
    key_file = folder / "tsig.key"
    key_file.write_text(
        f'key "posthouse.key" {{\n\talgorithm hmac-sha256;\n\tsecret "{SECRET}";\n}};\n'
    )
    config = folder / "knot.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, secret=SECRET))
    for zone in ("example.test", "locked.test"):
        (folder / f"{zone}.zone").write_text(ZONE.format(zone=zone))
    program = find_program("knotd")
    assert program is not None
    with (folder / "knot.log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
        knot = Knot(folder, port, key_file)
        try:
            _wait(knot, process)
            yield knot
        finally:
            process.terminate()
            process.wait(WITHIN_S)


def _wait(knot: Knot, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + WITHIN_S
    query = dns.message.make_query("example.test", dns.rdatatype.SOA)
    while True:
        with contextlib.suppress(OSError, dns.exception.DNSException):
            if dns.query.udp(query, "127.0.0.1", 0.5, knot.port).answer:
                return
        assert process.poll() is None and time.monotonic() < ends, (
            knot.folder / "knot.log"
        ).read_text()
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        return int(tcp.getsockname()[1])
