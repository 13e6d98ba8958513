"""Clients that never give up: by port 25, by submission and by IMAP, everything written down.

`python -m tests.crash.load FOLDER BASE SEED`; ends when its standard input does. Attempts are never
repeated: a message whose fate is unknown is left so, and another one is sent.
"""

from __future__ import annotations

import hashlib
import imaplib
import itertools
import random
import re
import smtplib
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.crash.books import MARK, Book, Changed, Replied, Selected, Sent
from tests.crash.server import PASSWORD, PORTS

DOMAIN = "crash.test"
ACCOUNTS = 8
SINK_DOMAINS = 20
LARGE_OCTETS = 100 * 1024
PER_SESSION = 30
PATIENCE_S = 30.0


class Load:
    def __init__(self, folder: Path, base: int, seed: int) -> None:
        self.book = Book(folder / "book")
        self.base = base
        self.seed = seed
        self.numbers = itertools.count(1)
        self.is_over = threading.Event()

    def port(self, service: str) -> int:
        return self.base + PORTS[service]

    def forever(self, work: Callable[[random.Random], None], name: str) -> threading.Thread:
        rng = random.Random(f"{self.seed} {name}")

        def run() -> None:
            while not self.is_over.is_set():
                try:
                    work(rng)
                except (OSError, smtplib.SMTPException, imaplib.IMAP4.error):
                    self.is_over.wait(0.005)  # the server is down just now

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def message(self, rng: random.Random, number: int, sender: str, to: str) -> bytes:
        size = LARGE_OCTETS if rng.random() < 0.05 else rng.choice((500, 2_000, 8_000))
        line = f"{number:010d} .{'x' * 60}\r\n.\r\n".encode()
        head = (
            f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: message {number}\r\n"
            f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S +0000', time.gmtime())}\r\n"
            f"Message-ID: <{number}.{self.seed}@load.test>\r\n\r\n"
        )
        return b"%s%d\r\n%s" % (MARK, number, head.encode()) + line * (size // len(line))

    # --- SMTP ---

    def recipients(self, rng: random.Random, number: int) -> tuple[str, ...]:
        def account() -> str:
            return f"u{rng.randrange(ACCOUNTS)}@{DOMAIN}"

        elsewhere = f"r{number}@d{number % SINK_DOMAINS}.sink.test"
        match rng.randrange(10):
            case 0 | 1 | 2 | 3:
                return (account(),)
            case 4:
                return tuple(sorted({account(), account()}))
            case 5 | 6 | 7:
                return (elsewhere,)
            case 8:
                return account(), elsewhere
            case _:
                return (f"refuse{number}@d{number % SINK_DOMAINS}.sink.test",)

    def smtp(self, rng: random.Random, *, is_submission: bool) -> None:
        user = f"u{rng.randrange(ACCOUNTS)}@{DOMAIN}"
        port = self.port("submission" if is_submission else "mx")
        with smtplib.SMTP("127.0.0.1", port, "load.test", PATIENCE_S) as client:
            if is_submission:
                client.starttls(context=ssl._create_unverified_context())
                client.login(user, PASSWORD)
            for _ in range(rng.randrange(1, PER_SESSION)):
                if self.is_over.is_set():
                    return
                self.send(rng, client, user, "587" if is_submission else "25")

    def send(self, rng: random.Random, client: smtplib.SMTP, sender: str, via: str) -> None:
        number = next(self.numbers)
        recipients = self.recipients(rng, number)
        octets = self.message(rng, number, sender, recipients[0])
        digest = hashlib.sha256(octets).hexdigest()
        self.book.write(Sent(number, via, sender, recipients, digest))
        code = 0
        try:
            client.sendmail(sender, recipients, octets)
            code = 250
        except smtplib.SMTPRecipientsRefused as error:
            code = next(iter(error.recipients.values()))[0]
        except smtplib.SMTPResponseException as error:
            code = max(error.smtp_code, 0)
        finally:
            self.book.write(Replied(number, code))

    # --- IMAP ---

    def imap(self, rng: random.Random) -> None:
        user = f"u{rng.randrange(ACCOUNTS)}@{DOMAIN}"
        client = imaplib.IMAP4("127.0.0.1", self.port("imap"), PATIENCE_S)
        try:
            client.login(user, PASSWORD)
            for mailbox in ("Archive", "Drafts"):
                self.select(client, user, mailbox)
            for _ in range(rng.randrange(1, PER_SESSION)):
                if self.is_over.is_set():
                    return
                self.append_and_change(rng, client, user)
        finally:
            client.shutdown()

    def select(self, client: imaplib.IMAP4, user: str, mailbox: str) -> None:
        client.select(mailbox)
        validity = client.response("UIDVALIDITY")[1][0]
        self.book.write(Selected(user, mailbox, int(validity or 0)))

    def append_and_change(self, rng: random.Random, client: imaplib.IMAP4, user: str) -> None:
        number = next(self.numbers)
        octets = self.message(rng, number, user, user)
        digest = hashlib.sha256(octets).hexdigest()
        self.book.write(Sent(number, "imap", user, (user,), digest))
        code, uid, validity = 0, 0, 0
        try:
            answer, _ = client.append("Drafts", "", "", octets)  # type: ignore[arg-type]
            code = 250 if answer == "OK" else 450
            given = client.response("APPENDUID")[1][0]
            if code == 250:
                validity, uid = (int(word) for word in given.split())
        finally:
            self.book.write(Replied(number, code, uid, validity))
        if code == 250:
            self.change(client, number, "flag", "STORE", uid, "+FLAGS.SILENT (\\Flagged)")
            if number % 2:
                self.change(client, number, "move", "MOVE", uid, "Archive")

    def change(
        self, client: imaplib.IMAP4, number: int, what: str, verb: str, uid: int, more: str
    ) -> None:
        self.book.write(Changed(number, what, -1))
        code, new_uid = 0, 0
        try:
            imaplib.Commands.setdefault("MOVE", ("SELECTED",))
            answer, _ = client.uid(verb, str(uid), more)
            code = 250 if answer == "OK" else 450
            if what == "move" and code == 250:
                given = client.response("COPYUID")[1][-1]
                new_uid = int(re.findall(rb"\d+", given)[-1])
        finally:
            self.book.write(Changed(number, what, code, new_uid))

    def run(self) -> None:
        threads = [
            self.forever(lambda rng: self.smtp(rng, is_submission=False), f"25-{n}")
            for n in range(4)
        ]
        threads += [
            self.forever(lambda rng: self.smtp(rng, is_submission=True), f"587-{n}")
            for n in range(2)
        ]
        threads += [self.forever(self.imap, f"imap-{n}") for n in range(2)]
        sys.stdin.read()
        self.is_over.set()
        for thread in threads:
            thread.join(PATIENCE_S)


if __name__ == "__main__":
    Load(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])).run()
