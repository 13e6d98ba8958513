"""What accounts get in the place of a message, made before it is taken: opened, encrypted, or
nothing."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final

import msgspec

from posthouse.gateway.at_rest import CannotSeal
from posthouse.gateway.own_copies import Held, Made, OwnCopies
from posthouse.kernel.errors import PosthouseError
from posthouse.kernel.finding import Finding
from posthouse.kernel.reply import Reply
from posthouse.mailbox.append import prepare
from posthouse.reception.accept import Own, OwnCopy, ends, report_ends
from posthouse.reception.authentication import Examined
from posthouse.reception.recipients import Accepted, End
from posthouse.reception.service import Service

NO_KEY_AT_REST: Final = Reply(
    451, "4.7.5", "The recipient keeps mail encrypted, and there is no key for that now"
)
CANNOT_OPEN_NOW: Final = Reply(
    451, "4.7.5", "The message could not be opened, please try again later"
)
NOTHING_OWN: Final = Own()
NOTHING_MADE: Final = Made()


class NotTaken(PosthouseError):
    """The message is turned down for what an account wants of it."""

    def __init__(self, reply: Reply, why: str, findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(why)
        self.reply = reply
        self.why = why
        self.findings = findings


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the recipients, and the message as they are to get it."""

    accepted: Sequence[Accepted]
    examined: Examined
    served: Sequence[Accepted] = ()
    """Who gets nothing more by being named otherwise too: for the decision record."""


def has_own_copies(service: Service, accepted: Sequence[Accepted]) -> bool:
    """Whether an account here may get something else than the message itself."""
    copies = service.own_copies
    return copies is not None and copies.is_active and any(one.local for one in accepted)


async def shared_out(
    service: Service, parts: Sequence[Part], *, is_author: bool
) -> list[tuple[Part, Own]]:
    """What accounts get in the place of each part of one message. Nobody is in two of the parts
    that are left.

    Args:
        is_author: whoever sends it has logged in.

    Raises:
        NotTaken: nobody is to get any, or it would have to wait in the open for somebody who keeps
            mail encrypted.
        Fault: the store cannot be read.
    """
    copies = service.own_copies
    if copies is None or not copies.is_active:
        made = [NOTHING_MADE for _ in parts]
    else:
        try:
            made = [await _made(copies, part, is_author=is_author) for part in parts]
        except CannotSeal as error:
            raise NotTaken(NO_KEY_AT_REST, error.reason) from error
    shares = list(zip(parts, made, strict=True))
    if len(shares) > 1:
        shares = _each_once(shares)
    held = [one for _, each in shares for one in each.held.values()]
    may_wait = all(one.may_wait for one in held)
    if held and (not may_wait or all(_is_for_nobody(part, each) for part, each in shares)):
        # What may be opened later is not refused for good with the others.
        first = min(held, key=lambda one: (one.may_wait, not one.is_for_now))
        findings = dict.fromkeys(finding for _, each in shares for finding in each.findings)
        raise NotTaken(_reply(first), first.reason, tuple(findings))
    return [(part, await _own(service, each)) for part, each in shares]


def _each_once(shares: Sequence[tuple[Part, Made]]) -> list[tuple[Part, Made]]:
    """Who is behind several parts is in the first that they take, or else in the first. Parts that
    are for nobody then are left out."""
    place: dict[End, int] = {}
    for number, (part, made) in enumerate(shares):
        for end in (end for one in part.accepted for end in one.ends):
            known = place.setdefault(end, number)
            if end in shares[known][1].held and end not in made.held:
                place[end] = number
    served: list[list[Accepted]] = [[] for _ in shares]
    left: list[tuple[Part, Made]] = []
    for number, (part, made) in enumerate(shares):
        elsewhere = {end for end, where in place.items() if where != number}
        rests = [(one, one.without(elsewhere)) for one in part.accepted]
        for one, rest in rests:
            if not rest.ends:
                served[place[one.ends[0]]].append(one)
        if accepted := [rest for _, rest in rests if rest.ends]:
            rest_of_it = Part(accepted=accepted, examined=part.examined, served=served[number])
            left.append((rest_of_it, _without(made, elsewhere)))
    return left


def _without(made: Made, accounts: AbstractSet[End]) -> Made:
    return Made(
        copies={account: one for account, one in made.copies.items() if account not in accounts},
        held={account: one for account, one in made.held.items() if account not in accounts},
        findings=made.findings,
    )


async def _made(copies: OwnCopies, part: Part, *, is_author: bool) -> Made:
    """Raises CannotSeal and Fault."""
    local, _ = ends(part.accepted)
    examined = part.examined
    return await copies.make(
        [end.account for end in local],
        examined.octets,
        is_author_proven=is_author or examined.is_author_proven,
        is_autocrypt_proven=is_author or examined.is_autocrypt_proven,
    )


def _is_for_nobody(part: Part, made: Made) -> bool:
    local, remote = ends(part.accepted)
    return len(made.held) == len(local) and not remote and not report_ends(part.accepted)


async def _own(service: Service, made: Made) -> Own:
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
