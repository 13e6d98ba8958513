"""A house to try commands on: a folder of its own, and a real server process on loopback."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from posthouse.cli import run

PASSWORD = "correct horse battery"
READY_S = 30
STOPPED_S = 30
OFFSETS = (25, 587, 465, 143, 993, 110, 995, 80)


@pytest.fixture(scope="module")
def _no_other_config() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("POSTHOUSE_CONFIG", raising=False)
        patch.setattr("posthouse.cli.config.SYSTEM_CONFIG", Path("/nonexistent/posthouse.toml"))
        yield


class Cli:
    """Runs commands in this process with a stdin of their own."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._capsys = capsys

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        import io

        self._patch.setattr("sys.stdin", io.StringIO(stdin))
        self._capsys.readouterr()
        code = run(arguments)
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    _no_other_config: None,
) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(monkeypatch, capsys)


@pytest.fixture
def house(cli: Cli) -> Cli:
    """A folder with posthouse.toml, the domain example.org and the account you@example.org."""
    code, _, err = cli(
        "quickstart",
        "you@example.org",
        "--data",
        ".",
        "--listen",
        "127.0.0.1",
        "--port-base",
        str(free_port_base()),
        "--hostname",
        "mail.example.org",
        "--password-stdin",
        stdin=f"{PASSWORD}\n",
    )
    assert code == 0, err
    return cli


def free_port_base() -> int:
    """A base whose ports are all free at this moment."""
    for _ in range(100):
        base = random.randrange(12_000, 30_000)
        sockets = [socket.socket() for _ in OFFSETS]
        try:
            for sock, offset in zip(sockets, OFFSETS):
                sock.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        finally:
            for sock in sockets:
                sock.close()
        return base
    raise AssertionError("no free ports")


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A running `posthouse serve`."""

    process: subprocess.Popen[bytes]
    config: Path
    base: int
    log: Path
    said: str
    """What it said before it was ready."""


def start_server(config: Path, base: int) -> Server:
    """Raises AssertionError with what it said when it ends before it is ready."""
    log = config.parent / f"serve-{random.randrange(1 << 30)}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "posthouse", "serve", "--config", str(config)],
            stderr=file,
            env={k: v for k, v in os.environ.items() if k != "POSTHOUSE_CONFIG"},
        )
    ends = time.monotonic() + READY_S
    while "\nready\n" not in (said := log.read_text()):
        if process.poll() is not None or time.monotonic() > ends:
            process.kill()
            process.wait()
            raise AssertionError(log.read_text())
        time.sleep(0.02)
    return Server(process=process, config=config, base=base, log=log, said=said)


def stop_server(server: Server) -> int:
    server.process.send_signal(signal.SIGTERM)
    return server.process.wait(STOPPED_S)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, _no_other_config: None) -> Iterator[Server]:
    """A server made by quickstart with you@ and me@example.org, and a domain that never answers."""
    folder = tmp_path_factory.mktemp("server")
    config, base = folder / "posthouse.toml", free_port_base()
    for address in ("you@example.org", "me@example.org"):
        subprocess.run(
            [
                *(sys.executable, "-m", "posthouse", "quickstart", address),
                *("--data", str(folder), "--password-stdin"),
                *("--listen", "127.0.0.1", "--port-base", str(base)),
                *("--hostname", "mail.example.org"),
            ],
            input=f"{PASSWORD}\n".encode(),
            check=True,
            capture_output=True,
        )
    with config.open("a") as file:
        file.write('\n[[relay.route]]\ndomain = "slow.example.net"\nhosts = ["127.0.0.1:1"]\n')
        file.write('\n[dns]\nservers = ["127.0.0.1:1"]\n')  # nobody: the machine's is not asked
    running = start_server(config, base)
    yield running
    assert stop_server(running) == 0
