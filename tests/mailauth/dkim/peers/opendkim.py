"""OpenDKIM's library in a process of its own: asked by lines of JSON, answers so.

python opendkim.py LIBRARY RECORDS: RECORDS is a file of JSON, name to key record. Octets are
latin-1 text. The constants are those of dkim.h, version 2.11.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SET_OPTION = 1
FLAGS, OVERSIGNED, FIXED_TIME = 0, 5, 8
FLAG_DELAY = 0x20  # all signatures are processed when we ask for it
CANON = {"simple": 0, "relaxed": 1}
ALGORITHMS = {"rsa-sha256": 1, "ed25519-sha256": 2}
PASSED, BODY_MATCHES = 0x04, 0
FOUND, NOT_FOUND = 0, 3
LOOK_UP = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
)
POINTERS = ("dkim_init", "dkim_sign", "dkim_verify")
TEXTS = ("dkim_sig_getselector", "dkim_sig_getdomain", "dkim_sig_geterrorstr", "dkim_geterror")


class OpenDkim:
    def __init__(self, library: str, records: dict[str, str]) -> None:
        self.api = api = ctypes.CDLL(library)
        for name in POINTERS:
            getattr(api, name).restype = ctypes.c_void_p
        for name in TEXTS:
            getattr(api, name).restype = ctypes.c_char_p
        self.lib = ctypes.c_void_p(api.dkim_init(None, None))
        flags = ctypes.c_uint(FLAG_DELAY)
        api.dkim_options(self.lib, SET_OPTION, FLAGS, ctypes.byref(flags), ctypes.c_size_t(4))
        self.records = records
        self.look_up = LOOK_UP(self._look_up)
        api.dkim_set_key_lookup(self.lib, self.look_up)

    def _look_up(self, _: int, sig: int, buffer: int, size: int) -> int:
        selector = self.api.dkim_sig_getselector(ctypes.c_void_p(sig)).decode()
        domain = self.api.dkim_sig_getdomain(ctypes.c_void_p(sig)).decode()
        record = self.records.get(f"{selector}._domainkey.{domain}".lower(), "").encode()
        if not record or len(record) >= size:
            return NOT_FOUND
        ctypes.memmove(buffer, record + b"\0", len(record) + 1)
        return FOUND

    def feed(self, handle: ctypes.c_void_p, message: bytes) -> str:
        """What went wrong, or ""."""
        for step, arguments in (
            (self.api.dkim_chunk, (message, ctypes.c_size_t(len(message)))),
            (self.api.dkim_chunk, (None, ctypes.c_size_t(0))),
            (self.api.dkim_eom, (None,)),
        ):
            status = step(handle, *arguments)
            if status not in (0, 1, 2):  # OK, BADSIG, NOSIG
                error = self.api.dkim_geterror(handle)
                return f"status {status}: {error.decode('latin-1') if error else ''}"
        return ""

    def verify(self, message: bytes) -> list[list[str]]:
        """[result, reason] of each signature."""
        status = ctypes.c_int(0)
        made = self.api.dkim_verify(self.lib, b"id", None, ctypes.byref(status))
        handle = ctypes.c_void_p(made)
        try:
            problem = self.feed(handle, message)
            found = ctypes.POINTER(ctypes.c_void_p)()
            count = ctypes.c_int(0)
            self.api.dkim_getsiglist(handle, ctypes.byref(found), ctypes.byref(count))
            if not count.value:
                return [["none", problem]]
            sigs = [ctypes.c_void_p(found[at]) for at in range(count.value)]
            return [self.result(handle, sig, problem) for sig in sigs]
        finally:
            self.api.dkim_free(handle)

    def result(self, handle: ctypes.c_void_p, sig: ctypes.c_void_p, problem: str) -> list[str]:
        self.api.dkim_sig_process(handle, sig)
        error = self.api.dkim_sig_geterror(sig)
        passed = self.api.dkim_sig_getflags(sig) & PASSED
        if passed and self.api.dkim_sig_getbh(sig) == BODY_MATCHES and error == 0:
            return ["pass", ""]
        text = self.api.dkim_sig_geterrorstr(error)
        return ["fail", problem or (text.decode() if text else f"error {error}")]

    def sign(
        self, message: bytes, algorithm: str, private: str, how: tuple[str, str], now: int
    ) -> bytes:
        """The field, b"" when it does not sign."""
        when = ctypes.c_uint64(now)
        self.api.dkim_options(
            self.lib, SET_OPTION, FIXED_TIME, ctypes.byref(when), ctypes.c_size_t(8)
        )
        status = ctypes.c_int(0)
        made = self.api.dkim_sign(
            *(self.lib, b"id", None, private.encode()),
            *(b"r" if algorithm == "rsa-sha256" else b"e", b"example.org"),
            *(CANON[how[0]], CANON[how[1]], ALGORITHMS[algorithm]),
            *(ctypes.c_ssize_t(-1), ctypes.byref(status)),
        )
        handle = ctypes.c_void_p(made)
        try:
            if self.feed(handle, message):
                return b""
            buffer, size = ctypes.c_void_p(), ctypes.c_size_t(0)
            start = ctypes.c_size_t(len("DKIM-Signature: "))
            if self.api.dkim_getsighdr_d(handle, start, ctypes.byref(buffer), ctypes.byref(size)):
                return b""
            value = ctypes.string_at(buffer, size.value)
            return (
                b"DKIM-Signature: "
                + value.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
                + b"\r\n"
            )
        finally:
            self.api.dkim_free(handle)


def main() -> None:
    peer = OpenDkim(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
    ways: dict[str, Callable[..., Any]] = {
        "verify": lambda order: peer.verify(order["message"].encode("latin-1")),
        "sign": lambda order: peer.sign(
            order["message"].encode("latin-1"),
            order["algorithm"],
            order["private"],
            (order["header"], order["body"]),
            order["now"],
        ).decode("latin-1"),
    }
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(ways[order["do"]](order)), flush=True)


if __name__ == "__main__":
    main()
