"""CAPABILITY (RFC 3501 §6.1.1): only what is complete is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session

BASE: Final = b"IMAP4rev1 LITERAL+ SASL-IR ID ENABLE"
AFTER_LOGIN: Final = (
    BASE + b" IDLE NAMESPACE CHILDREN UNSELECT UIDPLUS MOVE SPECIAL-USE CREATE-SPECIAL-USE"
)


def listed(*, is_logged_in: bool, may_login: bool, may_start_tls: bool) -> bytes:
    """The words behind CAPABILITY."""
    if is_logged_in:
        return AFTER_LOGIN
    words = BASE + b" STARTTLS" if may_start_tls else BASE
    return words + (b" AUTH=PLAIN" if may_login else b" LOGINDISABLED")


def run(session: Session, command: e.Capability) -> None:
    session.send(responses.untagged(b"CAPABILITY", session.capabilities()))
    session.ok(command, "CAPABILITY completed")
