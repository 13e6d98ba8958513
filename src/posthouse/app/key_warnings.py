"""Owners of mail keys are told by mail before one of them ends."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from posthouse.accounts import mail_keys
from posthouse.accounts.mail_keys import MailKey, Source, fold_address
from posthouse.app.postmaster import POSTMASTER, Word, queue_word
from posthouse.gateway.key_submission import is_submission_key
from posthouse.kernel.envelope import Address
from posthouse.kernel.errors import Fault
from posthouse.message.address import AddressError, parse_mailbox
from posthouse.mimesec.findings import Scheme
from posthouse.observe import events
from posthouse.store import mail_keys as rows
from posthouse.store.reports import KEY_SUBMISSION
from posthouse.store.transaction import Transaction

if TYPE_CHECKING:
    from posthouse.app.node import Node

LOOK_S: Final = 6 * 3600.0
AT_ONCE: Final = 100
"""Keys of one look; the others are told by the next ones."""
LOOKED_AT_MAX: Final = 10_000
DAY_US: Final = 86_400 * 1_000_000
AGAIN_DAYS: Final = (7, 1, 0)
"""After the first word at `mimesec.warn_days`, the last one when it has ended."""
LATE_US: Final = 30 * DAY_US
"""Of a key that ended longer ago nobody wants to hear."""


async def run(node: Node) -> None:
    """Now and every few hours."""
    clock = node.world.clock
    while True:
        try:
            await warn(node)
        except Fault as fault:
            node.log.write(events.FAULT_MET, kind=type(fault).__name__, detail=str(fault))
        await clock.sleep(LOOK_S * node.world.leisure)


async def warn(node: Node) -> int:
    """Tell the owners of keys that are about to end. How many were told.

    Raises:
        Fault: the store failed; whoever was not told is told by the next look.
    """
    warn_days = node.config.mimesec.warn_days

    def unit(tx: Transaction) -> int:
        due = _due(tx, warn_days)
        for key in due:
            for recipient in _recipients(tx, key):
                queue_word(
                    tx, node, recipient, _word(key, mail_keys.owner_name(tx, key), tx.now_us())
                )
            rows.set_warned(tx, key.id)
        return len(due)

    if not await node.store.read(lambda tx: _due(tx, warn_days)):
        return 0  # a unit of work that changes nothing would cost a commit all the same
    return await node.store.submit(unit)


def _due(tx: Transaction, warn_days: int) -> list[MailKey]:
    now_us = tx.now_us()
    ending = mail_keys.expiring(
        tx,
        since_us=now_us - LATE_US,
        before_us=now_us + max(warn_days, *AGAIN_DAYS) * DAY_US,
        limit=LOOKED_AT_MAX,
    )
    due = [
        key
        for key in ending
        if is_due(key, now_us, warn_days)
        and not is_submission_key(key)  # the server makes the next one by itself
        and not _is_replaced(tx, key)
    ]
    return due[:AT_ONCE]


def _is_replaced(tx: Transaction, key: MailKey) -> bool:
    """Whether its owner has another that lasts longer: then there is nothing to do."""
    assert key.expires_at is not None
    others = mail_keys.of_owner(tx, account=key.account, domain=key.domain)
    return any(
        one.scheme is key.scheme
        and not is_submission_key(one)
        and one.revoked_at is None
        and (one.expires_at is None or one.expires_at > key.expires_at)
        and one.has_private >= key.has_private
        for one in others
    )


def is_due(key: MailKey, now_us: int, warn_days: int) -> bool:
    """Whether a day to tell of its end has passed since its owner was told last."""
    if key.expires_at is None:
        return False
    days = {warn_days, *(day for day in AGAIN_DAYS if day < warn_days)}
    passed = [at for day in days if (at := key.expires_at - day * DAY_US) <= now_us]
    return bool(passed) and (key.warned_at is None or max(passed) > key.warned_at)


def _recipients(tx: Transaction, key: MailKey) -> Iterator[Address]:
    owner = mail_keys.owner_name(tx, key)
    text = owner if "@" in owner else f"{POSTMASTER}@{owner}"
    try:
        yield parse_mailbox(text)
    except AddressError:
        return


def _word(key: MailKey, owner: str, now_us: int) -> Word:
    assert key.expires_at is not None
    day = datetime.fromtimestamp(key.expires_at / 1e6, UTC).strftime("%Y-%m-%d")
    whose = key.addresses[0] if key.addresses else "nobody"
    kind = "OpenPGP" if key.scheme is Scheme.OPENPGP else "S/MIME"
    ends = f"ended on {day}" if key.expires_at <= now_us else f"ends on {day}"
    text = (
        f"The {kind} key of {whose} {ends}:\n\n    {key.fingerprint}\n\n"
        "From then on nothing is signed by it and nothing is encrypted to it. What a policy says is"
        f" done always is refused or waits from then on.\n\n{_way_out(key, owner)}"
    )
    return Word(subject=f"The key of {whose} {ends}", text=text)


def _way_out(key: MailKey, owner: str) -> str:
    if key.source is Source.SUBMITTED and not key.has_private:
        return (
            "Your own program has this key: give it another end there, and send it to"
            f" {KEY_SUBMISSION}@{key.addresses[0].rpartition('@')[2]} again.\n"
        )
    # Only for an account's own address a key is made here.
    is_own = fold_address(owner) in key.addresses
    scheme = " --scheme openpgp" if key.scheme is Scheme.OPENPGP else ""
    command = f"key make {owner}{scheme}" if is_own else f"key import {owner} FILE"
    if key.scheme is Scheme.OPENPGP and key.has_private:
        command = f"key extend {key.fingerprint}"
    return (
        "Whoever runs this server gives it another end, makes the next one, or imports one that was"
        f" issued for you:\n\n    posthouse {command}\n\n"
        "The old key stays, so that old mail can still be read.\n"
    )
