"""A Dovecot of a test's own: LMTP in, IMAP out, any user, nothing of the system's setup touched."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.crash.server import free_port_base

PASSWORD = "sesame"
WITHIN_S = 30.0
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


def why_not() -> str:
    """Why there can be none here; "" when there can."""
    if _program() is None or not Path("/usr/lib/dovecot/lmtp").exists():
        return "Dovecot with LMTP is not installed"
    return "this is not root" if os.geteuid() else ""


@contextmanager
def running() -> Iterator[tuple[int, int]]:
    """Ports of its LMTP and IMAP."""
    program = _program()
    assert program is not None
    folder = Path("/tmp") / f"posthouse-dovecot-{os.getpid()}"  # others must enter it
    shutil.rmtree(folder, ignore_errors=True)
    base = free_port_base()
    lmtp, imap = base + 28, base + 29
    user = pwd.getpwnam("dovenull" if _exists("dovenull") else "nobody")
    for name in ("run", "state", "mail"):
        (folder / name).mkdir(parents=True)
    os.chown(folder / "mail", user.pw_uid, user.pw_gid)
    folder.chmod(0o755)
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


def _program() -> str | None:
    return shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _wait_for_ports(child: subprocess.Popen[bytes], folder: Path, *ports: int) -> None:
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
