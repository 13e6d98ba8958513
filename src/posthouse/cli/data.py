"""How commands reach the data: the same database the server has open, a unit of work at a time.

The server notices what another process commits within a fraction of a second, so no command needs
it to be stopped, and none talks to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posthouse.cli.config import load_config
from posthouse.cli.output import CommandError, ExitCode
from posthouse.config import build
from posthouse.config.schema import Config
from posthouse.kernel.errors import StorageLost
from posthouse.net.world import SystemChance, SystemClock
from posthouse.store.blobs.disk import FileDisk
from posthouse.store.sqlite.engine import SqliteStore


@contextmanager
def open_store(config: Config, *, creates: bool = False) -> Iterator[SqliteStore]:
    """The store, for `write_now` and `read_now`.

    Args:
        creates: make the data folder when it is not there.
    """
    options = build.store_options(config)
    if not creates and not Path(options.folder, "posthouse.db").exists():
        raise CommandError(
            f"there is no Posthouse data in {options.folder}",
            hint="start with `posthouse quickstart you@example.org`, or name the config file "
            "with --config",
            code=ExitCode.NOT_FOUND,
        )
    os.umask(0o077)  # what is made now, the server keeps: nobody else reads anybody's mail
    store = SqliteStore.open(options, clock=SystemClock(), disk=FileDisk(), is_inline=True)
    try:
        if store.lost is not None:
            raise StorageLost(str(store.lost))
        yield store
    finally:
        store.close_now()


@contextmanager
def configured_store(config_path: str | None, *, creates: bool = False) -> Iterator[SqliteStore]:
    """The store of the config file that this run uses."""
    with open_store(load_config(config_path).config, creates=creates) as store:
        yield store


def new_hash(password: str, *, owner: str) -> str:
    """Check a new password and derive what is stored of it."""
    from posthouse.accounts import password as passwords

    passwords.check_new(password, owner=owner)
    salt = SystemChance().token(passwords.SALT_OCTETS)
    return passwords.derive(password, salt=salt, cost=passwords.Cost())
