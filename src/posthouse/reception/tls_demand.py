"""What a message asks of TLS on its way: by REQUIRETLS on MAIL or by a header field (RFC 8689)."""

from __future__ import annotations

from typing import Final

from posthouse.kernel.envelope import TlsDemand
from posthouse.message.fields import HeaderSection
from posthouse.protocol.smtp.events import SenderOffered

FIELD: Final = b"tls-required"


def tls_demand(sender: SenderOffered, section: HeaderSection) -> TlsDemand:
    """The tag the message gets (RFC 8689 §4.1): REQUIRETLS goes before the field. A field that
    stands there twice or says something else means nothing (RFC 8689 §3)."""
    if sender.is_requiretls:
        return TlsDemand.REQUIRED
    if FIELD not in section or section.count(FIELD) > 1:
        return TlsDemand.NONE
    value = section.first(FIELD) or b""
    return TlsDemand.OPTIONAL if value.strip().lower() == b"no" else TlsDemand.NONE
