"""Pebble, Let's Encrypt's small test authority, on loopback with a root of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import trustme

from tests.interop.knot import free_port
from tests.interop.programs import find_program

WITHIN_S = 15.0


class Pebble(msgspec.Struct, frozen=True, kw_only=True):
    """A running one."""

    port: int
    management: int
    http_port: int
    tls_port: int
    ca_file: Path
    log: Path

    @property
    def directory(self) -> str:
        return f"https://127.0.0.1:{self.port}/dir"

    def root(self) -> bytes:
        """The root its certificates lead to, as PEM."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        connection = http.client.HTTPSConnection("127.0.0.1", self.management, context=context)
        try:
            connection.request("GET", "/roots/0")
            return connection.getresponse().read()
        finally:
            connection.close()

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")


@contextlib.contextmanager
def running_pebble(
    folder: Path,
    dns: str,
    *,
    http_port: int,
    tls_port: int,
    refuses_nonces: int = 5,
    reuses_authorizations: int = 0,
    eab: dict[str, str] | None = None,
    lifetime_s: int | None = None,
) -> Iterator[Pebble]:
    """Args:
    dns: ADDRESS:PORT of the DNS it asks.
    http_port, tls_port: where it looks for proofs, on whatever address a name has.
    refuses_nonces: per cent of good nonces it refuses, as its makers advise.
    eab: MAC keys by their identifier, when accounts must be bound.
    lifetime_s: of its certificates; None is five years.
    """
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    ca_file, certificate, key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(str(ca_file))
    leaf.cert_chain_pems[0].write_to_path(str(certificate))
    leaf.private_key_pem.write_to_path(str(key))
    made = Pebble(
        port=free_port(), management=free_port(), http_port=http_port, tls_port=tls_port,
        ca_file=ca_file, log=folder / "pebble.log",
    )  # fmt: skip
    options: dict[str, object] = {
        "listenAddress": f"127.0.0.1:{made.port}",
        "managementListenAddress": f"127.0.0.1:{made.management}",
        "certificate": str(certificate),
        "privateKey": str(key),
        "httpPort": http_port,
        "tlsPort": tls_port,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": eab is not None,
    }
    if eab is not None:
        options["externalAccountMACKeys"] = eab
    if lifetime_s is not None:
        options["certificateValidityPeriod"] = lifetime_s
    config = folder / "pebble.json"
    config.write_text(json.dumps({"pebble": options}))
    program = find_program("pebble")
    assert program is not None
    with made.log.open("wb") as log:
        process = subprocess.Popen(
            [program, "-config", str(config), "-dnsserver", dns],
            stdout=log, stderr=log,
            env={
                **os.environ,
                "PEBBLE_VA_NOSLEEP": "1",
                "PEBBLE_WFE_NONCEREJECT": str(refuses_nonces),
                "PEBBLE_AUTHZREUSE": str(reuses_authorizations),
            },
        )  # fmt: skip
        try:
            _wait(made, process)
            yield made
        finally:
            process.terminate()
            process.wait(WITHIN_S)


def _wait(pebble: Pebble, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + WITHIN_S
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if pebble.root():
                return
        assert process.poll() is None and time.monotonic() < ends, pebble.said()
        time.sleep(0.02)
