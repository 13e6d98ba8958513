"""Files that the config names: there, readable, and secret where they must be."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from posthouse.config.schema import Config


def file_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Setting and what is wrong with its file, for this user."""
    smart_host = config.relay.smart_host
    for key, path, is_secret in (
        ("tls.certificate", config.tls.certificate, False),
        ("tls.key", config.tls.key, True),
        ("relay.smart_host.password_file", smart_host.password_file, True),
        ("acme.ca_file", config.acme.ca_file, False),
        ("acme.eab_key_file", config.acme.eab_key_file, True),
        ("dns_update.key_file", config.dns_update.key_file, True),
    ):
        if path and (said := _problem(path, is_secret=is_secret)):
            yield key, f"{path} {said}"


def _problem(path: str, *, is_secret: bool) -> str:
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not stat.S_ISREG(mode):
        return "is not a file"
    if not os.access(path, os.R_OK):
        return "may not be read by this user"
    if is_secret and mode & (stat.S_IRWXO | stat.S_IWGRP):
        return "is open to other users; take their rights away: chmod o=,g-w"
    return ""
