from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.accounts import admin
from posthouse.store.blobs.disk import FileDisk
from posthouse.store.options import Options
from posthouse.store.sqlite.engine import SqliteStore


@pytest.fixture
def store(tmp_path: Path, clock: Any) -> Iterator[SqliteStore]:
    """An inline store with two domains and a few people."""
    store = SqliteStore.open(
        Options(folder=str(tmp_path / "data")), clock=clock, disk=FileDisk(), is_inline=True
    )

    def people(tx: Any) -> None:
        admin.add_domain(tx, "example.org")
        admin.add_domain(tx, "bücher.example")
        for name in ("ada@example.org", "bob@example.org", "zoë@bücher.example"):
            admin.add_account(tx, name, password_hash=None, quota_octets=None)

    store.write_now(people)
    yield store
    store.close_now()
