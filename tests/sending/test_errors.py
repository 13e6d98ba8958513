"""Errors go to other processes and into copies with all they say."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from posthouse.kernel.reply import Reply
from posthouse.protocol.smtp.client_events import Stage
from posthouse.sending import Transport, errors
from posthouse.sending.errors import MessageError, OptionError, SendingError, again
from posthouse.sending.receipt import Rejected

REPLY = Reply(550, "5.1.1", "no such user")
BOB = Rejected(
    recipient="bob@example.net",
    code=550,
    status="5.1.1",
    text="no such user",
    is_transient=False,
    response="550 5.1.1 no such user",
)


def kinds(root: type[SendingError] = SendingError) -> Iterator[type[SendingError]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def made(kind: type[SendingError]) -> SendingError:
    if issubclass(kind, OptionError):
        return kind("port", "has to be a number", hint="write 587")
    more = {"field": "to[2]"} if issubclass(kind, MessageError) else {}
    return kind(
        "it went wrong",
        hint="do it again",
        server="mail.example.org:587",
        stage=Stage.DATA,
        reply=REPLY,
        is_transient=True,
        may_have_been_sent=True,
        rejected=[BOB],
        **more,
    )


def through_pickle(error: SendingError) -> SendingError:
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("kind", list(kinds()))
@pytest.mark.parametrize("way", [through_pickle, copy.copy, copy.deepcopy, again])
def test_a_copy_of_an_error_says_the_same(
    kind: type[SendingError], way: Callable[[SendingError], SendingError]
) -> None:
    error = made(kind)
    error.add_note("of this program")
    found = way(error)
    assert type(found) is kind and found is not error
    assert found.__dict__ == error.__dict__ and found.args == error.args
    assert str(found) == str(error) and repr(found) == repr(error)
    found.hint = "other"
    assert error.hint != "other"


def test_all_errors_are_in_the_tree() -> None:
    assert {kind.__name__ for kind in kinds()} | {"again"} == set(errors.__all__)


def misused() -> None:
    Transport("smtps://mail.example.org", tls="off")


def test_the_error_of_a_worker_process_arrives() -> None:
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with pool, pytest.raises(OptionError) as caught:
        pool.submit(misused).result(timeout=60)
    assert caught.value.option == "tls"
