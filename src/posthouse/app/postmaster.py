"""A word to whoever runs this server or has an account: mail from the server itself."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.config import build
from posthouse.delivery.notices import to_owners
from posthouse.kernel.envelope import Address, BodyType
from posthouse.kernel.errors import Fault
from posthouse.kernel.ids import QueueId
from posthouse.message import build as message
from posthouse.observe import events
from posthouse.queue.dsn import Notice
from posthouse.store import accounts as rows
from posthouse.store.transaction import Transaction

if TYPE_CHECKING:
    from posthouse.app.node import Node

POSTMASTER: Final = "postmaster"


class Word(msgspec.Struct, frozen=True, kw_only=True):
    subject: str
    text: str


async def tell_postmaster(node: Node, subject: str, text: str) -> bool:
    """Queue a message for postmaster of our first domain; False when there is no domain or the
    store fails, which is logged."""

    def unit(tx: Transaction) -> bool:
        domains = rows.domains(tx)
        if not domains:
            return False
        recipient = Address(POSTMASTER, domains[0].name)
        return queue_word(tx, node, recipient, Word(subject=subject, text=text))

    try:
        return await node.store.submit(unit)
    except Fault as fault:
        node.log.write(events.FAULT_MET, kind=type(fault).__name__, detail=str(fault))
        return False


def queue_word(tx: Transaction, node: Node, recipient: Address, word: Word) -> bool:
    """Queue a message from the server; False where the queue does not take it. Its reverse-path is
    null: nobody is told when it fails."""
    queue_id = QueueId("n" + base64.b32encode(node.world.chance.token(10)).decode().lower())
    accept = to_owners(build.schedule_options(node.config), node.directory_options, node.at_rest)
    notice = Notice(
        queue_id=queue_id,
        recipient=recipient,
        octets=_composed(node, queue_id, recipient, word),
        body=BodyType.EIGHT_BIT,
        is_smtputf8=False,
        about=queue_id,
    )
    return accept(tx, notice) is not None


def _composed(node: Node, queue_id: QueueId, recipient: Address, word: Word) -> bytes:
    host = node.config.node.hostname
    fields = [
        message.date_field(node.world.clock.now()),
        message.address_field("From", [message.Mailbox(Address(POSTMASTER, host), "Posthouse")]),
        message.address_field("To", [message.Mailbox(recipient)]),
        message.message_id_field(f"<{queue_id}@{host}>"),
        message.text_field("Subject", word.subject),
        message.field("Auto-Submitted", "auto-generated"),
    ]
    return message.message(fields, message.text_entity(word.text))
