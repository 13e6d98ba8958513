"""From a user's side the library is typed completely: strict checkers have nothing to say about
the examples."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.programs import node_modules

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_mypy_in_strict_mode(tmp_path: Path) -> None:
    programs = [str(path) for path in sorted(EXAMPLES.glob("*.py"))]
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), *programs]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout


def test_mypy_finds_the_arguments_that_there_are_not(tmp_path: Path) -> None:
    wrong = (
        'Message(body="x")',
        'Message("ada@example.org")',
        'Attachment(name="x")',
        "Protection(sign=None)",
        "Transport(timeout=3)",
        "MailServer.ephemeral(acounts={})",
    )
    head = (
        "from posthouse.mimesec import Protection",
        "from posthouse.sending import Attachment, Message, Transport",
        "from posthouse.testing import MailServer",
        'Message(sender="ada@example.org", text="x")',
    )
    program = tmp_path / "wrong.py"
    program.write_text("\n".join((*head, *wrong)) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(program)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    lines = {int(one.split(":")[1]) for one in done.stdout.splitlines() if ": error: " in one}
    assert lines == {len(head) + 1 + at for at in range(len(wrong))}, done.stdout


@pytest.mark.interop
def test_pyright_in_strict_mode(tmp_path: Path) -> None:
    modules = node_modules()
    program = modules and modules / "pyright" / "index.js"
    if program is None or not program.is_file() or shutil.which("node") is None:
        pytest.skip("pyright is not installed")
    for path in EXAMPLES.glob("*.py"):
        shutil.copy(path, tmp_path)
    config = {"typeCheckingMode": "strict", "pythonVersion": "3.11"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    command = ["node", str(program), "-p", str(tmp_path), "--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "0 errors, 0 warnings" in done.stdout, done.stdout
