"""What accounts get in the place of a message, made before it is taken: opened, encrypted, or
nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from posthouse.gateway.at_rest import CannotSeal
from posthouse.gateway.own_copies import Held
from posthouse.kernel.errors import PosthouseError
from posthouse.kernel.finding import Finding
from posthouse.kernel.reply import Reply
from posthouse.mailbox.append import prepare
from posthouse.reception.accept import Own, OwnCopy, ends, report_ends
from posthouse.reception.authentication import Examined
from posthouse.reception.recipients import Accepted
from posthouse.reception.service import Service

NO_KEY_AT_REST: Final = Reply(
    451, "4.7.5", "The recipient keeps mail encrypted, and there is no key for that now"
)
CANNOT_OPEN_NOW: Final = Reply(
    451, "4.7.5", "The message could not be opened, please try again later"
)
NOTHING_OWN: Final = Own()


class NotTaken(PosthouseError):
    """The message is turned down for what an account wants of it."""

    def __init__(self, reply: Reply, why: str, findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(why)
        self.reply = reply
        self.why = why
        self.findings = findings


def has_own_copies(service: Service, accepted: Sequence[Accepted]) -> bool:
    """Whether an account here may get something else than the message itself."""
    copies = service.own_copies
    return copies is not None and copies.is_active and any(one.local for one in accepted)


async def own_copies(
    service: Service, accepted: Sequence[Accepted], examined: Examined, *, is_author: bool
) -> Own:
    """What accounts get in the place of the message.

    Args:
        is_author: whoever sends it has logged in.

    Raises:
        NotTaken: nobody is to get it, or it would have to wait in the open for somebody who keeps
            mail encrypted.
        Fault: the store cannot be read.
    """
    copies = service.own_copies
    local, remote = ends(accepted)
    if copies is None or not copies.is_active or not local:
        return NOTHING_OWN
    try:
        made = await copies.make(
            [end.account for end in local],
            examined.octets,
            is_author_proven=is_author or examined.is_author_proven,
            is_autocrypt_proven=is_author or examined.is_autocrypt_proven,
        )
    except CannotSeal as error:
        raise NotTaken(NO_KEY_AT_REST, error.reason) from error
    held = list(made.held.values())
    is_for_nobody = len(held) == len(local) and not remote and not report_ends(accepted)
    if is_for_nobody or not all(one.may_wait for one in held):
        # What may be opened later is not refused for good with the others.
        first = min(held, key=lambda one: (one.may_wait, not one.is_for_now))
        raise NotTaken(_reply(first), first.reason, made.findings)
    own = {
        account: OwnCopy(
            octets=copy.octets,
            prepared=await service.workers.run(partial(prepare, copy.octets)),
            fields=copy.fields,
            is_sealed=copy.is_sealed,
        )
        for account, copy in made.copies.items()
    }
    return Own(
        copies=own,
        held=frozenset(account for account, one in made.held.items() if one.is_for_now),
        refusals={account: one.reason for account, one in made.held.items() if not one.is_for_now},
        findings=made.findings,
    )


def _reply(held: Held) -> Reply:
    if held.is_for_now:
        return CANNOT_OPEN_NOW
    return Reply(550, "5.7.5", f"The recipient takes no mail that stays closed: {held.reason}")
