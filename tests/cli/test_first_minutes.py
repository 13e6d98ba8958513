"""A new user's first ten minutes against a real server process, with what is said in each case."""

from __future__ import annotations

import imaplib
import json
import os
import poplib
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from posthouse.cli.output import ExitCode

from .conftest import PASSWORD, Cli, Server, start_server, stop_server

SEND = ("--user", "you@example.org", "--password-stdin", "--from", "you@example.org")
WAIT_S = 20


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for another process."""
    ends = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < ends, f"never: {what}"
        time.sleep(0.02)


def inbox(server: Server, account: str, password: str = PASSWORD) -> list[bytes]:
    """Messages in an INBOX, read over TLS with the node's own certificate as the trusted one."""
    context = ssl.create_default_context(cafile=str(server.config.parent / "tls/self-signed.pem"))
    context.check_hostname = False
    with imaplib.IMAP4_SSL("127.0.0.1", server.base + 993, ssl_context=context) as imap:
        imap.login(account, password)
        imap.select("INBOX", readonly=True)
        _, found = imap.search(None, "ALL")
        messages = []
        for number in found[0].split():
            _, parts = imap.fetch(number, "(BODY.PEEK[])")
            messages.append(parts[0][1])
        return messages


def test_its_certificate_is_for_this_machine(server: Server) -> None:
    context = ssl.create_default_context(cafile=str(server.config.parent / "tls/self-signed.pem"))
    for host in ("127.0.0.1", "localhost"):
        with imaplib.IMAP4_SSL(host, server.base + 993, ssl_context=context) as imap:
            imap.login("you@example.org", PASSWORD)


def test_it_listens_where_quickstart_said(server: Server) -> None:
    lines = server.said.splitlines()
    places = dict(
        line.split() for line in lines if line.count("127.0.0.1:") == 1 and "{" not in line
    )
    assert places == {
        name: f"127.0.0.1:{server.base + port}"
        for name, port in {
            "mx": 25,
            "submission": 587,
            "submissions": 465,
            "imap": 143,
            "imaps": 993,
            "pop3": 110,
            "pop3s": 995,
            "metrics": 80,
        }.items()
    }


def test_the_welcome_is_in_the_inbox(server: Server) -> None:
    welcome = inbox(server, "you@example.org")[0]
    assert b"Subject: Your mailbox is ready\r\n" in welcome
    assert b"From: Posthouse <postmaster@example.org>\r\n" in welcome
    assert f"IMAP at 127.0.0.1, port {server.base + 993}, TLS\r\n".encode() in welcome
    assert PASSWORD.encode() not in welcome


def test_a_message_goes_from_one_account_to_another_and_is_explained(
    server: Server, cli: Cli
) -> None:
    config = str(server.config)
    code, out, err = cli(
        *("send", "--config", config, *SEND, "--to", "me@example.org"),
        *("--subject", "Grüße", "--body", "Hello there", "--header", "X-Try: 1"),
        stdin=f"{PASSWORD}\n",
    )
    assert code == ExitCode.OK
    queue_id = out.rsplit(" ", 1)[1].strip()
    assert out == f"me@example.org: accepted: 250 2.0.0 Accepted as {queue_id}\n"
    assert "-> AUTH PLAIN ***\n<- 235 2.7.0 " in err
    assert PASSWORD not in err
    assert "-> MAIL FROM:<you@example.org> SIZE=" in err
    assert "== TLSv1.3 with " in err

    got = inbox(server, "me@example.org")[-1]
    assert got.endswith(b"\r\n\r\nHello there\r\n")
    assert b"X-Try: 1\r\n" in got
    assert b"Delivered-To: me@example.org\r\n" in got
    assert queue_id.encode() in got  # in Received: the name that people see everywhere

    code, out, _ = cli("explain", queue_id, "--config", config)
    assert code == ExitCode.OK
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0].startswith(f"{queue_id}  from you@example.org, ")
    assert lines[2].partition("  ")[2].startswith("accepted by submission from 127.0.0.1, which")
    assert lines[3].endswith(", logged in as you@example.org")
    assert lines[4] == "me@example.org: 250 2.1.5, leads to the mailbox of me@example.org"
    assert lines[5] == "verdict: accept"
    assert lines[6].endswith("  me@example.org: stored in the mailbox")
    assert lines[7] == "now: me@example.org: stored in a mailbox"

    assert cli("explain", queue_id.rpartition(".")[0], "--config", config)[1] == out  # its trace
    code, _, err = cli("explain", f"{queue_id}x", "--config", config)
    assert code == ExitCode.NOT_FOUND
    assert err.splitlines()[0] == f"error: nothing is known of a message '{queue_id}x'"
    assert queue_id in err.splitlines()[1].removeprefix("hint: did you mean ")


def test_pop3_reads_it_too(server: Server) -> None:
    context = ssl.create_default_context(cafile=str(server.config.parent / "tls/self-signed.pem"))
    context.check_hostname = False
    pop = poplib.POP3_SSL("127.0.0.1", server.base + 995, context=context)
    pop.user("you@example.org")
    pop.pass_(PASSWORD)
    assert pop.stat()[0] >= 1
    pop.quit()


def test_a_wrong_password_is_said_to_be_one(server: Server, cli: Cli) -> None:
    code, out, err = cli(
        *("send", "--config", str(server.config), *SEND, "--to", "me@example.org"),
        stdin="wrong horse battery\n",
    )
    assert (code, out) == (ExitCode.FAILED, "")
    assert err.splitlines()[-3:] == [
        (
            f"error: 127.0.0.1:{server.base + 587} refused the login of you@example.org by PLAIN:"
            " 535 5.7.8 Name or password is wrong"
        ),
        (
            "hint: try name and password where you read your mail; with a second factor on, an"
            " app password is needed"
        ),
        "hint: `posthouse account password ADDRESS` sets a new one, on this machine",
    ]
    assert "wrong horse" not in err
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        inbox(server, "you@example.org", "wrong horse battery")


def test_a_wrong_recipient_is_said_to_be_one(server: Server, cli: Cli) -> None:
    code, out, err = cli(
        *("send", "--config", str(server.config), *SEND),
        *("--to", "nobody@example.org", "--to", "me@example.org"),
        stdin=f"{PASSWORD}\n",
    )
    assert code == ExitCode.FAILED
    first, second = out.splitlines()
    assert first == "nobody@example.org: refused: 550 5.1.1 No such user here"
    assert second.startswith("me@example.org: accepted: 250 2.0.0 ")
    assert err.splitlines()[-2:] == [
        (
            f"error: 127.0.0.1:{server.base + 587} refused the recipient nobody@example.org:"
            " 550 5.1.1 No such user here"
        ),
        "hint: check the spelling of nobody@example.org",
    ]


@pytest.mark.parametrize(
    ("port", "arguments", "error", "hint"),
    [
        (
            587,
            ("--tls", "implicit"),
            "the peer spoke plain text where TLS begins",
            "the server begins in plain text: use --tls starttls, as is usual at port 587",
        ),
        (
            465,
            ("--tls", "none", "--timeout", "1"),
            "did not answer in time (greeting)",
            (
                "if the server speaks TLS from the start, use --tls implicit; else the port may be"
                " another program's"
            ),
        ),
        (
            587,
            ("--insecure",),
            "takes nothing from a@example.net: 530 5.7.0 Authentication required",
            "log in with --user, at port 587 or 465",
        ),
    ],
)
def test_the_usual_mistakes_are_named(
    port: int, arguments: tuple[str, ...], error: str, hint: str, server: Server, cli: Cli
) -> None:
    place = f"127.0.0.1:{server.base + port}"
    code, _, err = cli(
        *("send", "--server", place, "--from", "a@example.net", "--to", "me@example.org"),
        *arguments,
    )
    assert code == ExitCode.FAILED
    joint = ":" if error.startswith("the peer") else ""
    assert err.splitlines()[-2:] == [f"error: {place}{joint} {error}", f"hint: {hint}"]


def test_a_self_signed_certificate_is_refused_with_the_ways_to_trust_it(
    server: Server, cli: Cli
) -> None:
    place = f"localhost:{server.base + 587}"
    send = ("send", "--server", place, "--from", "you@example.org", "--to", "me@example.org")
    code, _, err = cli(*send)
    assert code == ExitCode.FAILED
    assert err.splitlines()[-3:] == [
        f"error: {place}: the peer's certificate does not verify: self-signed certificate",
        (
            "hint: if you trust this server, name its certificate: --ca certificate.pem (openssl"
            f" s_client -starttls smtp -connect {place} -showcerts prints it); --insecure takes"
            " any, for tests only"
        ),
        "hint: a Posthouse node keeps its own as tls/self-signed.pem in its data folder",
    ]
    trusting = (*send, "--ca", str(server.config.parent / "tls/self-signed.pem"))
    assert "Authentication required" in cli(*trusting)[2]
    _, _, err = cli(*trusting, "--server-name", "mx.example.net")
    assert err.splitlines()[-1] == (
        "hint: the certificate is for mail.example.org, localhost, 127.0.0.1, ::1, not for"
        " mx.example.net: if this is that server, add --server-name mail.example.org"
    )


def test_strangers_cannot_send_through_us(server: Server, cli: Cli) -> None:
    place = f"127.0.0.1:{server.base + 25}"
    code, out, err = cli(
        *("send", "--server", place, "--tls", "none"),
        *("--from", "a@example.net", "--to", "b@example.com"),
    )
    assert code == ExitCode.FAILED
    assert out.startswith("b@example.com: refused: 550 5.7.1 Relaying denied")
    assert err.splitlines()[-1] == "hint: log in with --user, at port 587 or 465"


def test_a_password_is_never_sent_over_a_plain_port_that_does_not_ask_for_it(
    server: Server, cli: Cli
) -> None:
    code, _, err = cli(
        *("send", "--server", f"127.0.0.1:{server.base + 25}", "--tls", "none", *SEND),
        *("--to", "me@example.org"),
        stdin=f"{PASSWORD}\n",
    )
    assert code == ExitCode.FAILED
    assert "AUTH" not in err
    assert "offers no login" in err


def test_nothing_listening_is_told_so(cli: Cli) -> None:
    code, _, err = cli(
        "send", "--server", "127.0.0.1:1", "--from", "a@example.net", "--to", "b@example.net"
    )
    assert code == ExitCode.TEMPORARY
    assert err.splitlines()[-2:] == [
        "error: 127.0.0.1:1 cannot be reached: Connection refused",
        (
            "hint: nothing listens at port 1: mail programs use 465 (smtps://) or 587"
            " (smtp+starttls://)"
        ),
    ]


def test_the_queue_in_hand_while_the_server_runs(server: Server, cli: Cli) -> None:
    option = ("--config", str(server.config))
    code, out, _ = cli(
        *("send", *option, *SEND, "--to", "x@slow.example.net", "--json"), stdin=f"{PASSWORD}\n"
    )
    assert code == ExitCode.OK
    queue_id = json.loads(out)["recipients"][0]["reply"].rsplit(" ", 1)[1]

    def shown() -> dict[str, str]:
        found: list[dict[str, str]] = json.loads(cli("queue", "list", *option, "--json")[1])
        return found[0]

    until(lambda: "Connection refused" in shown()["last_reply"], "a first attempt")
    code, out, err = cli("queue", "list", *option)
    assert out.split("\t")[:4] == [queue_id, "x@slow.example.net", "you@example.org", "waiting"]
    assert err == "1 recipient: 1 waiting\n"
    assert cli("queue", "hold", queue_id, *option) == (0, "", "1 recipient held\n")
    assert shown()["state"] == "held"
    said = cli("queue", "release", "--domain", "slow.example.net", *option)
    assert said == (0, "", "1 recipient released, due now\n")
    until(lambda: int(shown()["attempts"]) >= 2, "an attempt after the release")
    code, _, err = cli("queue", "drop", "--all", *option)
    assert code == ExitCode.FAILED
    assert err.splitlines() == [
        "error: this would drop 1 recipient without telling the sender",
        "hint: add --yes",
    ]
    assert cli("queue", "drop", "--all", "--yes", *option) == (0, "", "1 recipient dropped\n")
    assert cli("queue", "list", *option) == (0, "", "the queue is empty\n")
    story = cli("explain", queue_id, *option)[1]
    order = ["accepted by submission", "attempt 1", ": deferred", ": held", ": released", "dropped"]
    places = [story.index(words) for words in order]
    assert places == sorted(places)
    assert "connect at 127.0.0.1: Connection refused" in story
    assert cli("ledger", "check", *option)[0] == ExitCode.OK


# P13: what the command line commits, the running server knows
def test_accounts_and_passwords_change_under_a_running_server(server: Server, cli: Cli) -> None:
    option = ("--config", str(server.config))
    assert cli("domain", "add", "example.com", *option)[0] == 0
    new = "another horse battery"
    said = cli(
        "account", "add", "new@example.com", "--password-stdin", *option, stdin=f"{PASSWORD}\n"
    )
    assert said == (0, "", "new@example.com can log in and receive mail now\n")

    def works(password: str) -> bool:
        try:
            inbox(server, "new@example.com", password)
        except imaplib.IMAP4.error:
            return False
        return True

    assert works(PASSWORD)
    cli("account", "password", "new@example.com", "--password-stdin", *option, stdin=f"{new}\n")
    until(lambda: works(new), "the new password")
    assert not works(PASSWORD)
    assert cli("account", "disable", "new@example.com", *option)[0] == 0
    until(lambda: not works(new), "a disabled account")


def test_a_mistake_in_the_config_names_the_line_and_the_nearest_setting(
    server: Server, cli: Cli
) -> None:
    Path("posthouse.toml").write_text(server.config.read_text() + "\n[smtp]\nidel_s = 3\n")
    line = Path("posthouse.toml").read_text().splitlines().index("idel_s = 3") + 1
    for command in ("serve", "queue list", "account list", "ledger check"):
        code, out, err = cli(*command.split())
        assert (code, out) == (ExitCode.CONFIG, "")
        assert err.splitlines() == [
            (
                f"error: posthouse.toml:{line}: smtp.idel_s: there is no such setting;"
                " did you mean smtp.idle_s?"
            ),
            "hint: `posthouse config show` lists every setting with its meaning",
        ]


# F36
def test_a_mistake_at_reload_leaves_the_server_as_it_was(server: Server) -> None:
    right = server.config.read_text()
    try:
        server.config.write_text(f"{right}\n[smtp]\nidel_s = 3\n")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "config.refused" in server.log.read_text(), "the refusal in the log")
        assert "smtp.idle_s" in server.log.read_text()
        assert len(inbox(server, "you@example.org")) >= 1
    finally:
        server.config.write_text(right)


def test_a_second_server_on_the_same_ports_is_told_why_it_cannot_start(
    server: Server, cli: Cli, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(server.config.read_text().replace('"."', f'"{tmp_path}/data"'))
    with pytest.raises(AssertionError) as caught:
        start_server(other, server.base)
    said = [line for line in str(caught.value).splitlines() if line[:6] in ("error:", "hint: ")]
    assert said[0].endswith(f"port {server.base + 25}: another program uses it")
    assert said[1] == f"hint: `ss -ltnp 'sport = :{server.base + 25}'` shows which one"


# P14
def test_sigterm_ends_the_server_in_good_order(house: Cli) -> None:
    base = int(
        next(
            line.split("=")[1]
            for line in Path("posthouse.toml").read_text().splitlines()
            if line.startswith("port_base")
        )
    )
    running = start_server(Path("posthouse.toml").absolute(), base)
    assert stop_server(running) == 0
    until(lambda: "server.stopped" in running.log.read_text(), "the last line of the log")
    assert house("ledger", "check")[0] == 0


def test_nothing_that_is_made_can_be_read_by_others(server: Server) -> None:
    folder = server.config.parent
    names = ["posthouse.db", "posthouse.toml", "tls", "tls/self-signed.key"]
    assert [name for name in names if os.stat(folder / name).st_mode & 0o077] == []


def test_a_second_server_on_the_same_data_is_refused_in_words(
    server: Server, tmp_path: Path
) -> None:
    folder, other = server.config.parent, tmp_path / "other.toml"
    lines = (f'[node]\ndata_folder = "{folder}"', "[net]\nport_base = 41000")
    other.write_text("\n".join(lines), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "posthouse", "serve", "--config", str(other)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == ExitCode.LOCKED
    assert f"{folder} is in use by another Posthouse server (process " in done.stderr
