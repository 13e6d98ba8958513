"""The node key: what it seals, and what is said when it is lost, open to others or another one."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from posthouse.accounts.sealing import KEY_OCTETS, NodeKey, SealBroken
from posthouse.kernel.errors import DataUnusable, UserError
from posthouse.net.world import SystemChance

CONTEXT = b"domain-key:example.org:r1"


@pytest.fixture
def key(tmp_path: Path) -> NodeKey:
    made = NodeKey(tmp_path / "deep" / "node.key", SystemChance())
    made.open(sealed=0)
    return made


def again(key: NodeKey) -> NodeKey:
    return NodeKey(key.path, SystemChance())


def test_the_file_is_made_at_first_use_and_nobody_else_reads_it(key: NodeKey) -> None:
    assert key.path.stat().st_mode & 0o777 == 0o600
    assert len(key.path.read_bytes()) == KEY_OCTETS
    assert os.listdir(key.path.parent) == ["node.key"]
    kept = key.path.read_bytes()
    again(key).open(sealed=0)
    assert key.path.read_bytes() == kept


def test_what_is_sealed_comes_back_and_looks_different_each_time(key: NodeKey) -> None:
    sealed = key.seal(b"secret", CONTEXT)
    assert b"secret" not in sealed
    assert key.seal(b"secret", CONTEXT) != sealed
    assert again(key).unseal(sealed, CONTEXT) == b"secret"


def test_a_sealed_value_does_not_open_in_the_place_of_another(key: NodeKey) -> None:
    sealed = key.seal(b"secret", CONTEXT)
    with pytest.raises(SealBroken, match=r"does not open domain-key:example\.net:r1"):
        key.unseal(sealed, b"domain-key:example.net:r1")


@pytest.mark.parametrize("at", [1, 13, -1])
def test_a_changed_octet_is_noticed(at: int, key: NodeKey) -> None:
    sealed = bytearray(key.seal(b"secret", CONTEXT))
    sealed[at] ^= 1
    with pytest.raises(SealBroken, match="another key sealed it"):
        key.unseal(bytes(sealed), CONTEXT)


@pytest.mark.parametrize("octets", [b"", b"\x01", b"\x01short", b"\x02" + bytes(40)])
def test_octets_that_are_not_sealed_are_an_error_in_words(octets: bytes, key: NodeKey) -> None:
    with pytest.raises(SealBroken):
        key.unseal(octets, CONTEXT)


def test_another_node_key_says_what_to_do(key: NodeKey, tmp_path: Path) -> None:
    sealed = key.seal(b"secret", CONTEXT)
    other = NodeKey(tmp_path / "other.key", SystemChance())
    other.open(sealed=0)
    with pytest.raises(SealBroken) as said:
        other.unseal(sealed, CONTEXT)
    assert "posthouse domain rotate --lost-node-key" in said.value.hint


def test_a_missing_file_is_never_replaced_while_something_is_sealed(key: NodeKey) -> None:
    key.path.unlink()
    with pytest.raises(DataUnusable, match="is missing") as said:
        again(key).open(sealed=1)
    assert not key.path.exists()
    assert said.value.hint.startswith("put the copy of it back")
    with pytest.raises(DataUnusable, match="is missing"):
        again(key).unseal(key.seal(b"secret", CONTEXT), CONTEXT)


def test_a_lost_key_is_renewed_only_when_it_is_gone(key: NodeKey) -> None:
    with pytest.raises(UserError, match="nothing is lost"):
        again(key).renew()
    old = key.path.read_bytes()
    key.path.unlink()
    again(key).renew()
    assert key.path.read_bytes() != old


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_not_used(mode: int, key: NodeKey) -> None:
    key.path.chmod(mode)
    with pytest.raises(DataUnusable, match=f"its mode is {mode:04o}") as said:
        again(key).open(sealed=1)
    assert said.value.hint.startswith(f"chmod 600 {key.path}\n")


@pytest.mark.parametrize("octets", [b"", bytes(31), bytes(33)])
def test_a_damaged_file_is_told(octets: bytes, key: NodeKey) -> None:
    key.path.write_bytes(octets)
    with pytest.raises(DataUnusable, match="is damaged"):
        again(key).open(sealed=1)


def test_a_folder_that_cannot_be_written_is_told() -> None:
    with pytest.raises(DataUnusable, match="cannot be made") as said:
        NodeKey(Path("/proc/node.key"), SystemChance()).open(sealed=0)
    assert "key_file" in said.value.hint


def test_two_processes_that_make_it_at_once_end_with_one(tmp_path: Path) -> None:
    keys = [NodeKey(tmp_path / "node.key", SystemChance()) for _ in range(2)]
    for key in keys:
        key._make()
    sealed = keys[0].seal(b"secret", CONTEXT)
    assert keys[1].unseal(sealed, CONTEXT) == b"secret"


def test_it_shows_its_path_and_nothing_else(key: NodeKey) -> None:
    octets = key.path.read_bytes()
    for text in (repr(key), str(key), f"{key}"):
        assert text == f"NodeKey({str(key.path)!r})"
        assert octets.hex() not in text
    with pytest.raises(TypeError):
        pickle.dumps(key)
