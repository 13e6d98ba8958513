"""What a message is made of, read again for another try: all of it, or an error."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from posthouse.sending import Transport, streams
from posthouse.sending.errors import ConnectError, MessageError
from posthouse.sending.message import Alternative, Attachment, CalendarEvent, Message
from posthouse.sending.options import Options
from posthouse.sending.sources import gather
from tests.sending.making import leaves, simple

OPTIONS = Options()


async def content_of(content: object) -> bytes:
    message = simple(attachments=[Attachment(content=content)])
    [one] = (await gather(message, options=OPTIONS)).attachments
    return one.content


async def refused(message: Message) -> MessageError:
    with pytest.raises(MessageError) as caught:
        await gather(message, options=OPTIONS)
    return caught.value


def generated() -> Iterator[bytes]:
    yield b"one "
    yield b"two"


async def generated_async() -> AsyncIterator[bytes]:
    yield b"one "
    yield b"two"


class Piped:
    """An open file that cannot go back."""

    def __init__(self, octets: bytes) -> None:
        self._file = io.BytesIO(octets)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


class Slotted(Piped):
    """One that cannot be known weakly either."""

    __slots__ = ()


class Holder:
    """An iterable that gives the same stream each time."""

    def __init__(self) -> None:
        self._stream = generated()

    def __iter__(self) -> Iterator[bytes]:
        return self._stream


class OfParts:
    def __iter__(self) -> Iterator[bytes]:
        return generated()


def test_an_open_file_is_whole_in_the_second_try() -> None:
    file = io.BytesIO(b"-- hello")
    file.seek(3)
    message = simple(attachments=[Attachment(content=file, filename="x.bin")])
    with Transport("smtp://127.0.0.1:1", tls="off") as way, pytest.raises(ConnectError) as caught:
        way.send(message)
    assert caught.value.is_transient
    with Transport("memory:") as way:
        way.send(message)
        way.send(message)
        for letter in way.letters:
            assert leaves(letter)[1].content == b"hello"


def test_a_stream_is_an_error_in_the_second_try() -> None:
    message = simple(attachments=["/etc/hosts", Attachment(content=generated())])
    with Transport("smtp://127.0.0.1:1", tls="off") as way, pytest.raises(ConnectError):
        way.send(message)
    with Transport("memory:") as way, pytest.raises(MessageError) as caught:
        way.send(message)
    assert caught.value.field == "attachments[1].content" and not caught.value.is_transient
    assert "generator was read before" in caught.value.text
    assert "octets" in caught.value.hint and "path" in caught.value.hint


@pytest.mark.parametrize(
    "make",
    [
        generated,
        generated_async,
        Holder,
        lambda: Piped(b"x"),
        lambda: Slotted(b"x"),
        lambda: iter([b"x"]),
        lambda: map(bytes, [b"x"]),
        lambda: chain([b"x"]),
        lambda: iter(io.BytesIO(b"x").read, b""),
    ],
)
async def test_what_can_be_read_once_is_known_again(make: Callable[[], object]) -> None:
    content = make()
    assert await content_of(content) in (b"x", b"one two")
    for _ in range(2):
        with pytest.raises(MessageError, match="read before"):
            await content_of(content)
    assert await content_of(make()) in (b"x", b"one two")


async def test_what_can_be_read_again_is(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one two")
    with path.open("rb") as file, path.open(encoding="utf-8") as text:
        for content in ([b"one ", b"two"], OfParts(), file, text, io.StringIO("one two"), path):
            for _ in range(3):
                assert await content_of(content) == b"one two"


async def test_every_field_says_that_its_stream_is_over() -> None:
    for name, make in (
        ("text", lambda stream: simple(text=stream)),
        ("html", lambda stream: simple(html=stream)),
        ("raw", lambda stream: Message(raw=stream)),
        ("calendar.content", lambda stream: simple(calendar=CalendarEvent(content=stream))),
        (
            "alternatives[0].content",
            lambda stream: simple(
                alternatives=[Alternative(content=stream, content_type="text/x-amp-html")]
            ),
        ),
    ):
        message = make(generated())
        await gather(message, options=OPTIONS)
        assert (await refused(message)).field == name


async def test_a_stream_that_gives_nothing_is_empty_each_time() -> None:
    for content in (iter(()), (one for one in ()), Piped(b""), io.BytesIO(), []):
        assert await content_of(content) == await content_of(content) == b""


async def test_a_stream_that_broke_does_not_go_on_in_the_middle() -> None:
    def broken() -> Iterator[bytes]:
        yield b"one "
        raise OSError("the disk")

    for content in (iter([b"one ", 2, b"three"]), (one for one in (b"one ", 2, b"three"))):
        with pytest.raises(MessageError, match="has to give octets"):
            await content_of(content)
        with pytest.raises(MessageError, match="read before"):
            await content_of(content)
    stream = broken()
    with pytest.raises(OSError, match="the disk"):
        await content_of(stream)
    with pytest.raises(MessageError, match="read before"):
        await content_of(stream)


async def test_where_the_caller_puts_a_file_it_is_read() -> None:
    file = io.BytesIO(b"one two")
    assert await content_of(file) == b"one two"
    file.seek(4)
    for _ in range(2):
        assert await content_of(file) == b"two"
    file.write(b" three")
    with pytest.raises(MessageError, match="stands at its end") as caught:
        await content_of(file)
    assert "seek(0)" in caught.value.hint
    file.seek(0)
    assert await content_of(file) == b"one two three"


async def test_a_file_that_was_written_and_not_gone_back_in_is_told() -> None:
    file = io.BytesIO()
    file.write(b"a picture")
    message = simple(attachments=[Attachment(content=file)])
    error = await refused(message)
    assert error.field == "attachments[0].content" and "stands at its end" in error.text


async def test_a_pipe_is_read_once() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"one two")
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert await content_of(file) == b"one two"
        with pytest.raises(MessageError, match="read before"):
            await content_of(file)


async def test_one_file_in_letters_that_are_made_at_once_is_whole_in_each() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            threading.Event().wait(0.001)
            return super().read(4)

    file = Slow(b"0123456789" * 3)
    found = await asyncio.gather(*(content_of(file) for _ in range(8)))
    assert found == [b"0123456789" * 3] * 8


async def test_what_was_read_is_not_kept() -> None:
    class Octets(io.BytesIO):
        pass

    gc.collect()
    before = len(streams._pasts)
    for make in (lambda: Octets(b"x"), generated, generated_async, lambda: Piped(b"x"), OfParts):
        content = make()
        gone = weakref.ref(content)
        await content_of(content)
        del content
        gc.collect()
        assert gone() is None
    assert len(streams._pasts) <= before
    for _ in range(streams.KEPT_MAX * 2):
        await content_of(iter([b"x"]))
    assert len(streams._kept) == streams.KEPT_MAX


async def test_another_stream_with_the_id_of_one_that_is_gone_is_another() -> None:
    ids = set()
    for _ in range(200):
        stream = generated()
        ids.add(id(stream))
        assert await content_of(stream) == b"one two"
        del stream
    assert len(ids) < 200  # or nothing was tried here
