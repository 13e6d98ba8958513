"""Tests against a whole node of the simulated laboratory, and clients for them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from posthouse.config.schema import Config, Service
from posthouse.sim.ground import Simulated
from posthouse.sim.lab import Lab, as_it_is
from posthouse.sim.talk import Talk, stuffed
from posthouse.sim.world import run_virtual

ONE = {"north.example": ("ada", "alan")}
ADA, ALAN = "ada@north.example", "alan@north.example"
STRANGER = "you@elsewhere.example"
MESSAGE = (
    b"From: <you@elsewhere.example>\r\nTo: <ada@north.example>\r\nMessage-ID: <1@x.example>\r\n"
    b"Subject: hello\r\n\r\nHello.\r\n"
)
Live = Callable[..., Awaitable[None]]


def simulated(
    *, domains: dict[str, tuple[str, ...]] = ONE, change: Callable[[Config], Config] = as_it_is
) -> Callable[[Live], Callable[..., None]]:
    """Run an async test in virtual time; it gets a `Lab` as its first argument."""

    def decorate(live: Live) -> Callable[..., None]:
        names = list(inspect.signature(live).parameters.values())[1:]
        folder = inspect.Parameter("tmp_path", inspect.Parameter.POSITIONAL_OR_KEYWORD)

        @functools.wraps(live)
        def test(tmp_path: Path, **rest: Any) -> None:
            async def main(world: Any) -> None:
                ground = Simulated(world, leisure=1.0)
                async with Lab(ground, domains=domains, change=change, folder=tmp_path) as lab:
                    await live(lab, **rest)

            run_virtual(main)

        test.__signature__ = inspect.Signature([folder, *names])  # type: ignore[attr-defined]
        return test

    return decorate


async def greeted(lab: Lab, name: str = "north", service: Service = Service.MX) -> Talk:
    """A client that has said EHLO."""
    talk = await lab.connect(name, service)
    assert (await talk.reply()).startswith(b"220 ")
    assert (await talk.say(b"EHLO elsewhere.example")).startswith(b"250-")
    return talk


async def ready(lab: Lab, *recipients: str, sender: str = STRANGER) -> Talk:
    """A client whose transaction is open as far as DATA's 354."""
    talk = await greeted(lab)
    assert (await talk.say(f"MAIL FROM:<{sender}>".encode())).startswith(b"250 ")
    for recipient in recipients or (ADA,):
        assert (await talk.say(f"RCPT TO:<{recipient}>".encode())).startswith(b"250 ")
    assert (await talk.say(b"DATA")).startswith(b"354 ")
    return talk


async def offered(lab: Lab, octets: bytes) -> bytes:
    """The reply to a message for Ada from a stranger."""
    talk = await ready(lab)
    talk.send(stuffed(octets))
    reply = await talk.reply()
    talk.close()
    return reply
