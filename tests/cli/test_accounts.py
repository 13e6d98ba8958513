"""`posthouse account`, `alias` and `domain`: what they do, refuse and say."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from posthouse.cli.output import ExitCode

from .conftest import PASSWORD, Cli

STDIN = f"{PASSWORD}\n"


def accounts(house: Cli) -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in json.loads(house("account", "list", "--json")[1])}


def add(house: Cli, address: str, *arguments: str, stdin: str = STDIN) -> tuple[int, str, str]:
    return house("account", "add", address, "--password-stdin", *arguments, stdin=stdin)


def test_an_account_begins_with_its_mailboxes_and_never_shows_its_password(house: Cli) -> None:
    said = add(house, "me@example.org", "--quota", "2GiB")
    assert said == (0, "", "me@example.org can log in and receive mail now\n")
    code, out, _ = house("account", "list")
    assert (code, out) == (
        0,
        (
            "me@example.org\t0\t0\t2GiB\tactive\n"
            f"you@example.org\t1\t{accounts(house)['you@example.org']['used_octets']}\tnone\tactive\n"
        ),
    )
    with closing(sqlite3.connect("posthouse.db")) as database:
        names = database.execute(
            "SELECT m.name FROM mailbox m JOIN account a ON a.id = m.account_id"
            " WHERE a.name = 'me@example.org' ORDER BY m.name"
        ).fetchall()
    assert [name for (name,) in names] == ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]
    assert PASSWORD.encode() not in Path("posthouse.db").read_bytes()


@pytest.mark.parametrize(
    ("address", "arguments", "stdin", "error", "hint"),
    [
        (
            "you@example.org",
            (),
            STDIN,
            "the account you@example.org is there already",
            "",
        ),
        (
            "me@example.com",
            (),
            "",
            "the domain example.com is not known here",
            "add it: posthouse domain add example.com",
        ),
        (
            "postmaster@example.org",
            (),
            STDIN,
            "postmaster@example.org is an alias",
            "remove it first: posthouse alias remove postmaster@example.org",
        ),
        ("nobody", (), "", "'nobody' is not an address: ", "write it like you@example.org"),
        (
            "me@example.org",
            (),
            "short\n",
            "the password has 5 characters, at least 12 are needed",
            "four or five random words make a good one",
        ),
        (
            "me@example.org",
            ("--quota", "much"),
            STDIN,
            "'much' is not a size",
            "write it like 2GiB",
        ),
        ("me@example.org", ("--quota", "0"), STDIN, "a quota is more than 0", ""),
    ],
)
def test_an_account_that_cannot_be_is_refused_in_words(
    address: str, arguments: tuple[str, ...], stdin: str, error: str, hint: str, house: Cli
) -> None:
    code, out, err = add(house, address, *arguments, stdin=stdin)
    is_unknown = "not known" in error
    assert (code, out) == (ExitCode.NOT_FOUND if is_unknown else ExitCode.FAILED, "")
    assert err.startswith(f"error: {error}")
    assert f"hint: {hint}" in err or not hint
    assert list(accounts(house)) == ["you@example.org"]


# H49
def test_two_accounts_that_look_the_same_are_refused(house: Cli) -> None:
    code, _, err = add(house, "ｙou@example.org")
    assert code == ExitCode.FAILED
    assert "looks the same as the account you@example.org" in err


def test_disable_enable_and_quota_are_kept(house: Cli) -> None:
    you = "you@example.org"
    assert house("account", "disable", you) == (0, "", f"{you} is disabled\n")
    assert accounts(house)[you]["is_disabled"] is True
    assert house("account", "enable", you) == (0, "", f"{you} is enabled\n")
    assert house("account", "quota", you, "1MiB") == (0, "", f"{you} may keep 1MiB\n")
    assert accounts(house)[you]["quota_octets"] == 1 << 20
    assert house("account", "quota", you, "none") == (0, "", f"{you} may keep any amount\n")
    assert accounts(house)[you]["quota_octets"] is None
    code, _, err = house("account", "disable", "gone@example.org")
    assert code == ExitCode.NOT_FOUND
    assert err.splitlines()[0] == "error: there is no account gone@example.org"


def test_remove_takes_all_mail_and_only_when_it_is_meant(house: Cli) -> None:
    code, _, err = house("account", "remove", "you@example.org")
    assert code == ExitCode.FAILED
    assert err.splitlines() == ["error: this removes all mail of the account", "hint: add --yes"]
    said = house("account", "remove", "you@example.org", "--yes")
    assert said == (0, "", "you@example.org and its mail are gone\n")
    assert accounts(house) == {}
    with closing(sqlite3.connect("posthouse.db")) as database:
        for table in ("mailbox", "entry", "email", "address"):
            count = database.execute(f"SELECT count(*) FROM {table}").fetchone()
            assert count == (0,), table


def test_import_makes_all_of_a_file_or_nothing_and_names_the_line_that_is_wrong(
    house: Cli,
) -> None:
    lines = "a@example.org correct horse battery\n\nb@example.org other horse battery\n"
    code, _, err = house("account", "import", "-", stdin=f"{lines}alone@example.org\n")
    assert code == ExitCode.FAILED
    assert err == "error: line 4: an address and a password are needed\n"
    code, _, err = house("account", "import", "-", stdin=f"{lines}a@nowhere.example {PASSWORD}\n")
    assert code == ExitCode.FAILED
    assert err.splitlines()[0] == (
        "error: line 4: the domain nowhere.example is not known here; no account was made"
    )
    assert list(accounts(house)) == ["you@example.org"]
    code, _, err = house("account", "import", "-", stdin=lines)
    assert (code, err) == (0, "2 accounts made\n")
    code, _, err = house("account", "import", "-", stdin="c@example.org x\n")
    assert (code, err.splitlines()[0]) == (
        ExitCode.FAILED,
        "error: line 1: the password has 1 character, at least 12 are needed; no account was made",
    )


# Equal hashes would tell that two people have the same password.
def test_accounts_imported_with_one_password_have_hashes_of_their_own(house: Cli) -> None:
    house("account", "import", "-", stdin=f"a@example.org {PASSWORD}\nb@example.org {PASSWORD}\n")
    with closing(sqlite3.connect("posthouse.db")) as database:
        hashes = database.execute("SELECT password FROM account").fetchall()
    assert len(set(hashes)) == 3


def test_aliases_are_added_listed_and_removed(house: Cli) -> None:
    said = house("alias", "add", "team@example.org", "you@example.org", "x@example.net")
    assert said == (0, "", "2 added\n")
    said = house("alias", "add", "team@example.org", "you@example.org")
    assert said == (0, "", "nothing to do: it was there already\n")
    assert house("alias", "list")[1].splitlines() == [
        "postmaster@example.org\tyou@example.org",
        "team@example.org\tyou@example.org",
        "team@example.org\tx@example.net",
    ]
    assert house("alias", "remove", "team@example.org", "x@example.net")[0] == 0
    assert house("alias", "remove", "team@example.org") == (0, "", "1 removed\n")
    code, _, err = house("alias", "remove", "team@example.org")
    assert code == ExitCode.NOT_FOUND
    assert err.splitlines()[0] == "error: there is no such alias team@example.org"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("you@example.org", "x@example.net"), "you@example.org is an account and gets its own"),
        (("a@example.org", "a@example.org"), "an alias cannot be its own target"),
        (("a@example.com", "b@example.net"), "the domain example.com is not known here"),
        (("a@example.org", "nobody"), "'nobody' is not an address"),
        (("a@example.org", "no@example.org"), "nobody has the address no@example.org here"),
    ],
)
def test_an_alias_that_cannot_be_is_refused(
    arguments: tuple[str, ...], error: str, house: Cli
) -> None:
    code, _, err = house("alias", "add", *arguments)
    assert code in (ExitCode.FAILED, ExitCode.NOT_FOUND)
    assert err.startswith(f"error: {error}")


def test_domains_are_added_listed_and_removed(house: Cli) -> None:
    code, _, err = house("domain", "add", "Bücher.example")
    assert (code, err.splitlines()) == (
        0,
        [
            (
                "mail for xn--bcher-kva.example is taken from now on;"
                " next: posthouse account add you@xn--bcher-kva.example"
            ),
            "then publish what this prints: posthouse dns records xn--bcher-kva.example",
            (
                "what xn--bcher-kva.example sends is signed (DKIM) once the DNS shows its keys,"
                " until then it is not"
            ),
        ],
    )
    assert house("domain", "list")[1].splitlines() == [
        "example.org\t1\t1\t",
        "bücher.example\t0\t0\t",
    ]
    code, _, err = house("domain", "add", "example.ORG")
    assert (code, err) == (1, "error: the domain example.org is there already\n")
    said = house("domain", "catch-all", "example.org", "you@example.org")
    assert said == (0, "", "unknown addresses go to you@example.org\n")
    assert house("domain", "catch-all", "example.org", "--none")[2] == (
        "unknown addresses are refused\n"
    )
    assert house("domain", "catch-all", "example.org")[0] == ExitCode.USAGE
    code, _, err = house("domain", "remove", "example.org")
    assert code == ExitCode.FAILED
    assert err.splitlines()[1] == (
        "hint: remove them first: posthouse account remove you@example.org"
    )
    assert house("domain", "remove", "bücher.example")[0] == 0
    assert len(json.loads(house("domain", "list", "--json")[1])) == 1
