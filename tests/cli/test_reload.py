"""SIGHUP, many times and with mistakes, under a real server with open connections."""

from __future__ import annotations

import imaplib
import signal
import time
from pathlib import Path

import msgspec

from tests.cli.conftest import PASSWORD, Cli, Server, start_server, stop_server

MISTAKES = (
    "[smtp]\nidel_s = 3\n",
    "[smtp]\nidle_s = -1\n",
    "not TOML at all",
    '[tls]\ncertificate = "nowhere.pem"\nkey = "nowhere.key"\n',
    "[acme]\nis_enabled = true\n",
    "\xff\xfe",
)


def events(server: Server, name: str) -> list[dict[str, str]]:
    lines = [line for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in map(msgspec.json.decode, lines) if line["event"] == name]


# F36: a flood of SIGHUP, every second with a mistake; old connections and logins go on
def test_a_hundred_sighups_leave_the_last_right_config_in_force(server: Server) -> None:
    right = server.config.read_text()
    before = len(events(server, "config.reloaded")), len(events(server, "config.refused"))
    client = imaplib.IMAP4("127.0.0.1", server.base + 143, 30)
    try:
        client.starttls(_harmless())
        client.login("you@example.org", PASSWORD)
        for number in range(100):
            if number % 2:
                mistake = MISTAKES[number // 2 % len(MISTAKES)]
                server.config.write_text(right + mistake, encoding="latin-1")
            else:
                server.config.write_text(f"{right}\n[dsn]\nreturn_octets_max = {10_000 + number}\n")
            server.process.send_signal(signal.SIGHUP)
            if number % 10 == 0:
                assert client.noop()[0] == "OK"
            time.sleep(0.02)
        server.config.write_text(right)
        server.process.send_signal(signal.SIGHUP)
        ends = time.monotonic() + 20
        while server.process.poll() is None and time.monotonic() < ends:
            reloaded = events(server, "config.reloaded")
            if len(reloaded) > before[0] + 1 and not _is_busy(server):
                break
            time.sleep(0.05)
        assert server.process.poll() is None
        assert client.noop()[0] == "OK"
        refused = events(server, "config.refused")[before[1] :]
        assert refused, "some of the mistakes were met"
        assert all(line["detail"] and str(server.config) in line["path"] for line in refused)
        with imaplib.IMAP4("127.0.0.1", server.base + 143, 30) as other:
            other.starttls(_harmless())
            assert other.login("you@example.org", PASSWORD)[0] == "OK"
        assert not events(server, "session.failed")
    finally:
        server.config.write_text(right)
        client.shutdown()


def _is_busy(server: Server) -> bool:
    size = server.log.stat().st_size
    time.sleep(0.3)
    return server.log.stat().st_size != size


def _harmless():  # type: ignore[no-untyped-def]
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


# F36: each mistake has an exit code and a reason, before and at the start
def test_a_config_with_a_mistake_ends_with_3_and_the_reason(house: Cli, tmp_path: Path) -> None:
    config = Path("posthouse.toml")
    right = config.read_text()
    for mistake, words in (
        (MISTAKES[0], "did you mean smtp.idle_s?"),
        (MISTAKES[1], "-1 is not allowed"),
        (MISTAKES[2], "this is not TOML"),
        (MISTAKES[4], "the authority's terms are not accepted"),
    ):
        config.write_text(f"{right}\n{mistake}")
        for command in (("config", "check"), ("serve",), ("certificate", "list")):
            code, _, err = house(*command)
            assert code == 3 and words in err and "posthouse.toml:" in err, (command, err)
    config.write_text(right)
    assert house("config", "check")[0] == 0


# F35: a certificate that cannot be used keeps a server from starting, in words
def test_a_server_does_not_start_with_half_a_certificate(house: Cli) -> None:
    config = Path("posthouse.toml")
    Path("c.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB")
    Path("k.pem").write_text("half")
    Path("k.pem").chmod(0o600)
    config.write_text(f'{config.read_text()}\n[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n')
    base = int(config.read_text().split("port_base = ")[1].split()[0])
    try:
        running = start_server(config.absolute(), base)
    except AssertionError as error:
        said = str(error)
    else:
        stop_server(running)
        raise AssertionError("it started")
    assert "holds no complete certificate" in said and "hint: it must be PEM" in said
