"""One real server for all interop tests of a run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.server import Server
from tests.interop.house import ACCOUNTS, DOMAIN, Account

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("interop"), host="mx.interop.test")
    made.add(DOMAIN, [f"u{number}" for number in range(ACCOUNTS)])
    made.start(within_s=60.0)  # how soon is for the crash tests to say
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def account(server: Server, tmp_path: Path) -> Account:
    return Account(f"u{next(_numbers)}@{DOMAIN}", server, tmp_path)
