"""A moment of the workloads in bench/, so that who repeats the figures finds them working."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from posthouse.config.schema import Service
from posthouse.sim.lab import Lab

BENCH = Path(__file__).parents[2] / "bench"
ACCOUNTS = {"bench.test": ("u0", "u1")}


async def run(tool: str, *arguments: str) -> dict[str, Any]:
    """Run a tool in its own process, as a person would; its last record."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        tool,
        *arguments,
        cwd=BENCH,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, trouble = await process.communicate()
    assert process.returncode == 0, trouble.decode()
    return json.loads(said.decode().strip().splitlines()[-1])


@pytest.mark.parametrize("mode", ["one", "reuse", "pipe", "bdat"])
async def test_accepting_is_measured(mode: str) -> None:
    async with Lab(domains=ACCOUNTS) as lab:
        host, port = lab.node("bench").place(Service.MX)
        options = ("--size", "1K", "--conns", "2", "--count", "8", "--seconds", "5", "--users", "2")
        record = await run("smtp_accept.py", f"{host}:{port}", *options, "--mode", mode)
        assert (record["n"], record["errors"]) == (8, 0), record
        stored = [await lab.inbox(f"{name}@bench.test") for name in ACCOUNTS["bench.test"]]
        assert sum(map(len, stored)) == 8


def test_the_table_shows_medians_and_the_ratio_to_the_peer(tmp_path: Path) -> None:
    cell = {"bench": "smtp_accept", "size": "4K", "conns": 1, "mode": "one", "p99_ms": 1.0}
    rates = [("postfix", 90), ("posthouse", 200), ("postfix", 100), ("posthouse", 250)]
    rates += [("postfix", 999), ("posthouse", 900)]
    records = [{**cell, "label": label, "msgs_s": rate} for label, rate in rates]
    path = tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    command = [sys.executable, "compare.py", str(path)]
    said = subprocess.run(command, cwd=BENCH, capture_output=True, text=True, check=True).stdout
    [line] = [line for line in said.splitlines() if "messages/s" in line]
    assert "accept 4K, 1 conn., one" in line
    assert "100" in line and "250" in line and "2.5" in line


async def test_pure_code_is_measured_without_a_server() -> None:
    groups = ("machine", "bdat", "stuff", "prepare", "render", "envelope", "end", "newlines")
    record = await run("micro.py", "--json", "--seconds", "0.001", "--only", ",".join(groups))
    assert tuple(record) == groups
    assert all(us > 0 for cases in record.values() for us in cases.values())


async def test_authentication_is_measured_beside_another_library() -> None:
    record = await run("auth_bench.py", "--quick", "--only", "verify")
    assert (record["what"], record["size"]) == ("verify", "100K")
    assert record["cpu_us"].keys() == {"posthouse", "dkimpy"}
    record = await run("auth_bench.py", "--quick", "--only", "check")
    assert record["signature"] == "both" and record["times_hash"] > 1
