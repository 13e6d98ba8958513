"""What holds for every test: programs of other projects are asked for by name, and a whole run
(`--rows`, as `make test` has it) ends with the reliability rows that no test names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.programs import is_required, missing_program
from tools import reliability

ROOT = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rows", action="store_true", help="list the reliability rows that no test names"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("interop"):
        problem = missing_program(*mark.args, **mark.kwargs) if mark.args else None
        if problem is None:
            continue
        if is_required() and problem.can_be_installed:
            pytest.fail(problem.text, pytrace=False)
        pytest.skip(problem.text)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not config.getoption("--rows"):
        return
    terminalreporter.section("reliability rows")
    for line in reliability.report(ROOT):
        terminalreporter.write_line(line)
