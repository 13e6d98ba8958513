"""The kill loop: clients send without end, the server is killed again and again, nothing is lost.

`python -m tests.crash.kill_loop --kills 200 --seed 1`, or `make crash KILLS=200 SEED=1`. Half of
the kills fall at a random moment, half at a named point of the code (F1, F8, F30); some fall into
the recovery, some come as SIGTERM or after a SIGSTOP. The seed fixes when and how; which message
is under way then is the machine's business.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from posthouse.queue import ledger
from tests.crash import balance as scales
from tests.crash.load import ACCOUNTS, DOMAIN, SINK_DOMAINS
from tests.crash.server import READY_S, ROOT, Server

POINTS = (
    "store.before-sync",
    "store.before-commit",
    "store.after-commit",
    "reception.before-reply",
    "relay.after-dot",
)
PASSES_MAX = 150
"""How often a named point may be passed before the kill."""
INTEGRITY_EVERY = 50
DRAIN_S = 60.0
SHOWN_MAX = 20


class KillLoop:
    def __init__(self, folder: Path, *, kills: int, seed: int, wait_s: float, check_every: int):
        self.folder = folder
        self.seed = seed
        self.kills = kills
        self.wait_s = wait_s
        self.check_every = check_every
        self.rng = random.Random(seed)
        self.recoveries: list[float] = []
        self.died_at: list[float] = []
        self.how: Counter[str] = Counter()
        self.faults: list[str] = []
        self.accounts = [f"u{n}@{DOMAIN}" for n in range(ACCOUNTS)]
        self.server = Server(folder / "server")
        self.sink_port = self.server.base + 26
        routes = "".join(
            f'[[relay.route]]\ndomain = "d{n}.sink.test"\nhosts = ["127.0.0.1:{self.sink_port}"]\n'
            'tls = "off"\n'
            for n in range(SINK_DOMAINS)
        )
        with self.server.config.open("a") as config:
            config.write(routes)

    @contextlib.contextmanager
    def beside(self, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A program of ours that ends with its standard input."""
        process = subprocess.Popen(
            [sys.executable, "-m", f"tests.crash.{name}", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)
            assert process.stdout is not None
            process.stdout.close()

    # --- one life and death after the other ---

    def live(self, crash_at: str) -> None:
        began_s = time.monotonic()
        self.server.fork(crash_at=crash_at)
        try:
            self.server.wait_ready(READY_S)
        except AssertionError:
            if self.server.is_alive() or self.server.status != -signal.SIGKILL:
                raise
            return  # the point lay within recovery
        self.recoveries.append(time.monotonic() - began_s)

    def die(self) -> None:
        """Let it live for a while, then end it in one way or another."""
        wait_s = self.rng.uniform(0, self.wait_s)
        way = self.rng.random()
        if self.server.wait_gone(wait_s):
            assert self.server.status == -signal.SIGKILL, self.server.said()
            self.how["point"] += 1
        elif way < 0.05:
            self.server.stop()
            self.how["term"] += 1
        elif way < 0.10:
            self.server.signal(signal.SIGSTOP)
            time.sleep(0.1)
            self.server.signal(signal.SIGCONT if way < 0.075 else signal.SIGKILL)
            self.how["stopped"] += 1
        else:
            self.how["moment"] += 1
        self.server.kill()
        self.died_at.append(time.monotonic())

    def die_recovering(self) -> None:
        self.server.fork()
        time.sleep(self.rng.uniform(0, 0.15))
        self.server.kill()
        self.died_at.append(time.monotonic())
        self.how["recovery"] += 1

    def check(self, number: int) -> None:
        if number % self.check_every == 0:
            with self.server.data_as_of_now() as tx:
                report = ledger.check(tx)
            self.faults += [f"after kill {number}: {fault}" for fault in report.faults]
        if number % INTEGRITY_EVERY == 0 and (said := self.server.integrity()) != "ok":
            self.faults.append(f"after kill {number}: {said}")

    def run(self) -> bool:
        self.server.add(DOMAIN, [f"u{n}" for n in range(ACCOUNTS)])
        with self.beside("sink", str(self.sink_port), str(self.folder / "sink")) as sink:
            assert sink.stdout is not None
            assert sink.stdout.readline() == b"listening\n"
            base, seed = str(self.server.base), str(self.seed)
            with self.beside("load", str(self.folder), base, seed):
                self.kill_and_kill()
                self.live("")
            self.drain()
        found = scales.weigh(
            self.folder,
            scales.everything_in(self.server, self.accounts),
            kills=self.died_at,
            requeued=scales.requeued(self.server),
        )
        self.check(0)
        self.server.stop()
        return self.tell(found)

    def kill_and_kill(self) -> None:
        count = 0
        while count < self.kills:
            point = self.rng.choice(POINTS)
            passes = int(PASSES_MAX ** self.rng.random())
            self.live(f"{point}:{passes}" if self.rng.random() < 0.5 else "")
            self.check(count)
            self.die()
            count += 1
            if self.rng.random() < 0.1 and count < self.kills:
                self.die_recovering()
                count += 1

    def drain(self) -> None:
        """Wait until the queue is empty."""
        end_s = time.monotonic() + DRAIN_S
        while time.monotonic() < end_s:
            with self.server.data_as_of_now() as tx:
                states = ledger.check(tx).states
            if not states["queued"] + states["leased"] + states["held"]:
                return
            time.sleep(0.2)
        self.faults.append(f"the queue is not empty after {DRAIN_S} s: {states}")

    def tell(self, found: scales.Balance) -> bool:
        times = sorted(self.recoveries)
        p50, p99 = (times[int(len(times) * share)] * 1000 for share in (0.5, 0.99))
        print(
            f"kill-loop seed={self.seed} kills={self.kills} acked={found.acked}"
            f" lost={len(found.lost)} ghost={len(found.ghost)} dup={found.dup}"
            f" (window={found.window}) changed={len(found.changed)}"
            f" recovery p50={p50:.0f}ms p99={p99:.0f}ms"
        )
        how = ", ".join(f"{count} {name}" for name, count in sorted(self.how.items()))
        print(f"refused={found.refused} unknown={found.unknown} kills by: {how}")
        faults = found.faults() + self.faults
        if found.dup != found.window:
            faults.append(f"{found.dup - found.window} duplicates that no kill explains (P4)")
        for fault in faults[:SHOWN_MAX]:
            print(fault)
        return not faults


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill the server again and again; lose nothing.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wait", type=float, default=0.9, help="longest life, in seconds")
    parser.add_argument("--check-every", type=int, default=5, help="kills between ledger checks")
    parser.add_argument("--folder", type=Path, help="where to work; kept afterwards")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="posthouse-crash-"))
    loop = KillLoop(
        folder.resolve(), kills=asked.kills, seed=asked.seed, wait_s=asked.wait,
        check_every=asked.check_every,
    )  # fmt: skip
    is_good = False
    try:
        is_good = loop.run()
    finally:
        loop.server.kill()
        if is_good and asked.folder is None:
            shutil.rmtree(folder)
        elif not is_good:
            print(f"everything is kept in {folder}")
    return 0 if is_good else 1


if __name__ == "__main__":
    # What the forked servers need is loaded here once: a start then costs what recovery costs.
    import posthouse.cli.serve

    assert posthouse.cli.serve
    os.umask(0o077)
    sys.exit(main())
