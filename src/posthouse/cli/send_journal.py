"""What became of each letter of `posthouse send --recipients`, in a file: a second run goes on
where the first one stopped, however that ended."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import TextIO

from posthouse.cli.output import CommandError
from posthouse.sending import SendingError

__all__ = ["Journal", "State"]


class State(Enum):
    """Of a letter, as the journal knows it."""

    BEGUN = "begun"  # handed to the server
    ACCEPTED = "accepted"
    FAILED = "failed"  # known not to have been sent
    UNKNOWN = "unknown"  # the line broke before the server said


class Journal:
    """A JSON object a line, on the disk before the letter is handed over, and before the next end
    is told. Beginnings come from another thread.

    A letter is known by its key: the address and how often it stood before. The first line has the
    digests of what all of them are made from, so that another letter is not taken for sent; a
    journal without that line belongs to any letter.
    """

    def __init__(self, path: Path | None, digests: Mapping[str, str] | None = None) -> None:
        """Args:
        path: None for a run that is not written down.
        digests: of what makes the letter, by option or file (`send_digests`).
        """
        self._path = path
        self._digests = dict(digests or {})
        self._kept: dict[str, str] | None = None
        """The digests of the first line."""
        self._is_unmarked = False
        """The first line is to be written with the next one."""
        self._states: dict[str, str] = {}
        self._file: TextIO | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Journal:
        path = self._path
        if path is None:
            return self
        try:
            is_new = not path.exists()
            if not is_new and not path.is_file():
                raise CommandError(f"the journal {path} is no file")
            self._file = open(path, "a", encoding="utf-8", opener=_opened)
            self._hold(path, self._file)
            self._read(path)
            self._check(path)
            if is_new:
                _keep_name(path)
        except OSError as error:
            self._close()
            raise CommandError(f"the journal {path} cannot be used: {error.strerror}") from None
        except CommandError:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def is_accepted(self, key: str) -> bool:
        return self._states.get(key) == State.ACCEPTED.value

    def is_unknown(self, key: str) -> bool:
        """Begun, and nobody wrote down how it ended; or the line broke at the end of it."""
        return self._states.get(key) in (State.BEGUN.value, State.UNKNOWN.value)

    def begin(self, key: str) -> None:
        """It is handed to the server now."""
        self._write({"letter": key, "state": State.BEGUN.value})

    def end(
        self, key: str, state: State, *, message_id: str = "", error: SendingError | None = None
    ) -> None:
        record = {"state": state.value}
        if message_id:
            record["message_id"] = message_id
        if error is not None:
            record["error"] = error.text
        self._write({"letter": key, **record})

    # --- the file ---

    def _check(self, path: Path) -> None:
        """Raises CommandError where somebody may have another letter by this journal."""
        if not self._digests:
            return
        if self._kept is None:
            self._is_unmarked = not self._states
            return
        names = self._kept.keys() | self._digests.keys()
        others = sorted(one for one in names if self._kept.get(one) != self._digests.get(one))
        if not others:
            return
        if all(state == State.FAILED.value for state in self._states.values()):
            os.truncate(path, 0)  # nobody has that letter, so that it binds nobody
            self._states.clear()
            self._is_unmarked = True
            return
        raise CommandError(
            f"the journal {path} was kept for another letter: not as before: {', '.join(others)}",
            hint="name another file with --resume, or remove that one: then all get this letter\n"
            "if it was only mended, take out its first line: then those who are left get it",
        )

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _hold(self, path: Path, file: TextIO) -> None:
        """Two runs at once would send everything twice."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                return  # a file system without locks
            raise CommandError(
                f"the journal {path} is in use by another run",
                hint="let that one end; then the same command goes on where it ended",
            ) from None

    def _write(self, record: dict[str, str]) -> None:
        if self._file is None:
            return
        try:
            with self._lock:
                if self._is_unmarked:  # not sooner: a letter that cannot be made is mended first
                    self._file.write(json.dumps({"digests": self._digests}) + "\n")
                    self._is_unmarked = False
                self._file.write(json.dumps(record) + "\n")
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise CommandError(
                f"the journal {self._path} cannot be written: {error.strerror}",
                hint="nothing more is sent; make room, then give the same command again",
            ) from None

    def _read(self, path: Path) -> None:
        whole = path.read_bytes()
        # A crash may have cut off the last line: of a beginning, which was not handed over then, or
        # of an end, so that its beginning stands before it.
        kept = whole[: whole.rfind(b"\n") + 1]
        if len(kept) < len(whole):
            os.truncate(path, len(kept))
        for number, line in enumerate(kept.splitlines(), start=1):
            try:
                record = json.loads(line)
                if number == 1 and "digests" in record:
                    self._kept = {str(k): str(v) for k, v in record["digests"].items()}
                    continue
                self._states[str(record["letter"])] = str(record["state"])
            except (ValueError, KeyError, TypeError, AttributeError):
                raise CommandError(
                    f"{path}, line {number}: this is no journal of `posthouse send`",
                    hint="name another file with --resume",
                ) from None


def _opened(path: str, flags: int) -> int:
    """It says who gets mail: nobody else on the machine reads it."""
    return os.open(path, flags, 0o600)


def _keep_name(path: Path) -> None:
    """A new file's name is on the disk when its folder is, too."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
