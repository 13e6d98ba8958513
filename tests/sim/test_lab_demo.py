"""`posthouse demo` from outside: what it prints can be pasted, and it ends as it should."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.programs import needs_program

PORT_BASES = range(10_000, 30_000, 1_000)
SHIFTS = (25, 53, 587, 995)
WAIT_S = 30


def free_base() -> int:
    """A port base that no other demo uses, for several test runs may be on this machine."""
    bases = list(PORT_BASES)
    first = os.getpid() % len(bases)
    for base in bases[first:] + bases[:first]:
        if all(is_free(base + shift) for shift in SHIFTS):
            return base
    raise AssertionError("no free ports")


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        address = "127.0.0.1" if port % 1_000 == 53 else "127.0.0.2"
        return sock.connect_ex((address, port)) != 0


class Demo:
    """A demo that runs, with the text it printed."""

    def __init__(self, *arguments: str, base: int | None = None) -> None:
        self.base = base or free_base()
        command = [sys.executable, "-m", "posthouse", "demo", "--port-base", str(self.base)]
        self.process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.lines: list[str] = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("Press Ctrl-C"):
                return
        if base is None:
            raise AssertionError(self.process.communicate()[1])

    @property
    def folder(self) -> Path:
        found = re.search(r"The data is in (\S+),", "\n".join(self.lines))
        assert found is not None
        return Path(found[1])

    def command(self, program: str, *, holding: str = "") -> str:
        """The command under a heading that begins with this program."""
        [found] = [
            line
            for before, line in zip(self.lines, self.lines[1:], strict=False)
            if before.startswith("# ") and program in line and holding in line
        ]
        return found

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    made = Demo()
    yield made
    if made.process.poll() is None:
        made.process.kill()
    made.process.communicate()


def paste(command: str, stdin: str = "") -> str:
    """What a shell prints for it; it has to succeed."""
    done = subprocess.run(
        command, shell=True, input=stdin, capture_output=True, text=True, timeout=WAIT_S
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout + done.stderr


@needs_program("swaks", package="swaks", perl=("IO::Socket::SSL",))
def test_the_swaks_command_sends(demo: Demo) -> None:
    assert "250 2.0.0" in paste(demo.command("swaks", holding="--auth PLAIN"))


@needs_program("swaks", package="swaks", perl=("IO::Socket::SSL",))
def test_the_forged_message_is_refused(demo: Demo) -> None:
    forged = demo.command("swaks", holding="--from bob@south.example")
    assert "550 5.7.26 south.example" in paste(f"{forged} || true")


@needs_program("curl", package="curl")
def test_the_curl_commands_send_and_read(demo: Demo) -> None:
    paste(demo.command("curl", holding="smtp://"))
    shown = paste(demo.command("curl", holding="MAILINDEX"))
    assert "Subject: Greetings from the north" in shown and "dmarc=pass" in shown
    listing = paste(demo.command("curl", holding="FETCH"))
    assert "Re: Greetings from the north" in listing
    assert "Minutes" in listing
    assert "MAILER-DAEMON" in listing.upper()


@needs_program("openssl", package="openssl")
def test_the_openssl_command_opens_tls(demo: Demo) -> None:
    said = paste(demo.command("openssl"), stdin="EHLO me\nQUIT\n")
    assert "250" in said


def test_the_posthouse_commands_work_beside_the_running_demo(demo: Demo) -> None:
    assert "250 2.0.0" in paste(demo.command("posthouse", holding=" send "))
    assert "5.1.1" in paste(demo.command("posthouse", holding=" explain "))
    listing = paste(demo.command("posthouse", holding=" account list "))
    assert "ada@north.example" in listing
    paste(demo.command("posthouse", holding=" ledger check "))


def test_ports_that_are_taken_are_said_so(demo: Demo) -> None:
    second = Demo(base=demo.base)
    _, errors = second.process.communicate(timeout=WAIT_S)
    assert second.process.returncode == 1
    assert errors.startswith("error: the demo cannot start: ")
    assert "hint: choose other ports with --port-base" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_is_left(number: signal.Signals) -> None:
    demo = Demo("--verbose")
    folder = demo.folder
    assert folder.exists()
    assert demo.end(number) == 0
    assert not folder.exists()
    _, errors = demo.process.communicate()
    assert "server-started" in errors or "listeners=" in errors
    assert "stopped; nothing is left behind" in errors
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.2", demo.base + 25)) != 0


def test_it_can_be_told_to_end_by_itself() -> None:
    demo = Demo("--exit-after", "0.01")
    assert demo.process.wait(WAIT_S) == 0
    demo.process.communicate()
    assert os.path.basename(demo.folder).startswith("posthouse-demo-")
