"""What a caller says of a message. Of this only the names of arguments are checked here: `compose`
does the rest, in one place, and names the field that is wrong (H66)."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from posthouse.kernel.envelope import Notify, Ret, TlsDemand
from posthouse.sending.keywords import Told
from posthouse.sending.options import Dkim

if TYPE_CHECKING:
    from posthouse.mimesec.protection import Protection

__all__ = [
    "Alternative",
    "Attachment",
    "CalendarEvent",
    "Content",
    "ListFields",
    "Mailbox",
    "Message",
    "Names",
    "Priority",
    "SendEnvelope",
]


class Mailbox(msgspec.Struct, frozen=True, metaclass=Told):
    """An address and the name people see. `Message` takes "Ada <ada@example.org>" for one too."""

    address: str
    name: str = ""


Names = str | Mailbox | Sequence[str | Mailbox]
"""One or several: "Ada <ada@example.org>, bob@example.net", `Mailbox`es, or a list of either."""

Content = str | bytes | Path | BinaryIO | Iterable[bytes] | AsyncIterable[bytes]
"""Where octets come from: text (made UTF-8), octets, a file by path, an open file, a stream."""


class Priority(Enum):
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Attachment(msgspec.Struct, frozen=True, kw_only=True, metaclass=Told):
    """A part beside the text. Give one of `content`, `path` and `url`."""

    content: Content | None = None
    path: str | Path | None = None
    url: str = ""
    """Fetched before sending; only where the transport has `may_fetch_urls`. `data:` URLs are
    always taken."""
    filename: str | None = None
    """None takes it from the path or URL, or makes one up ("attachment-1.pdf"); "" gives none."""
    content_type: str | None = None
    """None guesses by the file name."""
    cid: str | None = None
    """A Content-ID that the HTML uses as `cid:…`; makes it an inline part of the HTML."""
    is_inline: bool = False
    """To be shown where it stands, without a reference from the HTML."""
    encoding: str | None = None
    """ "base64", "quoted-printable", "7bit" or "8bit"; None chooses."""
    headers: Mapping[str, str] = {}
    raw: bytes | None = None
    """A whole MIME part instead of all of the above, its own fields included. What it says of
    itself is believed, once it is known that it can be sent."""


class Alternative(msgspec.Struct, frozen=True, kw_only=True, metaclass=Told):
    """Another form of the text, best last: text/x-web-markdown, text/watch-html, …"""

    content: Content
    content_type: str
    encoding: str | None = None


class CalendarEvent(msgspec.Struct, frozen=True, kw_only=True, metaclass=Told):
    """An iCalendar object that readers show as an invitation (RFC 6047)."""

    content: Content
    method: str | None = None
    """REQUEST, CANCEL, REPLY, …; None is what the content's METHOD says, or PUBLISH."""
    filename: str | None = "invite.ics"
    """Attached under this name besides, for readers that do not know calendars; None for not."""


class ListFields(msgspec.Struct, frozen=True, kw_only=True, metaclass=Told):
    """What makes mail to many polite (RFC 2369, RFC 2919); URLs or addresses, in the order of
    preference, with a comment where it helps: "https://example.org/faq (Questions)"."""

    id: str = ""
    """ "example.org", or "Announcements <announce.example.org>"."""
    unsubscribe: str | Sequence[str] = ()
    is_one_click: bool = False
    """`unsubscribe` has an https URL that unsubscribes by a POST (RFC 8058)."""
    help: str | Sequence[str] = ()
    subscribe: str | Sequence[str] = ()
    post: str | Sequence[str] = ()
    """ "NO" for lists nobody posts to."""
    owner: str | Sequence[str] = ()
    archive: str | Sequence[str] = ()


class SendEnvelope(msgspec.Struct, frozen=True, kw_only=True, metaclass=Told):
    """What SMTP is told instead of what the message's fields say."""

    sender: str | None = None
    """The reverse-path: where notices go. None is the address of `sender`; "" is none (`<>`)."""
    recipients: Sequence[str] | None = None
    """None is everybody in To, Cc and Bcc."""
    notify: Notify | None = None
    """Of all recipients (RFC 3461 §4.1): `Notify.SUCCESS | Notify.FAILURE`."""
    ret: Ret | None = None
    envelope_id: str | None = None
    tls_demand: TlsDemand = TlsDemand.NONE
    """REQUIRED is REQUIRETLS, OPTIONAL is TLS-Required: No (RFC 8689)."""


class Message(msgspec.Struct, frozen=True, kw_only=True, metaclass=Told):
    """A message to be sent. Give `raw`, or what it is to be made of."""

    sender: str | Mailbox = ""
    """The author, in From."""
    to: Names = ()
    cc: Names = ()
    bcc: Names = ()
    """Gets it, and nobody sees."""
    reply_to: Names = ()
    on_behalf: str | Mailbox = ""
    """Who sends it where that is not the author: the field Sender."""
    subject: str = ""
    text: Content | None = None
    html: Content | None = None
    """Where `text` is missing it is made from this."""
    alternatives: Sequence[Alternative] = ()
    attachments: Sequence[Attachment | str | Path] = ()
    """A str is a path."""
    calendar: CalendarEvent | None = None
    headers: Mapping[str, str | Sequence[str]] | Sequence[tuple[str, str]] = ()
    """Further fields; text outside ASCII becomes encoded-words."""
    date: datetime | None = None
    message_id: str = ""
    in_reply_to: str = ""
    references: str | Sequence[str] = ()
    priority: Priority = Priority.NORMAL
    list: ListFields | None = None
    envelope: SendEnvelope | None = None
    raw: Content | None = None
    """A whole message (RFC 5322) to send as it is, but for line ends, Bcc, and a Date or Message-ID
    it lacks. Of the other arguments it goes with `envelope`, `protection`, `dkim` and `tag`, and
    with `sender`, `to`, `cc` and `bcc`, which are then envelope only."""
    inline_files: bool | str | Path = False
    """Pictures that the HTML names by local path become inline parts: True for those of the
    current folder, or the folder they are in. Paths never lead out of it."""
    inline_data_urls: bool = False
    """Pictures that stand in the HTML as `data:` URLs become inline parts, as many readers show
    no others."""
    text_encoding: str | None = None
    """ "quoted-printable", "base64", "7bit" or "8bit" for texts; None chooses, and never 8bit."""
    dkim: Dkim | Sequence[Dkim] | None = None
    """Instead of the transport's."""
    protection: Protection | None = None
    """S/MIME or OpenPGP: who signs, and to whose keys it is encrypted."""
    tag: object = None
    """Comes back in the receipt."""
