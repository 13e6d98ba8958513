"""`posthouse certificate` as a person meets it, beside a server that runs or not."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from posthouse.cli.output import ExitCode
from posthouse.config import build_acme
from posthouse.config.settings import load_file
from posthouse.tls.self_signed import make_self_signed
from tests.cli.conftest import Cli, Server, start_server, stop_server

CONFIG = Path("posthouse.toml")
ACME = '\n[acme]\nis_enabled = true\naccepts_terms = true\ndirectory = "https://127.0.0.1:1/"\n'


def start() -> Server:
    text = CONFIG.read_text()
    return start_server(CONFIG.absolute(), int(text.split("port_base = ")[1].split()[0]))


def put_pair(name: str) -> str:
    """Certificate and key in the folder; the lines of [tls]."""
    chain, key = make_self_signed(["mail.example.org"], datetime.now(UTC))
    Path(f"{name}.pem").write_bytes(chain)
    Path(f"{name}.key").write_bytes(key)
    Path(f"{name}.key").chmod(0o600)
    return f'\n[tls]\ncertificate = "{name}.pem"\nkey = "{name}.key"\n'


def shown(house: Cli) -> list[dict[str, str]]:
    code, out, err = house("certificate", "list", "--json")
    assert code == 0, err
    found: list[dict[str, str]] = json.loads(out)
    return found


def until(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.timed
def test_orders_to_a_server_that_started_without_acme_are_refused_within_seconds(
    house: Cli,
) -> None:
    server = start()
    try:
        CONFIG.write_text(CONFIG.read_text() + ACME)
        began_s = time.monotonic()
        code, _, err = house("certificate", "obtain", "mail.example.org")
        assert time.monotonic() - began_s < 10
        assert code == ExitCode.TEMPORARY
        assert err.startswith(
            "error: the running server obtains no certificates: it started before"
        )
        assert "hint: restart it" in err
    finally:
        assert stop_server(server) == 0


# F35
def test_the_list_shows_what_the_running_server_has_not_what_the_files_hold(
    house: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = CONFIG.read_text()
    server = start()
    try:
        [before] = shown(house)
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", "80")
            patch.setattr(sys.stdout, "isatty", lambda: True)
            words = house("certificate", "list")[1].split()
        assert before["tlsa"][6:22] + "…" in words and "mail.example.org" in words
        assert before["tlsa"] in house("certificate", "list")[1]
        assert (before["how"], before["state"]) == ("self-signed", "in use")
        CONFIG.write_text(plain + put_pair("own"))
        own, old = shown(house)
        assert own["state"] == "not in use: the running server has not read it"
        assert old["state"].startswith("in use until the server is reloaded")
        assert old["tlsa"] == before["tlsa"] != own["tlsa"]

        server.process.send_signal(signal.SIGHUP)
        until(lambda: [each["state"] for each in shown(house)] == ["in use"])
        Path("own.pem").write_text("-----BEGIN CERT")
        [damaged] = shown(house)
        assert damaged["tlsa"] == own["tlsa"] and damaged["expires"] == own["expires"]
        assert damaged["state"].startswith("in use as it was read before; unusable by now:")
        assert "own.pem holds no complete certificate" in damaged["state"]
        [record] = build_acme.own_tlsa(load_file(CONFIG).config)  # what `dns check` compares with
        assert own["tlsa"].endswith(record.data.hex())

        put_pair("own")
        [newer] = shown(house)
        assert newer["tlsa"] == own["tlsa"]
        assert newer["state"] == "in use; the file holds another one, taken within half a minute"
    finally:
        assert stop_server(server) == 0
    Path("own.pem").write_text("-----BEGIN CERT")
    [stopped] = shown(house)
    assert stopped["state"].startswith("unusable: ") and "it must be PEM" in stopped["hint"]
