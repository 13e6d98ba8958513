"""CREATE (RFC 3501 §6.3.3), with a special use (RFC 6154 §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.mailbox import names
from posthouse.protocol.imap import events as e

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session

USES: Final = {
    use.lower().encode("ascii"): use for _, use in names.DEFAULT_MAILBOXES if use is not None
}
"""Uses a mailbox can have here; \\All and \\Flagged would need virtual mailboxes."""


async def run(session: Session, command: e.Create) -> None:
    assert session.principal is not None
    account = session.principal.account
    uses = [USES.get(use.lower()) for use in command.special_use]
    if len(uses) > 1 or None in uses:
        session.no(command, "This use is not supported", "USEATTR")
        return
    special_use = uses[0] if uses else None
    limits = session.service.options.names
    await session.service.store.submit(
        lambda tx: names.create(
            tx, account, command.mailbox, special_use=special_use, limits=limits
        )
    )
    await session.completed(command, "CREATE completed")
