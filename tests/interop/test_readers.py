"""Programs that read: what they fetch is what was appended, octet for octet, flags go both ways."""

from __future__ import annotations

import imaplib
import os
import poplib
import pty
import select
import time
from pathlib import Path

import imapclient
import pytest

from tests.interop.house import ELSEWHERE, HARMLESS, WITHIN_S, Account, crlf, message
from tests.interop.programs import find_program, needs_program

IMAP_WAYS = [("imap", "starttls"), ("imaps", "implicit")]
POP3_WAYS = [("pop3", "starttls"), ("pop3s", "implicit")]


def two_in(account: Account) -> list[bytes]:
    return [account.append(message(ELSEWHERE, account.address, f"n{n}")) for n in range(2)]


def maildir(folder: Path) -> list[Path]:
    return sorted(
        (path for part in ("new", "cur") for path in (folder / part).glob("*")),
        key=lambda path: path.stat().st_mtime_ns,
    )


def contents(paths: list[Path]) -> list[bytes]:
    return sorted(crlf(path.read_bytes()) for path in paths)


# --- mbsync ---


@needs_program("mbsync", package="isync")
@pytest.mark.parametrize(("service", "tls"), IMAP_WAYS)
def test_mbsync_mirrors_a_mailbox_and_brings_flags_back(
    account: Account, service: str, tls: str
) -> None:
    sent = two_in(account)
    config = account.file(
        "mbsyncrc",
        f"IMAPStore there\nHost 127.0.0.1\nPort {account.port(service)}\n"
        f'User {account.address}\nPass "{account.password}"\n'
        f"SSLType {'STARTTLS' if tls == 'starttls' else 'IMAPS'}\n"
        f"CertificateFile {account.server.certificate}\n\n"
        f"MaildirStore here\nPath {account.home}/mail/\nInbox {account.home}/mail/INBOX\n\n"
        "Channel all\nFar :there:\nNear :here:\nPatterns INBOX\nSync All\nCreate Near\n"
        f"SyncState {account.home}/state/\n",
    )
    (account.home / "mail").mkdir()
    (account.home / "state").mkdir()
    account.run("mbsync", "-c", config, "-a")
    found = maildir(account.home / "mail" / "INBOX")
    assert sorted(without(one, b"X-TUID") for one in contents(found)) == sorted(sent)

    seen = found[0].parent.parent / "cur" / (found[0].name.split(":")[0] + ":2,FS")
    found[0].rename(seen)
    mine = message(account.address, account.address, "written-here")
    draft = seen.with_name("1.draft.here:2,S")
    draft.write_bytes(mine.replace(b"\r\n", b"\n"))
    account.run("mbsync", "-c", config, "-a")
    with account.imap() as client:
        client.select("INBOX", readonly=True)
        flagged = client.search(None, "FLAGGED", "SEEN")[1][0].split()
        assert len(flagged) == 1
        uploaded = client.search(None, "SUBJECT", "written-here")[1][0].split()
        assert len(uploaded) == 1
        octets = client.fetch(uploaded[0], "(BODY.PEEK[])")[1][0][1]
    assert without(octets, b"X-TUID") == mine
    with account.imap() as client:
        client.select("INBOX")
        client.store(flagged[0], "+FLAGS", "\\Answered")
    account.run("mbsync", "-c", config, "-a")
    names = [path.name for path in maildir(account.home / "mail" / "INBOX")]
    assert sum(name.endswith(":2,FRS") for name in names) == 1


# --- fetchmail, mpop ---


@needs_program("fetchmail", package="fetchmail")
@pytest.mark.parametrize(("service", "tls"), [*IMAP_WAYS, *POP3_WAYS])
def test_fetchmail_fetches_and_empties(account: Account, service: str, tls: str) -> None:
    sent = two_in(account)
    box = account.home / "got"
    box.mkdir()
    mda = account.file("mda", f'#!/bin/sh\nexec cat > "{box}/$$"\n')
    os.chmod(mda, 0o700)
    config = account.file(
        "fetchmailrc",
        f"set invisible\npoll 127.0.0.1 protocol {service.rstrip('s').upper()}"
        f" service {account.port(service)} auth password\n"
        f" user \"{account.address}\" password \"{account.password}\"\n"
        f" {'ssl' if tls == 'implicit' else ''} sslproto \"TLS1.2+\""
        f" no sslcertck sslcertfile {account.server.certificate} no rewrite"
        f" no forcecr no keep fetchall mda \"{mda}\"\n",
    )  # fmt: skip
    account.run("fetchmail", "-f", config, "--nodetach", "--nosyslog", "--idfile",
                str(account.home / "ids"), more={"FETCHMAILHOME": str(account.home)})  # fmt: skip
    assert contents(list(box.iterdir())) == sorted(sent)
    assert account.inbox() == []


@needs_program("mpop", package="mpop")
@pytest.mark.parametrize(("service", "tls"), POP3_WAYS)
@pytest.mark.parametrize("auth", ["plain", "user"])
def test_mpop_fetches_what_is_new(account: Account, service: str, tls: str, auth: str) -> None:
    sent = two_in(account)
    for part in ("cur", "new", "tmp"):
        (account.home / "got" / part).mkdir(parents=True)
    config = account.file(
        "mpoprc",
        f"account default\nhost 127.0.0.1\nport {account.port(service)}\nauth {auth}\n"
        f"user {account.address}\npassword {account.password}\nkeep on\nreceived_header off\n"
        f"tls on\ntls_certcheck off\ntls_starttls {'on' if tls == 'starttls' else 'off'}\n"
        f"delivery maildir {account.home}/got\nuidls_file {account.home}/uidls\n",
    )
    account.run("mpop", "-C", config)
    assert contents(maildir(account.home / "got")) == sorted(sent)
    more = account.append(message(ELSEWHERE, account.address, "later"))
    account.run("mpop", "-C", config)
    assert contents(maildir(account.home / "got")) == sorted([*sent, more])
    assert len(account.inbox()) == 3, "it was told to keep them"


# --- neomutt ---


@needs_program("neomutt", package="neomutt")
@pytest.mark.parametrize(("service", "tls"), IMAP_WAYS)
def test_neomutt_opens_flags_and_copies(account: Account, service: str, tls: str) -> None:
    sent = two_in(account)
    config = account.file(
        "muttrc",
        f'set imap_user="{account.address}"\nset imap_pass="{account.password}"\n'
        f"set ssl_starttls={'yes' if tls == 'starttls' else 'no'}\n"
        f"set ssl_force_tls=yes\nset ssl_verify_host=no\n"
        f"set certificate_file={account.server.certificate}\n"
        f"set folder={account.home}\nset header_cache=\nset message_cachedir=\n"
        "set mbox_type=Maildir\nset delete=yes\n"
        "set confirmappend=no\nset confirmcreate=no\nset wait_key=no\nset mark_old=no\n"
        f"push '<tag-pattern>~A<enter><tag-prefix><copy-message>{account.home}/got<enter>"
        "<untag-pattern>~A<enter><first-entry><flag-message><next-entry><delete-message>"
        "<sync-mailbox><quit>'\n",
    )  # fmt: skip
    scheme = "imap" if tls == "starttls" else "imaps"
    status, said = on_a_terminal(
        account, "neomutt", "-n", "-F", config,
        "-f", f"{scheme}://127.0.0.1:{account.port(service)}/INBOX",
    )  # fmt: skip
    assert status == 0, said
    got = [crlf(path.read_bytes()) for path in maildir(account.home / "got")]
    assert sorted(without(one, b"Status", b"Content-Length", b"Lines") for one in got) == sorted(
        sent
    ), said
    with account.imap() as client:
        client.select("INBOX", readonly=True)
        assert client.search(None, "ALL")[1] == [b"1"], said
        assert client.search(None, "FLAGGED")[1] == [b"1"]


def without(octets: bytes, *names: bytes) -> bytes:
    """Without fields that a program adds when it stores a message in a file."""
    head, blank, body = octets.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if line.split(b":")[0] not in names]
    return b"\r\n".join(lines) + blank + body


def on_a_terminal(account: Account, program: str, *words: str) -> tuple[int, str]:
    """Exit code and screen of a program that wants a terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(HOME=str(account.home), TERM="xterm", LC_ALL="C.UTF-8")
        os.execv(find_program(program) or program, [program, *words])
    said = b""
    end_s = time.monotonic() + WITHIN_S
    try:
        while time.monotonic() < end_s and select.select([terminal], [], [], 1.0) is not None:
            if select.select([terminal], [], [], 0)[0]:
                try:
                    said += os.read(terminal, 65_536)
                except OSError:
                    break  # it has ended
        else:
            os.kill(pid, 9)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(terminal)
    return status, said.decode("utf-8", "replace")


# --- curl ---


@needs_program("curl", package="curl")
@pytest.mark.parametrize("service", ["imap", "imaps", "pop3", "pop3s"])
def test_curl_fetches(account: Account, service: str) -> None:
    sent = two_in(account)
    where = "INBOX;UID=2" if service.startswith("imap") else "2"
    curl = ("curl", "-sS", "--insecure", "--ssl-reqd", "--user")
    url = f"{service}://127.0.0.1:{account.port(service)}/"
    got = account.run(*curl, f"{account.address}:{account.password}", url + where)
    assert got == sent[1]
    listed = account.run(*curl, f"{account.address}:{account.password}", url)
    assert (b'"INBOX"' in listed or b"INBOX" in listed) if "imap" in service else b"2 " in listed


# --- Python ---


@pytest.mark.parametrize(("service", "tls"), IMAP_WAYS)
def test_imaplib_reads_changes_and_moves(account: Account, service: str, tls: str) -> None:
    sent = two_in(account)
    port = account.port(service)
    client: imaplib.IMAP4
    if tls == "implicit":
        client = imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=HARMLESS, timeout=WITHIN_S)
    else:
        client = imaplib.IMAP4("127.0.0.1", port, WITHIN_S)
        client.starttls(HARMLESS)
    with client:
        secret = f"\0{account.address}\0{account.password}".encode()
        client.authenticate("PLAIN", lambda _: secret)
        assert client.create("Projects/Größe".encode("utf-7").decode()) is not None
        client.select("INBOX")
        assert [part[1] for part in client.fetch("1:2", "(RFC822)")[1] if len(part) == 2] == sent
        client.store("1", "+FLAGS", "(\\Deleted)")
        client.copy("1", "Archive")
        assert client.expunge()[1] == [b"1"]
        client.select("Archive")
        assert client.fetch("1", "(BODY[])")[1][0][1] == sent[0]


@pytest.mark.parametrize(("service", "tls"), POP3_WAYS)
def test_poplib_reads_and_deletes(account: Account, service: str, tls: str) -> None:
    sent = two_in(account)
    port = account.port(service)
    client: poplib.POP3
    if tls == "implicit":
        client = poplib.POP3_SSL("127.0.0.1", port, context=HARMLESS, timeout=WITHIN_S)
    else:
        client = poplib.POP3("127.0.0.1", port, timeout=WITHIN_S)
        client.stls(HARMLESS)
    client.user(account.address)
    client.pass_(account.password)
    assert client.stat() == (2, sum(len(one) for one in sent))
    got = [b"\r\n".join(client.retr(number)[1]) + b"\r\n" for number in (1, 2)]
    assert got == sent
    assert b"\r\n".join(client.top(1, 1)[1]).endswith(b"first line")
    assert len(client.uidl()[1]) == 2
    client.dele(1)
    client.quit()
    assert account.inbox() == [sent[1]]


@pytest.mark.parametrize(("service", "tls"), IMAP_WAYS)
def test_imapclient_reads_searches_and_idles(account: Account, service: str, tls: str) -> None:
    sent = two_in(account)
    client = imapclient.IMAPClient(
        "127.0.0.1", account.port(service), ssl=tls == "implicit", ssl_context=HARMLESS,
        timeout=WITHIN_S,
    )  # fmt: skip
    with client:
        if tls == "starttls":
            client.starttls(HARMLESS)
        client.login(account.address, account.password)
        folders = {name: flags for flags, _, name in client.list_folders()}
        assert b"\\Sent" in folders["Sent"]
        assert client.select_folder("INBOX")[b"EXISTS"] == 2
        assert client.search(["TEXT", "umlauts: grüße"], "UTF-8") == [1, 2]
        fetched = client.fetch([1, 2], ["BODY.PEEK[]", "ENVELOPE", "BODYSTRUCTURE", "RFC822.SIZE"])
        assert [fetched[uid][b"BODY[]"] for uid in (1, 2)] == sent
        assert fetched[1][b"ENVELOPE"].subject == b"n0"
        assert fetched[1][b"RFC822.SIZE"] == len(sent[0])
        client.idle()
        account.append(message(ELSEWHERE, account.address, "while-idle"))
        told = client.idle_check(timeout=WITHIN_S)
        client.idle_done()
        assert (3, b"EXISTS") in told
        client.add_flags([3], [imapclient.SEEN, b"$Todo"])
        assert set(client.get_flags([3])[3]) >= {imapclient.SEEN, b"$Todo"}
