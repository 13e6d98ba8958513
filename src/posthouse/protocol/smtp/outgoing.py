"""An outgoing message as commands and blocks of octets, with the extensions the server offered."""

from __future__ import annotations

from typing import Final

from posthouse.kernel.envelope import Address, BodyType, Envelope, ForwardPath, Notify, TlsDemand
from posthouse.message.address import format_address
from posthouse.message.search import find_marker
from posthouse.protocol.smtp.extensions import Extensions
from posthouse.protocol.smtp.grammar import encode_xtext, format_original_recipient

BLOCK_OCTETS: Final = 262_144
"""Given to the driver at once, so that a big message is never doubled in memory."""


def format_mail(
    envelope: Envelope,
    extensions: Extensions,
    *,
    size_octets: int,
    is_smtputf8: bool,
    is_tls: bool = False,
) -> bytes:
    """MAIL with its parameters, each only when offered (RFC 5321 §4.1.1.11).

    Deviation: RFC 6152 §3 wants 8-bit content made 7-bit for a server without 8BITMIME. Such
    servers pass it on unharmed; a change would break signatures. So it is sent as it is.
    """
    words = [f"MAIL FROM:<{_path(envelope.reverse_path)}>"]
    if extensions.is_size:
        words.append(f"SIZE={size_octets}")
    if extensions.is_eight_bit and envelope.body is not BodyType.SEVEN_BIT:
        words.append("BODY=8BITMIME")
    if is_smtputf8:
        words.append("SMTPUTF8")
    if extensions.is_dsn and envelope.ret is not None:
        words.append(f"RET={envelope.ret.value}")
    if extensions.is_dsn and envelope.envelope_id is not None:
        words.append(f"ENVID={encode_xtext(envelope.envelope_id)}")
    if envelope.tls_demand is TlsDemand.REQUIRED and extensions.is_requiretls and is_tls:
        words.append("REQUIRETLS")  # RFC 8689 §4.2.1
    return (" ".join(words) + "\r\n").encode()


def format_rcpt(recipient: ForwardPath, extensions: Extensions) -> bytes:
    line = f"RCPT TO:<{_path(recipient.address)}>"
    if extensions.is_dsn:
        if recipient.notify is not None:
            line += f" NOTIFY={format_notify(recipient.notify)}"
        if recipient.original_recipient is not None:
            line += f" ORCPT={format_original_recipient(recipient.original_recipient)}"
    return (line + "\r\n").encode()


def format_notify(notify: Notify) -> str:
    """RFC 3461 §4.1."""
    return ",".join(flag.name or "" for flag in Notify if flag and flag in notify) or "NEVER"


def _path(address: Address | None) -> str:
    return "" if address is None else format_address(address)


def has_unicode_header(octets: bytes) -> bool:
    """Whether only an SMTPUTF8 host can take the header section (RFC 6531 §3.6)."""
    if octets.isascii():
        return False
    end = octets.find(b"\r\n\r\n")
    return not octets[: len(octets) if end < 0 else end].isascii()


class OutgoingContent:
    """The content of one message on its way out, in blocks."""

    __slots__ = ("_at", "_is_stuffed", "_octets", "is_sent")

    def __init__(self, octets: bytes, *, is_stuffed: bool) -> None:
        """
        Args:
            is_stuffed: it goes by DATA, with dots doubled and the final dot (RFC 5321 §4.5.2);
                else as the octets of one chunk.
        """
        self._octets = octets
        self._is_stuffed = is_stuffed
        self._at = 0
        self.is_sent = False
        """The last octet was handed out: from here on the message may have been delivered."""

    def take(self) -> bytes:
        octets, at = self._octets, self._at
        end = min(at + BLOCK_OCTETS, len(octets))
        block = octets[at:end] if at or end < len(octets) else octets
        self._at = end
        self.is_sent = end == len(octets)
        if not self._is_stuffed:
            return block
        if find_marker(block, b"\r\n.", 2) >= 0:
            block = block.replace(b"\r\n.", b"\r\n..")
        if octets.startswith(b".", at) and (at == 0 or octets[at - 2 : at] == b"\r\n"):
            block = b"." + block
        elif at and octets[at - 1 : at + 2] == b"\r\n.":  # the last block ended in that CR
            block = b"\n." + block[1:]
        if not self.is_sent:
            return block
        return block + (b".\r\n" if not octets or octets.endswith(b"\r\n") else b"\r\n.\r\n")
