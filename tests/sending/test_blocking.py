"""The synchronous front: threads, a running loop beside it, forks, and leaving in order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest

from posthouse.sending import Attachment, ConnectError, Dkim, Message, MessageError, Transport
from tests.sending.bad_server import BadServer


class Beside:
    """A bad server on a thread of its own."""

    def __init__(self, **script: Any) -> None:
        self.server = BadServer(**script)
        self._stop: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self.server:
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> BadServer:
        self._thread.start()
        assert self._ready.wait(10)
        return self.server

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


@pytest.fixture
def server() -> Iterator[BadServer]:
    with Beside() as server:
        yield server


def letter(n: int = 0) -> Message:
    return Message(sender="ada@example.org", to=f"b{n}@example.net", text="x", tag=n)


def transport(server: BadServer, **more: Any) -> Transport:
    return Transport(host="127.0.0.1", port=server.port, **more)


def test_a_letter_without_a_loop(server: BadServer) -> None:
    with transport(server) as way:
        assert way.verify().greeting_name == "bad.test"
        receipt = way.send(letter())
        assert way.outcome(receipt)[0].recipient == "b0@example.net"
    assert receipt.accepted == ("b0@example.net",)
    assert server.commands[-1] == "QUIT" and server.connections == 1


def test_many_threads_share_one_transport(server: BadServer) -> None:
    with transport(server, connections_max=2) as way:
        threads = [
            threading.Thread(target=lambda n=n: [way.send(letter(n * 10 + k)) for k in range(10)])
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    arrived = {taken.recipients[0] for taken in server.taken}
    assert len(arrived) == len(server.taken) == 80
    assert server.connections <= 2


async def test_beside_a_running_loop(server: BadServer) -> None:
    with transport(server) as way:
        assert way.send(letter()).accepted


def test_many_letters_come_from_the_callers_thread(server: BadServer) -> None:
    threads = set()

    def source() -> Iterator[Message]:
        for n in range(300):
            threads.add(threading.get_ident())
            yield letter(n)

    with transport(server) as way:
        results = list(way.send_all(source()))
    assert sorted(one.index for one in results) == list(range(300))
    assert threads == {threading.get_ident()}


def test_leaving_early_stops_taking_letters(server: BadServer) -> None:
    taken = 0

    def source() -> Iterator[Message]:
        nonlocal taken
        while True:
            taken += 1
            yield letter(taken)

    with transport(server, connections_max=1) as way:
        for _ in way.send_all(source()):
            break
    assert taken <= 8


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Also where the shell that started the tests ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_begins_nothing_more_and_tells_what_was_under_way(server: BadServer) -> None:
    begun: list[int] = []
    ended: list[int] = []
    with transport(server, rate=3, rate_per_s=60.0) as way:
        results = way.send_all(map(letter, range(50)), on_begin=begun.append)
        ended.append(next(results).index)
        main = threading.main_thread().ident
        assert main is not None
        threading.Timer(0.3, signal.pthread_kill, [main, signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            for one in results:
                ended.append(one.index)
    assert sorted(ended) == sorted(begun) and len(server.taken) == len(begun) == 3


def test_what_the_source_raises_comes_when_the_others_are_done(server: BadServer) -> None:
    def source() -> Iterator[Message]:
        yield from map(letter, range(8))
        raise RuntimeError("the file broke")

    ended: list[int] = []
    with transport(server) as way, pytest.raises(RuntimeError, match="the file broke"):
        for one in way.send_all(source()):
            ended.append(one.index)
    assert sorted(ended) == list(range(8)) and len(server.taken) == 8


@pytest.mark.parametrize("given", [letter(), "letter", 7])
def test_what_is_no_list_of_letters_is_told(server: BadServer, given: Any) -> None:
    with transport(server) as way, pytest.raises(MessageError, match="send_all was given") as found:
        list(way.send_all(given))
    assert "list" in found.value.hint


@pytest.mark.parametrize(
    ("given", "words", "hint"),
    [
        ({"to": "bob@"}, "nothing behind its @", "local@domain"),
        ({"attachments": "menu.pdf"}, "has to be a list", "attachments=[…]"),
        ({"subject": "a\nb"}, "a line break cannot stand in a field", "one line"),
        ({"headers": {"X-A": "a\nb"}}, "a line break cannot stand in a field", "one line"),
        ({"to": "Bob\r\nBcc: eve@example.net <b@example.net>"}, "a line break", "one line"),
        ({"to": 5}, "this is int", 'Mailbox("bob@example.net", "Bob")'),
        ({"to": b"bob@example.net"}, "to: this is bytes", "Mailbox"),
        ({"cc": None}, "this is NoneType", "leave the argument out"),
        ({"attachments": Attachment(content="x")}, "has to be a list", "attachments=[…]"),
        ({"attachments": None}, "has to be a list", "attachments=[…]"),
        ({"attachments": [("a.txt", "x")]}, "this is tuple", "Attachment(filename="),
        ({"headers": "X-A: b"}, "has to be a list", "headers={"),
        ({"text": None, "raw": 5}, "raw: this is int", 'b"…"'),
        ({"text": None, "raw": EmailMessage()}, "EmailMessage, and no octets", "as_bytes()"),
        ({"text": None, "raw": "Subject: Tea\n\nFive?"}, "no From field", "From: ada@example.org"),
        ({"calendar": "x"}, "of the class CalendarEvent", "CalendarEvent(…)"),
        ({"dkim": "dkim.pem"}, "no Dkim or list of them", "Dkim(domain="),
        ({"dkim": Dkim(domain="a.example", selector="s", key=5)}, "the key is int", "PEM or DER"),  # type: ignore[arg-type]
        ({"dkim": Dkim(domain="example.org", selector="s", key=b"x")}, "key", "PEM or DER"),
    ],
)
def test_a_mistake_comes_with_what_to_do(given: dict[str, Any], words: str, hint: str) -> None:
    wrong: Any = {"sender": "ada@example.org", "to": "b@example.net", "text": "x", **given}
    with Transport("memory:") as way, pytest.raises(MessageError) as found:
        way.send(Message(**wrong))
    assert words in found.value.text and hint in found.value.hint


def test_what_on_begin_raises_comes_through(server: BadServer) -> None:
    def begin(index: int) -> None:
        raise RuntimeError("no room")

    with transport(server) as way, pytest.raises(RuntimeError, match="no room"):
        list(way.send_all(map(letter, range(5)), on_begin=begin))
    assert server.taken == []


def test_errors_come_as_they_are(server: BadServer) -> None:
    with transport(server) as way:
        with pytest.raises(MessageError) as caught:
            way.send(Message(sender="ada@example.org", to="b@example.net", subject="a\r\nBcc: x"))
        assert caught.value.field == "subject"
    with pytest.raises(ConnectError, match="closed"):
        way.send(letter())
    way.close()


def test_a_fork_begins_anew(server: BadServer) -> None:
    way = transport(server)
    way.send(letter(1))
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if way.send(letter(2)).accepted else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    way.send(letter(3))
    way.close()
    assert len(server.taken) == 3 and server.connections == 2


def test_a_program_that_forgets_to_close_ends_in_order(server: BadServer) -> None:
    program = (
        "from posthouse.sending import Message, Transport\n"
        f"way = Transport(host='127.0.0.1', port={server.port})\n"
        "way.send(Message(sender='ada@example.org', to='b@example.net', text='x'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert done.returncode == 0 and done.stderr == b""
    assert len(server.taken) == 1 and server.commands[-1] == "QUIT"


HEAVY = ("aiohttp", "apsw", "click", "rich", "prometheus_client", "cryptography", "idna", "email")


def test_the_import_brings_no_server_and_no_database() -> None:
    program = (
        "import sys, posthouse.sending\n"
        "from posthouse.sending import Message, Transport, SendingError\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "ours = [name for name in sys.modules if name.startswith('posthouse.')]\n"
        "print(heavy, [n for n in ours if n.split('.')[1] in"
        " ('store', 'app', 'config', 'queue', 'accounts', 'reception', 'relay', 'access')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[] []\n", done.stdout + done.stderr
