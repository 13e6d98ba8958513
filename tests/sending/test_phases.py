"""How long each part of sending took, in the receipt."""

from __future__ import annotations

import asyncio
import time

import pytest

from posthouse.sending import AsyncTransport, Message
from posthouse.sending.receipt import Phases
from tests.sending.bad_server import USUAL, BadServer
from tests.sending.conftest import Certificates

LETTER = Message(sender="ada@example.org", to="bob@example.net", text="Hi")


def parts(phases: Phases) -> float:
    return phases.envelope_s + phases.content_s


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
async def test_the_handshake_has_its_own_time(certificates: Certificates, scheme: str) -> None:
    is_implicit = scheme == "smtps"
    extensions = USUAL if is_implicit else (*USUAL, "STARTTLS")
    async with (
        BadServer(
            context=certificates.good, is_implicit=is_implicit, extensions=extensions
        ) as server,
        AsyncTransport(f"{scheme}://localhost:{server.port}", ca=certificates.ca) as way,
    ):
        first, second = (await way.send(LETTER)).phases, (await way.send(LETTER)).phases
    assert min(first.connect_s, first.tls_s, first.greeting_s, first.message_s) > 0
    assert second.connect_s == second.tls_s == second.greeting_s == 0 < second.message_s


class Slow(BadServer):
    """Lets a second pass before it says anything about the envelope or the content."""

    def __init__(self, verb: str) -> None:
        super().__init__()
        self._slow = verb
        self.passed_s = 0.0

    def reply(self, verb: str) -> str:
        if verb == self._slow:
            self.passed_s += 1
        return super().reply(verb)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "DOT"])
async def test_envelope_and_content_are_told_apart(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(verb)
    monkeypatch.setattr(
        "posthouse.net.world.SystemClock.monotonic_s", lambda _: time.monotonic() + slow.passed_s
    )
    async with (
        slow as server,
        AsyncTransport(f"smtp://127.0.0.1:{server.port}", connections_max=1) as way,
    ):
        for receipt in await asyncio.gather(*(way.send(LETTER) for _ in range(3))):
            phases = receipt.phases
            long_s = phases.content_s if verb == "DOT" else phases.envelope_s
            assert long_s >= 1 and parts(phases) == pytest.approx(phases.message_s)
