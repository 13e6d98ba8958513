"""Random messages of ours, read by the standard library and by our own reader to the same content.

POSTHOUSE_COMPOSE_MESSAGES says how many; 10,000 are for a release.
"""

from __future__ import annotations

import email
import email.policy
import os
import random
from email.message import EmailMessage

import pytest

from posthouse.sending.message import (
    Alternative,
    Attachment,
    CalendarEvent,
    ListFields,
    Mailbox,
    Message,
    Priority,
)
from tests.sending.making import Leaf, check_wire, field, leaves, letter_of, recipients

COUNT = int(os.environ.get("POSTHOUSE_COMPOSE_MESSAGES", "300"))
GROUPS = 10

WORDS = (
    *("tea", "at", "five", "Grüße", "日本語", "Привет", "a,b", '"quoted"', "semi;colon", "=?x?="),
    *(
        "<b>",
        "100%",
        "back\\slash",
        "😀",
        "e\u0301",
        "(c)",
        "@home",
        "it's",
        "x" * 90,
        "ö" * 60,
        ".",
    ),
    *("From", "--", "=3D", "\u00a0", "\u202e"),
)
SUFFIXES = (".txt", ".png", ".pdf", ".docx", "", ".tar.gz", ".ICS", ".unknown")
TYPES = {"": "application/octet-stream", ".unknown": "application/octet-stream"}


class Maker:
    """One random message and what has to come out of it."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.leaves: list[Leaf] = []
        self.to: list[tuple[str, str]] = []
        self.message = self._message()

    def _words(self, most: int = 8) -> str:
        return " ".join(self._random.choices(WORDS, k=self._random.randint(1, most)))

    def _text(self) -> str:
        lines = [self._words(30) for _ in range(self._random.randint(1, 12))]
        return self._random.choice(("\n", "\r\n")).join(lines)

    def _octets(self) -> bytes:
        return self._random.randbytes(self._random.choice((0, 1, 56, 57, 58, 300, 80_000)))

    def _is(self, share: float) -> bool:
        return self._random.random() < share

    def _message(self) -> Message:
        for at in range(self._random.randint(1, 5)):
            self.to.append((self._words(3) if self._is(0.7) else "", f"r{at}@x.example"))
        self.subject = self._words(12)
        self.text = self._text()
        self.markup = f"<p>{self._text()}</p>"
        self.has_html = self._is(0.5)
        alternatives = self._alternatives()
        attachments = [self._attachment(n) for n in range(self._random.choice((0, 0, 1, 2, 4)))]
        event = f"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nX:{self._words()}\r\nEND:VCALENDAR\r\n"
        has_event = self._is(0.2)
        self._expect(alternatives, attachments, event if has_event else None)
        return Message(
            sender=Mailbox("ada@example.org", self._words(3)),
            to=[Mailbox(address, name) for name, address in self.to],
            bcc="blind@example.net" if self._is(0.3) else (),
            subject=self.subject,
            text=self.text,
            html=self.markup if self.has_html else None,
            alternatives=alternatives,
            attachments=attachments,
            calendar=CalendarEvent(content=event) if has_event else None,
            text_encoding=self._random.choice((None, None, "base64", "quoted-printable")),
            headers={"X-Random": self._words()},
            priority=self._random.choice(list(Priority)),
            list=ListFields(id=f"{self._random.choice(('', 'Tea ', 'Tée '))}<l.example>"),
            in_reply_to=self._random.choice(("", "a@b.example")),
        )

    def _alternatives(self) -> list[Alternative]:
        if not self._is(0.2):
            return []
        return [Alternative(content=self._text(), content_type="text/x-amp-html")]

    def _attachment(self, number: int) -> Attachment:
        name = f"{self._words(4).replace('/', '_')}{number}{self._random.choice(SUFFIXES)}"
        kind = self._random.choice((None, "application/x-thing; v=1", 'image/png; t="a b"'))
        cid = f"c{number}@x" if self._is(0.4) else None
        return Attachment(
            content=self._octets(),
            filename=name,
            content_type=kind,
            cid=cid,
            is_inline=self._is(0.2),
        )

    def _expect(
        self, others: list[Alternative], attachments: list[Attachment], event: str | None
    ) -> None:
        self.leaves.append(Leaf("text/plain", lines(self.text)))
        self.leaves += [Leaf("text/x-amp-html", lines(str(one.content))) for one in others]
        if self.has_html:
            self.leaves.append(Leaf("text/html", lines(self.markup)))
            self.leaves += [leaf(one) for one in attachments if one.cid]
        if event:
            self.leaves.append(Leaf("text/calendar", event.encode()))
        self.leaves += [leaf(one) for one in attachments if not (one.cid and self.has_html)]
        if event:
            self.leaves.append(Leaf("application/ics", event.encode(), "attachment", "invite.ics"))


def lines(text: str) -> bytes:
    return (text.replace("\r\n", "\n").replace("\n", "\r\n") + "\r\n").encode()


def leaf(attachment: Attachment) -> Leaf:
    kind = attachment.content_type or {
        ".txt": "text/plain",
        ".png": "image/png",
        ".pdf": "application/pdf",
        ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ".gz": "application/gzip",
        ".ics": "text/calendar",
    }.get(suffix(attachment.filename or ""), "application/octet-stream")
    disposition = "inline" if attachment.cid or attachment.is_inline else "attachment"
    assert isinstance(attachment.content, bytes)
    return Leaf(kind.partition(";")[0], attachment.content, disposition, attachment.filename)


def suffix(name: str) -> str:
    _, dot, found = name.rpartition(".")
    return f".{found.lower()}" if dot else ""


def by_the_standard_library(octets: bytes) -> tuple[EmailMessage, list[Leaf]]:
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    found = []
    for part in message.walk():
        if part.is_multipart():
            continue
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        disposition = part.get_content_disposition() or ""
        found.append(Leaf(part.get_content_type(), content, disposition, part.get_filename()))
        assert not part.defects, part.defects
    return message, found


def stripped(one: Leaf) -> Leaf:
    """The standard library takes blanks of any kind off the ends of file names."""
    name = None if one.file_name is None else one.file_name.strip()
    return Leaf(one.media_type, one.content, one.disposition, name)


@pytest.mark.parametrize("group", range(GROUPS))
def test_random_messages_are_read_as_they_were_meant(group: int) -> None:
    for seed in range(group, COUNT, GROUPS):
        made = Maker(seed)
        letter = letter_of(made.message)
        check_wire(letter.octets)
        assert letter.octets.isascii(), seed
        assert leaves(letter) == made.leaves, seed
        assert field(letter, "subject") == made.subject.strip(), seed
        blind = ["blind@example.net"] if made.message.bcc else []
        assert recipients(letter) == [address for _, address in made.to] + blind, seed
        assert b"blind" not in letter.octets, seed
        message, found = by_the_standard_library(letter.octets)
        assert found == [stripped(one) for one in made.leaves], seed
        shown = [(one.display_name, one.addr_spec) for one in message["to"].addresses]
        assert [address for _, address in shown] == [address for _, address in made.to], seed
        assert message["message-id"] == letter.message_id and message["bcc"] is None
        assert " ".join(message["subject"].split()) == " ".join(made.subject.split()), seed
