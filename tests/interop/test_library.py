"""The client library with servers of other projects: Postfix over STARTTLS, Dovecot over LMTP, and
what Dovecot's IMAP says of the parts that arrived."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import imapclient
import pytest
import trustme

from posthouse.kernel.envelope import Notify
from posthouse.message import read
from posthouse.sending import (
    AsyncTransport,
    Attachment,
    EnvelopeError,
    Message,
    SendEnvelope,
    TlsError,
)
from tests.crash.server import free_port_base
from tests.interop.postfix import DOMAIN, FRIEND, Postfix
from tests.interop.programs import missing_program, needs_program

WITHIN_S = 30.0


def letter(to: str, **more: object) -> Message:
    given = {
        "sender": "Ada Lovelace <ada@example.org>",
        "to": to,
        "subject": "Grüße",
        "text": "Zeile eins\n.Zeile zwei\n",
        "html": "<p>Grüße</p>",
        "attachments": [Attachment(filename="Übersicht.bin", content=bytes(range(256)))],
        **more,
    }
    return Message(**given)  # type: ignore[arg-type]


def check(octets: bytes) -> None:
    got = read(octets)
    assert got.subject == "Grüße" and got.text == "Zeile eins\n.Zeile zwei\n"
    assert "<p>Grüße</p>" in got.html
    (attached,) = got.attachments
    assert (attached.name, attached.octets) == ("Übersicht.bin", bytes(range(256)))


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postfix, str]]:
    if missing_program("postfix", package="postfix", root=True) is not None:
        pytest.skip("Postfix cannot be started")
    folder = tmp_path_factory.mktemp("library")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "cert.pem").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    made = Postfix(
        free_port_base() + 27,
        relay_to=("nowhere.test", 1),
        certificate=folder / "cert.pem",
        key=folder / "key.pem",
    )
    with made.running():
        yield made, str(folder / "ca.pem")


@needs_program("postfix", package="postfix", root=True)
async def test_postfix_takes_letters_over_starttls(postfix: tuple[Postfix, str]) -> None:
    server, ca = postfix
    async with AsyncTransport(host="localhost", port=server.port, tls="starttls", ca=ca) as way:
        found = await way.verify()
        receipts = await asyncio.gather(
            *(way.send(letter(FRIEND, headers={"X-Number": str(n)})) for n in range(20))
        )
        wish = SendEnvelope(sender="", notify=Notify.NEVER)
        bounced = await way.send(letter(FRIEND, envelope=wish, headers={"X-Number": "none"}))
        with pytest.raises(EnvelopeError) as caught:
            await way.send(letter(f"nobody@{DOMAIN}"))
    assert found.tls is not None and found.tls.is_verified and "PIPELINING" in found.extensions
    assert all(one.queue_id and one.queue_id in one.response for one in receipts)
    assert bounced.sender == ""
    assert caught.value.reply is not None and caught.value.reply.code == 550
    assert "spelling" in caught.value.hint
    octets = await asyncio.to_thread(server.wait_for, b"X-Number: 7\r\n")
    check(octets)
    assert b"TLSv1." in octets  # as Postfix's own Received says
    async with AsyncTransport(host="localhost", port=server.port, tls="starttls") as way:
        with pytest.raises(TlsError, match="does not verify"):
            await way.send(letter(FRIEND))


CONF = """\
protocols = imap lmtp
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
default_login_user = {user}
default_internal_user = {user}
default_internal_group = {group}
mail_location = maildir:{folder}/mail/%u
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
passdb {{
  driver = static
  args = password=sesame
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/mail/%u allow_all_users=yes
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
service anvil {{
  chroot =
}}
"""


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Ports of its LMTP and IMAP."""
    program = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None or not Path("/usr/lib/dovecot/lmtp").exists() or os.geteuid():
        pytest.skip("Dovecot with LMTP is not installed, or this is not root")
    folder = Path("/tmp") / f"posthouse-dovecot-{os.getpid()}"  # others must enter it
    shutil.rmtree(folder, ignore_errors=True)
    base = free_port_base()
    lmtp, imap = base + 28, base + 29
    user = pwd.getpwnam("dovenull" if _exists("dovenull") else "nobody")
    for name in ("run", "state", "mail"):
        (folder / name).mkdir(parents=True)
    os.chown(folder / "mail", user.pw_uid, user.pw_gid)
    folder.chmod(0o755)
    import grp

    group = grp.getgrgid(user.pw_gid).gr_name
    conf = folder / "dovecot.conf"
    conf.write_text(
        CONF.format(folder=folder, user=user.pw_name, group=group, lmtp=lmtp, imap=imap)
    )
    child = subprocess.Popen([program, "-F", "-c", str(conf)], stderr=subprocess.PIPE)
    try:
        _wait_for_ports(child, folder, lmtp, imap)
        yield lmtp, imap
    finally:
        child.terminate()
        child.communicate(timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _wait_for_ports(child: subprocess.Popen[bytes], folder: Path, *ports: int) -> None:
    import socket

    end_s = time.monotonic() + WITHIN_S
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert child.poll() is None, child.communicate()[1].decode()
                log = folder / "dovecot.log"
                assert time.monotonic() < end_s, log.read_text() if log.exists() else "no log"
                time.sleep(0.05)


@pytest.mark.interop
async def test_dovecot_takes_letters_by_lmtp_and_sees_the_same_parts(
    dovecot: tuple[int, int],
) -> None:
    lmtp, imap = dovecot
    async with AsyncTransport(f"lmtp://127.0.0.1:{lmtp}") as way:
        receipt = await way.send(letter("bob@house.test, eve@house.test"))
    assert receipt.accepted == ("bob@house.test", "eve@house.test")

    def look() -> tuple[bytes, tuple[object, ...]]:
        with imapclient.IMAPClient("127.0.0.1", imap, ssl=False) as client:
            client.login("bob@house.test", "sesame")
            client.select_folder("INBOX", readonly=True)
            (uid,) = client.search()
            got = client.fetch([uid], ["BODY[]", "BODYSTRUCTURE"])[uid]
            return got[b"BODY[]"], got[b"BODYSTRUCTURE"]

    octets, structure = await asyncio.to_thread(look)
    check(octets)
    parts, kind = structure[0], structure[1]
    assert str(kind).lower() == "b'mixed'"
    flat = repr(parts).lower()
    assert flat.count("b'alternative'") == 1 and flat.count("b'html'") == 1
    assert flat.count("b'octet-stream'") == 1
