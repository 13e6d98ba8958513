"""Letters by the sendmail command, which Postfix, Exim, msmtp and others bring.

No shell is involved, options of the caller come first, recipients behind "--", and the message on
standard input. What the command says against it, it says in sysexits' numbers and on standard
error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
from pathlib import Path
from typing import Final

from posthouse.kernel.envelope import Envelope, TlsDemand
from posthouse.message.address import format_address
from posthouse.protocol.smtp.outgoing import format_notify
from posthouse.sending.carrier import Letter, Verified
from posthouse.sending.errors import (
    AuthError,
    CapabilityError,
    ConnectError,
    EnvelopeError,
    MessageError,
    OptionError,
    ProtocolError,
    SendingError,
    SendTimeout,
)
from posthouse.sending.memory import receipt_for_all
from posthouse.sending.options import Options
from posthouse.sending.receipt import Receipt
from posthouse.sending.threads import in_thread

__all__ = ["SendmailCarrier"]

AT_ONCE_MAX: Final = 4
SAID_OCTETS_MAX: Final = 4_096
"""Of standard error that are read."""
# With these the program takes recipients from the message, where those in Bcc are not, and leaves
# out those it is given.
_READS_RECIPIENTS: Final = frozenset({"-t", "--read-recipients"})
# sysexits.h, as far as mail programs use it.
_MEANING: Final[dict[int, tuple[type[SendingError], str]]] = {
    64: (EnvelopeError, "it does not take these addresses or options"),
    65: (MessageError, "it does not take the message"),
    66: (MessageError, "it could not read the message"),
    67: (EnvelopeError, "a recipient is not known"),
    68: (ConnectError, "the host is not known"),
    69: (ConnectError, "its server cannot be reached"),
    70: (ProtocolError, "it failed inside"),
    71: (ProtocolError, "the system failed it"),
    73: (ProtocolError, "it could not write its queue"),
    74: (ProtocolError, "reading or writing failed"),
    75: (ProtocolError, "not now; it may work later"),
    76: (ProtocolError, "its server spoke nonsense"),
    77: (AuthError, "it may not do that"),
    78: (ConnectError, "it is not set up"),
}
_TRANSIENT: Final = frozenset({69, 71, 73, 74, 75})


class SendmailCarrier:
    """The `Carrier` of `sendmail:`."""

    def __init__(self, options: Options) -> None:
        self._command = options.command
        self._given = _checked(options.arguments)
        self._timeout_s = options.data_timeout_s
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    async def carry(self, letter: Letter) -> Receipt:
        arguments = _arguments(letter.envelope)
        async with self._turns:
            if letter.begin is not None:
                letter.begin()
            await self._run(arguments, letter.octets)
        return receipt_for_all(letter, server=self._command, response="taken by the command")

    async def verify(self) -> Verified:
        if not await in_thread(_is_program, Path(self._command)):
            raise self._missing("there is no such program")
        return Verified(server=self._command)

    async def close(self) -> None:
        """Nothing stays open."""

    async def _run(self, arguments: list[str], octets: bytes) -> None:
        try:
            child = await asyncio.create_subprocess_exec(
                self._command,
                *self._given,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise self._missing(error.strerror or "it cannot be started") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                _, said = await child.communicate(octets.replace(b"\r\n", b"\n"))
        except TimeoutError:
            raise SendTimeout(
                f"{self._command} did not end within {self._timeout_s:g} s",
                server=self._command,
                may_have_been_sent=True,
            ) from None
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
        if child.returncode:
            raise self._failed(child.returncode, said[:SAID_OCTETS_MAX])

    def _missing(self, words: str) -> ConnectError:
        hint = "name the program: sendmail:///usr/sbin/sendmail"
        program, *arguments = _words(self._command)
        if arguments and not Path(self._command).exists():
            hint = f"write command={_written(program)}, arguments={_written(arguments)}"
        return ConnectError(
            f"{self._command} cannot be run: {words}", hint=hint, server=self._command
        )

    def _failed(self, code: int, said: bytes) -> SendingError:
        kind, words = _MEANING.get(code, (ProtocolError, f"it ended with {code}"))
        shown = " ".join(said.decode("utf-8", "replace").split())
        return kind(
            f"{self._command}: {words}" + (f": {shown}" if shown else ""),
            server=self._command,
            is_transient=code in _TRANSIENT,
        )


def _checked(arguments: tuple[str, ...]) -> tuple[str, ...]:
    for one in arguments:
        if one in _READS_RECIPIENTS:
            hint = "leave it out: the program is told who gets the letter"
            raise OptionError("arguments", f"have {one} in them", hint=hint)
    if arguments[-1:] == ("--",):
        hint = "leave it out: options follow"
        raise OptionError("arguments", "end in --, which ends all options", hint=hint)
    return arguments


def _words(command: str) -> list[str]:
    """As a shell would take them, for those who wrote a command line."""
    try:
        return shlex.split(command) or [command]
    except ValueError:  # a quote is open
        return command.split()


def _written(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _arguments(envelope: Envelope) -> list[str]:
    sender = envelope.reverse_path
    arguments = ["-i", "-f", format_address(sender) if sender is not None else "<>"]
    notify = {path.notify for path in envelope.recipients}
    if envelope.tls_demand is TlsDemand.REQUIRED or len(notify) > 1:
        what = "tls_demand=REQUIRED" if len(notify) == 1 else "another notify for each recipient"
        raise CapabilityError(
            f"{what} cannot be asked for by the sendmail command",
            hint="send it by smtp:// to the server on this machine",
        )
    if envelope.ret is not None:
        arguments += ["-R", envelope.ret.value.lower()]
    if envelope.envelope_id is not None:
        arguments += ["-V", envelope.envelope_id]
    if (asked := notify.pop()) is not None:
        arguments += ["-N", format_notify(asked).lower()]
    return [*arguments, "--", *(format_address(path.address) for path in envelope.recipients)]
