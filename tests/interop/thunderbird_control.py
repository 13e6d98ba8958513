# ruff: noqa: E501  the scripts are JavaScript
"""A Thunderbird of a test's own, under Xvfb: its profile, its remote control, what it is told to do.

The profile is new, has one account that is never asked, a proxy that leads nowhere, and the keys of
a folder: `ca.pem` and `bob*.p12`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BOB = "bob@example.net"
PASSWORD = "sesame"
"""Of the PKCS #12 files."""
PICTURE = "900x540+0+0"
"""Of the window, where there is something to see."""
START_S, LOOK_S = 90.0, 20.0
PROGRAMS = ("thunderbird", "Xvfb", "import", "certutil", "pk12util")
PREFS = {
    "app.update.enabled": False,
    "app.donation.eoy.version.viewed": 999,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "extensions.update.enabled": False,
    "mail.account.account1.identities": "id1",
    "mail.account.account1.server": "server1",
    "mail.account.account2.server": "server2",
    "mail.accountmanager.accounts": "account1,account2",
    "mail.accountmanager.defaultaccount": "account1",
    "mail.accountmanager.localfoldersserver": "server2",
    "mail.identity.id1.fullName": "Bob",
    "mail.identity.id1.useremail": BOB,
    "mail.identity.id1.valid": True,
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.rights.version": 1,
    "mail.server.server1.hostname": "127.0.0.1",
    "mail.server.server1.login_at_startup": False,
    "mail.server.server1.check_new_mail": False,
    "mail.server.server1.name": BOB,
    "mail.server.server1.type": "imap",
    "mail.server.server1.userName": BOB,
    "mail.server.server2.hostname": "Local Folders",
    "mail.server.server2.name": "Local Folders",
    "mail.server.server2.type": "none",
    "mail.server.server2.userName": "nobody",
    "mail.shell.checkDefaultClient": False,
    "mail.spotlight.firstRunDone": True,
    "mail.winsearch.firstRunDone": True,
    "mailnews.start_page.enabled": False,
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "offline.autoDetect": False,
    "offline.startup_state": 3,
    "toolkit.telemetry.enabled": False,
    "security.OCSP.enabled": 0,
}


class Marionette:
    """Its remote control: JSON with a length in front, over a socket of loopback."""

    def __init__(self, port: int) -> None:
        self._socket = self._connected(port)
        self._number = 0
        self._read()  # who it is
        self("WebDriver:NewSession", {"strictFileInteractability": False})
        self("Marionette:SetContext", {"value": "chrome"})
        self("WebDriver:SetTimeouts", {"script": int(LOOK_S * 1000)})

    def _connected(self, port: int) -> socket.socket:
        until = time.monotonic() + START_S
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=START_S)
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)

    def __call__(self, command: str, parameters: Mapping[str, Any]) -> Any:
        self._number += 1
        octets = json.dumps([0, self._number, command, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(octets), octets))
        _, number, error, result = self._read()
        assert number == self._number
        if error:
            raise RuntimeError(f"{command}: {error.get('message')}")
        return result

    def _read(self) -> Any:
        size = b""
        while (octet := self._socket.recv(1)) != b":":
            size += octet
        octets = b""
        while len(octets) < int(size):
            octets += self._socket.recv(int(size) - len(octets))
        return json.loads(octets)

    def run(self, script: str, *arguments: Any) -> Any:
        found = self(
            "WebDriver:ExecuteAsyncScript",
            {"script": script, "args": list(arguments), "newSandbox": True},
        )
        return found["value"]

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self("Marionette:Quit", {"flags": ["eForceQuit"]})
        self._socket.close()


IMPORT_PGP = """
const [own, theirs, address, done] = arguments;
(async () => {
  const { EnigmailKeyRing } = ChromeUtils.importESModule("chrome://openpgp/content/modules/keyRing.sys.mjs");
  const { PgpSqliteDb2 } = ChromeUtils.importESModule("chrome://openpgp/content/modules/sqliteDb.sys.mjs");
  const { RNP } = ChromeUtils.importESModule("chrome://openpgp/content/modules/RNP.sys.mjs");
  const { EnigmailCore } = ChromeUtils.importESModule("chrome://openpgp/content/modules/core.sys.mjs");
  try { await EnigmailCore.init?.(); EnigmailCore.getService?.(); } catch (error) {}
  const secret = await RNP.importSecKeyBlockImpl(window, async () => ({ password: "" }), false, own);
  const open = await RNP.importPubkeyBlockAutoAcceptImpl(window, theirs, "verified");
  EnigmailKeyRing.clearCache();
  return JSON.stringify([secret.exitCode, open.exitCode]);
})().then(done, error => done("error: " + error));
"""
OPEN = """
const [path, done] = arguments;
(async () => {
  const { MailUtils } = ChromeUtils.importESModule("resource:///modules/MailUtils.sys.mjs");
  const file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
  file.initWithPath(path);
  const main = Services.wm.getMostRecentWindow("mail:3pane");
  MailUtils.openEMLFile(main, file, Services.io.newFileURI(file));
})().then(() => done("opened"), error => done("error: " + error));
"""
MARKS = """
const [done] = arguments;
(async () => {
  const { setTimeout } = ChromeUtils.importESModule("resource://gre/modules/Timer.sys.mjs");
  const main = Services.wm.getMostRecentWindow("mail:3pane");
  let seen = {};
  for (let tries = 0; tries < 60; tries++) {
    await new Promise(later => setTimeout(later, 250));
    const inside = main.document.getElementById("tabmail").currentAboutMessage?.document;
    const button = inside?.getElementById("encryptionTechBtn");
    if (!button) continue;
    const mark = name => inside.getElementById(name + "HdrIcon")?.getAttribute("src")?.match(/message-\\w+-([\\w-]+)/)?.[1] ?? "";
    seen = { tech: button.hidden ? "" : button.textContent.trim(),
      signed: mark("signed"), encrypted: mark("encrypted"),
      subject: inside.getElementById("expandedsubjectBox")?.textContent.replace("Subject:", "").trim() ?? "",
      body: inside.getElementById("messagepane")?.contentDocument?.body?.textContent.trim() ?? "" };
    if (tries < 7 || tries < 16 && (!seen.tech || !seen.body)) continue;
    inside.getElementById("messageSecurityPanel").setAttribute("noautohide", "true");
    inside.defaultView.showMessageReadSecurityInfo();
    await new Promise(later => setTimeout(later, 1000));
    const words = name => inside.getElementById(name)?.textContent.trim() ?? "";
    seen.words = [words("signatureLabel"), words("encryptionLabel")].filter(Boolean).join(". ");
    break;
  }
  return JSON.stringify(seen);
})().then(done, error => done("error: " + error));
"""
CLOSE = """
const [done] = arguments;
const tabs = Services.wm.getMostRecentWindow("mail:3pane").document.getElementById("tabmail");
tabs.closeOtherTabs(0);
done("closed");
"""


@contextlib.contextmanager
def started(folder: Path) -> Iterator[tuple[Marionette, str]]:
    """Its remote control, and the X display that it is on."""
    port = free_port()
    profile = folder / "profile"
    profile.mkdir()
    prefs = {**PREFS, "marionette.port": port}
    lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in prefs.items()]
    (profile / "user.js").write_text("\n".join(lines) + "\n")
    database = f"sql:{profile}"
    run("certutil", "-N", "-d", database, "--empty-password")
    run("certutil", "-A", "-d", database, "-n", "ca", "-t", "TC,CT,C", "-i", folder / "ca.pem")
    for one in sorted(folder.glob("bob*.p12")):
        run("pk12util", "-d", database, "-i", one, "-W", PASSWORD, "-K", "")
    screen = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "1000x700x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert screen.stdout is not None
    log = (folder / "thunderbird.log").open("wb")
    try:
        display = f":{screen.stdout.readline().decode().strip()}"
        environment = {**os.environ, "DISPLAY": display, "HOME": str(folder), "MOZ_NO_REMOTE": "1"}
        program = subprocess.Popen(
            ["thunderbird", "-profile", profile, "-marionette", "-remote-allow-system-access"],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            remote = Marionette(port)
            try:
                yield remote, display
            finally:
                remote.close()
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(10)
            program.kill()
            program.wait()
    finally:
        log.close()
        screen.terminate()
        screen.wait()
        screen.stdout.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as line:
        return int(line.getsockname()[1])


def run(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.decode()}{done.stdout.decode()}")


def picture(path: Path, display: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    window = ["-display", display, "-window", "root", "-crop", PICTURE, "+repage"]
    subprocess.run(["import", *window, "+dither", "-colors", "64", str(path)], check=False)
