"""Work that goes wrong in each way work can, for `test_isolated`."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path


def reverse(octets: bytes) -> bytes:
    return octets[::-1]


def bomb(octets: bytes) -> bytes:
    kept = []
    while True:
        kept.append(bytearray(16 * 1024 * 1024))


def loop(octets: bytes) -> bytes:
    while True:
        pass


def linger(octets: bytes) -> bytes:
    """Waits without using the CPU."""
    time.sleep(float(octets))
    return b"awake"


def loop_with_ears_shut(octets: bytes) -> bytes:
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_IGN)
    return loop(octets)


def crash(octets: bytes) -> bytes:
    os.abort()


def fill_and_crash(octets: bytes) -> bytes:
    """As code in C does that was refused memory."""
    kept = b"\1" * int(octets)
    os.kill(os.getpid(), signal.SIGSEGV)
    return kept


def fill_and_fail(octets: bytes) -> bytes:
    """As code in C does that hides why."""
    kept = b"\1" * int(octets)
    raise ValueError(len(kept))


def leave(octets: bytes) -> bytes:
    os._exit(3)


def fail(octets: bytes) -> bytes:
    raise ValueError(f"the secret is {octets!r}")


def grow(octets: bytes) -> bytes:
    return bytes(int(octets))


def process(octets: bytes) -> bytes:
    return f"{os.getpid()} {os.getppid()}".encode()


def tell_and_linger(octets: bytes) -> bytes:
    """Leaves its number in a pipe in the file system, which needs no file to grow."""
    pipe = os.open(octets, os.O_WRONLY)
    os.write(pipe, f"{os.getpid()}\n".encode())
    os.close(pipe)
    time.sleep(600)
    return b""


def fork_and_tell(octets: bytes) -> bytes:
    """A child of its own that stays, holding nothing."""
    child = os.fork()
    if not child:
        for descriptor in range(3, 64):
            try:
                os.close(descriptor)
            except OSError:
                continue
        time.sleep(600)
        os._exit(0)
    return str(child).encode()


def surroundings(octets: bytes) -> bytes:
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    targets = []
    for descriptor in descriptors:
        try:
            targets.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue  # the one of the listing itself
    lines = [
        f"environment {sorted(os.environ)}",
        f"core {resource.getrlimit(resource.RLIMIT_CORE)}",
        f"session {os.getsid(0) == os.getpid()}",
        f"sockets {sum(target.startswith('socket:') for target in targets)}",
        f"others {[t for t in targets if not t.startswith(('socket:', '/dev/null'))]}",
        f"argv {sys.argv[3:4] != []}",
    ]
    return "\n".join(lines).encode()


def write_file(octets: bytes) -> bytes:
    Path(octets.decode()).write_bytes(b"leaked")
    return b"written"
