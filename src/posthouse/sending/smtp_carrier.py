"""Letters to a server by SMTP or LMTP, over a pool of sessions."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Final

from posthouse.kernel.ports import Network
from posthouse.kernel.reply import Reply
from posthouse.message.address import format_address
from posthouse.net.deadlines import Deadlines
from posthouse.protocol.smtp.client_events import Result
from posthouse.sending import mistakes
from posthouse.sending.carrier import Letter, Verified
from posthouse.sending.connection import Ground
from posthouse.sending.options import Options
from posthouse.sending.pool import Carried, Pool
from posthouse.sending.receipt import Outcome, Receipt
from posthouse.sending.tls import client_context

__all__ = ["SmtpCarrier", "queue_id_of"]

# Postfix, Posthouse, Exim, Dovecot, Exchange and most others name the message in their last reply.
_QUEUE_ID: Final = re.compile(
    r"(?:queued as|accepted as|queued with id|\bid=|\bid )\s*<?([A-Za-z0-9._@+\-]{1,200})",
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?")


class SmtpCarrier:
    """The `Carrier` of SMTP and LMTP; made on the loop that uses it."""

    def __init__(self, options: Options, *, network: Network | None = None) -> None:
        """
        Args:
            network: None for the machine's own.
        """
        from posthouse.net.world import SystemClock, SystemNetwork

        clock = SystemClock()
        network = network or SystemNetwork()
        if options.proxy is not None:
            from posthouse.sending.proxying import ProxyNetwork

            network = ProxyNetwork(network, options.proxy)
        self._ground = Ground(
            network=network,
            clock=clock,
            deadlines=Deadlines(clock),
            hello_name=options.hello_name or own_name(),
        )
        self._options = options
        self._pool = Pool(options, self._ground)
        self._watch = asyncio.get_running_loop().create_task(self._ground.deadlines.run())

    async def carry(self, letter: Letter) -> Receipt:
        return self._receipt(letter, await self._pool.carry(letter))

    async def verify(self) -> Verified:
        return (await self._pool.opened()).verified()

    async def close(self) -> None:
        try:
            await self._pool.close()
        finally:
            self._pool.abort()
            self._watch.cancel()

    def _receipt(self, letter: Letter, carried: Carried) -> Receipt:
        ended = carried.ended
        recipients = tuple(
            format_address(path.address, unicode=True) for path in letter.envelope.recipients
        )
        accepted = tuple(
            recipient
            for recipient, outcome in zip(recipients, ended.outcomes, strict=True)
            if outcome.result is Result.ACCEPTED
        )
        if not accepted:
            raise mistakes.message_refused(self._options, ended)
        sender = letter.envelope.reverse_path
        last = _last_reply(carried)
        response = str(last) if last is not None else ""
        return Receipt(
            message_id=letter.message_id,
            sender=format_address(sender, unicode=True) if sender is not None else "",
            recipients=recipients,
            accepted=accepted,
            rejected=mistakes.rejected(ended) if len(accepted) < len(recipients) else (),
            response=response,
            server=self._options.place,
            queue_id=queue_id_of(response),
            size_octets=len(letter.octets),
            sent_at=self._ground.clock.now(),
            phases=carried.phases,
            tls=carried.tls,
            tag=letter.tag,
            ask=self._ask if self._options.notice_box is not None else None,
        )

    async def _ask(self, receipt: Receipt, timeout_s: float) -> tuple[Outcome, ...]:
        from posthouse.sending.outcomes import ask

        box = self._options.notice_box
        assert box is not None
        context = self._options.context or client_context(is_verifying=self._options.is_verifying)
        return await ask(box, context, receipt, timeout_s)


def queue_id_of(response: str) -> str:
    """The server's name for the message, when its reply has one."""
    found = _QUEUE_ID.search(response)
    return found[1].rstrip(".") if found is not None else ""


def own_name() -> str:
    """For EHLO: this machine's name, or its address where it has no proper one (RFC 5321
    §4.1.3)."""
    name = socket.gethostname()
    return name if "." in name and _NAME.fullmatch(name) else "[127.0.0.1]"


def _last_reply(carried: Carried) -> Reply | None:
    """What the server said to the message as a whole."""
    for outcome in carried.ended.outcomes:
        if outcome.result is Result.ACCEPTED:
            return outcome.reply
    return None
