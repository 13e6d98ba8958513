"""The memory of a server holds the node key and private halves: it stands in no core dump, and no
other program of the same user reads it (RELIABILITY.md section 5, "Secrets at rest")."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")

ASK = """
import ctypes, os, resource, sys, uvloop
CORE, GET_DUMPABLE, SET_DUMPABLE = resource.RLIMIT_CORE, 3, 4
prctl = ctypes.CDLL(None).prctl
hard = resource.getrlimit(CORE)[1]
resource.setrlimit(CORE, (hard, hard))
def tell():
    print(prctl(GET_DUMPABLE, 0, 0, 0, 0), os.stat(f"/proc/{os.getpid()}/mem").st_uid, flush=True)
"""
# In place of the server's run, when all before it is done.
BEGIN = """
def run(server):
    server.close()
    tell()
    print(*resource.getrlimit(CORE), flush=True)
    os._exit(0)
uvloop.run = run
from posthouse.cli import main
main()
"""
# Root owns the files in /proc of what may not be dumped. Who is root becomes somebody else first,
# which makes a process private, too, until it says otherwise.
ATTACH = """
from posthouse.net.own_process import keep_memory_private
if not os.getuid():
    os.setuid(65534)
prctl(SET_DUMPABLE, 1, 0, 0, 0)
tell()
print(os.getuid())
keep_memory_private()
tell()
print(len(os.listdir("/proc/self/fd")) > 2, open("/proc/self/statm").read() > "")
"""


def asked(script: str, *arguments: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    done = subprocess.run(
        [sys.executable, "-c", ASK + script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_server_that_runs_leaves_no_core_dump(server: Server) -> None:
    folder = Path(f"/proc/{server.process.pid}")
    lines = (folder / "limits").read_text().splitlines()
    (core,) = [line.split() for line in lines if line.startswith("Max core file size")]
    assert core[4:6] == ["0", "0"]
    assert (folder / "mem").stat().st_uid == 0  # says more where the server is not root


def test_serve_and_the_demo_are_private_before_they_begin(tmp_path: Path) -> None:
    config = tmp_path / "posthouse.toml"
    config.write_text(f'[node]\ndata_folder = "{tmp_path}/data"\n')
    for arguments in (("serve", "--config", str(config)), ("demo",)):
        dumpable, core = asked(BEGIN, *arguments)
        assert (dumpable.split()[0], core) == ("0", "0 0"), arguments


def test_nobody_of_the_same_user_reads_it_and_it_still_reads_of_itself() -> None:
    before, user, after, reads = asked(ATTACH)
    assert before == f"1 {user}" and user != "0"
    assert after == "0 0"
    assert reads == "True True"
