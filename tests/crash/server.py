"""One real server process with its own data folder and ports, for tests that treat it roughly.

`Server.start` runs `python -m posthouse serve`, perhaps under another program or with limits;
`Server.fork` starts it from an interpreter that has it loaded already, which is ten times as fast.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import apsw

from posthouse.store.blobs.disk import FileDisk
from posthouse.store.blobs.segments import Segments
from posthouse.store.sqlite.connection import SqliteTransaction, connect
from tests.conftest import RealClock

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery staple"
PORTS = {
    "mx": 25, "submission": 587, "submissions": 465,
    "imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995, "metrics": 80,
}  # fmt: skip
READY_S = 5.0
"""Start-up is recovery, and takes no longer than this (P6)."""

CONFIG = """\
[node]
hostname = "{host}"
data_folder = "{folder}/data"
drain_s = 5
[net]
port_base = {base}
exempt_networks = ["127.0.0.0/8"]
[smtp]
relay_networks = ["127.0.0.0/8"]
messages_per_minute = 1000000
octets_per_minute = 1000000000000
[submission]
per_hour = 10000000
per_day = 10000000
[auth]
plaintext_networks = ["127.0.0.0/8"]
[store]
free_octets_min = 1000000
busy_s = {busy_s}
[relay]
allow_private_addresses = true
[relay.retry]
first_s = 1
growth = 1.0
[log]
file = "{folder}/posthouse.log"
"""


def free_port_base() -> int:
    """A base whose ports are all free, below those the kernel hands out by itself."""
    start = 20_000 + os.getpid() % 97 * 101
    for base in [*range(start, 30_000, 1_009), *range(20_000, start, 1_009)]:
        with contextlib.ExitStack() as stack:
            try:
                for shift in PORTS.values():
                    taken = stack.enter_context(socket.socket())
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    taken.bind(("127.0.0.1", base + shift))
            except OSError:
                continue
        return base
    raise RuntimeError("no free ports between 20000 and 30000")


class Server:
    """Configured by the constructor, filled by `add`, then started and stopped at will."""

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "mx.crash.test",
        more: str = "",
        base: int | None = None,
        busy_s: float = 20.0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data = folder / "data"
        self.base = base or free_port_base()
        self.config = folder / "posthouse.toml"
        text = CONFIG.format(host=host, folder=folder, base=self.base, busy_s=busy_s)
        if "[dns]" not in more:  # nobody: the machine's name servers are not asked
            more += '\n[dns]\nservers = ["127.0.0.1:1"]\n'
        self.config.write_text(text + more)
        self.errors = folder / "stderr"
        self.pid = 0
        self.status: int | None = None

    @property
    def certificate(self) -> Path:
        """What it made for itself at its first start."""
        return self.data / "tls" / "self-signed.pem"

    def port(self, service: str) -> int:
        return self.base + PORTS[service]

    def run(self, *words: str, text: str | None = None) -> str:
        """One command of the command line."""
        done = subprocess.run(
            [sys.executable, "-m", "posthouse", *words, "--config", str(self.config)],
            input=text, capture_output=True, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def add(self, domain: str, names: Sequence[str]) -> None:
        self.run("domain", "add", domain)
        lines = [f"{name}@{domain} {PASSWORD}\n" for name in names]
        self.run("account", "import", "-", text="".join(lines))

    # --- life and death ---

    def start(
        self,
        *,
        under: Sequence[str] = (),
        limits: Mapping[int, int] | None = None,
        within_s: float | None = READY_S,
    ) -> float:
        """Start and wait until it is ready; the seconds that took. None waits for nothing."""

        def set_limits() -> None:
            for kind, value in (limits or {}).items():
                resource.setrlimit(kind, (value, value))

        began_s = time.monotonic()
        with self.errors.open("wb") as errors:
            process = subprocess.Popen(
                [*under, sys.executable, "-m", "posthouse", "serve", "--config", str(self.config)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                start_new_session=True, preexec_fn=set_limits if limits else None, cwd=ROOT,
            )  # fmt: skip
        process.returncode = 0  # we wait for it ourselves
        self.pid, self.status = process.pid, None
        if within_s is not None:
            self.wait_ready(within_s)
        return time.monotonic() - began_s

    def fork(self, *, crash_at: str = "") -> None:
        """Start as a copy of this process, which must have a single thread."""
        self.errors.write_bytes(b"")  # an earlier life said that it was ready
        pid = os.fork()
        if pid:
            self.pid, self.status = pid, None
            return
        try:  # a process of its own from here on
            os.setsid()
            os.closerange(3, 1024)  # the pipes of our other children
            errors = os.open(self.errors, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            os.dup2(errors, 2)
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            os.environ["POSTHOUSE_CRASH_AT"] = crash_at
            sys.argv = ["posthouse", "serve", "--config", str(self.config)]
            from posthouse.cli import main

            main()
        finally:
            os._exit(1)

    def wait_ready(self, within_s: float) -> None:
        end_s = time.monotonic() + within_s
        while time.monotonic() < end_s:
            if self.is_ready():
                return
            assert self.is_alive(), f"it ended by itself: {self.said()}"
            time.sleep(0.002)
        raise AssertionError(f"not ready after {within_s} s: {self.said()}")

    def is_ready(self) -> bool:
        return b"ready\n" in self.errors.read_bytes() if self.errors.exists() else False

    def said(self) -> str:
        return self.errors.read_text(errors="replace")

    def is_alive(self) -> bool:
        if self.pid and self.status is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if done else None
        return bool(self.pid) and self.status is None

    def wait_gone(self, within_s: float) -> bool:
        """Whether it ended by itself in time."""
        if not self.is_alive():
            return True
        ending = os.pidfd_open(self.pid)
        try:
            select.select([ending], [], [], within_s)
        finally:
            os.close(ending)
        return not self.is_alive()

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to the whole group (F1)."""
        if self.is_alive():
            self.signal(signal.SIGKILL)
            assert self.wait_gone(10.0)

    def stop(self, within_s: float = 15.0) -> int:
        """SIGTERM, and the exit code."""
        if self.is_alive():
            os.kill(self.pid, signal.SIGTERM)
            if not self.wait_gone(within_s):
                self.kill()
                raise AssertionError(f"SIGTERM did not end it in {within_s} s")
        return self.status or 0

    # --- looking into the files ---

    @contextlib.contextmanager
    def data_as_of_now(self) -> Iterator[SqliteTransaction]:
        """One snapshot, read beside the server or without it."""
        connection = connect(
            self.data / "posthouse.db", busy_s=20.0, is_writing=False, cache_kib=8192, vfs=None
        )
        try:
            connection.execute("BEGIN").fetchall()
            yield SqliteTransaction(
                connection,
                clock=RealClock(),
                segments=Segments(FileDisk(), str(self.data / "blobs"), octets_max=2**30),
                inline_octets_max=16_384,
            )
        finally:
            connection.close()

    def integrity(self) -> str:
        connection = apsw.Connection(
            str(self.data / "posthouse.db"), flags=apsw.SQLITE_OPEN_READWRITE
        )
        try:
            return str(connection.execute("PRAGMA integrity_check").fetchall()[0][0])
        finally:
            connection.close()
