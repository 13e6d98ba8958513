from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.store.blobs.disk import FileDisk
from posthouse.store.options import Options
from posthouse.store.sqlite.engine import SqliteStore
from tests.access.imap.house import House


@pytest.fixture
async def store(tmp_path: Path, clock: Any) -> AsyncIterator[SqliteStore]:
    """A real store: threads, files, group commit."""
    store = SqliteStore.open(
        Options(folder=str(tmp_path / "data"), poll_s=0.02), clock=clock, disk=FileDisk()
    )
    yield store
    await store.close()


@pytest.fixture
async def house(store: SqliteStore) -> House:
    return await House(store).settle_in()
