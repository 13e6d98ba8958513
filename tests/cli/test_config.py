"""`posthouse config` as a person meets it: words, exit codes, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from posthouse.cli import COMMANDS, reference, run
from posthouse.cli.output import ExitCode
from posthouse.config.catalogue import settings
from posthouse.config.limits import limits
from posthouse.config.schema import Config
from posthouse.tls.self_signed import make_self_signed

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _away_from_other_configs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POSTHOUSE_CONFIG", raising=False)
    monkeypatch.setattr("posthouse.cli.config.SYSTEM_CONFIG", tmp_path / "none.toml")


def config_file(text: str, name: str = "posthouse.toml") -> str:
    Path(name).write_text(text)
    return name


def test_a_right_file_is_said_to_be_right(capsys: pytest.CaptureFixture[str]) -> None:
    config_file("[smtp]\nidle_s = 400\nhops_max = 30\n")
    assert run(["config", "check"]) == ExitCode.OK
    assert capsys.readouterr() == ("posthouse.toml: right (2 settings from it)\n", "")


def test_no_file_at_all_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check"]) == ExitCode.OK
    assert capsys.readouterr().out == "config: right (no file, defaults only)\n"


def test_every_mistake_is_an_error_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    config_file("[smtp]\nidel_s = 400\nhops_max = 0\n")
    assert run(["config", "check"]) == ExitCode.CONFIG
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "error: posthouse.toml:2: smtp.idel_s: there is no such setting; did you mean"
        " smtp.idle_s?\n"
        "error: posthouse.toml:3: smtp.hops_max: 0 is not allowed: the least is 10; 0 does not mean"
        " unlimited; allowed: a whole number, from 10 to 1000\n"
        "hint: `posthouse config show` lists every setting with its meaning\n"
    )


def test_mistakes_as_json_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    config_file("smtp.idel_s = 400", "other.toml")
    assert run(["config", "check", "--json", "--config", "other.toml"]) == ExitCode.CONFIG
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "ok": False,
        "path": "other.toml",
        "problems": [
            {
                "line": 1,
                "key": "smtp.idel_s",
                "text": "there is no such setting",
                "hint": "did you mean smtp.idle_s?",
            }
        ],
    }


@pytest.mark.parametrize("where", ["option", "environment"])
def test_a_named_file_that_is_missing_is_an_error(
    where: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["config", "check"]
    if where == "option":
        arguments += ["--config", "gone.toml"]
    else:
        monkeypatch.setenv("POSTHOUSE_CONFIG", "gone.toml")
    assert run(arguments) == ExitCode.CONFIG
    assert (
        capsys.readouterr().err == "error: gone.toml: cannot be read: No such file or directory\n"
    )


# S: private keys and passwords are open to nobody else
@pytest.mark.parametrize(
    ("mode", "said"),
    [(0o600, ""), (0o640, ""), (0o644, "is open to other users"), (0o660, "is open")],
)
def test_files_that_the_config_names_are_looked_at(
    mode: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair()
    Path("key.pem").chmod(mode)
    config_file('[tls]\ncertificate = "cert.pem"\nkey = "key.pem"')
    code = run(["config", "check"])
    assert code == (ExitCode.CONFIG if said else ExitCode.OK)
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("error: posthouse.toml:3: tls.key:") or not said


def write_pair() -> None:
    chain, key = make_self_signed(["mail.example.org"], datetime.now(UTC))
    Path("cert.pem").write_bytes(chain)
    Path("key.pem").write_bytes(key)
    Path("key.pem").chmod(0o600)


# F35: what `serve` would refuse, `config check` does not call right
@pytest.mark.parametrize(
    ("name", "keeps", "said"),
    [
        ("cert.pem", 100, "posthouse.toml:2: tls.certificate: {} holds no complete certificate"),
        ("cert.pem", 0, "posthouse.toml:2: tls.certificate: {} holds no complete certificate"),
        ("key.pem", 100, "posthouse.toml:3: tls.key: {} holds no complete private key"),
    ],
)
def test_a_damaged_certificate_or_key_is_told(
    name: str, keeps: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair()
    Path(name).write_bytes(Path(name).read_bytes()[:keeps])
    config_file('[tls]\ncertificate = "cert.pem"\nkey = "key.pem"')
    assert run(["config", "check"]) == ExitCode.CONFIG
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {said.format(Path(name).absolute())}\n")
    if name == "cert.pem":
        assert "hint: it must be PEM" in err


def test_a_key_of_another_certificate_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    write_pair()
    key = Path("key.pem").read_bytes()
    write_pair()
    Path("key.pem").write_bytes(key)
    config_file('[tls]\ncertificate = "cert.pem"\nkey = "key.pem"')
    assert run(["config", "check", "--json"]) == ExitCode.CONFIG
    [problem] = json.loads(capsys.readouterr().out)["problems"]
    assert problem["line"] == 2 and "does not belong to the certificate" in problem["text"]


def test_a_missing_certificate_is_told_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    config_file('[tls]\ncertificate = "/gone/cert.pem"\nkey = "/gone/key.pem"')
    assert run(["config", "check", "--json"]) == ExitCode.CONFIG
    said = json.loads(capsys.readouterr().out)
    assert [(problem["line"], problem["key"]) for problem in said["problems"]] == [
        (2, "tls.certificate"),
        (3, "tls.key"),
    ]


def test_show_has_every_setting_with_value_default_unit_meaning_and_origin(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config_file('[smtp]\nidle_s = "10m"\n[[listener]]\nservice = "mx"\n')
    assert run(["config", "show", "--json"]) == ExitCode.OK
    shown = {one["setting"]: one for one in json.loads(capsys.readouterr().out)}
    tables = ("listener.", "relay.route.", "relay.tls_policy.")
    outside = {key for key in settings() if not key.startswith(tables)}
    assert outside <= set(shown)
    assert shown["listener[1].service"]["from"] == "posthouse.toml:4"
    idle = shown["smtp.idle_s"]
    assert (idle["value"], idle["default"], idle["unit"]) == (600.0, 300.0, "seconds")
    assert idle["from"] == "posthouse.toml:2"
    assert idle["meaning"].startswith("Silence between commands")
    assert shown["smtp.hops_max"]["from"] == "default"
    assert shown["workers.hash_max"]["from"] == "this machine"


def test_show_of_a_section_has_only_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "show", "relay.retry"]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[:3] for line in lines] == [
        ["relay.retry.first_s", "2m", "default"],
        ["relay.retry.growth", "2", "default"],
        ["relay.retry.max_s", "4h", "default"],
        ["relay.retry.jitter", "0.1", "default"],
    ]


def test_show_of_an_unknown_section_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "show", "smpt"]) == ExitCode.NOT_FOUND
    assert capsys.readouterr().err == (
        "error: there is no section or setting 'smpt'\nhint: did you mean smtp?\n"
    )


# P9
def test_show_limits_has_every_limit_with_what_reaching_it_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config_file("smtp.recipients_max = 200")
    assert run(["config", "show", "--limits", "--json"]) == ExitCode.OK
    shown = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert list(shown) == [limit.name for limit in limits(Config())]
    assert shown["smtp.recipients_max"]["value"] == 200
    assert shown["smtp.recipients_max"]["when_exceeded"].startswith("452 4.5.3")
    assert shown["address.domain_octets_max"]["is_fixed"] is True
    assert run(["config", "show", "--limits", "pop3"]) == ExitCode.OK
    assert len(capsys.readouterr().out.splitlines()) == 4


# The command line as a whole


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["confg"], 2, "error: there is no command 'confg'\nhint: did you mean `posthouse config`"),
        (["\x1b[31m"], 2, "error: there is no command '\\x1b[31m'\nhint: see `posthouse --help`\n"),
        (["config", "sho"], 2, "error: No such command 'sho'"),
        (["config", "show", "--jsno"], 2, "error: No such option '--jsno'"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_in_words(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert "hint: " in err
    assert "Traceback" not in err


def test_help_imports_no_command_and_names_those_that_are_there() -> None:
    program = (
        "import sys; from posthouse.cli import run; run(['--help']); "
        "heavy = 'posthouse.config posthouse.cli.config rich aiohttp apsw asyncio'.split(); "
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == "[]\n"
    assert "config  " in done.stdout


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "posthouse", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "posthouse 0.1.0\n"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "posthouse", "config", "show"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_bug_is_told_as_one_and_its_traceback_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: str | None) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("posthouse.cli.config.load_config", broken)
    assert run(["config", "check"]) == ExitCode.FAILED
    err = capsys.readouterr().err
    assert err.startswith(
        "error: this is a bug in Posthouse: ZeroDivisionError: oops\nhint: run it"
    )
    monkeypatch.setenv("POSTHOUSE_DEBUG", "1")
    assert run(["config", "check"]) == ExitCode.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_the_reference_page_of_commands_is_fresh() -> None:
    written = (PROJECT / reference.PAGE).read_text(encoding="utf-8")
    assert written == reference.page(), "run `python -m posthouse.cli.reference`"


def test_every_command_of_the_issue_has_its_place() -> None:
    assert set(COMMANDS) == {
        "serve", "demo", "quickstart", "domain", "account", "alias", "queue", "ledger", "explain",
        "send", "resolve", "config", "sim", "certificate", "check", "dns", "report",
        "key",
    }  # fmt: skip
