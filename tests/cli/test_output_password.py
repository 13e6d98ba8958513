"""Where a password comes from."""

from __future__ import annotations

import io

import pytest

from posthouse.cli.output import read_password


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal_a_password_is_asked_for_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With --password-stdin, too: what is typed stood there for everybody to see."""
    asked: list[str] = []

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        return "s3same"

    monkeypatch.setattr("sys.stdin", Terminal("shown\n"))
    monkeypatch.setattr("getpass.getpass", getpass)
    word = read_password(password_stdin=True, prompt="Password to lock it with", is_new=True)
    assert word.reveal() == "s3same"
    assert asked == ["Password to lock it with: ", "The same again: "]


def test_elsewhere_it_is_the_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("s3same\nmore\n"))
    assert read_password(password_stdin=True).reveal() == "s3same"
