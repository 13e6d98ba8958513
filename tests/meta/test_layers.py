"""The import contracts bite: the linter that `make check` runs finds each forbidden import."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [
    *("cli", "config", "web", "reception", "delivery", "relay", "access", "access/imap"),
    *("access/pop3", "queue", "mailbox", "accounts", "store", "tls", "dns", "net", "observe"),
    *("guard", "mailauth", "protocol", "message", "kernel", "sim", "reporting", "zone", "testing"),
    *("sending", "mimesec", "gateway"),
]


def lint(root: Path) -> str:
    """A skeleton of the project under the real contracts; what the linter says of it."""
    command = [shutil.which("lint-imports", path=Path(sys.executable).parent) or "lint-imports"]
    done = subprocess.run(
        [*command, "--no-logo", "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(root / "src"), "PATH": "/usr/bin:/bin", "NO_COLOR": "1"},
    )
    return done.stdout + done.stderr


def skeleton(root: Path, module: str, source: str) -> Path:
    shutil.copy(ROOT / "pyproject.toml", root)
    for package in ("", *PACKAGES):
        (root / "src/posthouse" / package).mkdir(parents=True, exist_ok=True)
        (root / "src/posthouse" / package / "__init__.py").touch()
    (root / "src/posthouse/app.py").touch()
    (root / "src/posthouse" / module).parent.mkdir(parents=True, exist_ok=True)
    (root / "src/posthouse" / module).write_text(source, encoding="utf-8")
    return root


def test_what_breaks_no_contract_is_kept(tmp_path: Path) -> None:
    said = lint(skeleton(tmp_path, "relay/mx.py", "import posthouse.queue\nimport posthouse.dns\n"))
    assert ", 0 broken" in said, said


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("queue/runner.py", "import posthouse.relay"),
        ("queue/runner.py", "import posthouse.mailbox"),
        ("kernel/ids.py", "import posthouse.message"),
        ("spooler/__init__.py", ""),
        ("message/mime.py", "import asyncio"),
        ("protocol/clock.py", "import time"),
        ("guard/rates.py", "import random"),
        ("store/rows.py", "import pickle"),
        ("reporting/read.py", "from xml.parsers import expat"),
        ("reporting/job.py", "import posthouse.reception"),
        ("reception/senders.py", "from email.utils import parseaddr"),
        ("access/imap/session.py", "import posthouse.access.pop3"),
        ("app.py", "import posthouse.sim"),
    ],
)
def test_what_breaks_a_contract_is_found(tmp_path: Path, module: str, source: str) -> None:
    said = lint(skeleton(tmp_path, module, source + "\n"))
    assert "BROKEN" in said or "Missing layer" in said or "not listed" in said, said
