"""Files that the config names: there, readable, secret where they must be, and of use: a server
that starts reads the same."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from posthouse.config import build_acme
from posthouse.config.schema import Config
from posthouse.kernel.errors import UserError
from posthouse.tls.certificates import CertificateFiles, load_certificate


class FileProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a file, for this user."""

    key: str
    """The setting that names it."""
    text: str
    hint: str = ""


def file_problems(config: Config, now: datetime) -> Iterator[FileProblem]:
    """Every file that would keep a server from starting, or is open to others."""
    unusable = set()
    for problem in _unreadable(config):
        unusable.add(problem.key)
        yield problem
    if config.tls.certificate and unusable.isdisjoint({"tls.certificate", "tls.key"}):
        yield from _unfit_certificate(config, now)
    if unusable.isdisjoint({"acme.eab_key_file", "dns_update.key_file"}):
        yield from _unfit_keys(config)


def _unfit_certificate(config: Config, now: datetime) -> Iterator[FileProblem]:
    files = CertificateFiles(chain=Path(config.tls.certificate), key=Path(config.tls.key))
    try:
        load_certificate(files, now)
    except UserError as error:
        key = "tls.key" if error.text.startswith(config.tls.key) else "tls.certificate"
        yield FileProblem(key=key, text=error.text, hint=error.hint)


def _unfit_keys(config: Config) -> Iterator[FileProblem]:
    try:
        build_acme.check_files(config)
    except UserError as error:
        is_acme = error.text.startswith("acme.")
        key = "acme.eab_key_file" if is_acme else "dns_update.key_file"
        yield FileProblem(key=key, text=error.text.removeprefix(f"{key}: "), hint=error.hint)


def _unreadable(config: Config) -> Iterator[FileProblem]:
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
            yield FileProblem(key=key, text=f"{path} {said}")


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
