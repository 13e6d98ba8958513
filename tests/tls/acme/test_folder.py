"""The files of ACME: private, replaced whole, never half a pair."""

from __future__ import annotations

import os
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from posthouse.kernel.errors import UserError
from posthouse.tls.acme import folder as folders
from posthouse.tls.acme.folder import About, AcmeFolder, Status
from posthouse.tls.certificates import CertificateFiles, load_certificate
from posthouse.tls.self_signed import make_self_signed

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ABOUT = About(
    directory="https://ca.example/", challenge="http-01", obtained_at=NOW, key_made_at=NOW
)
NAME = "mail.example.org"


@pytest.fixture
def folder(tmp_path: Path) -> AcmeFolder:
    (tmp_path / "tls").mkdir()
    return AcmeFolder(tmp_path / "tls" / "acme")


def pair(name: str = NAME) -> tuple[bytes, bytes]:
    return make_self_signed([name], NOW)


def test_a_pair_is_kept_under_its_name_and_nobody_else_may_read_it(folder: AcmeFolder) -> None:
    previous = os.umask(0)
    try:
        files = folder.put(NAME, *pair(), ABOUT)
        folder.put_next_key(NAME, b"key")
        folder.put_account_key("a1", b"key")
        folder.put_status(NAME, Status(failures=1))
        folder.ask(NAME, "t1")
        with folder.locked():
            pass
    finally:
        os.umask(previous)
    assert folder.files(NAME) == files and folder.names() == (NAME,)
    link = folder.root / NAME
    assert (link / "chain.pem").read_bytes() == files.chain.read_bytes()
    assert (link / "key.pem").read_bytes() == files.key.read_bytes()
    for path in [folder.root, *folder.root.rglob("*")]:
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) in {0o600, 0o700}, path
    held = folder.held(NAME)
    assert held is not None and held.about == ABOUT
    assert load_certificate(held.files, NOW).names == (NAME,)


def test_a_new_pair_takes_over_and_the_one_before_stays_for_its_readers(
    folder: AcmeFolder,
) -> None:
    files = [folder.put(NAME, *pair(), ABOUT) for _ in range(5)]
    assert folder.files(NAME) == files[-1]
    assert [each.chain.exists() for each in files] == [False, False, False, True, True]
    other = folder.put("other.example.org", *pair("other.example.org"), ABOUT)
    assert other.chain.parent.name == "other.example.org@1"
    assert folder.names() == (NAME, "other.example.org")


# F35
def test_a_pair_that_is_refused_or_not_written_leaves_the_old_one(
    folder: AcmeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = folder.put(NAME, *pair(), ABOUT)

    def refuse(files: CertificateFiles) -> None:
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        folder.put(NAME, *pair(), ABOUT, check=refuse)
    real = folders.write_whole
    for broken in ("key.pem", "chain.pem", "about.json"):

        def full(path: Path, octets: bytes, *, mode: int, broken: str = broken) -> None:
            if path.name == broken:
                raise OSError(28, "No space left on device")
            real(path, octets, mode=mode)

        monkeypatch.setattr(folders, "write_whole", full)
        with pytest.raises(UserError, match="No space left"):
            folder.put(NAME, *pair(), ABOUT)
    monkeypatch.setattr(folders, "write_whole", real)
    assert folder.files(NAME) == good
    assert [path.name for path in (folder.root / ".versions").iterdir()] == [f"{NAME}@1"]
    folder.put(NAME, *pair(), ABOUT)


# F35: killed in between
def test_what_a_kill_leaves_behind_is_never_half_a_pair(folder: AcmeFolder) -> None:
    good = folder.put(NAME, *pair(), ABOUT)
    half = folder.root / ".versions" / f"{NAME}@2"
    half.mkdir()
    (half / "key.pem").write_bytes(b"half a key")
    (folder.root / f".{NAME}.123").symlink_to(".versions/nowhere")
    assert folder.files(NAME) == good and folder.names() == (NAME,)
    new = folder.put(NAME, *pair(), ABOUT)
    assert new.chain.parent.name == f"{NAME}@3" and folder.files(NAME) == new


# F35: replaced while others read
def test_readers_never_see_a_chain_with_another_s_key(folder: AcmeFolder) -> None:
    folder.put(NAME, *pair(), ABOUT)
    pairs = [pair() for _ in range(4)]
    stop = threading.Event()
    problems: list[str] = []

    def read() -> None:
        while not stop.is_set():
            files = folder.files(NAME)
            assert files is not None
            try:
                load_certificate(files, NOW)
            except UserError as error:
                if folder.files(NAME) == files:  # not just removed, two versions later
                    problems.append(error.text)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(60):
        folder.put(NAME, *pairs[number % 4], ABOUT)
    stop.set()
    for reader in readers:
        reader.join()
    assert problems == []


def test_damaged_files_are_nothing_held_and_a_status_begins_anew(folder: AcmeFolder) -> None:
    assert folder.held(NAME) is None and folder.names() == () and folder.asked() == {}
    files = folder.put(NAME, *pair(), ABOUT)
    files.chain.write_bytes(b"no PEM")
    assert folder.held(NAME) is None and folder.files(NAME) == files
    folder.put_status(NAME, Status(failures=3))
    (folder.root / ".status" / f"{NAME}.json").write_bytes(b"{")
    assert folder.status(NAME) == Status()


def test_wildcards_and_strange_names(folder: AcmeFolder) -> None:
    folder.put("*.example.org", *pair("*.example.org"), ABOUT)
    assert (folder.root / "_.example.org").is_symlink()
    assert folder.names() == ("*.example.org",)
    folder.ask("*.example.org", "t1")
    assert folder.asked() == {"*.example.org": "t1"}
    folder.drop_asked("*.example.org")
    assert folder.asked() == {}
    for name in ("../x", "a/b", "", ".hidden", "A.example", "a..b", "a\n", "*", "x@1"):
        with pytest.raises(UserError, match="no name of a host"):
            folder.put(name, *pair(), ABOUT)
    (folder.root / ".requests" / "..x").write_text("t2")
    (folder.root / ".requests" / "good.example").write_text("no token!")
    assert folder.asked() == {}


def test_one_order_at_a_time_over_all_processes(folder: AcmeFolder) -> None:
    with folder.locked(), pytest.raises(UserError, match="another process"), folder.locked():
        pass
    with folder.locked():
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "tls").write_text("a file in the way")
    with pytest.raises(UserError, match="cannot write"):
        AcmeFolder(tmp_path / "tls" / "acme").put(NAME, *pair(), ABOUT)
