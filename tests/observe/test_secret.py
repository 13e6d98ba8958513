"""A secret shows itself to nobody who does not ask for it by name."""

from __future__ import annotations

import copy
import pickle

import msgspec
import pytest

from posthouse.kernel.secret import Secret


class Login(msgspec.Struct):
    name: str
    password: Secret


def test_no_way_of_showing_a_secret_shows_it() -> None:
    secret = Secret("hunter2")
    shown = (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>20}",
        f"{secret:>20}",
        "{}".format(secret),  # noqa: UP032
        "%s" % secret,  # noqa: UP031
        repr([secret]),
        repr(Login("a", secret)),
    )
    assert all("hunter2" not in text and "***" in text for text in shown)
    assert secret.reveal() == "hunter2"


def test_no_encoder_takes_a_secret_for_text() -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode(Login("a", Secret("hunter2")))
    with pytest.raises(TypeError):
        "".join([Secret("hunter2")])  # type: ignore[list-item]


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy, hash])
def test_a_secret_is_not_copied_into_other_places(way: object) -> None:
    assert callable(way)
    with pytest.raises(TypeError):
        way(Secret("hunter2"))


def test_secrets_are_compared_by_what_they_hold() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret("\ud800") == Secret("\ud800")
    assert not Secret("")
