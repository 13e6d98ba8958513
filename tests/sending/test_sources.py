"""What a message is made of, read: files, streams, data: URLs, URLs, pictures of the HTML."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from posthouse.kernel.ports import Fetched, FetchFailed, FetchTrouble
from posthouse.net.fetch import HttpsFetch
from posthouse.sending import files, sources
from posthouse.sending.errors import MessageError
from posthouse.sending.message import Alternative, Attachment, CalendarEvent, Message
from posthouse.sending.options import Options
from posthouse.sending.sources import default_fetch, gather
from tests.sending.making import Leaf, field, leaves, letter_of, simple, tree

OPTIONS = Options()
PNG = b"\x89PNG\r\n\x1a\n"


async def gathered(message: Message, options: Options = OPTIONS, **more) -> list[Leaf]:
    return leaves(letter_of(await gather(message, options=options, **more)))


async def attached(attachment, options: Options = OPTIONS, **more) -> Leaf:
    return (await gathered(simple(attachments=[attachment]), options, **more))[1]


async def refused(message: Message, options: Options = OPTIONS, **more) -> MessageError:
    with pytest.raises(MessageError) as caught:
        await gather(message, options=options, **more)
    assert "\n" not in caught.value.text
    return caught.value


class Web:
    """A fetch that knows one page."""

    def __init__(self, answer: Fetched | FetchFailed) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def get(
        self, url: str, *, octets_max: int, timeout_s: float, allow_http: bool = False
    ) -> Fetched:
        self.asked.append(url)
        if isinstance(self.answer, FetchFailed):
            raise self.answer
        return self.answer

    async def post(
        self, url: str, octets: bytes, *, media_type: str, octets_max: int, timeout_s: float
    ) -> Fetched:
        raise AssertionError("nothing is posted")


async def pieces() -> AsyncIterator[bytes]:
    yield b"one "
    yield b"two"


def generated() -> Iterator[bytes]:
    yield b"one "
    yield b"two"


async def test_a_message_of_text_is_given_back_as_it_is() -> None:
    message = simple(html="<p>")
    assert await gather(message, options=OPTIONS) is message


async def test_contents_are_taken_from_wherever_they_are(tmp_path: Path) -> None:
    path = tmp_path / "notes é.txt"
    path.write_bytes(b"from a file")
    named = path.open("rb")
    for content, octets, name in (
        ("text", b"text", "attachment-1.bin"),
        (b"octets", b"octets", "attachment-1.bin"),
        (bytearray(b"octets"), b"octets", "attachment-1.bin"),
        (memoryview(b"octets"), b"octets", "attachment-1.bin"),
        (path, b"from a file", path.name),
        (named, b"from a file", path.name),
        (io.BytesIO(b"buffer"), b"buffer", "attachment-1.bin"),
        (io.StringIO("büffer"), "büffer".encode(), "attachment-1.bin"),
        ([b"a", b"b"], b"ab", "attachment-1.bin"),
        (generated(), b"one two", "attachment-1.bin"),
        (pieces(), b"one two", "attachment-1.bin"),
        (iter(()), b"", "attachment-1.bin"),
    ):
        leaf = await attached(Attachment(content=content))
        assert (leaf.content, leaf.file_name) == (octets, name)
    named.close()
    for given in (path, str(path), Attachment(path=path), Attachment(path=str(path))):
        assert await attached(given) == Leaf("text/plain", b"from a file", "attachment", path.name)


async def test_texts_and_events_come_from_files_too(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("Grüße\n", "utf-8")
    event = CalendarEvent(content=io.BytesIO(b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n"))
    made = await gather(
        simple(
            text=path,
            html=io.BytesIO(path.read_bytes()),
            alternatives=[Alternative(content=path, content_type="text/x-amp-html")],
            calendar=event,
        ),
        options=OPTIONS,
    )
    letter = letter_of(made)
    assert tree(letter) == (
        "mixed(alternative(text/plain text/x-amp-html text/html text/calendar) application/ics)"
    )
    assert [one.content for one in leaves(letter)[:3]] == ["Grüße\r\n".encode()] * 3
    assert made.html == "Grüße\n".encode() and isinstance(made.text, bytes)


async def test_a_whole_message_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.eml"
    path.write_bytes(b"From: a@x.example\nTo: b@x.example\nSubject: Hi\n\nx\n")
    letter = letter_of(await gather(Message(raw=path), options=OPTIONS))
    assert field(letter, "subject") == "Hi"


# --- what cannot be read ---


async def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "missing.pdf"
    error = await refused(simple(attachments=[Attachment(path=path)]))
    assert error.field == "attachments[0].path"
    assert str(path) in error.text and "check the path" in error.hint
    error = await refused(simple(text=path))
    assert error.field == "text" and str(path) in error.text
    monkeypatch.chdir(tmp_path)
    error = await refused(simple(attachments=["missing.pdf"]))
    assert "looked for in" in error.text and str(tmp_path) in error.text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder, "folder"),
        (lambda folder: os.mkfifo(folder / "pipe") or folder / "pipe", "is no file"),
        (lambda folder: Path("/dev/zero"), "is no file"),
        (lambda folder: folder / "file" / "below", "no file"),
        (lambda folder: folder / ("x" * 300), "cannot be read"),
        (lambda folder: Path("a\0b"), "cannot be read"),
    ],
)
async def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make, words: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    error = await refused(simple(attachments=[Attachment(path=make(tmp_path))]))
    assert words in error.text and error.field == "attachments[0].path"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
async def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(0o000)
    error = await refused(simple(attachments=[path]))
    assert "may not be read" in error.text


async def test_big_contents_are_bounded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "CONTENT_OCTETS_MAX", 1 << 20)
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate((1 << 20) + 1)
    endless = iter(lambda: b"x" * 65_536, None)
    for content in (path, path.open("rb"), endless):
        error = await refused(simple(attachments=[Attachment(content=content)]))
        assert "larger than 1 MiB" in error.text
        if hasattr(content, "close"):
            content.close()


async def test_streams_that_give_no_octets_are_refused() -> None:
    closed = io.BytesIO(b"x")
    closed.close()
    for content in ([1, 2], 5, {"a": 1}, closed):
        error = await refused(simple(attachments=[Attachment(content=content)]))
        assert error.field == "attachments[0].content"
    for wrong in ({"attachments": "a.pdf"}, {"alternatives": "x"}, {"calendar": "x"}):
        assert (await refused(simple(**wrong))).field == next(iter(wrong))
    for attachment in (5, Attachment(content=b"", path="x"), Attachment(path="")):
        assert (await refused(simple(attachments=[attachment]))).field.startswith("attachments[0]")


async def test_files_are_not_read_where_that_is_not_allowed(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(PNG)
    closed = Options(may_read_files=False)
    for message in (
        simple(attachments=[path]),
        simple(text=path),
        Message(raw=path),
        simple(html="<img src=x.png>", inline_files=tmp_path),
    ):
        assert "files are not read here" in (await refused(message, closed)).text
    assert (await attached(Attachment(content=b"x"), closed)).content == b"x"


# --- data: URLs ---


@pytest.mark.parametrize(
    ("url", "media_type", "octets"),
    [
        ("data:image/png;base64,iVBORw0KGgo=", "image/png", PNG),
        ("data:image/png;base64,iVBORw0KGgo", "image/png", PNG),
        ("DATA:;base64,_-8%3D", "text/plain", b"\xff\xef"),
        ("data:,a%20b", "text/plain", b"a b"),
        ("data:text/html;charset=utf-8,%3Cp%3E", "text/html", b"<p>"),
    ],
)
async def test_data_urls_hold_their_content(url: str, media_type: str, octets: bytes) -> None:
    for given in (Attachment(url=url), Attachment(path=url)):
        leaf = await attached(given)
        assert (leaf.media_type, leaf.content) == (media_type, octets)


@pytest.mark.parametrize("url", ["data:image/png;base64", "data:;base64,a", "data:;base64,!!!!"])
async def test_damaged_data_urls_are_refused(url: str) -> None:
    assert (await refused(simple(attachments=[Attachment(url=url)]))).field == "attachments[0].url"


async def test_a_type_in_a_data_url_adds_no_field() -> None:  # H66
    url = "data:text/plain%0D%0ABcc: evil@evil.example,x"
    message = await gather(simple(attachments=[Attachment(url=url)]), options=OPTIONS)
    with pytest.raises(MessageError) as caught:
        letter_of(message)
    assert caught.value.field == "attachments[0].content_type"


# --- URLs ---


async def test_urls_are_fetched_only_where_that_is_allowed() -> None:
    url = "https://x.example/a%20b/report%20%C3%A9.pdf?token=secret"
    web = Web(Fetched(status=200, media_type="application/x-odd", octets=b"%PDF"))
    given = Attachment(url=url)
    error = await refused(simple(attachments=[given]), fetch=web)
    assert "not allowed" in error.text and "may_fetch_urls" in error.hint and not web.asked
    leaf = await attached(given, Options(may_fetch_urls=True), fetch=web)
    assert leaf == Leaf("application/pdf", b"%PDF", "attachment", "report é.pdf")
    leaf = await attached(
        Attachment(url="https://x.example/"), Options(may_fetch_urls=True), fetch=web
    )
    assert leaf.media_type == "application/x-odd"
    assert "is a URL" in (await refused(simple(attachments=["https://x.example/a"]))).text


@pytest.mark.parametrize(
    ("answer", "is_transient"),
    [
        (Fetched(status=404, media_type="", octets=b""), False),
        (Fetched(status=503, media_type="", octets=b""), True),
        (FetchFailed("it leads to private addresses", FetchTrouble.ADDRESS), False),
        (FetchFailed("it did not answer", FetchTrouble.TIMEOUT), True),
    ],
)
async def test_a_url_that_cannot_be_fetched_is_named_without_its_query(
    answer: Fetched | FetchFailed, is_transient: bool
) -> None:
    message = simple(attachments=[Attachment(url="https://x.example/a?token=secret")])
    error = await refused(message, Options(may_fetch_urls=True), fetch=Web(answer))
    assert error.is_transient is is_transient and error.field == "attachments[0].url"
    assert "https://x.example/a" in error.text and "secret" not in str(error)


async def test_the_fetch_of_its_own_goes_to_no_private_address() -> None:  # H47
    fetch = default_fetch()
    assert isinstance(fetch, HttpsFetch)
    for url in ("https://localhost/x", "http://example.org/x", "https://127.0.0.1/x"):
        message = simple(attachments=[Attachment(url=url)])
        error = await refused(message, Options(may_fetch_urls=True))
        assert "cannot be fetched" in error.text


# --- pictures of the HTML ---


async def test_local_pictures_go_into_the_message(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "a b.png").write_bytes(PNG)
    (tmp_path / "c.gif").write_bytes(b"GIF89a")
    markup = (
        '<img alt="src=x" src="img/a%20b.png?v=1"><img src=\'img/a b.png\'><IMG SRC=c.gif>'
        "<img src='https://x.example/y.png'><img src='cid:z'><img src='//x.example/y.png'>"
        "<table background='c.gif'><td>&lt;img src=no.png&gt;</td></table>"
        "<!-- <img src=no.png> --><script>'<img src=no.png>'</script><p data-src=no.png>"
    )
    letter = letter_of(await gather(simple(html=markup, inline_files=tmp_path), options=OPTIONS))
    assert tree(letter) == "alternative(text/plain related(text/html image/png image/gif))"
    _, html, first, second = leaves(letter)
    assert (first.content, first.file_name) == (PNG, "a b.png")
    assert second == Leaf("image/gif", b"GIF89a", "inline", "c.gif")
    shown = html.content.decode()
    assert shown.count("cid:") == 5 and "no.png" in shown
    assert shown.count("https://x.example") == 1 and 'alt="src=x"' in shown


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("../secret.png", "leads out"),
        ("%2e%2e/secret.png", "leads out"),
        ("/etc/logo.png", "leads out"),
        ("link.png", "leads out"),
        (".env", "no picture"),
        ("notes.txt", "no picture"),
        ("missing.png", "no file"),
        ("a%00.png", "no path"),
    ],
)
async def test_pictures_never_bring_out_other_files(
    tmp_path: Path, url: str, words: str
) -> None:  # H66
    folder = tmp_path / "mail"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(PNG)
    (folder / ".env").write_text("KEY=1")
    (folder / "notes.txt").write_text("x")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    error = await refused(simple(html=f'<img src="{url}">', inline_files=folder))
    assert words in error.text and error.field == "inline_files"


async def test_pictures_as_data_urls_become_parts_when_asked_for(monkeypatch) -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    markup = f"<img src='{url}'><img src='{url}'><img src='data:text/html,x'>"
    letter = letter_of(await gather(simple(html=markup, inline_data_urls=True), options=OPTIONS))
    assert tree(letter) == "alternative(text/plain related(text/html image/png))"
    assert leaves(letter)[2].content == PNG
    assert url not in leaves(letter)[1].content.decode()
    plain = letter_of(await gather(simple(html=markup), options=OPTIONS))
    assert tree(plain) == "alternative(text/plain text/html)"
    monkeypatch.setattr(sources, "PICTURES_MAX", 1)
    error = await refused(simple(html=markup, inline_data_urls=True))
    assert error.field == "html" and "1 pictures" in error.text
