"""Secrets in the database, sealed by a node key that is not in it.

Who has the database or a backup of it has no key of ours; the node key is a file of its own, to be
kept apart. Sealed octets carry a version, a random nonce and AES-256-GCM's output; the context
("domain-key:example.org:r20260401") is authenticated with them, so that no sealed value can be put
in the place of another.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from posthouse.kernel.errors import DataUnusable, UserError
from posthouse.kernel.ports import Chance

KEY_OCTETS: Final = 32
NONCE_OCTETS: Final = 12
VERSION: Final = b"\x01"
FILE_MODE: Final = 0o600
OTHERS: Final = 0o077
LOST_HINT: Final = (
    "put the copy of it back that you keep apart from the backups\n"
    "is it lost for good? Make new keys: posthouse domain rotate --lost-node-key"
)


class SealBroken(UserError):
    """Sealed octets that this node key does not open."""


class NodeKey:
    """The node key's file, read when it is first needed. It shows its path and nothing else."""

    __slots__ = ("_chance", "_cipher", "_deriving", "path")

    def __init__(self, path: Path, chance: Chance) -> None:
        self.path = path
        self._chance = chance
        self._cipher: AESGCM | None = None
        self._deriving: bytes | None = None

    def __repr__(self) -> str:
        return f"NodeKey({str(self.path)!r})"

    def __reduce__(self) -> str:
        raise TypeError("a node key is not pickled or copied")

    def open(self, *, sealed: int) -> None:
        """Read the file; make it where nothing is sealed yet and there is none.

        Args:
            sealed: how many secrets in the database need it.

        Raises:
            UserError: it is missing although it is needed, others may read it, or it is damaged.
        """
        if self._cipher is not None:
            return
        if not sealed and not self.path.exists():
            self._make()
        self._read()

    def renew(self) -> None:
        """Make a key in the place of one that is lost. What it sealed stays closed for ever.

        Raises:
            UserError: there is a file, so nothing is lost.
        """
        if self.path.exists():
            raise UserError(
                f"the node key {self.path} is there; nothing is lost",
                hint="to begin with other keys: posthouse domain rotate example.org",
            )
        self._make()
        self._read()

    def seal(self, octets: bytes, context: bytes) -> bytes:
        """Raises UserError as `open` does."""
        nonce = self._chance.token(NONCE_OCTETS)
        return VERSION + nonce + self._opened().encrypt(nonce, octets, VERSION + context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """Raises:
        SealBroken: another node key sealed it, or the octets were changed.
        UserError: as `open` does.
        """
        version, nonce = sealed[:1], sealed[1 : 1 + NONCE_OCTETS]
        what = context.decode("ascii", "backslashreplace")
        if version != VERSION:
            raise SealBroken(
                f"{what} is sealed in a way that this program does not know",
                hint="run the newer Posthouse that wrote it",
            )
        try:
            return self._opened().decrypt(nonce, sealed[1 + NONCE_OCTETS :], VERSION + context)
        except (InvalidTag, ValueError):
            raise SealBroken(
                f"the node key {self.path} does not open {what}: another key sealed it",
                hint=f"move that file away and {LOST_HINT}",
            ) from None

    def derive(self, label: bytes) -> bytes:
        """A key for one purpose, the same as long as the node key is; nothing leads back from it.

        The file is made where there is none: nothing is sealed then. Raises UserError as `open`.
        """
        self.open(sealed=0)
        assert self._deriving is not None
        return hmac.digest(self._deriving, b"derive:" + label, "sha256")

    def _opened(self) -> AESGCM:
        if self._cipher is None:
            self._read()
        assert self._cipher is not None
        return self._cipher

    def _read(self) -> None:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise DataUnusable(
                f"the node key {self.path} is missing, and secrets here are sealed by it",
                hint=LOST_HINT,
            ) from None
        except OSError as error:
            raise DataUnusable(
                f"the node key {self.path} cannot be read: {error.strerror}",
                hint="run this as the user the server runs as",
            ) from error
        with os.fdopen(descriptor, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            octets = file.read(KEY_OCTETS + 1)
        if mode & OTHERS:
            raise DataUnusable(
                f"others may read the node key {self.path} (its mode is {mode:04o})",
                hint=f"chmod 600 {self.path}\n"
                "if somebody may have read it, begin with new keys, too: posthouse domain rotate",
            )
        if len(octets) != KEY_OCTETS:
            raise DataUnusable(
                f"the node key {self.path} is damaged: it has to have {KEY_OCTETS} octets",
                hint=f"move that file away and {LOST_HINT}",
            )
        self._cipher, self._deriving = AESGCM(octets), octets

    def _make(self) -> None:
        """Whole or not at all, and never in the place of one that another process just made."""
        fresh = self.path.with_name(f".{self.path.name}.{self._chance.token(6).hex()}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    os.fchmod(file.fileno(), FILE_MODE)
                    file.write(self._chance.token(KEY_OCTETS))
                    file.flush()
                    os.fsync(file.fileno())
                with contextlib.suppress(FileExistsError):
                    os.link(fresh, self.path)
            finally:
                fresh.unlink()
            _sync_folder(self.path.parent)
        except OSError as error:
            raise DataUnusable(
                f"the node key {self.path} cannot be made: {error.strerror}",
                hint="set another place for it: [dkim] key_file",
            ) from error


def _sync_folder(folder: Path) -> None:
    """The file's name survives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
