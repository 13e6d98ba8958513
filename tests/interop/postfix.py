"""A Postfix of its own, on high ports and with its own folders, as the host we trade mail with."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.interop.programs import find_program

DOMAIN = "postfix.test"
HOST = f"mx.{DOMAIN}"
FRIEND = f"friend@{DOMAIN}"
GONE = f"gone@{DOMAIN}"
"""Postfix takes mail for it and forwards it to an address of ours that does not exist."""
WITHIN_S = 40.0
MAIL_USER = "nobody"

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
maillog_file = {folder}/log/mail.log
maillog_file_prefixes = {folder}/log
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = {host}
myorigin = {domain}
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = texthash:{folder}/etc/mailboxes
virtual_alias_maps = texthash:{folder}/etc/aliases
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
transport_maps = texthash:{folder}/etc/transport
smtp_host_lookup = native
smtp_tls_security_level = encrypt
smtp_tls_loglevel = 1
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_received_header = yes
smtpd_tls_session_cache_database =
smtpd_peername_lookup = no
notify_classes =
minimal_backoff_time = 1s
queue_run_delay = 1s
"""
SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    def __init__(self, port: int, *, relay_to: tuple[str, int], certificate: Path, key: Path):
        # Not below pytest's own folder, which no other user may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="posthouse-postfix-"))
        self.port = port
        self.folder.chmod(0o755)
        for name in ("etc", "queue", "data", "mail", "log"):
            (self.folder / name).mkdir(mode=0o755)
        owner = pwd.getpwnam("postfix")
        keeper = pwd.getpwnam(MAIL_USER)
        os.chown(self.folder / "data", owner.pw_uid, -1)
        os.chown(self.folder / "mail", keeper.pw_uid, keeper.pw_gid)
        self.etc = self.folder / "etc"
        shutil.copy(certificate, self.etc / "cert.pem")
        shutil.copy(key, self.etc / "key.pem")
        (self.etc / "key.pem").chmod(0o600)
        self.write(
            "main.cf",
            MAIN.format(
                folder=self.folder, host=HOST, domain=DOMAIN, uid=keeper.pw_uid,
                gid=keeper.pw_gid, daemons=_daemons(), certificate=self.etc / "cert.pem",
                key=self.etc / "key.pem",
            ),
        )  # fmt: skip
        self.write("master.cf", SERVICES.format(port=port))
        domain, our_port = relay_to
        self.write("mailboxes", f"{FRIEND} friend/\n")
        self.write("aliases", f"{GONE} nobody-at-all@{domain}\n")
        self.write("transport", f"{domain} smtp:[127.0.0.1]:{our_port}\n")

    def write(self, name: str, text: str) -> None:
        (self.etc / name).write_text(text)

    @contextlib.contextmanager
    def running(self) -> Iterator[Postfix]:
        self.control("start")
        try:
            end_s = time.monotonic() + WITHIN_S
            while not self.answers():
                assert time.monotonic() < end_s, self.log()
                time.sleep(0.05)
            yield self
        finally:
            self.control("stop")
            shutil.rmtree(self.folder, ignore_errors=True)

    def control(self, verb: str) -> None:
        done = subprocess.run(
            [find_program("postfix") or "postfix", "-c", str(self.etc), verb],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + self.log()

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as line:
                return line.recv(4) == b"220 "
        except OSError:
            return False

    def log(self) -> str:
        path = self.folder / "log" / "mail.log"
        return path.read_text() if path.exists() else ""

    def inbox(self) -> list[bytes]:
        """What its user has, with line ends as they were sent."""
        paths = (self.folder / "mail" / "friend" / "new").glob("*")
        return [re.sub(rb"\r?\n", b"\r\n", path.read_bytes()) for path in paths]

    def wait_for(self, words: bytes) -> bytes:
        """The message in its user's mailbox that has these words."""
        end_s = time.monotonic() + WITHIN_S
        while time.monotonic() < end_s:
            for found in self.inbox():
                if words in found:
                    return found
            time.sleep(0.1)
        raise AssertionError(f"no message with {words!r}: {self.log()[-3000:]}")


def _daemons() -> str:
    """Where this system keeps Postfix's programs."""
    for folder in ("/usr/lib/postfix/sbin", "/usr/libexec/postfix", "/usr/lib/postfix"):
        if Path(folder, "master").exists():
            return folder
    raise AssertionError("Postfix is installed without its master program")
