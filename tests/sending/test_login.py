"""Where a login's token comes from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from posthouse.kernel.secret import Secret
from posthouse.sending.login import token_of


async def later(text: str = "t") -> str:
    assert threading.current_thread() is threading.main_thread()
    return text


class Refreshing:
    async def __call__(self) -> str:
        return await later()


@pytest.mark.parametrize(
    "token",
    [Secret("t"), lambda: "t", later, partial(later, "t"), lambda: later("t"), Refreshing()],
)
async def test_a_token_comes_from_text_or_from_what_is_called(
    token: Secret | Callable[[], str | Awaitable[str]],
) -> None:
    assert await token_of(token) == "t"


async def test_a_plain_callable_that_waits_holds_up_nobody_else() -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def token() -> str:
        asked.set()
        assert may_answer.wait(10), "the loop stood still"
        return "t"

    async def others() -> None:
        while not asked.is_set():
            await asyncio.sleep(0.001)
        may_answer.set()

    found, _ = await asyncio.gather(token_of(token), others())
    assert found == "t"


async def test_what_a_callable_raises_comes_through() -> None:
    def token() -> str:
        raise LookupError("no token today")

    with pytest.raises(LookupError, match="no token today"):
        await token_of(token)
