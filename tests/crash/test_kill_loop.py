"""The kill loop in small, and proof that its scales would notice."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.crash.balance import Balance, Copy, weigh
from tests.crash.books import Book, Changed, Replied, Selected, Sent, fingerprint
from tests.crash.server import ROOT

LINE = re.compile(
    r"kill-loop seed=\d+ kills=(\d+) acked=(\d+) lost=0 ghost=0 dup=(\d+) \(window=(\d+)\)"
    r" changed=0 recovery p50=\d+ms p99=\d+ms"
)


# F1 F8 F30 P1 P2 P4 P5 P6 P7 P14
def test_nothing_is_lost_however_the_server_dies() -> None:
    """`make crash` does the same 200 times."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.kill_loop", "--kills", "10", "--seed", "7"],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip
    found = LINE.search(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found is not None, done.stdout
    kills, acked, dup, window = (int(text) for text in found.groups())
    assert kills == 10
    assert acked > 0
    assert dup == window


DIGEST = hashlib.sha256(b"x").hexdigest()
HERE, THERE = "u0@crash.test", "r1@d1.sink.test"


def copy(number: int = 1, account: str = HERE, **changes: object) -> Copy:
    values: dict[str, object] = {
        "account": account, "mailbox": "INBOX", "uid": 1, "flags": b"", "number": number,
        "digest": DIGEST, "is_prefix_ours": True, "failed": (), **changes,
    }  # fmt: skip
    return Copy(**values)  # type: ignore[arg-type]


class Scales:
    """A made-up run of one message."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.book = Book(folder / "book")
        self.kills: list[float] = []
        self.requeued: Counter[str] = Counter()

    def sent(self, *recipients: str, code: int | None = 250, via: str = "25", uid: int = 0) -> None:
        self.book.write(Sent(1, via, HERE, recipients, DIGEST))
        if code is not None:
            self.book.write(Replied(1, code, uid, 7))

    def arrived(self, *times: float, digest: str = DIGEST) -> None:
        lines = [f"1 {THERE} {digest} {at}\n" for at in times]
        (self.folder / "sink").write_text("".join(lines))

    def weigh(self, *found: Copy) -> Balance:
        return weigh(self.folder, found, kills=self.kills, requeued=self.requeued)


@pytest.fixture
def scales(tmp_path: Path) -> Scales:
    return Scales(tmp_path)


def test_an_acknowledged_message_that_is_nowhere_is_lost(scales: Scales) -> None:
    scales.sent(HERE, THERE)
    scales.arrived(1.0)
    assert scales.weigh(copy()).faults() == []
    assert len(scales.weigh().lost) == 1


@pytest.mark.parametrize("code", [0, None])
def test_a_message_of_unknown_fate_may_be_there_or_not(scales: Scales, code: int | None) -> None:
    scales.sent(HERE, code=code)
    assert scales.weigh().faults() == []
    assert scales.weigh(copy()).faults() == []


def test_a_refused_message_that_is_there_is_a_ghost(scales: Scales) -> None:
    scales.sent(HERE, code=451)
    assert scales.weigh().faults() == []
    assert len(scales.weigh(copy()).ghost) == 1


def test_half_of_the_recipients_is_no_acceptance(scales: Scales) -> None:
    scales.sent(HERE, THERE, code=0)
    assert len(scales.weigh(copy()).wrong) == 1


def test_altered_octets_are_noticed_at_both_ends(scales: Scales) -> None:
    scales.sent(HERE, THERE)
    scales.arrived(1.0, digest="another")
    assert len(scales.weigh(copy(digest="another")).changed) == 2
    assert len(scales.weigh(copy(is_prefix_ours=False)).changed) == 2


def test_a_duplicate_needs_a_kill_between_and_a_lease_taken_back(scales: Scales) -> None:
    scales.sent(THERE)
    scales.arrived(1.0, 2.0)
    assert (scales.weigh().dup, scales.weigh().window) == (1, 0)
    scales.kills = [0.5, 2.5]
    scales.requeued[THERE] = 1
    assert scales.weigh().window == 0
    scales.kills = [1.5]
    assert scales.weigh().window == 1
    scales.requeued.clear()
    assert scales.weigh().window == 0


def test_one_recipient_has_one_copy_and_one_end(scales: Scales) -> None:
    scales.sent(HERE)
    assert len(scales.weigh(copy(), copy(uid=2)).wrong) == 1
    notice = copy(failed=(HERE,))
    assert len(scales.weigh(copy(), notice).wrong) == 1
    assert len(scales.weigh(notice, notice).wrong) == 1
    assert scales.weigh(notice).faults() == []


def test_imap_changes_that_were_answered_survive(scales: Scales) -> None:
    scales.sent(HERE, via="imap", uid=4)
    scales.book.write(Changed(1, "flag", 250))
    kept = copy(mailbox="Drafts", uid=4, flags=b"\\Flagged")
    assert scales.weigh(kept).faults() == []
    assert len(scales.weigh(copy(mailbox="Drafts", uid=4)).wrong) == 1
    assert len(scales.weigh(copy(mailbox="Drafts", uid=5, flags=b"\\Flagged")).wrong) == 1
    assert len(scales.weigh(copy(mailbox="Archive", uid=4, flags=b"\\Flagged")).wrong) == 1
    scales.book.write(Changed(1, "move", 250, 9))
    assert len(scales.weigh(kept).wrong) == 1
    assert scales.weigh(copy(mailbox="Archive", uid=9, flags=b"\\Flagged")).faults() == []


def test_a_uidvalidity_that_changes_is_noticed(scales: Scales) -> None:
    scales.book.write(Selected(HERE, "INBOX", 1))
    scales.book.write(Selected(HERE, "INBOX", 2))
    assert len(scales.weigh().wrong) == 1


def test_the_fingerprint_begins_below_what_a_server_prepends() -> None:
    sent = b"X-Crash-Number: 12\r\nSubject: x\r\n\r\nbody\r\n"
    assert fingerprint(b"Received: from a by b\r\n" + sent) == fingerprint(sent)
    assert fingerprint(sent)[0] == 12
    assert fingerprint(b"Subject: something else\r\n\r\n")[0] == -1
