"""A mail of reporting's becomes the queue's: signed, or not at all."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Final

from posthouse.kernel.envelope import Address, BodyType, Notify, TlsDemand
from posthouse.kernel.ids import QueueId
from posthouse.kernel.ports import Chance
from posthouse.queue import spool
from posthouse.queue.item import Origin, State
from posthouse.reporting import mail
from posthouse.reporting.options import US
from posthouse.store.transaction import Transaction

LIFETIME_S: Final = 86_400.0
"""How long delivery is tried (RFC 8460 §5.5)."""

Sign = Callable[[Transaction | None, bytes, str], bytes]
"""(transaction, a mail, the domain of its From) → its DKIM-Signature fields, b"" without a key."""

NO_KEY: Final = "it would not be believed: no DKIM key signs yet for"


class Unsigned(Exception):
    """There is no key for the domain that reports are sent from, so none is sent by mail."""


def signed(tx: Transaction, octets: bytes, sender: Address, sign: Sign) -> bytes:
    """The mail with its signature in front.

    RFC 9990 §3.5.2: it has to pass DMARC. RFC 8460 §3: recipients ignore it unsigned. RFC 9991
    §5.1: unaligned ones make mail loops.
    """
    signature = sign(tx, octets, sender.domain)
    if not signature:
        raise Unsigned(f"{NO_KEY} {sender.domain}")
    return signature + octets


def new_queue_id(chance: Chance) -> QueueId:
    return QueueId("r" + base64.b32encode(chance.token(10)).decode().lower())


def accept_mail(
    tx: Transaction,
    octets: bytes,
    *,
    sender: Address,
    to: Sequence[Address],
    queue_id: QueueId,
    demand: TlsDemand = TlsDemand.NONE,
) -> None:
    """A report of ours becomes the queue's. Nobody is sent a DSN about it."""
    spool.accept(
        tx,
        spool.Accepted(
            queue_id=queue_id,
            reverse_path=sender,
            recipients=tuple(
                spool.AcceptedRecipient(
                    address=address, state=State.QUEUED, notify=Notify.NEVER, detail="report"
                )
                for address in to
            ),
            size=len(octets),
            blob=tx.put_blob(octets),
            body=BodyType.SEVEN_BIT if octets.isascii() else BodyType.EIGHT_BIT,
            is_smtputf8=mail.is_wide((sender, *to)),
            origin=Origin.LOCAL,
            tls_demand=demand,
            expires_at=tx.now_us() + int(LIFETIME_S * US),
        ),
    )
