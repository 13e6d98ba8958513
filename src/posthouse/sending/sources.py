"""Everything a message is made of, read: files, open files, streams, `data:` URLs and, where that
is allowed, URLs. What comes out has text and octets only, as `compose` wants it.

Files are read on a thread, and no more than `CONTENT_OCTETS_MAX` of each. A stream is read once: a
message that holds one can be gathered once, and is an error then (see `streams`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, Final, TypeVar, cast
from urllib.parse import unquote, urlsplit

import msgspec

from posthouse.kernel.ports import Fetch, FetchFailed, FetchTrouble
from posthouse.sending import media_types
from posthouse.sending.data_url import is_data_url, read_data_url
from posthouse.sending.errors import MessageError
from posthouse.sending.files import CONTENT_OCTETS_MAX, read_file
from posthouse.sending.inline import (
    PICTURES_MAX,
    Reference,
    content_id,
    local_file,
    references,
    replace,
)
from posthouse.sending.message import Alternative, Attachment, CalendarEvent, Content, Message
from posthouse.sending.naming import fault, one_of, several, shown
from posthouse.sending.options import Options
from posthouse.sending.streams import read_open, read_pieces, read_pieces_async
from posthouse.sending.threads import in_thread

__all__ = ["CONTENT_OCTETS_MAX", "default_fetch", "gather"]

FETCH_TIMEOUT_S: Final = 60.0
_WHAT: Final = "text, octets, a Path, an open file, or something that gives octets piece by piece"
_T = TypeVar("_T", Attachment, Alternative, CalendarEvent)


async def gather(message: Message, *, options: Options, fetch: Fetch | None = None) -> Message:
    """The message with all its contents as text or octets.

    Args:
        options: `may_read_files` and `may_fetch_urls` count.
        fetch: for attachments by URL; None goes to public addresses by https only.

    Raises:
        MessageError: something is missing, cannot be read, is too big or not allowed; `field`
            says where it was named.
    """
    return await _Gatherer(options, fetch).gather(message)


def default_fetch() -> Fetch:
    """https to public addresses only, with names looked up as this machine does; see
    `net.fetch.HttpsFetch`."""
    from posthouse.net.fetch import HttpsFetch
    from posthouse.sending.names import SystemResolver
    from posthouse.tls.contexts import verifying_client_context

    return HttpsFetch(SystemResolver(), context=verifying_client_context())


class _Gatherer:
    def __init__(self, options: Options, fetch: Fetch | None) -> None:
        self._options = options
        self._fetch = fetch

    async def gather(self, message: Message) -> Message:
        changes: dict[str, object] = {}
        for name in ("text", "html", "raw"):
            content: Content | None = getattr(message, name)
            if content is not None and type(content) not in (str, bytes):
                changes[name] = await self._content(name, content)
        if message.alternatives:
            changes["alternatives"] = [
                await self._with_content(f"alternatives[{at}]", one, Alternative)
                for at, one in enumerate(several("alternatives", message.alternatives))
            ]
        if message.calendar is not None:
            changes["calendar"] = await self._with_content(
                "calendar", message.calendar, CalendarEvent
            )
        if message.attachments not in ((), []):
            changes["attachments"] = [
                await self._attachment(f"attachments[{at}]", one)
                for at, one in enumerate(several("attachments", message.attachments))
            ]
        if changes:
            message = msgspec.structs.replace(message, **changes)
        if message.html and (message.inline_files is not False or message.inline_data_urls):
            message = await self._with_pictures(message)
        return message

    async def _with_content(self, field: str, given: object, kind: type[_T]) -> _T:
        one = one_of(field, given, kind)
        content: object = one.content
        if type(content) in (str, bytes):
            return one
        octets = await self._content(f"{field}.content", content)
        return msgspec.structs.replace(one, content=octets)

    async def _content(self, field: str, content: object) -> str | bytes:
        if isinstance(content, (str, bytes)):
            return content
        if isinstance(content, (bytearray, memoryview)):
            return bytes(content)
        if isinstance(content, Path):
            return await self._file(field, content)
        if hasattr(content, "read"):
            return await in_thread(read_open, field, cast(BinaryIO, content))
        if isinstance(content, AsyncIterable):
            return await read_pieces_async(field, content)
        if hasattr(content, "as_bytes"):  # another library's message; it can be iterated, too
            hint = "give the octets of the message: raw=message.as_bytes()"
            raise fault(field, f"this is {type(content).__name__}, and no octets", hint=hint)
        if isinstance(content, Iterable) and not isinstance(content, Mapping):
            return await in_thread(read_pieces, field, content)
        hint = 'write a text in quotes, octets as b"…", and a file as Path("…")'
        raise fault(field, f"this is {type(content).__name__}, and has to be {_WHAT}", hint=hint)

    # --- attachments ---

    async def _attachment(self, field: str, given: object) -> Attachment:
        if isinstance(given, (str, Path)):
            given = Attachment(path=given)
        if not isinstance(given, Attachment):
            kind = type(given).__name__
            hint = 'write Attachment(filename="notes.txt", content="…")'
            raise fault(field, f"this is {kind}; give a path or an Attachment", hint=hint)
        sources = (given.content is not None, given.path is not None, bool(given.url))
        if sum(sources) > 1:
            raise fault(field, "this has more than one of `content`, `path` and `url`")
        if given.content is not None:
            return await self._from_content(field, given, given.content)
        if given.path is not None:
            return await self._from_path(f"{field}.path", given, given.path)
        if given.url:
            return await self._from_url(f"{field}.url", given, given.url)
        return given  # a raw part, or `compose` says that there is nothing

    async def _from_content(self, field: str, given: Attachment, content: Content) -> Attachment:
        if type(content) in (str, bytes):
            return given
        octets = await self._content(f"{field}.content", content)
        name = given.filename
        if name is None and not isinstance(content, (bytearray, memoryview)):
            source = content if isinstance(content, Path) else getattr(content, "name", None)
            name = _leaf_name(source) if isinstance(source, (str, Path)) else None
        return msgspec.structs.replace(given, content=octets, filename=name)

    async def _from_path(self, field: str, given: Attachment, path: str | Path) -> Attachment:
        if isinstance(path, str):
            if is_data_url(path):
                return _from_data_url(field, given, path)
            if path[:8].lower().startswith(("https://", "http://")):
                raise fault(field, f"{shown(path)} is a URL", hint="give it as `url`")
            if not path:
                raise fault(field, "this is empty, and has to be a path")
        octets = await self._file(field, Path(path))
        name = given.filename if given.filename is not None else _leaf_name(path)
        kind = given.content_type
        if kind is None:
            kind = media_types.guess(name or str(path))
        return msgspec.structs.replace(
            given, content=octets, path=None, filename=name, content_type=kind
        )

    async def _from_url(self, field: str, given: Attachment, url: str) -> Attachment:
        if is_data_url(url):
            return _from_data_url(field, given, url)
        if not self._options.may_fetch_urls:
            hint = "make the transport with may_fetch_urls=True, if nobody else chooses the URL"
            raise fault(field, "attachments by URL are not allowed here", hint=hint)
        if self._fetch is None:
            self._fetch = default_fetch()
        try:
            found = await self._fetch.get(
                url, octets_max=CONTENT_OCTETS_MAX, timeout_s=FETCH_TIMEOUT_S
            )
        except FetchFailed as error:
            raise _not_fetched(field, url, str(error), error.kind) from None
        if found.status != 200:
            words = f"the server answered {found.status}"
            kind = FetchTrouble.CONNECT if found.status >= 500 else FetchTrouble.PROTOCOL
            raise _not_fetched(field, url, words, kind)
        name = given.filename if given.filename is not None else _url_name(url)
        said = given.content_type
        if said is None:
            said = media_types.guess(name or "")
            if said == media_types.UNKNOWN and found.media_type:
                said = found.media_type
        return msgspec.structs.replace(
            given, content=found.octets, url="", filename=name, content_type=said
        )

    # --- pictures of the HTML ---

    async def _with_pictures(self, message: Message) -> Message:
        markup = message.html
        if isinstance(markup, bytes):
            try:
                markup = markup.decode("utf-8")
            except UnicodeDecodeError:
                return message  # `compose` refuses it
        assert isinstance(markup, str)  # gathered
        known = {one.cid for one in message.attachments if isinstance(one, Attachment) and one.cid}
        new: dict[Reference, str] = {}
        pictures: dict[str, Attachment] = {}
        by_url: dict[str, str] = {}
        for reference in references(markup):
            cid = by_url.get(reference.url)
            if cid is None:
                picture = await self._picture(message, reference, len(pictures) + 1)
                if picture is None:
                    continue
                assert picture.cid is not None
                cid = by_url[reference.url] = picture.cid
                if cid not in known:
                    pictures.setdefault(cid, picture)
            new[reference] = f"cid:{cid}"
            if len(new) > PICTURES_MAX:
                raise fault("html", f"it has more than {PICTURES_MAX} pictures to go in")
        if not new:
            return message
        return msgspec.structs.replace(
            message,
            html=replace(markup, new),
            attachments=[*message.attachments, *pictures.values()],
        )

    async def _picture(
        self, message: Message, reference: Reference, number: int
    ) -> Attachment | None:
        if reference.is_data and message.inline_data_urls:
            held = read_data_url("html", reference.url, octets_max=CONTENT_OCTETS_MAX)
            if not held.media_type.lower().startswith("image/"):
                return None
            return Attachment(
                content=held.octets,
                content_type=held.media_type,
                filename=f"image-{number}.{_suffix(held.media_type)}",
                cid=content_id(held.octets),
            )
        if reference.is_local and message.inline_files is not False:
            chosen = message.inline_files
            folder = Path.cwd() if chosen is True else Path(chosen)
            path = await in_thread(local_file, folder, reference.url)
            octets = await self._file("inline_files", path)
            return Attachment(content=octets, filename=_leaf_name(path), cid=content_id(octets))
        return None

    async def _file(self, field: str, path: Path) -> bytes:
        if not self._options.may_read_files:
            words = f"{shown(str(path))} is a path, and files are not read here"
            raise fault(field, words, hint="give the content, or a transport that may_read_files")
        return await in_thread(read_file, field, path)


# --- URLs and names ---


def _from_data_url(field: str, given: Attachment, url: str) -> Attachment:
    held = read_data_url(field, url, octets_max=CONTENT_OCTETS_MAX)
    kind = given.content_type if given.content_type is not None else held.media_type
    return msgspec.structs.replace(given, content=held.octets, path=None, url="", content_type=kind)


def _not_fetched(field: str, url: str, words: str, kind: FetchTrouble) -> MessageError:
    is_transient = kind in (FetchTrouble.DNS, FetchTrouble.CONNECT, FetchTrouble.TIMEOUT)
    hint = "try again later" if is_transient else "check the URL, or attach the content itself"
    where = f"{field}: {shown(_without_query(url))} cannot be fetched: {words}"
    return MessageError(where, field=field, hint=hint, is_transient=is_transient)


def _without_query(url: str) -> str:
    """Queries hold tokens, so errors do not have them."""
    return url.partition("?")[0].partition("#")[0]


def _leaf_name(path: str | Path) -> str:
    """The last part of a path as a name that can be written into a field."""
    leaf = str(path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return _clean(os.fsencode(leaf).decode("utf-8", "replace"))


def _url_name(url: str) -> str | None:
    try:
        leaf = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    except ValueError:
        return None
    return _clean(unquote(leaf)) or None


def _clean(name: str) -> str:
    """A name that no caller typed; what cannot stand in a field becomes "_"."""
    return "".join(one if one.isprintable() else "_" for one in name)[:200]


def _suffix(media_type: str) -> str:
    return media_types.suffix_of(media_type.partition(";")[0].strip().lower())
