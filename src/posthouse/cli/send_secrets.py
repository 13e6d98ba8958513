"""Passwords for `posthouse send`: from a file, the environment, stdin or a person, never from an
argument."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import click

from posthouse.cli.output import PASSWORD_OCTETS_MAX, CommandError
from posthouse.kernel.secret import Secret

__all__ = ["check_url", "secret_of"]

TOKEN_OCTETS_MAX: Final = 64 << 10
PASSWORD_VARIABLE: Final = "POSTHOUSE_PASSWORD"  # noqa: S105  its name
PROXY_VARIABLE: Final = "POSTHOUSE_PROXY_PASSWORD"
KEY_VARIABLE: Final = "POSTHOUSE_KEY_PASSWORD"
_SECRET_NAMES: Final = frozenset({"password", "token"})
_URL_NAMES: Final = frozenset({"proxy", "outcome_mailbox"})


def secret_of(
    option: str, path: Path | None, variable: str = "", *, octets_max: int = PASSWORD_OCTETS_MAX
) -> Secret | None:
    """The first line of the file, else what the variable holds, else None.

    Raises:
        CommandError: the file cannot be read, or there is nothing in it; it names the file.
    """
    if path is not None:
        return Secret(_first_line(option, path, octets_max))
    found = os.environ.get(variable, "") if variable else ""
    return Secret(found) if found else None


def _first_line(option: str, path: Path, octets_max: int) -> str:
    try:
        with path.open("rb") as file:
            line = file.readline(octets_max + 3)
    except OSError as error:
        raise CommandError(f"{option}: {str(path)!r} cannot be read: {error.strerror}") from None
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        raise CommandError(f"{option}: the first line of {str(path)!r} is empty")
    if len(line) > octets_max:
        raise CommandError(f"{option}: the first line of {str(path)!r} is over {octets_max} octets")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandError(f"{option}: {str(path)!r} is not UTF-8 text") from None


def check_url(option: str, url: str, instead: str) -> None:
    """Refuse a URL with a password in it.

    Args:
        instead: the options that take one.
    """
    try:
        parts = urlsplit(url)
        is_told = parts.password is not None or _has_secret(parts.query)
    except ValueError:
        return  # the library says what is wrong with it
    if is_told:
        raise click.UsageError(
            f"{option} has a password in it, which others on this machine can see: leave it out,"
            f" and use {instead}"
        )


def _has_secret(query: str) -> bool:
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _SECRET_NAMES or (name in _URL_NAMES and urlsplit(value).password is not None):
            return True
    return False
