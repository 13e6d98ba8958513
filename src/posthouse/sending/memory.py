"""Letters that go nowhere: kept in a list, for the tests of a program."""

from __future__ import annotations

from typing import Final

from posthouse.message.address import format_address
from posthouse.sending.carrier import Letter, Verified
from posthouse.sending.errors import MessageError
from posthouse.sending.options import Options
from posthouse.sending.receipt import Receipt

__all__ = ["MemoryCarrier", "receipt_for_all"]

LETTERS_MAX: Final = 100_000
"""A program that sends more in a test has a mistake in it."""


class MemoryCarrier:
    """The `Carrier` of `memory:`."""

    def __init__(self, options: Options) -> None:
        self.letters: list[Letter] = []

    async def carry(self, letter: Letter) -> Receipt:
        if len(self.letters) >= LETTERS_MAX:
            raise MessageError(f"there are {LETTERS_MAX} letters in memory already")
        if letter.begin is not None:
            letter.begin()
        self.letters.append(letter)
        return receipt_for_all(letter, server="memory", response="kept in memory")

    async def verify(self) -> Verified:
        return Verified(server="memory")

    async def close(self) -> None:
        """What was sent can still be looked at."""


def receipt_for_all(letter: Letter, *, server: str, response: str, queue_id: str = "") -> Receipt:
    """Where a letter is taken whole or not at all."""
    sender = letter.envelope.reverse_path
    recipients = tuple(
        format_address(path.address, unicode=True) for path in letter.envelope.recipients
    )
    return Receipt(
        message_id=letter.message_id,
        sender=format_address(sender, unicode=True) if sender is not None else "",
        recipients=recipients,
        accepted=recipients,
        response=response,
        server=server,
        queue_id=queue_id,
        size_octets=len(letter.octets),
        tag=letter.tag,
    )
