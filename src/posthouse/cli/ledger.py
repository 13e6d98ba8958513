"""`posthouse ledger check`: the proof that no accepted recipient is lost (promise P2)."""

from __future__ import annotations

from typing import Final

import click
import msgspec

from posthouse.cli.config import config_option
from posthouse.cli.data import configured_store
from posthouse.cli.output import ExitCode, json_option, progress, say, show_json, show_table
from posthouse.kernel.ids import RecipientId
from posthouse.queue import ledger as books
from posthouse.store import queue as rows
from posthouse.store.transaction import Transaction

NAMED_MAX: Final = 1000
"""Faults whose recipient is named."""


@click.group()
def ledger() -> None:
    """Prove that every accepted recipient has one end or is still owned."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A place where the books do not agree."""

    rule: str
    id: str
    recipient: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome in JSON."""

    clean: bool
    states: dict[str, int]
    ends: dict[str, int]
    faults: list[Fault]


@ledger.command()
@click.option("--octets", is_flag=True, help="Read every open message too and compare its hash.")
@json_option
@config_option
def check(octets: bool, as_json: bool, config_path: str | None) -> int:
    """Check all recipients against the ledger; the server may run meanwhile.

    Ends with 0 when each recipient has exactly one end or is still owned, with 1 when not, naming
    those that do not agree.
    """
    with (
        configured_store(config_path) as store,
        progress("rules", books.STEPS + octets) as advance,
    ):

        def query(tx: Transaction) -> Checked:
            report = books.check(tx, reads_octets=octets, advance=advance)
            return Checked(
                clean=report.is_clean,
                states=report.states,
                ends=report.ends,
                faults=_named(tx, report.faults),
            )

        checked = store.read_now(query)
    if as_json:
        show_json(checked)
    else:
        _show(checked)
    return ExitCode.OK if checked.clean else ExitCode.FAILED


def _named(tx: Transaction, faults: tuple[books.Fault, ...]) -> list[Fault]:
    shown = faults[:NAMED_MAX]
    wanted = {fault.recipient for fault in shown if fault.recipient is not None}
    addresses = {row.id: row.address for row in rows.recipients(tx, wanted).values()}
    return [
        Fault(
            rule=fault.rule,
            id=fault.queue_id or (f"message {fault.message}" if fault.message else ""),
            recipient=_name(fault.recipient, addresses),
        )
        for fault in shown
    ]


def _name(recipient: RecipientId | None, addresses: dict[RecipientId, str]) -> str:
    if recipient is None:
        return "the message as a whole"
    return addresses.get(recipient, f"recipient {recipient}, which is gone")


def _show(checked: Checked) -> None:
    show_table(
        ("recipients", "count"),
        [(name, count) for name, count in (checked.states | _ended(checked)).items()],
    )
    if checked.clean:
        total = sum(checked.states.values())
        say(f"clean: each of {total} recipients has exactly one end or is still owned")
        return
    show_table(
        ("message", "recipient", "what cannot be"),
        [(fault.id, fault.recipient, fault.rule) for fault in checked.faults],
    )
    say(f"not clean: {len(checked.faults)} faults; `posthouse explain ID` tells what happened")


def _ended(checked: Checked) -> dict[str, int]:
    return {f"ended: {reason}": count for reason, count in checked.ends.items()}
