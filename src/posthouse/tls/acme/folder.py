"""The files of ACME under `<data>/tls/acme`: 0600, replaced whole, never half a pair.

`<name>` is a link to a folder with `chain.pem`, `key.pem` and `about.json`; a new certificate is a
new folder, and one rename of the link puts it into use (F35). Who follows the link once has a
matching pair; the folder before stays for those who opened it. A wildcard's `*` is written `_`.
Everything else is in folders that begin with a dot, as no name does.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509

from posthouse.kernel.errors import UserError
from posthouse.tls.certificates import CertificateFiles
from posthouse.tls.files import is_locked, sync_folder, write_whole

KEPT: Final = 2
"""Folders of a name: the one in use and the one before."""
PRIVATE: Final = 0o600
FILE_OCTETS_MAX: Final = 1_048_576
REQUESTS_MAX: Final = 1_000
ATTENDED: Final = ".attended"
_NAME: Final = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


class About(msgspec.Struct, frozen=True, kw_only=True):
    """How a certificate came to us."""

    directory: str
    challenge: str
    obtained_at: datetime
    key_made_at: datetime


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Where a name stands; `posthouse certificate list` shows it."""

    next_at: datetime | None = None
    """When something is tried again; None is at once."""
    failures: int = 0
    """Attempts in a row that failed."""
    failing_since: datetime | None = None
    """When the first of them failed."""
    problem: str = ""
    hint: str = ""
    ask_at: datetime | None = None
    """When the authority is asked for its wish next (RFC 9773 §4.3)."""
    tlsa_seen_at: datetime | None = None
    """Since when the DNS shows the next key's TLSA record wherever there is one."""
    tlsa_ttl_s: float = 0.0
    waits_for: str = ""
    """What a new key waits for, in words."""
    looked_at: datetime | None = None
    """When the DNS was last looked at for it."""
    told_at: datetime | None = None
    """When postmaster was last told of failures."""
    answered: str = ""
    """The last request of the command line that was carried out."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate in the folder, not checked."""

    files: CertificateFiles
    leaf: x509.Certificate
    about: About


class AcmeFolder:
    """One per data folder. Every function blocks for moments only; all raise UserError in words."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # --- certificates ---

    def names(self) -> tuple[str, ...]:
        """Those that have a certificate."""
        try:
            found = [path.name for path in self.root.iterdir() if path.is_symlink()]
        except OSError:
            return ()
        return tuple(sorted(_name_of(name) for name in found if not name.startswith(".")))

    def files(self, name: str) -> CertificateFiles | None:
        """The pair in use, by its real path; None when there is none."""
        try:
            target = self._link(name).readlink()
        except OSError:
            return None
        folder = self.root / target
        return CertificateFiles(chain=folder / "chain.pem", key=folder / "key.pem")

    def held(self, name: str) -> Held | None:
        """The certificate of a name; None when there is none that can be read."""
        if (files := self.files(name)) is None:
            return None
        try:
            leaf = x509.load_pem_x509_certificate(_read(files.chain))
            about = msgspec.json.decode(_read(files.chain.with_name("about.json")), type=About)
        except (OSError, ValueError, msgspec.MsgspecError):
            return None
        return Held(files=files, leaf=leaf, about=about)

    def put(
        self,
        name: str,
        chain: bytes,
        key: bytes,
        about: About,
        *,
        check: Callable[[CertificateFiles], None] = lambda files: None,
    ) -> CertificateFiles:
        """Keep a new pair and make it the one in use.

        Args:
            check: looks at the pair first; when it raises, the old one stays.
        """
        versions = self._folder(".versions")
        stem = _file_name(name)
        numbers = [_number(path.name) for path in versions.glob(f"{stem}@*")]
        folder = versions / f"{stem}@{max(numbers, default=0) + 1}"
        files = CertificateFiles(chain=folder / "chain.pem", key=folder / "key.pem")
        try:
            folder.mkdir(mode=0o700)
            write_whole(files.key, key, mode=PRIVATE)
            write_whole(files.chain, chain, mode=PRIVATE)
            write_whole(folder / "about.json", msgspec.json.encode(about), mode=PRIVATE)
            sync_folder(versions)
            check(files)
            fresh = self.root / f".{stem}.{os.getpid()}"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(folder.relative_to(self.root))
            fresh.replace(self._link(name))
            sync_folder(self.root)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise _cannot_keep(folder, error) from error
        except UserError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._drop_old(versions, stem)
        return files

    def pem(self, path: Path) -> bytes:
        """The chain or key of a pair."""
        try:
            return _read(path)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error

    def _drop_old(self, versions: Path, stem: str) -> None:
        found = sorted(versions.glob(f"{stem}@*"), key=lambda path: _number(path.name))
        for folder in found[:-KEPT]:
            shutil.rmtree(folder, ignore_errors=True)

    # --- keys ---

    def next_key(self, name: str) -> bytes | None:
        """The key made in advance."""
        return self._optional(self._next_key_path(name))

    def put_next_key(self, name: str, pem: bytes) -> None:
        self._put(self._next_key_path(name), pem)

    def drop_next_key(self, name: str) -> None:
        self._next_key_path(name).unlink(missing_ok=True)

    def _next_key_path(self, name: str) -> Path:
        return self._folder(".keys") / f"{_file_name(name)}.next.pem"

    def account_key(self, account: str) -> bytes | None:
        """Args:
        account: a word of letters and digits for the authority it is with.
        """
        return self._optional(self._folder(".accounts") / f"{account}.pem")

    def put_account_key(self, account: str, pem: bytes) -> None:
        self._put(self._folder(".accounts") / f"{account}.pem", pem)

    # --- where names stand ---

    def status(self, name: str) -> Status:
        octets = self._optional(self._status_path(name))
        try:
            return Status() if octets is None else msgspec.json.decode(octets, type=Status)
        except msgspec.MsgspecError:
            return Status()

    def put_status(self, name: str, status: Status) -> None:
        self._put(self._status_path(name), msgspec.json.encode(status))

    def _status_path(self, name: str) -> Path:
        return self._folder(".status") / f"{_file_name(name)}.json"

    # --- what the command line asks of a running server ---

    def ask(self, name: str, token: str) -> None:
        """Have the running server order a certificate now; `Status.answered` becomes the token."""
        self._put(self._folder(".requests") / _file_name(name), token.encode("ascii"))

    def asked(self) -> dict[str, str]:
        """Names and tokens."""
        found: dict[str, str] = {}
        try:
            entries = os.listdir(self.root / ".requests")  # noqa: PTH208  once a second
        except OSError:
            return found
        for entry in entries[:REQUESTS_MAX]:
            name = _name_of(entry)
            octets = self._optional(self.root / ".requests" / entry)
            if octets is not None and octets.isalnum() and _NAME.fullmatch(name):
                found[name] = octets.decode("ascii")
        return found

    @contextmanager
    def attended(self) -> Iterator[None]:
        """While it lasts, others see that a server carries out what is asked (`is_attended`)."""
        try:
            descriptor = os.open(
                self._folder(".") / ATTENDED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE
            )
        except (OSError, UserError):  # a disk that can only be read: nobody can ask either
            yield
            return
        try:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)

    def is_attended(self) -> bool:
        """Whether a running server looks at what is asked here."""
        return is_locked(self.root / ATTENDED)

    def drop_asked(self, name: str) -> None:
        (self.root / ".requests" / _file_name(name)).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One order at a time, over all processes.

        Raises:
            UserError: another process is at it.
        """
        path = self._folder(".") / ".lock"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        except OSError as error:
            raise _cannot_keep(path, error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    "another process is obtaining a certificate", hint="try again in a minute"
                ) from error
            yield
        finally:
            os.close(descriptor)

    # --- inside ---

    def _link(self, name: str) -> Path:
        return self.root / _file_name(name)

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        try:
            for each in (self.root.parent, self.root, folder):
                each.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _cannot_keep(folder, error) from error
        return folder

    def _optional(self, path: Path) -> bytes | None:
        try:
            return _read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error

    def _put(self, path: Path, octets: bytes) -> None:
        try:
            write_whole(path, octets, mode=PRIVATE)
        except OSError as error:
            raise _cannot_keep(path, error) from error


def _cannot_keep(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write {path}: {error.strerror}",
        hint="the data folder must belong to the user Posthouse runs as, with room left",
    )


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FILE_OCTETS_MAX)


def _file_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise UserError(f"{name!r} is no name of a host")
    return name.replace("*", "_")


def _name_of(file_name: str) -> str:
    return "*" + file_name[1:] if file_name.startswith("_.") else file_name


def _number(file_name: str) -> int:
    number = file_name.rpartition("@")[2]
    return int(number) if number.isdigit() else 0
