"""What interop tests stand on: an account for each test, programs run, a message worth sending."""

from __future__ import annotations

import imaplib
import os
import re
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tests.crash.server import PASSWORD, Server
from tests.interop.programs import find_program

DOMAIN = "interop.test"
ELSEWHERE = "friend@elsewhere.test"
ACCOUNTS = 120
WITHIN_S = 30.0
PREPENDED = re.compile(
    rb"(?:(?:Return-Path|Delivered-To|Received|X-Original-To):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)+",
    re.IGNORECASE,
)
HARMLESS = ssl.create_default_context()
HARMLESS.check_hostname = False
HARMLESS.verify_mode = ssl.CERT_NONE
"""The certificate is self-signed."""


class Account(msgspec.Struct, frozen=True):
    """Somebody of one test alone."""

    address: str
    server: Server
    home: Path
    """HOME of the programs of this test."""
    password: str = PASSWORD

    def port(self, service: str) -> int:
        return self.server.port(service)

    def run(
        self,
        *words: str,
        text: bytes = b"",
        codes: Sequence[int] = (0,),
        more: Mapping[str, str] | None = None,
    ) -> bytes:
        """What a program prints; its errors are the test's when it ends with another code."""
        program = find_program(words[0]) or words[0]
        done = subprocess.run(
            [program, *words[1:]], input=text, capture_output=True, timeout=60, check=False,
            cwd=self.home,
            env={**os.environ, "HOME": str(self.home), "LC_ALL": "C.UTF-8", **(more or {})},
        )  # fmt: skip
        said = done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace")
        assert done.returncode in codes, f"{words[0]} ended with {done.returncode}: {said}"
        return done.stdout

    def file(self, name: str, content: str | bytes) -> str:
        """Write a file only its owner reads, as programs want their passwords kept."""
        path = self.home / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o600)
        return str(path)

    def imap(self) -> imaplib.IMAP4:
        client = imaplib.IMAP4("127.0.0.1", self.port("imap"), WITHIN_S)
        client.login(self.address, self.password)
        return client

    def inbox(self) -> list[bytes]:
        """All messages, whole."""
        with self.imap() as client:
            client.select("INBOX", readonly=True)
            _, parts = client.fetch("1:*", "(BODY.PEEK[])")
        return [part[1] for part in parts if isinstance(part, tuple)]

    def wait_inbox(self, count: int = 1) -> list[bytes]:
        """The inbox once it holds so many; other hosts take their time."""
        end_s = time.monotonic() + WITHIN_S
        while len(found := self.inbox()) < count:
            assert time.monotonic() < end_s, f"{len(found)} of {count} messages came"
            time.sleep(0.1)
        return found

    def append(self, octets: bytes) -> bytes:
        """Put a message into the inbox, for readers."""
        with self.imap() as client:
            answer, _ = client.append("INBOX", "", "", octets)  # type: ignore[arg-type]
            assert answer == "OK"
        return octets


def message(sender: str, to: str, subject: str = "interop") -> bytes:
    """Octets that a careless program on the way would change."""
    body = (
        "first line\r\n"
        ".\r\n"
        "..two dots\r\n"
        ".a dot and text\r\n"
        "From here a mailbox file would quote this\r\n"
        "trailing spaces   \r\n"
        "\ttab, umlauts: grüße, and a long line: " + "y" * 900 + "\r\n"
        "\r\n"
        "\r\n"
        "last line, after empty ones\r\n"
    )
    head = (
        f"From: Somebody <{sender}>\r\n"
        f"To: <{to}>\r\n"
        f"Subject: {subject}\r\n"
        f"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n"
        f"Message-ID: <{subject}.{time.monotonic_ns()}@programs.test>\r\n"
        "X-Folded: one\r\n two\r\n\tthree\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n"
        "\r\n"
    )
    return (head + body).encode()


def below_trace(octets: bytes) -> bytes:
    """Without the fields that hosts put in front."""
    found = PREPENDED.match(octets)
    return octets[found.end() :] if found is not None else octets


def crlf(octets: bytes) -> bytes:
    """As sent: local files have LF alone."""
    return re.sub(rb"\r?\n", b"\r\n", octets)
