"""`AsyncTransport`: letters made, protected, signed and handed over, on the caller's loop."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from posthouse.sending.carrier import Carrier, Letter, Verified
from posthouse.sending.compose import compose
from posthouse.sending.errors import ConnectError, MessageError, OptionError, SendingError
from posthouse.sending.message import Message
from posthouse.sending.naming import fault
from posthouse.sending.options import Dkim, Keywords, Kind, Options
from posthouse.sending.reading import read_options
from posthouse.sending.receipt import Outcome, Receipt
from posthouse.sending.threads import in_thread

if TYPE_CHECKING:
    from typing import Unpack

__all__ = ["AsyncTransport", "Sent"]

T = TypeVar("T")

INLINE_OCTETS_MAX: Final = 256 * 1024
"""Contents up to here are put into shape on the loop; more is left to a thread."""
AHEAD_FACTOR: Final = 4
"""Letters that `send_all` has under way, for each session that there may be."""

Progress = Callable[[int, int], None]
"""Called with how many letters are done and how many of those failed."""
Begun = Callable[[int], None]
"""Called with the number of a letter among those that were given, from 0."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One letter of `send_all`: a receipt, or the error that says why there is none."""

    index: int
    """Its number among those that were given, from 0."""
    tag: object = None
    receipt: Receipt | None = None
    error: SendingError | None = None


class AsyncTransport:
    """Sends messages; `async with` closes it. Options are those of `Keywords`.

    One transport belongs to one loop. It may be used by any number of tasks at once.
    """

    def __init__(
        self, url: str | None = None, *, service: str | None = None, **keywords: Unpack[Keywords]
    ) -> None:
        """
        Args:
            url: "smtps://user@mail.example.org", "smtp+starttls://…", "lmtp://…", "folder:…".
            service: a well-known one by name ("gmail"), in place of host and port.

        Raises:
            OptionError: `option` names what is wrong.
        """
        self.options: Options = read_options(url, service, keywords)
        self._carrier: Carrier | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.options.kind.value}, {self.options.place})"

    # --- sending ---

    async def send(self, message: Message) -> Receipt:
        """Send one message; returns when the other side owns it for at least one recipient.

        Raises:
            SendingError: nobody has it; `may_have_been_sent` says where that is not certain.
        """
        return await self._carrier_here().carry(await self.prepare(message))

    async def _send_watched(self, message: Message, begin: Callable[[], None]) -> Receipt:
        letter = await self.prepare(message)
        return await self._carrier_here().carry(msgspec.structs.replace(letter, begin=begin))

    async def send_all(
        self,
        messages: Iterable[Message] | AsyncIterable[Message],
        *,
        on_progress: Progress | None = None,
        on_begin: Begun | None = None,
    ) -> AsyncIterator[Sent]:
        """Send many, and tell of each as it ends, in the order of their ends.

        Messages are taken from the source only as there is room to send them, so that it may be of
        any length. An error of one ends none of the others; what the source raises comes through,
        when those under way have ended. A source that waits has to be asynchronous: nothing else
        happens on the loop while a plain one does.

        Args:
            on_progress: called as each ends.
            on_begin: called as each is handed to the other side, to keep a journal: what was not
                begun was not sent. What it raises ends that letter unsent, and comes through.
        """
        run = _Run(many(messages), ahead=self.options.connections_max * AHEAD_FACTOR)
        done = failed = 0
        trouble: BaseException | None = None
        try:
            while True:
                for ended in run.take_ended():
                    done += 1
                    try:
                        sent = ended.result()
                    except Exception as error:
                        trouble = trouble or error
                        run.take_no_more()
                        continue
                    failed += sent.error is not None
                    if on_progress is not None:
                        on_progress(done, failed)
                    yield sent
                while (given := run.next()) is not None:
                    run.start(self._send_one(*given, on_begin))
                if run.is_over:
                    break
                await run.change()
        finally:
            await run.leave()
        trouble = trouble or run.trouble
        if trouble is not None:
            raise trouble

    async def _send_one(self, index: int, message: Message, on_begin: Begun | None) -> Sent:
        try:
            if on_begin is None:
                receipt = await self.send(message)
            else:
                receipt = await self._send_watched(message, partial(on_begin, index))
        except SendingError as error:
            return Sent(index=index, tag=getattr(message, "tag", None), error=error)
        return Sent(index=index, tag=message.tag, receipt=receipt)

    async def prepare(self, message: Message) -> Letter:
        """What would be sent: composed, protected and signed. Raises SendingError."""
        options = self.options
        given: object = message  # what a caller without a type checker gave
        if not isinstance(given, Message):
            hint = "other libraries' messages are sent as Message(raw=message.as_bytes())"
            if isinstance(given, (list, tuple)):
                hint = "send(message) sends one; send_all(messages) takes a list"
            raise MessageError(f"this is {type(given).__name__}, and no Message", hint=hint)
        if _is_gathered(message):
            size = _size(message)
        else:
            from posthouse.sending.sources import gather

            message = await gather(message, options=options)
            size = _size(message)
        keys = _keys(message, options)
        if size <= INLINE_OCTETS_MAX:
            return _made(message, keys)
        return await in_thread(_made, message, keys)

    async def verify(self) -> Verified:
        """Prove that name, TLS and login are right, without sending. Raises SendingError."""
        return await self._carrier_here().verify()

    async def outcome(self, receipt: Receipt, *, timeout_s: float = 0.0) -> tuple[Outcome, ...]:
        """What happened to each recipient's copy since: see `Receipt.outcome`."""
        return await receipt.outcome(timeout_s=timeout_s)

    async def close(self) -> None:
        """Let what is under way end, and leave. Twice is once."""
        self._is_closed = True
        carrier, self._carrier = self._carrier, None
        if carrier is not None and self._loop in (None, asyncio.get_running_loop()):
            await carrier.close()

    @property
    def letters(self) -> list[Letter]:
        """What was sent by a transport of `memory:`, for tests."""
        found: list[Letter] = getattr(self._carrier_now(), "letters", [])
        return found

    async def __aenter__(self) -> AsyncTransport:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # --- inside ---

    def _forget(self) -> None:
        """The sessions are another process's, or another loop's: begin anew."""
        self._carrier = self._loop = None

    def _carrier_now(self) -> Carrier:
        if self._is_closed:
            raise ConnectError("the transport is closed", hint="make a new one")
        if self._carrier is None:
            self._carrier = _carrier_for(self.options)
        return self._carrier

    def _carrier_here(self) -> Carrier:
        """In the running loop, which has to be the one that the sessions live in."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop and self.options.kind is not Kind.MEMORY:
            if self._loop is not None and not self._loop.is_closed():
                raise OptionError(
                    "",
                    "an AsyncTransport is used in two event loops",
                    hint="make one for each loop, or take Transport, which any thread may use",
                )
            self._forget()  # an earlier asyncio.run ended, and its sessions with it
            self._loop = loop
        return self._carrier_now()


def many(messages: T, *, is_plain: bool = False) -> T:
    """What `send_all` was given. Raises MessageError.

    Args:
        is_plain: asynchronous sources will not do.
    """
    given: object = messages
    if isinstance(given, Message):
        hint = "send(message) sends one, and send_all takes a list: send_all([message])"
        raise MessageError("send_all was given one Message", hint=hint)
    if is_plain and isinstance(given, AsyncIterable) and not isinstance(given, Iterable):
        hint = "give it to AsyncTransport, or give a list or a generator"
        raise MessageError("send_all was given an asynchronous source", hint=hint)
    if not isinstance(given, (Iterable, AsyncIterable)) or isinstance(given, (str, bytes)):
        hint = "give a list of Message, or what gives one after the other"
        raise MessageError(f"send_all was given {type(given).__name__}", hint=hint)
    return messages


def _carrier_for(options: Options) -> Carrier:
    """Each is loaded when it is used first."""
    match options.kind:
        case Kind.SMTP | Kind.LMTP:
            from posthouse.sending.smtp_carrier import SmtpCarrier

            return SmtpCarrier(options)
        case Kind.FOLDER:
            from posthouse.sending.folder import FolderCarrier

            return FolderCarrier(options)
        case Kind.MEMORY:
            from posthouse.sending.memory import MemoryCarrier

            return MemoryCarrier(options)
        case Kind.POSTHOUSE:
            from posthouse.sending.posthouse_api import PosthouseCarrier

            return PosthouseCarrier(options)
        case Kind.SENDMAIL:
            from posthouse.sending.sendmail import SendmailCarrier

            return SendmailCarrier(options)


def _made(message: Message, keys: tuple[Dkim, ...]) -> Letter:
    now = datetime.now(UTC)
    letter = compose(message, now=now, token=os.urandom, host_name=_host_name())
    if message.protection is not None:
        from posthouse.sending.protecting import protected

        letter = protected(letter, message.protection, at=now)
    if not keys:
        return letter
    from posthouse.sending.signing import dkim_fields

    fields = dkim_fields(letter.octets, keys, now_unix_s=int(time.time()))
    return msgspec.structs.replace(letter, octets=fields + letter.octets)


def _keys(message: Message, options: Options) -> tuple[Dkim, ...]:
    own = message.dkim
    if own is None:
        return options.dkim
    if isinstance(own, Dkim):
        return (own,)
    if not isinstance(own, (list, tuple)) or not all(isinstance(one, Dkim) for one in own):
        raise fault(
            "dkim", f"this is {type(own).__name__}, and no Dkim or list of them", hint=_DKIM
        )
    return tuple(own)


_DKIM: Final = 'write Dkim(domain="example.org", selector="s1", key=Path("dkim.pem"))'


def _host_name() -> str:
    from posthouse.sending.smtp_carrier import own_name

    name = own_name()
    return name if "[" not in name else "localhost"


def _is_gathered(message: Message) -> bool:
    """All of it is text and octets already, as most messages are."""
    return (
        type(message.text) in _PLAIN
        and type(message.html) in _PLAIN
        and type(message.raw) in _PLAIN
        and not message.inline_files
        and not message.inline_data_urls
        and message.calendar is None
        and not message.alternatives
        and isinstance(message.attachments, (list, tuple))
        and all(
            type(one).__name__ == "Attachment"
            and getattr(one, "path", None) is None
            and not getattr(one, "url", "")
            and type(getattr(one, "content", None)) in _PLAIN
            for one in message.attachments
        )
    )


_PLAIN: Final = (str, bytes, type(None))


def _size(message: Message) -> int:
    """Roughly, of all contents."""
    total = 0
    for content in (message.text, message.html, message.raw):
        if isinstance(content, (str, bytes)):
            total += len(content)
    for one in message.attachments:
        content = getattr(one, "content", None)
        if isinstance(content, (str, bytes)):
            total += len(content)
    return total


class _Run:
    """The letters of one `send_all`: taken from the source while there is room, told of as they
    end, also while the source makes everybody wait."""

    def __init__(self, source: Iterable[Message] | AsyncIterable[Message], *, ahead: int) -> None:
        self.trouble: Exception | None = None
        """What the source raised."""
        self._ahead = ahead
        self._given = 0
        self._under_way: set[asyncio.Task[Sent]] = set()
        self._ended: list[asyncio.Task[Sent]] = []
        self._changed = asyncio.Event()
        self._is_exhausted = False
        self._plain: Iterator[Message] | None = None
        self._slow: AsyncIterator[Message] | None = None
        self._asked: asyncio.Task[Message] | None = None
        """For the next letter of `_slow`."""
        if isinstance(source, AsyncIterable):
            self._slow = aiter(source)
        else:
            self._plain = iter(source)

    def next(self) -> tuple[int, Message] | None:
        """The next letter and its number; None where it is another's turn."""
        if self._is_exhausted or self._ended or not self._has_room:
            return None
        try:
            if self._plain is not None:
                message = next(self._plain)
            elif self._asked is None:
                assert self._slow is not None
                self._asked = asyncio.ensure_future(_next_of(self._slow))
                self._asked.add_done_callback(self._answered)
                return None
            elif not self._asked.done():
                return None
            else:
                asked, self._asked = self._asked, None
                message = asked.result()
        except (StopIteration, StopAsyncIteration):
            self._is_exhausted = True
            return None
        except Exception as error:
            self._is_exhausted, self.trouble = True, error
            return None
        self._given += 1
        return self._given - 1, message

    def start(self, sending: Coroutine[Any, Any, Sent]) -> None:
        task = asyncio.ensure_future(sending)
        self._under_way.add(task)
        task.add_done_callback(self._one_ended)

    def take_ended(self) -> list[asyncio.Task[Sent]]:
        ended, self._ended = self._ended, []
        return ended

    def take_no_more(self) -> None:
        self._is_exhausted = True

    @property
    def is_over(self) -> bool:
        return self._is_exhausted and not self._under_way and not self._ended

    @property
    def _has_room(self) -> bool:
        return len(self._under_way) < self._ahead

    async def change(self) -> None:
        """Until a letter ended, or the source gave the next one."""
        if self._ended or (self._has_room and self._asked is not None and self._asked.done()):
            return
        self._changed.clear()
        await self._changed.wait()

    async def leave(self) -> None:
        """Wait for nothing more."""
        left: set[asyncio.Task[Any]] = {*self._under_way}
        if self._asked is not None:
            left.add(self._asked)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    def _answered(self, _: object) -> None:
        self._changed.set()

    def _one_ended(self, task: asyncio.Task[Sent]) -> None:
        self._under_way.discard(task)
        self._ended.append(task)
        self._changed.set()


async def _next_of(source: AsyncIterator[Message]) -> Message:
    return await anext(source)
