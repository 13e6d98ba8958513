"""What people are told of a password that cannot be taken."""

from __future__ import annotations

import pytest

from posthouse.accounts.password import check_new
from posthouse.kernel.errors import UserError


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("x", "the password has 1 character, at least 12 are needed"),
        ("", "the password has 0 characters, at least 12 are needed"),
        ("käse", "the password has 4 characters, at least 12 are needed"),
        ("päßwörtlein", "the password has 11 characters, at least 12 are needed"),
        ("correct horse " * 100, "the password is too long: 1400 characters"),
    ],
)
def test_the_length_of_a_password_is_told_in_characters(password: str, words: str) -> None:
    with pytest.raises(UserError) as raised:
        check_new(password)
    assert raised.value.text == words


def test_twelve_characters_of_any_script_are_enough() -> None:
    check_new("парольпароль")
