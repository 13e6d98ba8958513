"""The table of states, and acceptance."""

from __future__ import annotations

import pytest

from posthouse.kernel.envelope import Address
from posthouse.kernel.errors import LocalProtocolError
from posthouse.kernel.ids import BlobId, QueueId
from posthouse.queue import spool
from posthouse.queue.item import (
    END_STATES,
    OPEN_STATES,
    TRANSITIONS,
    Reason,
    State,
    check_move,
)
from posthouse.store.transaction import QueueChanged

ALICE = Address("alice", "here.example")


def test_nothing_leaves_an_end() -> None:  # P2
    assert not any(from_state in END_STATES for from_state, _ in TRANSITIONS)


def test_every_state_can_be_reached_and_every_open_one_can_end() -> None:  # P2
    reachable, ends = {State.NONE}, set(END_STATES)
    for _ in State:
        reachable |= {to for at, to in TRANSITIONS if at in reachable}
        ends |= {at for at, to in TRANSITIONS if to in ends}
    assert reachable == set(State)
    assert ends >= OPEN_STATES


def test_every_reason_belongs_to_a_transition() -> None:
    assert set().union(*TRANSITIONS.values()) == set(Reason)


@pytest.mark.parametrize(
    ("from_state", "to_state", "reason"),
    [
        (State.RELAYED, State.QUEUED, Reason.DEFERRED),
        (State.QUEUED, State.RELAYED, Reason.RELAYED),
        (State.HELD, State.LEASED, Reason.LEASED),
        (State.LEASED, State.RELAYED, Reason.FAILED),
    ],
)
def test_what_the_table_does_not_have_is_refused(from_state, to_state, reason) -> None:
    with pytest.raises(LocalProtocolError):
        check_move(from_state, to_state, reason)


class RecordingTransaction:
    """Counts what acceptance asks of the database."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.changes: list[object] = []

    def now_us(self) -> int:
        return 1_000_000

    def insert(self, sql: str, parameters: object = ()) -> int:
        self.statements.append(sql)
        return len(self.statements)

    run = insert

    def changed(self, change: object) -> None:
        self.changes.append(change)


def accepted(*states: State, blob: BlobId | None = None) -> spool.Accepted:
    return spool.Accepted(
        queue_id=QueueId("q1"),
        reverse_path=ALICE,
        recipients=tuple(spool.AcceptedRecipient(address=ALICE, state=state) for state in states),
        size=10,
        blob=blob,
    )


def test_a_local_message_costs_three_inserts_and_wakes_nobody() -> None:
    tx = RecordingTransaction()
    spool.accept(tx, accepted(State.STORED))
    assert [sql.split(" (")[0] for sql in tx.statements] == [
        "INSERT INTO message",
        "INSERT INTO recipient",
        "INSERT INTO ledger",
    ]
    assert tx.changes == []


def test_a_queued_recipient_wakes_the_queue() -> None:
    tx = RecordingTransaction()
    spool.accept(tx, accepted(State.STORED, State.QUEUED, blob=BlobId(1)))
    assert tx.changes == [QueueChanged()]


@pytest.mark.parametrize("wrong", [accepted(State.QUEUED), accepted(State.STORED, blob=BlobId(1))])
def test_octets_are_kept_for_queued_recipients_and_only_for_them(wrong) -> None:  # P1
    with pytest.raises(LocalProtocolError):
        spool.accept(RecordingTransaction(), wrong)
