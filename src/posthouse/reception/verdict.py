"""What the content of a message decides before it is taken: limits, form, loops (RFC 5321 §6.3).

Checks return replies here; findings of later checks (authentication, spam) join them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from posthouse.kernel.reply import Reply
from posthouse.message.fields import (
    HeaderLimit,
    HeaderSection,
    exceeded,
    from_fault,
    has_nul,
)
from posthouse.protocol.smtp.limits import Mode
from posthouse.reception.accept import LocalEnd
from posthouse.reception.options import Options
from posthouse.reception.trace import is_looping

HEADER_TOO_BIG: Final = Reply(552, "5.3.4", "The header section is too big")
FIELD_TOO_BIG: Final = Reply(550, "5.6.0", "A header field is too long")
TOO_MANY_FIELDS: Final = Reply(550, "5.6.0", "The message has too many header fields")
NUL_IN_HEADER: Final = Reply(550, "5.6.0", "The header section has a NUL")
TOO_MANY_HOPS: Final = Reply(554, "5.4.6", "Too many hops: the message goes in circles")
LOOP: Final = Reply(554, "5.4.6", "The message was delivered to this address before")
REPLIES: Final = {
    HeaderLimit.HEADER_OCTETS: HEADER_TOO_BIG,
    HeaderLimit.FIELD_OCTETS: FIELD_TOO_BIG,
    HeaderLimit.FIELDS: TOO_MANY_FIELDS,
}


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    reply: Reply
    limit: str = ""
    """Name of the setting reached, for metric and log."""
    observed: int = 0


def judge(section: HeaderSection, *, options: Options, local: Sequence[LocalEnd]) -> Refused | None:
    """None when the content may be taken."""
    over = exceeded(
        section,
        header_octets_max=options.header_octets_max,
        field_octets_max=options.field_octets_max,
        fields_max=options.fields_max,
    )
    if over is not None:
        return Refused(reply=REPLIES[over.limit], limit=over.limit.value, observed=over.observed)
    if has_nul(section):
        return Refused(reply=NUL_IN_HEADER)
    hops = section.count(b"received")
    if hops > options.hops_max:
        return Refused(reply=TOO_MANY_HOPS, limit="smtp.hops_max", observed=hops)
    if options.mode is Mode.MX and (fault := from_fault(section)) is not None:
        text = fault.value[0].upper() + fault.value[1:]
        return Refused(reply=Reply(550, "5.6.0", text))
    if b"delivered-to" in section and any(is_looping(section, end.address) for end in local):
        return Refused(reply=LOOP)
    return None
