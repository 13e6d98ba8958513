"""How every command speaks: escaped words, JSON, tables, passwords."""

from __future__ import annotations

import getpass
import io
import json
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from posthouse.cli import output
from posthouse.cli.output import CommandError, ExitCode, NotFound, exit_code_of
from posthouse.config.settings import ConfigError
from posthouse.kernel.errors import Fault, StorageBusy, StorageFull, StorageLost, UserError
from posthouse.kernel.secret import Secret


class Row(msgspec.Struct):
    name: str
    octets: int


# H25
@given(st.text())
def test_no_text_of_a_peer_reaches_the_terminal_unescaped(text: str) -> None:
    shown = output.escaped(text)
    assert "\x1b" not in shown
    assert not any(0x7F <= ord(c) <= 0x9F or "\u202a" <= c <= "\u202e" for c in shown)
    assert shown == text or len(shown) > len(text)


def test_plain_text_is_shown_as_it_is() -> None:
    assert output.escaped("Grüße, 東京\tand\nmore") == "Grüße, 東京\tand\nmore"
    assert output.escaped("\x1b[31m\u202e\x9b") == "\\x1b[31m\\x202e\\x9b"


def test_json_shows_structs_and_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_json([Row("é\x1b\x9b\u202e", 5)])
    out = capsys.readouterr().out
    assert "\x9b" not in out and "\u202e" not in out
    assert json.loads(out) == [{"name": "é\x1b\x9b\u202e", "octets": 5}]


def test_a_table_elsewhere_than_on_a_terminal_is_lines_with_tabs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.show_table(("name", "octets"), [("a\tb\nc", 5), (None, "")])
    assert capsys.readouterr().out == "a\\tb\\nc\t5\n\t\n"


def test_a_table_on_a_terminal_has_a_heading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.show_table(("name", "octets"), [("[bold]a[/bold]", 5)])
    out = capsys.readouterr().out
    assert "octets" in out
    assert "[bold]a[/bold]" in out  # a name is not markup


NAME, DAY, LONG = "mail.example.org", "2026-11-26 00:00", "waits: the DNS has no address yet " * 4


def on_a_terminal(
    columns: tuple[str, ...],
    rows: list[tuple[object, ...]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    output.show_table(columns, rows)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    return [line.rstrip() for line in lines if line.strip()]


def test_a_table_on_a_terminal_breaks_no_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[tuple[object, ...]] = [(NAME, LONG, DAY), ("mta-sts.example.org", "", DAY)]
    lines = on_a_terminal(("name", "state", "expires"), rows, capsys, monkeypatch)
    assert "name" in lines[0] and "expires" in lines[0]
    words = {word for line in lines for word in line.split()}
    assert {NAME, "mta-sts.example.org", "2026-11-26", *LONG.split()} <= words


def test_too_many_columns_for_a_terminal_are_a_block_for_each_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = ("name", "issuer", "expires", "how", "next", "TLSA", "state")
    row = (NAME, "Example Authority", DAY, "http-01", DAY, "3 1 1 0123456789abcdef…", LONG)
    lines = on_a_terminal(columns, [row, (NAME, *[""] * 5, "in use")], capsys, monkeypatch)
    assert lines[:6] == [f"{name:<7}  {value}" for name, value in zip(columns, row[:6])]
    assert " ".join(" ".join(lines[6:-2]).split()) == f"state {LONG.strip()}"
    assert lines[-2:] == [f"name     {NAME}", "state    in use"]


@given(
    rows=st.lists(st.tuples(*[st.text("ab 東-\n", max_size=30)] * 3), min_size=1, max_size=5),
    room=st.integers(1, 90),
)
def test_columns_have_room_for_their_words_or_there_is_no_table(
    rows: list[tuple[str, str, str]], room: int
) -> None:
    widths = output.column_widths(rows, room)
    words = [
        max(cell_len(word) for row in rows for word in row[at].split() or [""]) for at in range(3)
    ]
    if widths is not None:
        assert sum(widths) <= room
        assert all(width >= word for width, word in zip(widths, words))
    else:
        assert room < sum(max(word, 16) for word in words)


def test_nothing_to_show_is_said_on_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    output.show([], as_json=False, columns=("a",), rows=[], nothing="the queue is empty")
    assert capsys.readouterr() == ("", "the queue is empty\n")
    output.show([], as_json=True, columns=("a",), rows=[], nothing="the queue is empty")
    assert capsys.readouterr() == ("[]\n", "")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("x"), ExitCode.FAILED),
        (CommandError("x", code=ExitCode.TEMPORARY), ExitCode.TEMPORARY),
        (NotFound("x"), ExitCode.NOT_FOUND),
        (ConfigError("p", ()), ExitCode.CONFIG),
        (StorageBusy("x"), ExitCode.TEMPORARY),
        (StorageFull("x"), ExitCode.TEMPORARY),
        (StorageLost("x"), ExitCode.LOCKED),
        (Fault("x"), ExitCode.LOCKED),
        (OSError("x"), ExitCode.FAILED),
    ],
)
def test_each_error_has_its_exit_code(error: Exception, code: ExitCode) -> None:
    assert exit_code_of(error) is code


# Passwords


@pytest.mark.parametrize(
    ("typed", "password"),
    [
        ("secret\n", "secret"),
        ("secret", "secret"),
        ("se cret \r\nmore\n", "se cret "),
        ("ü\n", "ü"),
    ],
)
def test_a_password_is_the_first_line_of_stdin(
    typed: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert output.read_password(password_stdin=True) == Secret(password)


@pytest.mark.parametrize("typed", ["", "\n", "x" * 1_025 + "\n", "ü" * 513 + "\n"])
def test_an_empty_or_endless_password_is_refused(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    with pytest.raises(CommandError, match=r"empty|longer than 1024 octets"):
        output.read_password(password_stdin=True)


def test_without_a_terminal_a_password_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n"))
    with pytest.raises(CommandError) as caught:
        output.read_password(password_stdin=False)
    assert caught.value.hint == "use --password-stdin"
    assert caught.value.code is ExitCode.USAGE


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def typed_on_a_terminal(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Answer the questions of getpass in turn; the questions that were asked."""
    asked: list[str] = []
    left = iter(answers)

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return next(left)

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", answer)
    return asked


def test_a_new_password_is_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = typed_on_a_terminal(monkeypatch, "one", "one")
    found = output.read_password(password_stdin=False, prompt="Password for a@b", is_new=True)
    assert found == Secret("one")
    assert asked == ["Password for a@b: ", "The same again: "]


def test_two_different_passwords_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    typed_on_a_terminal(monkeypatch, "one", "two")
    with pytest.raises(CommandError, match="differ"):
        output.read_password(password_stdin=False, is_new=True)


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress("working", total=2) as done:
        done(1)
        done(1)
    assert capsys.readouterr() == ("", "")
