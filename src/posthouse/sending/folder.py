"""Letters as files: NAME.eml, and NAME.json beside it with the envelope.

A letter is whole or not there: it is written under another name, synced, and then given its own.
The envelope is first, so that who finds NAME.eml finds its NAME.json.
"""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from posthouse.kernel.envelope import Envelope, TlsDemand
from posthouse.message.address import format_address
from posthouse.protocol.smtp.outgoing import format_notify
from posthouse.sending.carrier import Letter, Verified
from posthouse.sending.errors import ConnectError
from posthouse.sending.memory import receipt_for_all
from posthouse.sending.options import Options
from posthouse.sending.receipt import Receipt
from posthouse.sending.threads import in_thread

__all__ = ["FolderCarrier", "Kept"]

TOKEN_OCTETS: Final = 6
FILE_MODE: Final = 0o600


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """NAME.json: what SMTP would have been told."""

    message_id: str
    sender: str
    """The reverse-path; "" is `<>`."""
    recipients: tuple[str, ...]
    is_smtputf8: bool = False
    notify: tuple[str, ...] = ()
    """Of each recipient, as NOTIFY= has it; "" where nothing is asked for. Empty where nothing is
    asked for anybody."""
    ret: str = ""
    envelope_id: str = ""
    tls_demand: str = ""
    """ "required" or "optional" (RFC 8689)."""


class FolderCarrier:
    """The `Carrier` of `folder:`."""

    def __init__(self, options: Options) -> None:
        assert options.folder is not None
        self._folder = options.folder

    async def carry(self, letter: Letter) -> Receipt:
        if letter.begin is not None:
            letter.begin()
        name = await self._guarded(letter)
        return receipt_for_all(
            letter, server=str(self._folder), response=f"written to {name}.eml", queue_id=name
        )

    async def verify(self) -> Verified:
        await in_thread(self._prepare)
        return Verified(server=str(self._folder))

    async def close(self) -> None:
        """Nothing is open."""

    async def _guarded(self, letter: Letter) -> str:
        try:
            return await in_thread(self._write, letter)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> ConnectError:
        return ConnectError(
            f"the folder {self._folder} cannot be written to: {error.strerror}",
            hint="check that it is a folder, that it is yours, and that the disk has room",
            server=str(self._folder),
        )

    def _prepare(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(self._folder, os.W_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise self._failed(error) from error

    def _write(self, letter: Letter) -> str:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Sorted by name is sorted by time; chance keeps two programs apart.
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        name = f"{stamp}-{secrets.token_hex(TOKEN_OCTETS)}"
        envelope = letter.envelope
        sender = envelope.reverse_path
        kept = Kept(
            message_id=letter.message_id,
            sender=format_address(sender, unicode=True) if sender is not None else "",
            recipients=tuple(
                format_address(path.address, unicode=True) for path in envelope.recipients
            ),
            is_smtputf8=envelope.is_smtputf8,
            notify=_notify(envelope),
            ret=envelope.ret.value if envelope.ret is not None else "",
            envelope_id=envelope.envelope_id or "",
            tls_demand=""
            if envelope.tls_demand is TlsDemand.NONE
            else envelope.tls_demand.name.lower(),
        )
        _put(self._folder / f"{name}.json", msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
        _put(self._folder / f"{name}.eml", letter.octets)
        _sync(self._folder)
        return name


def _put(path: Path, octets: bytes) -> None:
    """Whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    """The files' names survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _notify(envelope: Envelope) -> tuple[str, ...]:
    asked = [path.notify for path in envelope.recipients]
    if all(one is None for one in asked):
        return ()
    return tuple(format_notify(one) if one is not None else "" for one in asked)
