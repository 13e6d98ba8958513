"""Each example of nodemailer's documentation on messages, and its twin of ours: the same parts.

What both made for the same input is taken apart: structure, types, dispositions, names, decoded
contents, decoded header fields, envelope. Where they differ on purpose a row of DIFFERENCES says
what each makes and why; a difference without a row fails, and so does a row without a difference.

Not compared: dates and ids that are made up, charsets (the decoded text is), transfer encodings,
and the last line end of a text, which nodemailer leaves out.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from posthouse.kernel.ports import Fetched
from posthouse.message import mime, words
from posthouse.sending.message import (
    Alternative,
    Attachment,
    CalendarEvent,
    ListFields,
    Mailbox,
    Message,
    Priority,
    SendEnvelope,
)
from posthouse.sending.options import Options
from posthouse.sending.sources import gather
from tests.interop.programs import needs_node_module, node_modules
from tests.sending.making import letter_of, recipients

pytestmark = needs_node_module("nodemailer")

SCRIPT = Path(__file__).with_name("nodemailer_twins.js")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
EVENT = (
    "BEGIN:VCALENDAR\r\nPRODID:-//Example//EN\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\n"
    "UID:1@example.org\r\nSUMMARY:Tee für zwei\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
BINARY = b"\0\xff\r\n\n"
RAW_PART = "Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nHello!"
MADE_UP = frozenset(
    {"date", "message-id", "mime-version", "content-type", "content-transfer-encoding", "bcc"}
)
MIXED_WAYS = 'foobar@example.com, "Ноде Майлер" <bar@example.com>, "Name, User" <baz@example.com>'


class Twin(msgspec.Struct, frozen=True):
    theirs: dict[str, object]
    """nodemailer's options, but `from` and `to` where they are the usual ones."""
    ours: Message


class Chunks:
    """Octets piece by piece, any number of times."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)


class Difference(msgspec.Struct, frozen=True):
    twin: str
    aspect: str
    theirs: str
    ours: str


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def octets(content: bytes) -> dict[str, str]:
    return {"$octets": b64(content)}


def simple(**given: object) -> Message:
    usual = {"sender": "sender@example.com", "to": "recipient@example.com"}
    return Message(**(usual | given))  # type: ignore[arg-type]


def twins(folder: Path, web: str) -> dict[str, Twin]:
    """The examples; those with files have them in `folder`, those with URLs at `web`."""
    path = folder / "file.txt"
    path.write_bytes(b"Some notes\n")
    html = folder / "page.html"
    html.write_text("<p>From a <b>file</b></p>", "utf-8")
    event = folder / "event.ics"
    event.write_bytes(EVENT.encode())
    data_url = "data:text/plain;base64,aGVsbG8gd29ybGQ="
    picture_url = f"data:image/png;base64,{b64(PNG)}"
    raw = (
        "From: sender@example.com\r\nTo: recipient@example.com\r\nSubject: test message\r\n"
        "Message-ID: <raw@example.com>\r\nDate: Mon, 12 Nov 2018 10:00:00 +0000\r\n\r\n"
        "Hello world!\r\n"
    )
    return {
        # --- message configuration ---
        "text": Twin(
            {"subject": "Message title", "text": "Plaintext version of the message"},
            simple(subject="Message title", text="Plaintext version of the message"),
        ),
        "text and html": Twin(
            {"subject": "Hello ✔", "text": "Hello world?", "html": "<b>Hello wörld?</b>"},
            simple(subject="Hello ✔", text="Hello world?", html="<b>Hello wörld?</b>"),
        ),
        "html only": Twin({"html": "<p>HTML version</p>"}, simple(html="<p>HTML version</p>")),
        "html from a file": Twin(
            {"text": "x", "html": {"path": str(html)}}, simple(text="x", html=html)
        ),
        "amp": Twin(
            {"text": "For clients with plaintext support only",
             "html": "<p>For clients that do not support AMP4EMAIL</p>",
             "amp": "<!doctype html><html ⚡4email><body><p>AMP</p></body></html>"},
            simple(
                text="For clients with plaintext support only",
                html="<p>For clients that do not support AMP4EMAIL</p>",
                alternatives=[
                    Alternative(
                        content="<!doctype html><html ⚡4email><body><p>AMP</p></body></html>",
                        content_type="text/x-amp-html",
                    )
                ],
            ),
        ),
        "watch html": Twin(
            {"text": "t", "html": "<p>h</p>", "watchHtml": "<b>w</b>"},
            simple(
                text="t",
                html="<p>h</p>",
                alternatives=[Alternative(content="<b>w</b>", content_type="text/watch-html")],
            ),
        ),
        "advanced fields": Twin(
            {"sender": "secretary@example.com", "replyTo": "Answers <answers@example.com>",
             "cc": "a@example.com, b@example.com", "bcc": ["c@example.com"],
             "inReplyTo": "<parent@example.com>",
             "references": ["<root@example.com>", "parent@example.com"],
             "date": {"$date": "2018-11-12T10:00:00Z"}, "messageId": "<mine@example.com>",
             "subject": "x", "text": "x"},
            simple(
                on_behalf="secretary@example.com",
                reply_to="Answers <answers@example.com>",
                cc="a@example.com, b@example.com",
                bcc=["c@example.com"],
                in_reply_to="<parent@example.com>",
                references=["<root@example.com>", "parent@example.com"],
                date=datetime(2018, 11, 12, 10, tzinfo=UTC),
                message_id="<mine@example.com>",
                subject="x",
                text="x",
            ),
        ),
        "reply": Twin(
            {"inReplyTo": "parent@example.com", "text": "x"},
            simple(in_reply_to="parent@example.com", text="x"),
        ),
        "high priority": Twin(
            {"priority": "high", "text": "x"}, simple(priority=Priority.HIGH, text="x")
        ),
        "low priority": Twin(
            {"priority": "low", "text": "x"}, simple(priority=Priority.LOW, text="x")
        ),
        "text encoding": Twin(
            {"textEncoding": "base64", "text": "Grüße"},
            simple(text_encoding="base64", text="Grüße"),
        ),
        "long lines": Twin({"text": "long " * 500}, simple(text="long " * 500)),
        "long subject": Twin(
            {"subject": "Grüße an alle, die das lesen " * 8 + "!", "text": "x"},
            simple(subject="Grüße an alle, die das lesen " * 8 + "!", text="x"),
        ),
        # --- attachments ---
        "attached string": Twin(
            {"text": "x", "attachments": [{"filename": "text1.txt", "content": "hello world!"}]},
            simple(
                text="x", attachments=[Attachment(filename="text1.txt", content="hello world!")]
            ),
        ),
        "attached octets": Twin(
            {"text": "x", "attachments": [{"filename": "a.bin", "content": octets(BINARY)}]},
            simple(text="x", attachments=[Attachment(filename="a.bin", content=BINARY)]),
        ),
        "attached file": Twin(
            {"text": "x", "attachments": [{"filename": "text3.txt", "path": str(path)}]},
            simple(text="x", attachments=[Attachment(filename="text3.txt", path=path)]),
        ),
        "attached file with its own name": Twin(
            {"text": "x", "attachments": [{"path": str(path)}]},
            simple(text="x", attachments=[str(path)]),
        ),
        "attached stream": Twin(
            {"text": "x",
             "attachments": [{"filename": "text4.txt", "content": {"$stream": b64(b"a\nb")}}]},
            simple(text="x", attachments=[
                Attachment(filename="text4.txt", content=Chunks([b"a\nb"]))]),
        ),
        "attached with a type": Twin(
            {"text": "x", "attachments": [
                {"filename": "text.bin", "content": "hello world!", "contentType": "text/plain"}]},
            simple(
                text="x",
                attachments=[
                    Attachment(
                        filename="text.bin", content="hello world!", content_type="text/plain"
                    )
                ],
            ),
        ),
        "attached by url": Twin(
            {"text": "x", "attachments": [{"filename": "license.txt", "path": f"{web}/license"}]},
            simple(
                text="x",
                attachments=[Attachment(filename="license.txt", url="https://web.example/license")],
            ),
        ),
        "attached in base64": Twin(
            {"text": "x", "attachments": [
                {"filename": "text1.txt", "content": "aGVsbG8gd29ybGQh", "encoding": "base64"}]},
            simple(
                text="x",
                attachments=[
                    Attachment(filename="text1.txt", content=base64.b64decode("aGVsbG8gd29ybGQh"))
                ],
            ),
        ),
        "attached data url": Twin(
            {"text": "x", "attachments": [{"path": data_url}]},
            simple(text="x", attachments=[Attachment(path=data_url)]),
        ),
        "attached raw": Twin(
            {"text": "x", "attachments": [{"raw": RAW_PART}]},
            simple(text="x", attachments=[Attachment(raw=RAW_PART.encode())]),
        ),
        "attached with fields": Twin(
            {"text": "x", "attachments": [
                {"filename": "a.txt", "content": "x", "headers": {"X-Thing": "42"}}]},
            simple(
                text="x",
                attachments=[Attachment(filename="a.txt", content="x", headers={"X-Thing": "42"})],
            ),
        ),
        "attached without a name": Twin(
            {"text": "x", "attachments": [
                {"filename": False, "content": "x", "contentType": "text/csv"}]},
            simple(text="x", attachments=[
                Attachment(filename="", content="x", content_type="text/csv")]),
        ),
        "attached with a name made up": Twin(
            {"text": "x", "attachments": [
                {"content": octets(b"%PDF"), "contentType": "application/pdf"}]},
            simple(text="x", attachments=[
                Attachment(content=b"%PDF", content_type="application/pdf")]),
        ),
        "attached message": Twin(
            {"text": "x", "attachments": [{"content": raw, "contentType": "message/rfc822"}]},
            simple(text="x", attachments=[Attachment(content=raw, content_type="message/rfc822")]),
        ),
        "attached names": Twin(
            {"text": "x", "attachments": [
                {"filename": name, "content": "x"} for name in NAMES]},
            simple(text="x", attachments=[Attachment(filename=n, content="x") for n in NAMES]),
        ),
        "attachment alone": Twin(
            {"attachments": [{"filename": "a.pdf", "content": octets(b"%PDF")}]},
            simple(attachments=[Attachment(filename="a.pdf", content=b"%PDF")]),
        ),
        "attached inline": Twin(
            {"text": "x", "attachments": [{
                "filename": "a.png", "content": octets(PNG), "contentDisposition": "inline"}]},
            simple(text="x", attachments=[
                Attachment(filename="a.png", content=PNG, is_inline=True)]),
        ),
        # --- alternatives ---
        "alternatives": Twin(
            {"text": "Hello world!", "html": "<b>Hello world!</b>", "alternatives": [
                {"contentType": "text/x-web-markdown", "content": "**Hello world!**"}]},
            simple(
                text="Hello world!",
                html="<b>Hello world!</b>",
                alternatives=[
                    Alternative(content="**Hello world!**", content_type="text/x-web-markdown")
                ],
            ),
        ),
        # --- embedded images ---
        "embedded image": Twin(
            {"text": "x", "html": 'Embedded image: <img src="cid:unique@nodemailer.com"/>',
             "attachments": [{
                 "filename": "image.png", "content": octets(PNG), "cid": "unique@nodemailer.com"}]},
            simple(
                text="x",
                html='Embedded image: <img src="cid:unique@nodemailer.com"/>',
                attachments=[
                    Attachment(filename="image.png", content=PNG, cid="unique@nodemailer.com")
                ],
            ),
        ),
        "embedded image and file": Twin(
            {"text": "x", "html": '<img src="cid:i@x"/>', "attachments": [
                {"filename": "a.pdf", "content": "x"},
                {"filename": "i.png", "content": octets(PNG), "cid": "i@x"}]},
            simple(
                text="x",
                html='<img src="cid:i@x"/>',
                attachments=[
                    Attachment(filename="a.pdf", content="x"),
                    Attachment(filename="i.png", content=PNG, cid="i@x"),
                ],
            ),
        ),
        "embedded data url": Twin(
            {"text": "x", "html": f'<img src="{picture_url}">', "attachDataUrls": True},
            simple(text="x", html=f'<img src="{picture_url}">', inline_data_urls=True),
        ),
        # --- calendar events ---
        "calendar event": Twin(
            {"text": "Please see the attached appointment", "icalEvent": {
                "filename": "invitation.ics", "method": "request", "content": EVENT}},
            simple(
                text="Please see the attached appointment",
                calendar=CalendarEvent(content=EVENT, filename="invitation.ics", method="request"),
            ),
        ),
        "calendar event from a file": Twin(
            {"text": "x", "html": "<p>x</p>",
             "icalEvent": {"method": "request", "path": str(event)}},
            simple(text="x", html="<p>x</p>", calendar=CalendarEvent(content=event)),
        ),
        "calendar event as a string": Twin(
            {"text": "x", "icalEvent": EVENT},
            simple(text="x", calendar=CalendarEvent(content=EVENT)),
        ),
        # --- list headers ---
        "list headers": Twin(
            {"text": "x", "list": {
                "help": "admin@example.com?subject=help",
                "unsubscribe": {"url": "http://example.com", "comment": "Comment"},
                "subscribe": [
                    "admin@example.com?subject=subscribe",
                    {"url": "http://example.com", "comment": "Subscribe"}],
                "post": [[
                    "http://example.com/post",
                    {"url": "admin@example.com?subject=post", "comment": "Post"}]],
                "id": {"url": "mylist.example.com", "comment": "My Awesome List"}}},
            simple(
                text="x",
                list=ListFields(
                    help="admin@example.com?subject=help",
                    unsubscribe="http://example.com (Comment)",
                    subscribe=[
                        "admin@example.com?subject=subscribe",
                        "http://example.com (Subscribe)",
                    ],
                    post=["http://example.com/post", "admin@example.com?subject=post (Post)"],
                    id="My Awesome List <mylist.example.com>",
                ),
            ),
        ),
        # --- custom headers ---
        "custom headers": Twin(
            {"text": "x", "headers": {"x-my-key": "header value", "x-other": "another value"}},
            simple(text="x", headers={"x-my-key": "header value", "x-other": "another value"}),
        ),
        "custom headers several times": Twin(
            {"text": "x", "headers": {"x-my-key": ["value 1", "value 2", "välue 3"]}},
            simple(text="x", headers={"x-my-key": ["value 1", "value 2", "välue 3"]}),
        ),
        "custom headers that are long": Twin(
            {"text": "x", "headers": {"x-processed": "a really long header value " * 20 + "."}},
            simple(text="x", headers={"x-processed": "a really long header value " * 20 + "."}),
        ),
        # --- custom source ---
        "raw": Twin(
            {"raw": raw, "envelope": {"from": "sender@example.com", "to": ["r@example.com"]}},
            Message(
                raw=raw,
                envelope=SendEnvelope(sender="sender@example.com", recipients=["r@example.com"]),
            ),
        ),
        "raw octets": Twin(
            {"raw": octets(raw.replace("<raw@", "<octets@").replace("\r\n", "\n").encode()),
             "envelope": {"from": "sender@example.com", "to": ["r@example.com"]}},
            Message(
                raw=raw.replace("<raw@", "<octets@").replace("\r\n", "\n").encode(),
                envelope=SendEnvelope(sender="sender@example.com", recipients=["r@example.com"]),
            ),
        ),
        "raw stream": Twin(
            {"raw": {"$stream": b64(raw.replace("<raw@", "<stream@").encode())},
             "envelope": {"from": "sender@example.com", "to": ["r@example.com"]}},
            Message(
                raw=Chunks([raw.replace("<raw@", "<stream@").encode()]),
                envelope=SendEnvelope(sender="sender@example.com", recipients=["r@example.com"]),
            ),
        ),
        # --- addresses ---
        "address formats": Twin(
            {"to": MIXED_WAYS, "text": "x"}, simple(to=MIXED_WAYS, text="x")
        ),
        "address objects": Twin(
            {"from": {"name": 'Node "M" Mailer', "address": "sender@example.com"},
             "to": ["foo@example.com", {"name": "Майлер, Ноде", "address": "foo2@example.com"}],
             "cc": {"name": "Üser", "address": "c@example.com"}, "text": "x"},
            simple(
                sender=Mailbox("sender@example.com", 'Node "M" Mailer'),
                to=["foo@example.com", Mailbox("foo2@example.com", "Майлер, Ноде")],
                cc=Mailbox("c@example.com", "Üser"),
                text="x",
            ),
        ),
        "groups": Twin(
            {"to": "Team: a@example.com, B <b@example.com>;, c@example.com", "text": "x"},
            simple(to="Team: a@example.com, B <b@example.com>;, c@example.com", text="x"),
        ),
        "unicode domains": Twin(
            {"to": "Andris <andris@näide.example>", "text": "x"},
            simple(to="Andris <andris@näide.example>", text="x"),
        ),
        "unicode local-parts": Twin(
            {"to": "пётр@example.com", "text": "x"}, simple(to="пётр@example.com", text="x")
        ),
        "the same recipient twice": Twin(
            {"to": "a@example.com", "cc": "A <a@example.com>", "text": "x"},
            simple(to="a@example.com", cc="A <a@example.com>", text="x"),
        ),
        # --- envelope ---
        "envelope": Twin(
            {"from": "mailer@kreata.ee", "to": "daemon@kreata.ee", "text": "x", "envelope": {
                "from": "Daemon <deamon@kreata.ee>",
                "to": "mailer@kreata.ee, Mailer <mailer2@kreata.ee>"}},
            simple(
                sender="mailer@kreata.ee",
                to="daemon@kreata.ee",
                text="x",
                envelope=SendEnvelope(
                    sender="Daemon <deamon@kreata.ee>",
                    recipients=["mailer@kreata.ee", "Mailer <mailer2@kreata.ee>"],
                ),
            ),
        ),
    }  # fmt: skip


NAMES = (
    *("simple.txt", "with blank.txt", 'quote".txt', "Jõgeva.txt", "日本語ファイル.txt", "it's.txt"),
    "a rather long name that does not fit on one line of seventy-eight octets.txt",
    "ein langer Name mit Ümläuten, der auch nicht in eine Zeile passen wird.txt",
)

# Differences that are on purpose: (twin, aspect, nodemailer's, ours), by reason.
DIFFERENCES: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "HTML alone is not readable everywhere, so its text goes along": (
        ("html only", "tree", "text/html", "alternative(text/plain text/html)"),
        ("html only", "text/plain 1 content", "-", "HTML version"),
        ("html only", "text/plain 1 disposition", "-", ""),
        ("html only", "text/plain 1 name", "-", ""),
    ),
    "readers that show the last alternative whatever it is get the HTML (RFC 2046 §5.1.4)": (
        (
            "alternatives",
            "tree",
            "alternative(text/plain text/html text/x-web-markdown)",
            "alternative(text/plain text/x-web-markdown text/html)",
        ),
    ),
    "threads are made of References, so a reply has one (RFC 5322 §3.6.4)": (
        ("reply", "field references", "-", "<parent@example.com>"),
    ),
    "filters expect more of Outlook's fields beside X-MSMail-Priority": (
        ("high priority", "field x-msmail-priority", "High", "-"),
        ("low priority", "field x-msmail-priority", "Low", "-"),
    ),
    "Importance is written as its definition does; its case does not matter": (
        ("high priority", "field importance", "High", "high"),
        ("low priority", "field importance", "Low", "low"),
    ),
    "what stands in `attachments` is an attachment; `is_inline` is there for the other": (
        ("attached message", "message/rfc822 1 disposition", "inline", "attachment"),
    ),
    "the part says what the object says (RFC 6047 §2.4)": (
        ("calendar event as a string", "text/calendar 1 method", "PUBLISH", "REQUEST"),
    ),
    "each list field stands once, with its URLs in order (RFC 2369 §2)": (
        (
            "list headers",
            "field list-subscribe",
            "<mailto:admin@example.com?subject=subscribe> | <http://example.com> (Subscribe)",
            "<mailto:admin@example.com?subject=subscribe>, <http://example.com> (Subscribe)",
        ),
    ),
    "the same with other blanks or quotes": (
        (
            "list headers",
            "field list-id",
            '"My Awesome List" <mylist.example.com>',
            "My Awesome List <mylist.example.com>",
        ),
        (
            "groups",
            "field to",
            "Team:a@example.com, B <b@example.com>;, c@example.com",
            "Team: a@example.com, B <b@example.com>;, c@example.com",
        ),
    ),
}
_MADE_UP_ID = re.compile(r"[0-9a-f]{20,}@(?:localhost|inline)")


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"A license")

    def log_message(self, *args: object) -> None: ...


class Web:
    """The same page for our side, which goes to https only."""

    async def get(
        self, url: str, *, octets_max: int, timeout_s: float, allow_http: bool = False
    ) -> Fetched:
        return Fetched(status=200, media_type="text/plain", octets=b"A license")

    async def post(
        self, url: str, octets: bytes, *, media_type: str, octets_max: int, timeout_s: float
    ) -> Fetched:
        raise AssertionError("nothing is posted")


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, web: str) -> tuple[dict[str, Twin], dict]:
    """The twins, and what nodemailer made of its halves, in one run."""
    known = twins(tmp_path_factory.mktemp("twins"), web)
    return known, by_nodemailer(known)


def by_nodemailer(known: dict[str, Twin], place: dict[str, object] | None = None) -> dict:
    """What it made of its halves, or sent to a place: options of its SMTP transport."""
    usual = {"from": "sender@example.com", "to": "recipient@example.com"}
    wishes = {
        name: twin.theirs if "raw" in twin.theirs else usual | twin.theirs
        for name, twin in known.items()
    }
    found = subprocess.run(
        ["node", str(SCRIPT)],
        input=json.dumps(wishes).encode(),
        capture_output=True,
        env={
            "NODE_PATH": str(node_modules()),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PLACE": json.dumps(place) if place is not None else "",
        },
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr.decode()
    made: dict = json.loads(found.stdout)
    return made


def taken_apart(octets: bytes, sender: str, to: list[str]) -> dict[str, str]:
    """Everything about a message that is compared, by aspect."""
    root = mime.scan(octets)
    found = {"tree": tree(root), "envelope.sender": sender, "envelope.to": " ".join(to)}
    for one in root.section.fields:
        name = one.name.decode()
        if name not in MADE_UP:
            value = words.decode(" ".join(root.section.value(one).decode("utf-8").split()).encode())
            key = f"field {name}"
            found[key] = f"{found[key]} | {value}" if key in found else value
    counts: dict[str, int] = {}
    for part in root.walk():
        if not part.children:
            kind = f"{part.maintype.decode()}/{part.subtype.decode()}"
            counts[kind] = counts.get(kind, 0) + 1
            found |= part_aspects(part, f"{kind} {counts[kind]}")
    return found


def part_aspects(part: mime.Part, title: str) -> dict[str, str]:
    disposition = part.disposition
    is_text = part.maintype == b"text" and disposition is None
    content = mime.content(part, octets_max=1 << 24)
    text = _MADE_UP_ID.sub("made up", content.decode("utf-8", "backslashreplace"))
    found = {
        f"{title} content": text.removesuffix("\r\n") if is_text else text,
        f"{title} disposition": disposition[0].decode() if disposition else "",
        f"{title} name": part.file_name or "",
    }
    for name in ("method", "type"):
        value = part.parameters.raw(name.encode())
        if value is not None:
            found[f"{title} {name}"] = value.decode()
    for name in ("content-id", "x-thing"):
        value = part.section.first(name.encode())
        if value is not None:
            found[f"{title} {name}"] = _MADE_UP_ID.sub("made up", value.decode())
    return found


def tree(part: mime.Part) -> str:
    if part.children:
        return f"{part.subtype.decode()}({' '.join(map(tree, part.children))})"
    return f"{part.maintype.decode()}/{part.subtype.decode()}"


async def differences(name: str, twin: Twin, theirs: dict) -> set[Difference]:
    options = Options(may_fetch_urls=True)
    letter = letter_of(await gather(twin.ours, options=options, fetch=Web()))
    path = letter.envelope.reverse_path
    own = taken_apart(
        letter.octets, f"{path.local_part}@{path.domain}" if path else "", recipients(letter)
    )
    envelope = theirs["envelope"]
    other = taken_apart(base64.b64decode(theirs["octets"]), envelope["from"], envelope["to"])
    return compared(name, other, own)


def compared(name: str, other: dict[str, str], own: dict[str, str]) -> set[Difference]:
    return {
        Difference(name, aspect, other.get(aspect, "-"), own.get(aspect, "-"))
        for aspect in own.keys() | other.keys()
        if own.get(aspect) != other.get(aspect)
    }


def explained() -> set[Difference]:
    return {Difference(*row) for rows in DIFFERENCES.values() for row in rows}


def in_order(found: set[Difference]) -> list[Difference]:
    return sorted(found, key=lambda one: (one.twin, one.aspect))


async def test_each_example_of_nodemailer_is_made_the_same_by_us(made) -> None:
    known, theirs = made
    found: set[Difference] = set()
    for name, twin in known.items():
        found |= await differences(name, twin, theirs[name])
    wanted = explained()
    assert (in_order(found - wanted), in_order(wanted - found)) == ([], [])
