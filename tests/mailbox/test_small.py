"""Waking sessions, previews and modified UTF-7."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.ids import AccountId
from posthouse.mailbox.changes import ChangesHub
from posthouse.protocol.imap import utf7
from posthouse.store.transaction import DatabaseChanged, QueueChanged
from tests.mailbox.world import World

# --- changes ---


def test_a_session_is_woken_by_its_account_only(world: World) -> None:
    other = world.new_account("other")
    hub = ChangesHub(world.store)
    woken: list[str] = []
    first = hub.watch(world.account, lambda: woken.append("first"))
    hub.watch(world.account, lambda: woken.append("second"))
    hub.watch(other, lambda: woken.append("other"))
    world.deliver()
    assert sorted(woken) == ["first", "second"]
    first.stop()
    first.stop()
    world.deliver(account=other)
    world.deliver()
    assert sorted(woken) == ["first", "other", "second", "second"]
    hub.close()
    world.deliver()
    assert len(woken) == 4


def test_another_process_wakes_everybody(world: World) -> None:
    hub = ChangesHub(world.store)
    woken: list[int] = []
    for account in (1, 2):
        hub.watch(AccountId(account), lambda account=account: woken.append(account))
    hub._changed([QueueChanged()])
    assert woken == []
    hub._changed([DatabaseChanged()])
    assert sorted(woken) == [1, 2]


def test_a_wake_may_stop_watches(world: World) -> None:
    hub = ChangesHub(world.store)
    watches = []
    woken: list[int] = []

    def wake() -> None:
        woken.append(1)
        for watch in watches:
            watch.stop()

    watches += [hub.watch(world.account, wake), hub.watch(world.account, wake)]
    world.deliver()
    world.deliver()
    assert len(woken) <= 2 and hub._watches == {}


# --- modified UTF-7 (RFC 3501 §5.1.3) ---


@pytest.mark.parametrize(
    ("name", "octets"),
    [
        ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501 §5.1.3
        ("A&B", b"A&-B"),
        ("Entwürfe", b"Entw&APw-rfe"),
        ("☺", b"&Jjo-"),
        ("𝄞", b"&2DTdHg-"),
        ("", b""),
        ("a\x00b", b"a&AAA-b"),
    ],
)
def test_names_and_their_octets(name: str, octets: bytes) -> None:
    assert utf7.encode(name) == octets
    assert utf7.decode(octets) == name


@pytest.mark.parametrize(
    "octets",
    [
        b"&", b"&U", b"&U,BTFw", b"a\xff", b"a\x00", b"a\r\n", b"&AGE-", b"&Jjo=-", b"&Jj-",
        b"&2DQ-", b"&Jjo-&Jjo-", b"&JjoA-", b"&&-", b"&A A-", b"&Jjp-",
    ],
)  # fmt: skip
def test_what_is_not_the_one_spelling_is_refused(octets: bytes) -> None:  # H54
    with pytest.raises(ValueError):
        utf7.decode(octets)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=50))
def test_every_name_comes_back(name: str) -> None:
    octets = utf7.encode(name)
    assert octets.isascii() and utf7.decode(octets) == name


@given(st.binary(max_size=40))
def test_decoding_refuses_or_is_undone_by_encoding(octets: bytes) -> None:
    try:
        name = utf7.decode(octets)
    except ValueError:
        return
    assert utf7.encode(name) == octets
