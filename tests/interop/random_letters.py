"""Random messages that use all of `Message`, and what any reader has to find in each: the fields as
people read them, how the parts are nested, and the octets of every one.

A seed makes the same message each time. What is expected is said here by RFC 5322 and RFC 2045 and
the documentation of `Message`, and not asked of our own reader.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec

from posthouse.sending import (
    Alternative,
    Attachment,
    CalendarEvent,
    ListFields,
    Mailbox,
    Message,
    Priority,
)
from tests.interop.letter_content import Content, Part, Person
from tests.interop.odd_words import (
    ASCII_DOMAINS,
    DOMAINS,
    ENCODINGS,
    GROUP,
    LINES,
    LOCAL_PARTS,
    ODD_NAMES,
    SUFFIXES,
    WORDS,
)
from tests.sending.making import letter_of, simple

Pair = tuple[dict[str, Any], dict[str, Any]]
"""Of a `Message`, and of its `Content`."""

WITHIN = "Within.\n"
"""The text of messages within."""


class Made(msgspec.Struct, frozen=True):
    message: Message
    content: Content


def make(seed: int) -> Made:
    return _Maker(random.Random(seed)).made()


class _Maker:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._alternatives: list[tuple[Alternative, Part]] = []
        self._attached: list[tuple[Attachment, Part]] = []

    # --- chance ---

    def _is(self, share: float) -> bool:
        return self._chance.random() < share

    def _words(self, most: int = 8) -> str:
        return " ".join(self._chance.choices(WORDS, k=self._chance.randint(1, most)))

    def _token(self, octets: int = 12) -> str:
        return "".join(self._chance.choices(string.ascii_letters + string.digits, k=octets))

    def _text(self) -> str:
        lines = [
            self._chance.choice(LINES) if self._is(0.3) else self._words(30)
            for _ in range(self._chance.randint(1, 15))
        ]
        end = self._chance.choice(("", "\n", "\n\n\n"))
        return self._chance.choice(("\n", "\r\n", "\r")).join(lines) + end

    def _octets(self) -> bytes:
        size = self._chance.choice((0, 1, 2, 56, 57, 58, 300, 5_000, 80_000))
        kind = self._chance.random()
        if kind < 0.6:
            return self._chance.randbytes(size)
        return (b"--=_x\r\nFrom \n\r.\r\n" * size)[:size] if kind < 0.8 else bytes(size)

    # --- people ---

    def _people(self, most: int) -> list[Person]:
        return [self._person() for _ in range(self._chance.randint(0, most))]

    def _person(self) -> Person:
        local, domain = "ada", "example.org"
        if self._is(0.5):
            local, domain = self._chance.choice(LOCAL_PARTS), self._chance.choice(DOMAINS)
        return (self._words(4) if self._is(0.7) else "", f"{local}@{domain}")

    def _ids(self, most: int) -> list[str]:
        return [
            f"<{self._token(self._chance.choice((3, 20, 200)))}.{number}@{self._token()}.example>"
            for number in range(self._chance.randint(0, most))
        ]

    # --- parts ---

    def _alternative(self) -> None:
        if self._is(0.7):
            text = self._text()
            kind = self._chance.choice(("text/x-amp-html", "text/markdown; variant=GFM"))
            given = Alternative(
                content=text, content_type=kind, encoding=self._chance.choice(ENCODINGS)
            )
            content = lines(text)
        else:
            kind = "application/x-rich; v=1"
            content = self._octets()
            given = Alternative(content=content, content_type=kind)
        self._alternatives.append((given, _part(kind, content)))

    def _attachment(self, number: int) -> None:
        kind = self._chance.random()
        if kind < 0.1:
            self._attach_message()
        elif kind < 0.2:
            self._attach_raw()
        elif kind < 0.35:
            self._attach_text()
        else:
            self._attach_octets(number)

    def _name(self) -> str:
        if self._is(0.4):
            return self._chance.choice(ODD_NAMES)
        return self._words(4) + self._chance.choice(tuple(SUFFIXES))

    def _attach_octets(self, number: int) -> None:
        name = self._name()
        content = self._octets()
        guessed = next((SUFFIXES[one] for one in SUFFIXES if one and name.endswith(one)), "")
        odd = ("application/x-thing; v=1", 'image/png; t="a b"', "image/svg+xml")
        kind = None if guessed and self._is(0.5) else self._chance.choice(odd)
        cid = f"c{number}.{self._token(5)}@x" if self._is(0.4) else None
        is_inline = self._is(0.2)
        given = Attachment(
            content=content, filename=name, content_type=kind, cid=cid, is_inline=is_inline,
            headers={"X-Part": self._words(3)} if self._is(0.2) else {},
        )  # fmt: skip
        disposition = "inline" if cid or is_inline else "attachment"
        self._attached.append((given, _part(kind or guessed, content, disposition, name, cid)))

    def _attach_text(self) -> None:
        """With quoted-printable, line ends are text's own; else the octets stay as they are."""
        text = self._text()
        encoding = self._chance.choice(("quoted-printable", None, "8bit"))
        name = self._words(2)
        if encoding == "8bit":
            text = "Zeile für Zeile\n.\nFrom here\n"
        content = text.encode() if encoding is None else lines(text, whole=False)
        kind = self._chance.choice(("text/plain", "text/html", "text/x-log; charset=utf-8"))
        octets = text.encode() if encoding is None else content
        given = Attachment(content=octets, filename=name, content_type=kind, encoding=encoding)
        self._attached.append((given, _part(kind, content, "attachment", name)))

    def _attach_message(self) -> None:
        inner = simple(subject=self._words(3), text=WITHIN, message_id="<in@x.example>")
        octets = letter_of(inner).octets
        name = "within.eml" if self._is(0.5) else ""
        given = Attachment(content=octets, filename=name, content_type="message/rfc822")
        self._attached.append((given, _part("message/rfc822", octets, "attachment", name or None)))

    def _attach_raw(self) -> None:
        raw = (
            b"content-type: application/x-raw;\r\n\tname=raw.bin ; b=c\r\n"
            b"Content-Disposition: INLINE\r\nX-Other: 1\r\n\r\nraw " + self._token().encode()
        )
        part = _part("application/x-raw; b=c", raw.partition(b"\r\n\r\n")[2], "inline", "raw.bin")
        self._attached.append((Attachment(raw=raw), part))

    # --- the message ---

    def made(self) -> Made:
        given, wanted = self._addressed()
        for make_some in (self._text_fields, self._ids_and_date, self._list_fields, self._body):
            more_given, more_wanted = make_some()
            given |= more_given
            wanted |= more_wanted
        return Made(Message(**given), Content(**wanted))

    def _addressed(self) -> Pair:
        sender, on_behalf = self._person(), self._person() if self._is(0.2) else None
        to, cc = self._people(6), self._people(40 if self._is(0.1) else 2)
        reply_to = self._people(2) if self._is(0.3) else []
        group = [("", "c@x.example"), ("D, E", "d@x.example")] if self._is(0.1) else []
        given = {
            "sender": _mailbox(sender),
            "on_behalf": _mailbox(on_behalf) if on_behalf else "",
            "to": [_mailbox(one) for one in to] or "everybody@example.net",
            "cc": [*map(_mailbox, cc), *([GROUP] if group else [])],
            "bcc": "blind@example.net" if self._is(0.3) else (),
            "reply_to": [_mailbox(one) for one in reply_to],
        }
        wanted = {
            "sender": _read(sender),
            "on_behalf": _read(on_behalf) if on_behalf else None,
            "to": tuple(map(_read, to)) or (("", "everybody@example.net"),),
            "cc": (*map(_read, cc), *group),
            "reply_to": tuple(map(_read, reply_to)),
        }
        return given, wanted

    def _text_fields(self) -> Pair:
        subject = self._words(40) if self._is(0.95) else ""
        extra = [self._words(60 if self._is(0.1) else 6) for _ in range(self._chance.randint(0, 2))]
        given = {
            "subject": subject,
            "headers": {"X-Extra": extra} if extra else {},
            "priority": self._chance.choice(list(Priority)),
        }
        return given, {"subject": subject, "extra": tuple(extra)}

    def _ids_and_date(self) -> Pair:
        answered, references = self._ids(1), self._ids(30 if self._is(0.2) else 2)
        zone = timezone(timedelta(minutes=self._chance.choice((0, 60, -210, 345, 720))))
        given = {
            "date": datetime.fromtimestamp(self._chance.randint(10**9, 2 * 10**9), zone),
            "message_id": f"<{self._token()}.{self._token()}@x.example>",
            "in_reply_to": " ".join(answered),
            "references": references,
        }
        # A reply that names no references has at least what it answers in them.
        return given, given | {"references": tuple(references or answered)}

    def _list_fields(self) -> Pair:
        if self._is(0.6):
            return {}, {"list_id": "", "unsubscribe": ()}
        title = self._chance.choice(("", "Tea ", "Tée, täglich ", '"Quoted" '))
        list_id = f"{title}<{self._token().lower()}.example>"
        urls = [
            f"https://example.org/{self._token(self._chance.choice((5, 90, 400)))}?a=1&b=(2)"
            for _ in range(self._chance.randint(0, 2))
        ]
        given = ListFields(id=list_id, unsubscribe=urls, is_one_click=bool(urls))
        wanted = {"list_id": list_id.replace('"', ""), "unsubscribe": tuple(urls)}
        return {"list": given}, wanted

    def _body(self) -> Pair:
        for _ in range(self._chance.choice((0, 0, 0, 1, 2))):
            self._alternative()
        for number in range(self._chance.choice((0, 0, 1, 1, 2, 5))):
            self._attachment(number)
        text = self._text() if self._is(0.8) else None
        markup = f"<p>{self._text()}</p>" if self._is(0.5) else None
        encoding = self._chance.choice(ENCODINGS)
        if self._is(0.1):  # which long lines do not fit
            text, markup, encoding = "Zeile für Zeile\n" * 9, None, "8bit"
        is_made = markup is not None and not text  # the text, of the HTML
        if is_made:
            markup = "<p>Only <b>this</b></p>"
        event = self._event() if self._is(0.2) else None
        given = {
            "text": text,
            "html": markup,
            "alternatives": [one for one, _ in self._alternatives],
            "attachments": [one for one, _ in self._attached],
            "calendar": event,
            "text_encoding": encoding,
        }
        tree, parts = self._nested("Only this\n" if is_made else text, markup, event)
        return given, {"tree": tree, "parts": parts}

    def _event(self) -> CalendarEvent:
        method = self._chance.choice(("REQUEST", "CANCEL", "REPLY"))
        summary = self._words(6)
        text = f"BEGIN:VCALENDAR\r\nMETHOD:{method}\r\nSUMMARY:{summary}\r\nEND:VCALENDAR\r\n"
        return CalendarEvent(content=text, filename="invite.ics" if self._is(0.7) else None)

    def _nested(
        self, text: str | None, markup: str | None, event: CalendarEvent | None
    ) -> tuple[str, tuple[Part, ...]]:
        """As the documentation of `posthouse.sending.parts` draws it."""
        found: list[Part] = []

        def leaf(part: Part) -> str:
            found.append(part)
            return part.media_type

        texts: list[str] = []
        if text is not None:
            texts.append(leaf(_part("text/plain", lines(text))))
        are_rare = [one.media_type.startswith("text/") for _, one in self._alternatives]
        pairs = list(zip(are_rare, self._alternatives, strict=True))
        texts += [leaf(part) for is_rare, (_, part) in pairs if is_rare]
        related = [part for given, part in self._attached if given.cid] if markup else []
        if markup is not None:
            inner = [leaf(_part("text/html", lines(markup))), *map(leaf, related)]
            texts.append(_level("related", inner))
        texts += [leaf(part) for is_rare, (_, part) in pairs if not is_rare]
        if event is not None:
            assert isinstance(event.content, str)
            method = re.findall(r"METHOD:(\w+)", event.content)[0]
            kind = f"text/calendar; method={method}"
            texts.append(leaf(_part(kind, event.content.encode())))
        others = [part for _, part in self._attached if part not in related]
        if event is not None and event.filename:
            content = str(event.content).encode()
            others.append(_part("application/ics", content, "attachment", event.filename))
        return self._whole(texts, others, found)

    def _whole(
        self, texts: list[str], others: list[Part], found: list[Part]
    ) -> tuple[str, tuple[Part, ...]]:
        found += others
        kinds = [part.media_type for part in others]
        if not texts and not others:
            return "text/plain", (_part("text/plain", b""),)
        if texts:
            return _level("mixed", [_level("alternative", texts), *kinds]), tuple(found)
        if len(others) == 1 and self._may_be_root():
            return kinds[0], tuple(found)
        return f"mixed({' '.join(kinds)})", tuple(found)

    def _may_be_root(self) -> bool:
        """An only attachment is the whole message, where it needs no fields but our own."""
        given = self._attached[0][0] if self._attached else None  # None is a calendar's file
        return given is None or (given.raw is None and not given.headers)


def lines(text: str, *, whole: bool = True) -> bytes:
    """As text arrives: CRLF, and one at the end; `whole` False leaves the end as it is."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if whole and text and not text.endswith("\n"):
        text += "\n"
    return text.replace("\n", "\r\n").encode()


def _level(subtype: str, parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{subtype}({' '.join(parts)})"


def _part(
    kind: str,
    content: bytes,
    disposition: str = "",
    name: str | None = None,
    cid: str | None = None,
) -> Part:
    media_type, *more = (one.strip() for one in kind.split(";"))
    pairs = [one.partition("=") for one in more]
    values = tuple((key, value.strip('"')) for key, _, value in pairs if key != "charset")
    return Part(
        media_type=media_type,
        content=content,
        disposition=disposition,
        file_name=name,
        cid=cid,
        parameters=values,
    )


def _mailbox(person: Person) -> Mailbox:
    name, address = person
    return Mailbox(address, name)


def _read(person: Person) -> Person:
    """As it is read: domains are sent as A-labels (RFC 5890 §2.3.2.1)."""
    name, address = person
    local, _, domain = address.rpartition("@")
    return name, f"{local}@{ASCII_DOMAINS.get(domain, domain)}"
