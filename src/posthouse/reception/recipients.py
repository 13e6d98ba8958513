"""RCPT, answered one by one: may this session send to this address, and where does it lead."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from posthouse.accounts.directory import Expansion, LocalTarget, Standing
from posthouse.kernel.envelope import Address, ForwardPath
from posthouse.kernel.errors import Fault, StorageBusy, StorageFull
from posthouse.kernel.ids import AccountId
from posthouse.kernel.reply import Reply
from posthouse.message.address import format_address

ACCEPTED: Final = Reply(250, "2.1.5", "Recipient ok")
UNKNOWN: Final = Reply(550, "5.1.1", "No such user here")
RELAY_DENIED: Final = Reply(550, "5.7.1", "Relaying denied: log in to send to other domains")
LOOPING: Final = Reply(451, "4.2.4", "The alias behind this address leads too far")
NO_SMTPUTF8: Final = Reply(553, "5.6.7", "This address needs SMTPUTF8")
TROUBLE: Final = Reply(451, "4.3.0", "A fault on our side, please try again later")
BUSY: Final = Reply(451, "4.3.2", "Too busy at the moment, please try again later")
NO_ROOM: Final = Reply(452, "4.3.1", "No room on our disk, please try again later")
OVER_QUOTA: Final = Reply(552, "5.2.2", "The mailbox is full")
OVER_QUOTA_SOON: Final = Reply(452, "4.2.2", "The mailbox is full, please try again later")


End = AccountId | Address | str
"""An account, an address elsewhere, or a report address."""


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """One RCPT we answered 250, with the ends it leads to."""

    path: ForwardPath
    local: tuple[LocalTarget, ...]
    remote: tuple[Address, ...]
    reports: tuple[str, ...] = ()
    """Report addresses among the ends: what comes is read as a report."""
    via: tuple[str, ...]

    @property
    def ends(self) -> tuple[End, ...]:
        return (*(target.account for target in self.local), *self.remote, *self.reports)

    def without(self, served: AbstractSet[End]) -> Accepted:
        """As it is, for the ends that are not among these."""
        if served.isdisjoint(self.ends):
            return self
        return msgspec.structs.replace(
            self,
            local=tuple(target for target in self.local if target.account not in served),
            remote=tuple(address for address in self.remote if address not in served),
            reports=tuple(address for address in self.reports if address not in served),
        )


def decide(path: ForwardPath, expansion: Expansion, *, may_relay: bool) -> Accepted | Reply:
    """Accept the recipient, or the reply that turns it down."""
    match expansion.standing:
        case Standing.LOCAL:
            return Accepted(
                path=path,
                local=expansion.local,
                remote=expansion.remote,
                reports=expansion.reports,
                via=expansion.via,
            )
        case Standing.UNKNOWN:
            return UNKNOWN
        case Standing.LOOPING:
            return LOOPING
        case Standing.FOREIGN if not may_relay:
            return RELAY_DENIED
        case Standing.FOREIGN:
            return Accepted(path=path, local=(), remote=(path.address,), via=())


def reply_for_fault(fault: Fault) -> Reply:
    """What the peer hears when our own side fails: always 4yz (promise P8)."""
    if isinstance(fault, StorageFull):
        return NO_ROOM
    if isinstance(fault, StorageBusy):
        return BUSY
    return TROUBLE


def shown(address: Address) -> str:
    """The address as logs and the decision record show it."""
    return format_address(address) if address.domain else address.local_part
