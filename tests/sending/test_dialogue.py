"""The dialogue that the option `watch` sees: whole, and without what belongs to nobody else."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.sending import AsyncTransport, Message, OptionError, SendingError
from posthouse.sending.dialogue import Dialogue
from tests.sending.bad_server import DROP, USUAL, BadServer
from tests.sending.conftest import Certificates

SESSION = (
    (b"<", b"220 hi\r\n"),
    (b">", b"EHLO me\r\n"),
    (b"<", b"250-you\r\n250 AUTH PLAIN LOGIN\r\n"),
    (b">", b"AUTH LOGIN\r\n"),
    (b"<", b"334 VXNlcm5hbWU6\r\n"),
    (b">", b"c2VjcmV0LXVzZXI=\r\n"),
    (b"<", b"334 UGFzc3dvcmQ6\r\n"),
    (b">", b"c2VjcmV0LXBhc3M=\r\n"),
    (b"<", b"235-2.7.0 yes\r\n235 2.7.0 yes\r\n"),
    (b">", b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"),
    (b"<", b"250 ok\r\n250 ok\r\n354 go\r\n"),
    (b">", b"Subject: private\r\n\r\nAUTH PLAIN x\r\n..\r\nBDAT 9\r\n.\r\n"),
    (b"<", b"250 ok\r\n"),
    (b">", b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 9 LAST\r\nprivate\r\nQUIT\r\n"),
    (b"<", b"250 ok\r\n250 ok\r\n250 ok\r\n221 bye\r\n"),
)
SHOWN = [
    "<- 220 hi",
    "-> EHLO me",
    "<- 250-you",
    "<- 250 AUTH PLAIN LOGIN",
    "-> AUTH LOGIN",
    "<- 334 ***",
    "-> ***",
    "<- 334 ***",
    "-> ***",
    "<- 235-2.7.0 yes",
    "<- 235 2.7.0 yes",
    "-> MAIL FROM:<a@b>",
    "-> RCPT TO:<c@d>",
    "-> DATA",
    "<- 250 ok",
    "<- 250 ok",
    "<- 354 go",
    "-> (message of 46 octets)",
    "-> .",
    "<- 250 ok",
    "-> MAIL FROM:<a@b>",
    "-> RCPT TO:<c@d>",
    "-> BDAT 9 LAST",
    "-> (message of 9 octets)",
    "-> QUIT",
    "<- 250 ok",
    "<- 250 ok",
    "<- 250 ok",
    "<- 221 bye",
]


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_secrets_and_content_stay_hidden_wherever_the_octets_are_cut(sizes: list[int]) -> None:
    shown: list[str] = []
    dialogue = Dialogue(shown.append)
    turn = 0
    for side, octets in SESSION:
        while octets:
            size = sizes[turn % len(sizes)]
            turn += 1
            part, octets = octets[:size], octets[size:]
            (dialogue.received if side == b"<" else dialogue.sent)(part)
    assert shown == SHOWN


def test_an_initial_response_is_hidden() -> None:
    shown: list[str] = []
    dialogue = Dialogue(shown.append)
    dialogue.sent(b"auth plain AGEAYg==\r\n")
    dialogue.received(b"535 5.7.8 no\r\n")
    dialogue.sent(b"QUIT\r\n")
    assert shown == ["-> auth plain ***", "<- 535 5.7.8 no", "-> QUIT"]


@pytest.mark.timed
def test_a_large_message_costs_no_more_than_its_lines() -> None:
    def seconds(lines: int) -> float:
        dialogue = Dialogue(lambda line: None)
        dialogue.received(b"354 go\r\n")
        content = b"0123456789\r\n" * lines + b".\r\n"
        began = time.perf_counter()
        dialogue.sent(content)
        return time.perf_counter() - began

    least = min(seconds(10_000) for _ in range(3))
    assert min(seconds(80_000) for _ in range(3)) < 8 * 4 * least


def letter() -> Message:
    return Message(sender="ada@example.org", to="bob@example.net", subject="Tea", text="Private")


async def test_a_whole_session_is_seen_with_its_tls_and_its_failed_attempt(
    certificates: Certificates,
) -> None:
    shown: list[str] = []
    offered = (*USUAL, "AUTH LOGIN")
    async with BadServer(
        extensions=offered,
        context=certificates.good,
        challenges=(b"Username:", b"Password:"),
    ) as server:
        async with AsyncTransport(
            host="localhost",
            port=server.port,
            ca=certificates.ca,
            user="ada",
            password="open sesame",
            watch=shown.append,
        ) as transport:
            await transport.send(letter())
        port = server.port
        (taken,) = server.taken
    assert server.auth_lines == ["ada", "open sesame"]
    assert f"== connecting to 127.0.0.1 port {port}" in shown
    assert shown.count("-> ***") == 2 and "-> AUTH LOGIN" in shown
    tls = next(at for at, line in enumerate(shown) if line.startswith("== TLSv1.3 with "))
    assert shown[tls - 1] == "<- 220 2.0.0 go ahead" and shown[tls - 2] == "-> STARTTLS"
    assert f"-> (message of {len(taken.octets)} octets)" in shown
    assert shown[-1] == "<- 221 2.0.0 bye"
    assert not any("Private" in line or "sesame" in line or "YWRh" in line for line in shown)


async def test_where_nobody_answers_that_is_seen() -> None:
    shown: list[str] = []
    async with AsyncTransport("smtp://127.0.0.1:1", watch=shown.append) as transport:
        with pytest.raises(SendingError):
            await transport.send(letter())
    assert shown == [
        "== connecting to 127.0.0.1 port 1",
        "== 127.0.0.1 port 1: Connection refused",
    ]


async def test_what_watches_may_fail_and_the_letter_goes_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[str] = []

    def watch(line: str) -> None:
        calls.append(line)
        raise BrokenPipeError

    async with (
        BadServer() as server,
        AsyncTransport(f"smtp://127.0.0.1:{server.port}", watch=watch) as transport,
    ):
        await transport.send(letter())
    assert len(server.taken) == len(calls) == 1
    assert "the option watch raised" in caplog.text


async def test_each_connection_has_a_dialogue_of_its_own() -> None:
    shown: list[str] = []
    async with BadServer(replies={"MAIL": [DROP, "250 2.1.0 ok"]}) as server:
        url = f"smtp://127.0.0.1:{server.port}"
        async with AsyncTransport(url, watch=shown.append) as transport:
            for _ in range(2):
                try:
                    await transport.send(letter())
                except SendingError:
                    continue
    greetings = [line for line in shown if line == "<- 220 bad.test ESMTP"]
    assert len(greetings) == server.connections >= 2
    assert "<- 250 2.0.0 ok: queued as Q1" in shown


@pytest.mark.parametrize("url", ["smtp://127.0.0.1:1?watch=print", None])
def test_what_cannot_be_called_is_refused(url: str | None) -> None:
    with pytest.raises(OptionError, match="watch"):
        if url is not None:
            AsyncTransport(url)
        else:
            AsyncTransport(host="127.0.0.1", watch="print")  # type: ignore[arg-type]
