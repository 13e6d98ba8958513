"""A real store in memory-backed files with accounts in it, for tests of mailboxes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

from posthouse.kernel.ids import AccountId, MailboxId
from posthouse.mailbox import append, names, view
from posthouse.store.blobs.disk import FileDisk
from posthouse.store.options import Options
from posthouse.store.sqlite.engine import SqliteStore
from posthouse.store.transaction import Transaction

T = TypeVar("T")
NOON_US = 1_793_620_800_000_000  # 2 November 2026, 12:00 UTC
MESSAGE = (
    b"From: Ann <ann@example.org>\r\nTo: bob@example.net\r\nSubject: %b\r\n"
    b"Date: Mon, 2 Nov 2026 10:00:00 +0100\r\nMessage-ID: <%b@example.org>\r\n\r\nHello.\r\n"
)


class StillClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.us = NOON_US

    def unix_us(self) -> int:
        return self.us

    def monotonic_s(self) -> float:
        return self.us / 1e6


def message(subject: bytes = b"one") -> bytes:
    return MESSAGE % (subject, subject.replace(b" ", b"."))


class World:
    def __init__(self) -> None:
        shm = "/dev/shm"
        self.folder = tempfile.mkdtemp(dir=shm if os.path.isdir(shm) else None)
        self.clock: Any = StillClock()
        self.store = SqliteStore.open(
            Options(folder=self.folder), clock=self.clock, disk=FileDisk(), is_inline=True
        )
        self.account = self.new_account("ann")

    def close(self) -> None:
        self.store.close_now()
        shutil.rmtree(self.folder)

    def write(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        return self.store.write_now(lambda tx: function(tx, *arguments, **named))

    def read(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        return self.store.read_now(lambda tx: function(tx, *arguments, **named))

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        return self.store.read_now(lambda tx: tx.all(statement, parameters))

    def new_account(self, name: str, quota_octets: int | None = None) -> AccountId:
        def unit(tx: Transaction) -> AccountId:
            account = AccountId(
                tx.insert(
                    "INSERT INTO account (name, quota_octets, created_at) VALUES (?, ?, 0)",
                    (name, quota_octets),
                )
            )
            names.create_default_mailboxes(tx, account)
            return account

        return self.store.write_now(unit)

    def deliver(
        self, octets: bytes = b"", *, account: AccountId | None = None, **named: Any
    ) -> append.Appended:
        octets = octets or message()
        prepared = append.prepare(octets)
        named.setdefault("prefix", b"")
        named.setdefault("received_at_us", self.clock.us)

        def unit(tx: Transaction) -> append.Appended:
            blob = tx.put_blob(octets, sha256=prepared.sha256)
            return append.deliver(tx, account or self.account, prepared, blob, **named)

        return self.store.write_now(unit)

    def append(
        self, *octets: bytes, mailbox: str = "INBOX", account: AccountId | None = None, **named: Any
    ) -> list[append.Appended]:
        new = [
            append.NewMessage(octets=one, prepared=append.prepare(one), **named) for one in octets
        ]
        return self.write(append.append, account or self.account, mailbox, new)

    def mailbox(self, name: str = "INBOX", account: AccountId | None = None) -> MailboxId:
        return self.read(names.find, account or self.account, name)

    def select(self, name: str = "INBOX", account: AccountId | None = None) -> view.Selected:
        return self.read(view.select, account or self.account, name)

    def view(self, name: str = "INBOX", account: AccountId | None = None) -> view.View:
        return self.read(view.load, account or self.account, self.select(name, account))

    def changes(self, known: view.View, mailbox: MailboxId) -> view.Changes:
        return self.read(view.changes_since, self.account, mailbox, known.modseq, known.uidnext)

    def counters_differ(self) -> list[Any]:
        """Counters that do not say what the rows say: of mailboxes, accounts, emails, blobs."""
        return [
            *self.sql(
                "SELECT 'mailbox', m.id FROM mailbox m WHERE (messages, unseen, octets) <> (SELECT"
                " count(*), coalesce(sum(e.flags & 1 = 0), 0), coalesce(sum(i.size), 0)"
                " FROM entry e JOIN email i ON i.id = e.email_id WHERE e.mailbox_id = m.id)"
            ),
            *self.sql(
                "SELECT 'account', a.id FROM account a WHERE (used_messages, used_octets) <>"
                " (SELECT coalesce(sum(messages), 0), coalesce(sum(octets), 0) FROM mailbox"
                " WHERE account_id = a.id)"
            ),
            *self.sql(
                "SELECT 'email', i.id FROM email i WHERE entries <> (SELECT count(*) FROM entry"
                " WHERE email_id = i.id) OR entries = 0"
            ),
            *self.sql(
                "SELECT 'blob', b.id FROM blob b WHERE refs <>"
                " (SELECT count(*) FROM email WHERE blob_id = b.id)"
            ),
            *self.sql("SELECT 'orphan', uid FROM entry WHERE mailbox_id NOT IN"
                      " (SELECT id FROM mailbox)"),
        ]  # fmt: skip
