"""Notices of ours, and words from the server, to accounts that keep their mail encrypted: sealed
before the queue has them, since a notice may quote the message that it is about.

To others they are queued as they are, with `queue.dsn.to_queue`.
"""

from __future__ import annotations

from posthouse.accounts.directory import LocalTarget, look_up
from posthouse.accounts.directory import Options as DirectoryOptions
from posthouse.gateway.at_rest import AtRest
from posthouse.kernel.envelope import Address
from posthouse.kernel.ids import MessageId, QueueId
from posthouse.message.address import parse_mailbox
from posthouse.queue import schedule
from posthouse.queue.dsn import Accept, Notice, queue_notice, to_queue
from posthouse.queue.spool import KeptFor
from posthouse.store.transaction import Transaction


def to_owners(options: schedule.Options, directory: DirectoryOptions, at_rest: AtRest) -> Accept:
    """Acceptance for servers with mailboxes: each owner who keeps mail encrypted gets a sealed copy
    of their own. Where there is no key for that, the notice waits as it is: it is never lost."""
    plain = to_queue(options)

    def accept(tx: Transaction, notice: Notice) -> MessageId | None:
        if not at_rest.is_active:
            return plain(tx, notice)
        found = look_up(tx, notice.recipient, directory)
        others: list[Address] = list(found.remote)
        sealed: list[tuple[LocalTarget, bytes]] = []
        for target in found.local:
            octets = at_rest.sealed_now(tx, target.account, notice.octets)
            if octets is None:
                others.append(parse_mailbox(target.name))
            else:
                sealed.append((target, octets))
        if not sealed or found.reports:  # a report address reads what comes
            return plain(tx, notice)
        message = None
        for number, (target, octets) in enumerate(sealed):
            message = queue_notice(
                tx,
                notice,
                options,
                queue_id=notice.queue_id if not number else _name(notice, number),
                recipients=(parse_mailbox(target.address),),
                octets=octets,
                kept=KeptFor(account=target.name, quoted=b""),
            )
        if others:
            name = _name(notice, len(sealed))
            queue_notice(tx, notice, options, queue_id=name, recipients=others)
        return message

    return accept


def _name(notice: Notice, number: int) -> QueueId:
    return QueueId(f"{notice.queue_id}.{number}")
