"""What a running server serves TLS with, written down for commands that ask from outside: the files
may hold something else by then, or the config name others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from posthouse.tls.certificates import Certificate
from posthouse.tls.files import is_locked, write_whole

SERVING_LOCK: Final = "serving.lock"
"""In the data folder; the server that runs on it holds it."""
_MODE: Final = 0o600


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate in use."""

    chain: str
    """The file it was read from."""
    pem: str
    """The server's own certificate."""

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.pem.encode("ascii"))


def note(data_folder: Path, certificates: Sequence[Certificate]) -> None:
    """Write down what is served from now on. Where that fails, what was written before is taken
    away: no word is better than a wrong one."""
    path = _path(data_folder)
    entries = [
        Served(
            chain=str(each.files.chain),
            pem=each.leaf.public_bytes(serialization.Encoding.PEM).decode("ascii"),
        )
        for each in certificates
    ]
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(path, msgspec.json.encode(entries), mode=_MODE)
    except OSError:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return


def noted(data_folder: Path) -> tuple[Served, ...] | None:
    """What was written down last, the default certificate first; None when there is nothing."""
    try:
        octets = _path(data_folder).read_bytes()
        found = msgspec.json.decode(octets, type=tuple[Served, ...])
        for each in found:
            _ = each.leaf
    except (OSError, ValueError, msgspec.MsgspecError):
        return None
    return found or None


def of_running(data_folder: Path) -> tuple[Served, ...] | None:
    """What the server on this data folder serves; None where none runs, or it does not say."""
    return noted(data_folder) if is_locked(data_folder / SERVING_LOCK) else None


def _path(data_folder: Path) -> Path:
    return data_folder / "tls" / "served.json"
