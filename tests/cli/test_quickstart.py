"""`posthouse quickstart`: what it writes, keeps, refuses and prints."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from posthouse.cli.output import ExitCode
from posthouse.config.settings import load_file

from .conftest import PASSWORD, Cli

STDIN = f"{PASSWORD}\n"


def start(cli: Cli, *arguments: str, stdin: str = STDIN) -> tuple[int, str, str]:
    return cli("quickstart", *arguments, "--password-stdin", stdin=stdin)


def test_the_config_has_only_what_differs_and_is_right(cli: Cli) -> None:
    code, _, _ = start(cli, "you@example.org", "--data", "d", "--hostname", "Mail.Example.org")
    assert code == ExitCode.OK
    assert tomllib.loads(Path("d/posthouse.toml").read_text()) == {
        "node": {"hostname": "mail.example.org", "data_folder": "."}
    }
    loaded = load_file("d/posthouse.toml")
    assert Path(loaded.config.node.data_folder).resolve() == Path("d").resolve()
    assert [Path("d", name).stat().st_mode & 0o777 for name in (".", "posthouse.toml")] == [
        0o700,
        0o600,
    ]


def test_what_is_printed_is_enough_to_publish_and_to_set_up_a_client(cli: Cli) -> None:
    code, out, err = start(
        cli,
        *("you@example.org", "--data", "d", "--listen", "127.0.0.1", "--port-base", "20000"),
        *("--hostname", "mail.example.org"),
    )
    assert code == ExitCode.OK
    assert err.splitlines() == [
        f"wrote d/posthouse.toml, data in {Path('d').absolute()}",
        "you@example.org can log in and receive mail; postmaster's mail is taken too",
    ]
    lines = [line.strip() for line in out.splitlines()]
    records = [line.partition(";")[0].split(None, 2) for line in lines if "  ; " in line]
    assert [[name, kind, value.strip()] for name, kind, value in records[:2]] == [
        ["example.org.", "MX", "10 mail.example.org."],
        ["mail.example.org.", "A", "<the public IPv4 address of this machine>"],
    ]
    assert any(line.startswith("example.org.") and '"v=spf1 mx -all"' in line for line in lines)
    assert "Set up a mail client: user name you@example.org, your password, and" in lines
    ways = [line.split() for line in lines if line.startswith(("reading", "sending"))]
    assert ways == [
        ["reading", "IMAP", "127.0.0.1", "port", "20993", "TLS"],
        ["reading", "IMAP", "127.0.0.1", "port", "20143", "STARTTLS"],
        ["reading", "POP3", "127.0.0.1", "port", "20995", "TLS"],
        ["reading", "POP3", "127.0.0.1", "port", "20110", "STARTTLS"],
        ["sending", "SMTP", "127.0.0.1", "port", "20465", "TLS"],
        ["sending", "SMTP", "127.0.0.1", "port", "20587", "STARTTLS"],
    ]
    assert "posthouse serve --config d/posthouse.toml" in lines
    assert any(line.startswith("posthouse send --config d/posthouse.toml ") for line in lines)
    assert PASSWORD not in out + err


def test_again_with_another_address_adds_it_and_keeps_the_config(cli: Cli) -> None:
    start(cli, "you@example.org", "--data", "d")
    config = Path("d/posthouse.toml")
    config.write_text(config.read_text() + "# mine\n")
    kept = config.read_text()
    code, out, _ = start(cli, "me@example.com", "--data", "d", "--json")
    assert code == ExitCode.OK
    said = json.loads(out)
    assert (said["address"], said["config_is_new"]) == ("me@example.com", False)
    assert next(r["name"] for r in said["records"]) == "example.com."
    assert config.read_text() == kept
    option = ("--config", str(config))
    assert [a["name"] for a in json.loads(cli("account", "list", "--json", *option)[1])] == [
        "me@example.com",
        "you@example.org",
    ]
    aliases = json.loads(cli("alias", "list", "--json", *option)[1])
    assert sorted((a["address"], a["target"]) for a in aliases) == [
        ("postmaster@example.com", "me@example.com"),
        ("postmaster@example.org", "you@example.org"),
    ]


def test_again_with_the_same_address_says_how_to_go_on(cli: Cli) -> None:
    start(cli, "you@example.org", "--data", "d")
    code, out, err = start(cli, "You@Example.org", "--data", "d", stdin="")  # asks for no password
    assert (code, out) == (ExitCode.FAILED, "")
    assert err.splitlines() == [
        "error: the account you@example.org is there already",
        "hint: start the server: posthouse serve --config d/posthouse.toml",
        (
            "hint: or give it a new password: posthouse account password you@example.org"
            " --config d/posthouse.toml"
        ),
    ]


@pytest.mark.parametrize(
    "other", [("--port-base", "20000"), ("--listen", "127.0.0.1"), ("--hostname", "a.example.net")]
)
def test_an_existing_config_is_never_overwritten(other: tuple[str, ...], cli: Cli) -> None:
    start(cli, "you@example.org", "--data", "d")
    kept = Path("d/posthouse.toml").read_text()
    code, _, err = start(cli, "me@example.org", "--data", "d", *other)
    assert code == ExitCode.FAILED
    assert err.splitlines() == [
        (
            "error: d/posthouse.toml is there already and says otherwise;"
            " quickstart never changes it"
        ),
        "hint: to add me@example.org to it, leave out --listen, --port-base and --hostname",
        "hint: to change these, edit that file; to begin anew, name another folder with --data",
    ]
    assert Path("d/posthouse.toml").read_text() == kept


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "error"),
    [
        (("you", "--data", "d"), STDIN, 1, "'you' is not an address: "),
        (("you@", "--data", "d"), STDIN, 1, "'you@' is not an address: "),
        (("a@[127.0.0.1]", "--data", "d"), STDIN, 1, "'a@[127.0.0.1]' has no domain name"),
        (("a@b.org", "--data", "d"), "", 1, "the password is empty"),
        (("a@b.org", "--data", "d"), "short\n", 1, "the password has 5 characters"),
        (("a@b.org", "--data", "d"), "password1234\n", 1, "this password is one of those"),
        (("a@b.org", "--data", "d", "--listen", "x"), STDIN, 2, "--listen takes an IP address"),
        (("a@b.org", "--data", "/dev/null"), STDIN, 1, "/dev/null is a file, not a folder"),
        (("a@b.org", "--data", "/proc/d"), STDIN, 1, "/proc/d cannot be written: "),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    arguments: tuple[str, ...], stdin: str, code: int, error: str, cli: Cli
) -> None:
    found, out, err = start(cli, *arguments, stdin=stdin)
    assert (found, out) == (code, "")
    assert err.startswith(f"error: {error}")
    assert "password1234" not in err
    assert not Path("d").exists()


def test_without_a_terminal_the_password_must_come_by_stdin(cli: Cli) -> None:
    code, _, err = cli("quickstart", "you@example.org", "--data", "d", stdin=STDIN)
    assert code == ExitCode.USAGE
    assert err.splitlines() == [
        "error: a password is needed, and there is no terminal to ask on",
        "hint: use --password-stdin",
    ]


def test_no_command_takes_a_password_as_an_argument(cli: Cli) -> None:
    code, _, err = cli("quickstart", "you@example.org", "--data", "d", "--password", PASSWORD)
    assert code == ExitCode.USAGE
    assert PASSWORD not in err


def test_an_internationalised_domain_is_kept_in_a_labels(cli: Cli) -> None:
    code, out, _ = start(cli, "ich@bücher.example", "--data", "d", "--json")
    assert code == ExitCode.OK
    said = json.loads(out)
    assert said["records"][0]["name"] == "xn--bcher-kva.example."
    assert "mail.xn--bcher-kva.example" in Path("d/posthouse.toml").read_text()


def test_people_other_than_root_get_a_folder_here(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("posthouse.cli.publish.PRIVILEGED_BELOW", Path("/nonexistent"))
    code, out, _ = start(cli, "you@example.org")
    assert code == ExitCode.OK
    assert Path("posthouse-data/posthouse.toml").exists()
    assert "ports 25, 110, 143, 465, 587, 993, 995 need root or a service manager" in out
    assert "posthouse serve --config posthouse-data/posthouse.toml" in out


def test_both_ways_to_a_certificate_that_all_trust_are_told(cli: Cli) -> None:
    code, out, _ = start(cli, "you@example.org", "--data", "d", "--hostname", "mail.example.org")
    assert code == ExitCode.OK
    assert "enable [acme], which obtains it by itself, or set certificate and key in [tls]" in out
    text = Path("d/posthouse.toml").read_text()
    lines = text.splitlines()
    start_at = lines.index("# [acme]")
    wanted = [line.removeprefix("# ") for line in lines[start_at : start_at + 3]]
    assert wanted == ["[acme]", "is_enabled = true", "accepts_terms = true"]
    Path("d/posthouse.toml").write_text(text + "\n".join(wanted))
    assert load_file("d/posthouse.toml").config.acme.is_enabled
