"""Numbered migrations, each with the oldest release that can still read its result.

A migration runs in one transaction with the row that says it ran, so a kill leaves the data of the
old release or of the new one, never between them (promise P16).
"""

from __future__ import annotations

from importlib import resources
from typing import Final

import msgspec

from posthouse.kernel.errors import UserError
from posthouse.store.transaction import Transaction


class Migration(msgspec.Struct, frozen=True):
    version: int
    file: str
    release: str
    """The release that brings it."""
    oldest_reader: str
    """The oldest release that can still use the data afterwards."""


MIGRATIONS: Final = (
    Migration(1, "m0001_first.sql", "0.1.0", "0.1.0"),
    Migration(2, "m0002_domain_keys.sql", "0.2.0", "0.1.0"),
    Migration(3, "m0003_reports.sql", "0.2.0", "0.1.0"),
    Migration(4, "m0004_relay_tls.sql", "0.2.0", "0.1.0"),
    Migration(5, "m0005_refusals.sql", "0.2.0", "0.1.0"),
    Migration(6, "m0006_mail_keys.sql", "0.2.0", "0.1.0"),
    Migration(7, "m0007_key_reads.sql", "0.2.0", "0.1.0"),
    Migration(8, "m0008_own_copies.sql", "0.2.0", "0.1.0"),
    Migration(9, "m0009_key_bounds.sql", "0.2.0", "0.1.0"),
)
VERSION: Final = MIGRATIONS[-1].version


def migrate(tx: Transaction, *, has_schema: bool) -> None:
    """Bring the data to `VERSION`.

    Raises:
        UserError: the data was written by a newer release that this one cannot read.
    """
    if not has_schema:
        tx.run(
            "CREATE TABLE schema (version INTEGER PRIMARY KEY, release_ TEXT NOT NULL,"
            " oldest_reader TEXT NOT NULL, at BIGINT NOT NULL)"
        )
    done = tx.one("SELECT version, release_, oldest_reader FROM schema ORDER BY version DESC")
    version: int = done[0] if done else 0
    if done and version > VERSION:
        raise UserError(
            f"the data was written by Posthouse {done[1]} (schema {version});"
            f" this program knows schemas up to {VERSION} and changes nothing",
            hint=f"run Posthouse {done[2]} or newer, or restore a backup made before the upgrade",
        )
    for migration in MIGRATIONS:
        if migration.version > version:
            for statement in statements(migration.file):
                tx.run(statement)
            tx.run(
                "INSERT INTO schema (version, release_, oldest_reader, at) VALUES (?, ?, ?, ?)",
                (migration.version, migration.release, migration.oldest_reader, tx.now_us()),
            )


def statements(file: str) -> list[str]:
    """A migration's statements: comments dropped, divided at semicolons that end a line."""
    text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    lines = (line.split("--", 1)[0].rstrip() for line in text.splitlines())
    return [s.strip() for s in "\n".join(lines).split(";\n") if s.strip().rstrip(";")]
