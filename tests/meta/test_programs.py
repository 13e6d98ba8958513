"""Programs of other projects: a test without its program is skipped by name, in CI it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop import programs

ROOT = Path(__file__).parents[2]
TEST = """
import pytest
from tests.interop.programs import needs_program

@needs_program("no-such-program", package="no-such-package")
def test_with_a_program_that_is_missing():
    pass

@needs_program("sh", package="dash")
def test_with_a_program_that_is_there():
    pass
"""


def run_suite(folder: Path, **environment: str) -> str:
    """The test file above under the project's own conftest; what pytest printed."""
    (folder / "test_suite.py").write_text(TEST, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = interop: x\n", encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if key != programs.REQUIRE}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-rsf", "-p", "no:cacheprovider", "."],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    ).stdout


def test_a_newcomer_sees_the_package_to_install(tmp_path: Path) -> None:
    said = run_suite(tmp_path)
    assert "1 passed, 1 skipped" in said, said
    assert "no-such-program is not installed (Debian package no-such-package)" in said


def test_where_programs_are_required_a_missing_one_is_a_failure(tmp_path: Path) -> None:
    said = run_suite(tmp_path, **{programs.REQUIRE: "1"})
    assert "1 passed, 1 error" in said, said
    assert "no-such-program is not installed (Debian package no-such-package)" in said


def test_a_program_is_found_where_only_administrators_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "postfixish").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "postfixish").chmod(0o755)
    assert programs.missing_program("postfixish", package="postfix") is not None
    monkeypatch.setattr(programs, "ADMIN_FOLDERS", (str(tmp_path),))
    assert programs.missing_program("postfixish", package="postfix") is None


def test_a_program_for_root_is_skipped_for_others_even_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    missing = programs.missing_program("sh", package="dash", root=True)
    assert missing is not None and not missing.can_be_installed
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert programs.missing_program("sh", package="dash", root=True) is None


def test_a_missing_perl_module_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_has_perl", lambda name: name != "IO::Socket::SSL")
    missing = programs.missing_program("sh", package="dash", perl=("Socket", "IO::Socket::SSL"))
    assert missing is not None
    assert missing.text == "sh lacks the Perl module IO::Socket::SSL (libio-socket-ssl-perl)"


def test_a_node_module_is_looked_for_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(programs.NODE_MODULES, str(tmp_path))
    assert programs.missing_program("sh", package="x", module="nodemailer") is not None
    (tmp_path / "nodemailer").mkdir()
    (tmp_path / "nodemailer/package.json").write_text("{}", encoding="utf-8")
    assert programs.missing_program("sh", package="x", module="nodemailer") is None
    monkeypatch.delenv(programs.NODE_MODULES)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert programs.missing_program("sh", package="x", module="nodemailer") is not None
