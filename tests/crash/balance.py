"""The books of the outside world against what is in mailboxes, at the sink and in the queue.

Sets as in Jepsen's total-queue check: lost = acknowledged and nowhere; ghost = refused and yet
there; duplicate = there more than once; changed = octets differ below the fields we prepend.
"""

from __future__ import annotations

import bisect
import imaplib
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from posthouse.message import dsn
from tests.crash import books
from tests.crash.books import Changed, Replied, Selected, Sent
from tests.crash.server import PASSWORD, Server

PREPENDED = frozenset({b"return-path", b"delivered-to", b"received"})
FETCHED_AT_ONCE = 100
REQUEUED = ("lease-expired",)


class Copy(msgspec.Struct, frozen=True):
    """A message as a reader found it."""

    account: str
    mailbox: str
    uid: int
    flags: bytes
    number: int
    digest: str
    is_prefix_ours: bool
    failed: tuple[str, ...]
    """Recipients a DSN reports as failed; () when it is none."""


class Balance(msgspec.Struct):
    acked: int = 0
    refused: int = 0
    unknown: int = 0
    dup: int = 0
    window: int = 0
    """Duplicates a kill explains: it fell between the host's 250 and our record of it (P4)."""
    lost: list[str] = []
    ghost: list[str] = []
    changed: list[str] = []
    wrong: list[str] = []
    """Anything else that a promise forbids."""

    def faults(self) -> list[str]:
        found = [f"lost: {one}" for one in self.lost] + [f"ghost: {one}" for one in self.ghost]
        found += [f"changed: {one}" for one in self.changed]
        return found + [f"wrong: {one}" for one in self.wrong]


def everything_in(server: Server, accounts: list[str]) -> Iterator[Copy]:
    """All mail of all accounts, read over IMAP."""
    for account in accounts:
        client = imaplib.IMAP4("127.0.0.1", server.port("imap"), 60)
        client.login(account, PASSWORD)
        names = [line.rsplit(b" ", 1)[1].decode() for line in client.list()[1]]  # type: ignore[union-attr]
        for mailbox in names:
            count = int(client.select(mailbox, readonly=True)[1][0] or 0)
            for first in range(1, count + 1, FETCHED_AT_ONCE):
                last = min(first + FETCHED_AT_ONCE - 1, count)
                _, parts = client.fetch(f"{first}:{last}", "(UID FLAGS BODY.PEEK[])")
                for part in parts:
                    if isinstance(part, tuple):
                        yield _copy(account, mailbox.strip('"'), part[0], part[1])
        client.logout()


def _copy(account: str, mailbox: str, words: bytes, octets: bytes) -> Copy:
    uid = int(re.search(rb"UID (\d+)", words)[1])  # type: ignore[index]
    flags = re.search(rb"FLAGS \(([^)]*)\)", words)[1]  # type: ignore[index]
    head = octets[: octets.find(b"\r\n\r\n")]
    is_report = b"multipart/report" in head
    number, digest = books.fingerprint(octets)
    prefix = octets[: octets.find(books.MARK)]
    names = {name.lower() for name in re.findall(rb"^([!-9;-~]+):", prefix, re.MULTILINE)}
    failed: tuple[str, ...] = ()
    if is_report:
        report = dsn.parse(octets)
        told = report.recipients if report is not None else ()
        failed = tuple(
            one.final_recipient.lower() for one in told if one.action is dsn.Action.FAILED
        )
    return Copy(account, mailbox, uid, flags, number, digest, names <= PREPENDED, failed)


class Books:
    """All lines of a run, sorted by what they are about."""

    def __init__(self, folder: Path) -> None:
        self.sent: dict[int, Sent] = {}
        self.replied: dict[int, Replied] = {}
        self.changes: dict[tuple[int, str], Changed] = {}
        self.selected: list[Selected] = []
        self.arrived: dict[tuple[int, str], list[float]] = defaultdict(list)
        self.altered_at_sink: list[str] = []
        for line in books.read(folder / "book"):
            match line:
                case Sent():
                    self.sent[line.number] = line
                case Replied():
                    self.replied[line.number] = line
                case Changed():
                    self.changes[line.number, line.what] = line
                case Selected():
                    self.selected.append(line)
        sink = folder / "sink"
        for entry in sink.read_text().splitlines() if sink.exists() else ():
            number, address, digest, at = entry.split()
            self.arrived[int(number), address].append(float(at))
            if digest != self.sent[int(number)].digest:
                self.altered_at_sink.append(f"{number} to {address}")

    def code(self, number: int) -> int:
        return self.replied[number].code if number in self.replied else 0


def weigh(
    folder: Path, found: Iterable[Copy], *, kills: list[float], requeued: Counter[str]
) -> Balance:
    """Compare the books in `folder` with what readers found, once the queue is empty.

    Args:
        kills: when the server died, by the monotonic clock, rising.
        requeued: how often each recipient was taken back from a process that had died.
    """
    book, balance = Books(folder), Balance()
    copies: dict[tuple[int, str], list[Copy]] = defaultdict(list)
    notices: Counter[tuple[int, str]] = Counter()
    for copy in found:
        if copy.failed:
            notices.update((copy.number, address) for address in copy.failed)
            continue
        copies[copy.number, copy.account].append(copy)
        if copy.number not in book.sent:
            balance.wrong.append(f"{copy} was never sent")
        elif book.sent[copy.number].digest != copy.digest or not copy.is_prefix_ours:
            balance.changed.append(str(copy))
    balance.changed += book.altered_at_sink
    for number, sent in book.sent.items():
        _weigh_one(balance, book, sent, copies, notices, kills, requeued)
        if sent.via == "imap":
            _weigh_changes(balance, book, number, copies[number, sent.sender])
    _weigh_uids(balance, book)
    return balance


def _weigh_one(
    balance: Balance,
    book: Books,
    sent: Sent,
    copies: dict[tuple[int, str], list[Copy]],
    notices: Counter[tuple[int, str]],
    kills: list[float],
    requeued: Counter[str],
) -> None:
    number, code = sent.number, book.code(sent.number)
    balance.acked += code == 250
    balance.refused += code >= 400
    balance.unknown += code == 0
    present = 0
    for address in sent.recipients:
        times = sorted(book.arrived.get((number, address), ()))
        here = len(copies.get((number, address), ()))
        returned = notices[number, address]
        found = bool(times) + bool(here) + bool(returned)
        present += bool(found)
        if found > 1:
            balance.wrong.append(f"{number} to {address} has {found} ends (P2)")
        if here > 1:
            balance.wrong.append(f"{number} is {here} times in {address} (P4)")
        if returned > 1:
            balance.wrong.append(f"{returned} notices about {number} to {address} (P5)")
        if len(times) > 1:
            balance.dup += len(times) - 1
            explained = sum(_has_kill(kills, a, b) for a, b in itertools.pairwise(times))
            balance.window += min(explained, requeued[address])
        if code == 250 and not found:
            balance.lost.append(f"{number} to {address} by {sent.via}")
        if code >= 400 and found:
            balance.ghost.append(f"{number} to {address} by {sent.via}, answered {code}")
    if 0 < present < len(sent.recipients):
        balance.wrong.append(f"{number} has some of its recipients only: one commit (P1)")


def _has_kill(kills: list[float], after: float, before: float) -> bool:
    at = bisect.bisect(kills, after)
    return at < len(kills) and kills[at] < before


def _weigh_changes(balance: Balance, book: Books, number: int, found: list[Copy]) -> None:
    """STORE and MOVE answered OK survive; a MOVE is whole or did not happen (P1, P7)."""
    if book.code(number) != 250 or len(found) != 1:
        return  # told already
    copy = found[0]
    flagged = book.changes.get((number, "flag"))
    if flagged is not None and flagged.code == 250 and b"\\Flagged" not in copy.flags:
        balance.wrong.append(f"the flag of {number} is lost")
    moved = book.changes.get((number, "move"))
    may_be = {"Drafts"} if moved is None else {"Drafts", "Archive"}
    if moved is not None and moved.code == 250:
        may_be = {"Archive"}
    if copy.mailbox not in may_be:
        balance.wrong.append(f"{number} is in {copy.mailbox} (P1)")
    uid = book.replied[number].uid if copy.mailbox == "Drafts" else (moved.uid if moved else 0)
    if uid and copy.uid != uid:
        balance.wrong.append(f"{number} has UID {copy.uid}, was told {uid} (P7)")


def _weigh_uids(balance: Balance, book: Books) -> None:
    """UIDVALIDITY stays and a UID is given once (P7)."""
    validity: dict[tuple[str, str], int] = {}
    for seen in book.selected:
        place = seen.account, seen.mailbox
        if validity.setdefault(place, seen.validity) != seen.validity:
            balance.wrong.append(f"UIDVALIDITY of {place} changed")
    told: dict[tuple[str, str, int], int] = {}
    for number, sent in book.sent.items():
        if sent.via != "imap":
            continue
        moved = book.changes.get((number, "move"))
        given = [("Drafts", book.replied[number].uid if number in book.replied else 0)]
        given.append(("Archive", moved.uid if moved is not None else 0))
        for mailbox, uid in given:
            if uid and told.setdefault((sent.sender, mailbox, uid), number) != number:
                balance.wrong.append(f"UID {uid} of {sent.sender} {mailbox} was given twice")


def requeued(server: Server) -> Counter[str]:
    """By address, how often a recipient was taken back from a process that had died."""
    with server.data_as_of_now() as tx:
        marks = ", ".join("?" * len(REQUEUED))
        rows = tx.all(
            "SELECT r.address, count(*) FROM ledger l JOIN recipient r ON r.id = l.recipient_id"
            f" WHERE l.reason IN ({marks}) GROUP BY r.address",
            REQUEUED,
        )
    return Counter({str(address): int(count) for address, count in rows})
