"""Programs that send: what they sent is in the inbox, octet for octet below our own fields."""

from __future__ import annotations

import smtplib

import aiosmtplib
import pytest

from tests.interop.house import ELSEWHERE, HARMLESS, Account, below_trace, crlf, message
from tests.interop.programs import needs_node_module, needs_program, node_modules

SWAKS_TLS = ("IO::Socket::SSL", "Net::SSLeay")
TLS_WAYS = [("submission", "starttls"), ("submissions", "implicit")]


def is_in(account: Account, sent: bytes) -> None:
    (found,) = account.inbox()
    assert below_trace(found) == sent
    assert found.startswith(b"Return-Path: <")


@needs_program("swaks", package="swaks", perl=SWAKS_TLS)
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(("service", "tls"), TLS_WAYS)
def test_swaks_submits(account: Account, service: str, tls: str, mechanism: str) -> None:
    sent = message(account.address, account.address)
    account.run(
        "swaks", "--server", "127.0.0.1", "--port", str(account.port(service)),
        "--tls" if tls == "starttls" else "--tls-on-connect",
        "--auth", mechanism, "--auth-user", account.address, "--auth-password", account.password,
        "--from", account.address, "--to", account.address, "--data", "-", text=sent[:-2],
    )  # fmt: skip
    is_in(account, sent)


@needs_program("swaks", package="swaks", perl=SWAKS_TLS)
@pytest.mark.parametrize("more", [(), ("--pipeline",), ("--tls", "--pipeline"), ("--tls",)])
def test_swaks_delivers_to_port_25(account: Account, more: tuple[str, ...]) -> None:
    sent = message(ELSEWHERE, account.address)
    account.run(
        "swaks", "--server", "127.0.0.1", "--port", str(account.port("mx")), *more,
        "--from", ELSEWHERE, "--to", account.address, "--data", "-", text=sent[:-2],
    )  # fmt: skip
    is_in(account, sent)


@needs_program("swaks", package="swaks", perl=SWAKS_TLS)
def test_swaks_is_told_no_in_numbers(account: Account) -> None:
    server = ("--server", "127.0.0.1", "--port")
    said = account.run(
        "swaks", *server, str(account.port("mx")), "--from", ELSEWHERE,
        "--to", "nobody@interop.test", codes=(24,),
    )  # fmt: skip
    assert b"550 5.1.1" in said
    said = account.run(
        "swaks", *server, str(account.port("submission")), "--tls", "--auth", "PLAIN",
        "--auth-user", account.address, "--auth-password", "wrong one, I think",
        "--from", account.address, "--to", account.address, codes=(28,),
    )  # fmt: skip
    assert b"535 5.7.8" in said


@needs_program("curl", package="curl")
@pytest.mark.parametrize(("scheme", "service"), [("smtp", "submission"), ("smtps", "submissions")])
def test_curl_submits(account: Account, scheme: str, service: str) -> None:
    sent = message(account.address, account.address)
    account.run(
        "curl", "-sS", "--insecure", "--ssl-reqd", f"{scheme}://127.0.0.1:{account.port(service)}",
        "--user", f"{account.address}:{account.password}", "--mail-from", account.address,
        "--mail-rcpt", account.address, "--upload-file", account.file("mail", sent),
    )  # fmt: skip
    is_in(account, sent)


@needs_program("msmtp", package="msmtp")
@pytest.mark.parametrize(("service", "tls"), TLS_WAYS)
def test_msmtp_submits(account: Account, service: str, tls: str) -> None:
    config = account.file(
        "msmtprc",
        f"account default\nhost 127.0.0.1\nport {account.port(service)}\nauth plain\n"
        f"user {account.address}\npassword {account.password}\nfrom {account.address}\n"
        f"tls on\ntls_certcheck off\ntls_starttls {'on' if tls == 'starttls' else 'off'}\n",
    )
    sent = message(account.address, account.address)
    account.run("msmtp", "-C", config, account.address, text=sent.replace(b"\r\n", b"\n"))
    is_in(account, sent)


NODE = """
const {createTransport} = require('nodemailer');
const MailComposer = require('nodemailer/lib/mail-composer');
const fs = require('fs');
const [port, secure, user, pass, file] = process.argv.slice(2);
const mail = {
  from: user, to: user, subject: 'Grüße 📬', text: 'text\\n.\\n..\\n', html: '<p>text</p>',
  attachments: [{filename: 'Übersicht.bin', content: Buffer.from([...Array(5000).keys()])}],
};
new MailComposer(mail).compile().build((error, raw) => {
  if (error) throw error;
  fs.writeFileSync(file, raw);
  const transport = createTransport({
    host: '127.0.0.1', port: +port, secure: secure === 'yes', requireTLS: secure !== 'yes',
    auth: {user, pass}, tls: {rejectUnauthorized: false},
  });
  transport.sendMail({envelope: {from: user, to: [user]}, raw})
    .then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
});
"""


@needs_node_module("nodemailer")
@pytest.mark.parametrize(("service", "tls"), TLS_WAYS)
def test_nodemailer_submits_an_attachment(account: Account, service: str, tls: str) -> None:
    script, raw = account.file("send.js", NODE), account.home / "raw"
    account.run(
        "node", script, str(account.port(service)), "yes" if tls == "implicit" else "no",
        account.address, account.password, str(raw), more={"NODE_PATH": str(node_modules())},
    )  # fmt: skip
    sent = crlf(raw.read_bytes())
    assert b"attachment" in sent
    is_in(account, sent if sent.endswith(b"\r\n") else sent + b"\r\n")


@pytest.mark.parametrize(("service", "tls"), TLS_WAYS)
async def test_aiosmtplib_submits(account: Account, service: str, tls: str) -> None:
    sent = message(account.address, account.address)
    await aiosmtplib.send(
        sent, sender=account.address, recipients=[account.address], hostname="127.0.0.1",
        port=account.port(service), username=account.address, password=account.password,
        use_tls=tls == "implicit", start_tls=tls == "starttls", tls_context=HARMLESS,
    )  # fmt: skip
    is_in(account, sent)


def test_smtplib_submits_with_both_kinds_of_tls(account: Account) -> None:
    sent = message(account.address, account.address)
    with smtplib.SMTP("127.0.0.1", account.port("submission")) as client:
        client.starttls(context=HARMLESS)
        client.login(account.address, account.password)
        client.sendmail(account.address, [account.address], sent, ["BODY=8BITMIME"])
    with smtplib.SMTP_SSL("127.0.0.1", account.port("submissions"), context=HARMLESS) as client:
        client.login(account.address, account.password)
        client.sendmail(account.address, [account.address], sent, ["BODY=8BITMIME"])
    assert [below_trace(found) for found in account.inbox()] == [sent, sent]


@needs_program("openssl", package="openssl")
@pytest.mark.parametrize(
    ("service", "protocol", "bye"),
    [
        ("mx", "smtp", b"quit\r\n"), ("submission", "smtp", b"quit\r\n"),
        ("submissions", "", b"quit\r\n"), ("imap", "imap", b"a logout\r\n"),
        ("imaps", "", b"a logout\r\n"), ("pop3", "pop3", b"quit\r\n"), ("pop3s", "", b"quit\r\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_speaks_tls_on_every_port(
    account: Account, service: str, protocol: str, bye: bytes, version: str
) -> None:
    starttls = ("-starttls", protocol) if protocol else ()
    said = account.run(
        "openssl", "s_client", "-connect", f"127.0.0.1:{account.port(service)}", *starttls,
        version, "-ign_eof", "-CAfile", str(account.server.certificate), "-verify_return_error",
        text=bye,
    )  # fmt: skip
    assert b"Verify return code: 0 (ok)" in said
    assert b"TLSv1.2" in said or b"TLSv1.3" in said
    assert {"quit": b"221 " if "pop3" not in service else b"+OK", "a lo": b"a OK"}[
        bye[:4].decode()
    ] in said
