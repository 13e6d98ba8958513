# ruff: noqa: E501  the scripts are JavaScript
"""What Thunderbird shows of our mail: signed and encrypted by S/MIME and OpenPGP.

    python -m tests.interop.thunderbird [--pictures FOLDER]

Starts Thunderbird under Xvfb with a profile of its own that holds test keys, opens messages that
the library made, and reads the marks it shows through its remote control (Marionette), not from
pixels; pictures are for people. Not part of the test run: it takes a minute, and wants Debian's
`thunderbird xvfb imagemagick libnss3-tools`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_der_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_der_x509_certificate

from posthouse.message.dates import format_date
from posthouse.mimesec import Protection, protect
from posthouse.mimesec.pgp import PgpRecipient, PgpSealer, PgpSigner, PrivateKey, make_key
from posthouse.mimesec.smime import (
    Identity,
    KeyKind,
    SmimeRecipient,
    SmimeSealer,
    SmimeSigner,
    make_authority,
    make_identity,
)

ADA, BOB = "ada@example.org", "bob@example.net"
PASSWORD = "sesame"
TEXT = "The treasure is under the oak."
DISPLAY = ":97"
PORT = 2829
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
    "marionette.port": PORT,
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
      subject: inside.getElementById("expandedsubjectBox")?.textContent.trim() ?? "",
      body: inside.getElementById("messagepane")?.contentDocument?.body?.textContent.trim() ?? "" };
    if ((seen.signed || seen.encrypted) && seen.body && tries > 6) break;
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=Path, help="where to put what it looked like")
    asked = parser.parse_args()
    missing = [one for one in PROGRAMS if shutil.which(one) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 69
    failed = 0
    with tempfile.TemporaryDirectory(prefix="posthouse-thunderbird-") as name:
        folder = Path(name)
        messages = made(folder)
        with started(folder) as remote:
            told = remote.run(
                IMPORT_PGP,
                (folder / "bob.asc").read_text(),
                (folder / "ada.asc").read_text(),
                ADA,
            )
            print(f"OpenPGP keys imported: {told}")
            for title, (octets, wanted) in messages.items():
                path = folder / f"{title}.eml"
                path.write_bytes(octets)
                remote.run(OPEN, str(path))
                seen = json.loads(remote.run(MARKS))
                if asked.pictures is not None:
                    picture(asked.pictures / f"thunderbird-{title}.png")
                remote.run(CLOSE)
                is_right = all(seen.get(key) == value for key, value in wanted.items())
                is_right = is_right and TEXT in seen.get("body", "")
                failed += not is_right
                print(f"{'ok  ' if is_right else 'FAIL'} {title}: {seen}")
    return 1 if failed else 0


def made(folder: Path) -> dict[str, tuple[bytes, dict[str, str]]]:
    """Messages from Ada to Bob, and the marks that each has to have."""
    at = datetime.now(UTC) - timedelta(minutes=5)
    root = make_authority("Example Authority", at=at, days=300)
    people = {
        kind: tuple(
            make_identity([who], at=at, days=90, kind=kind, issuer=root) for who in (ADA, BOB)
        )
        for kind in (KeyKind.P256, KeyKind.RSA2048)
    }
    (folder / "ca.pem").write_bytes(root.certificates_pem())
    for number, (_, bob) in enumerate(people.values()):
        (folder / f"bob{number}.p12").write_bytes(pkcs12(bob))
    ada, _ = make_key([ADA], at=at, days=90, name="Ada")
    bob, _ = make_key([BOB], at=at, days=90, name="Bob")
    (folder / "ada.asc").write_bytes(ada.public.armored())
    (folder / "bob.asc").write_bytes(bob.armored(None))
    found: dict[str, tuple[bytes, dict[str, str]]] = {}
    signed = {"tech": "S/MIME", "signed": "ok"}
    both = {**signed, "encrypted": "ok"}
    for kind, (own, reader) in people.items():
        signer, to = SmimeSigner(own), SmimeRecipient(reader.certificate)
        name = kind.value.lower().replace(" ", "").replace("-", "")
        found[f"smime-signed-{name}"] = plain(Protection(signer=signer)), signed
        wish = Protection(signer=signer, sealer=SmimeSealer(), recipients=(to,))
        found[f"smime-sealed-{name}"] = plain(wish), both
    found |= by_openpgp(ada, bob)
    return found


def by_openpgp(ada: PrivateKey, bob: PrivateKey) -> dict[str, tuple[bytes, dict[str, str]]]:
    signer, to = PgpSigner(ada), PgpRecipient(bob.public)
    marks = {"tech": "OpenPGP", "signed": "verified"}
    return {
        "openpgp-signed": (plain(Protection(signer=signer)), marks),
        "openpgp-sealed": (
            plain(Protection(signer=signer, sealer=PgpSealer(), recipients=(to,))),
            {**marks, "encrypted": "ok"},
        ),
    }


def plain(wish: Protection) -> bytes:
    text = (
        f"From: Ada Lovelace <{ADA}>\r\nTo: Bob <{BOB}>\r\nSubject: Map\r\n"
        f"Date: {format_date(datetime.now(UTC))}\r\nMessage-ID: <1@example.org>\r\n"
        f"\r\n{TEXT}\r\n"
    )
    return protect(text.encode(), wish, at=datetime.now(UTC))


def pkcs12(identity: Identity) -> bytes:
    key: Any = load_der_private_key(identity.key_octets(), None)
    own, *chain = (
        load_der_x509_certificate(one.octets) for one in (identity.certificate, *identity.chain)
    )
    return serialize_key_and_certificates(
        b"bob", key, own, chain, BestAvailableEncryption(PASSWORD.encode())
    )


# --- the program ---


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Marionette]:
    profile = folder / "profile"
    profile.mkdir()
    lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in PREFS.items()]
    (profile / "user.js").write_text("\n".join(lines) + "\n")
    database = f"sql:{profile}"
    run("certutil", "-N", "-d", database, "--empty-password")
    run("certutil", "-A", "-d", database, "-n", "ca", "-t", "TC,CT,C", "-i", folder / "ca.pem")
    for one in sorted(folder.glob("bob*.p12")):
        run("pk12util", "-d", database, "-i", one, "-W", PASSWORD, "-K", "")
    environment = {**os.environ, "DISPLAY": DISPLAY, "HOME": str(folder), "MOZ_NO_REMOTE": "1"}
    screen = subprocess.Popen(
        ["Xvfb", DISPLAY, "-screen", "0", "1000x700x24", "-nolisten", "tcp"],
        stderr=subprocess.DEVNULL,
    )
    log = (folder / "thunderbird.log").open("wb")
    try:
        program = subprocess.Popen(
            ["thunderbird", "-profile", profile, "-marionette", "-remote-allow-system-access"],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            remote = Marionette(PORT)
            try:
                yield remote
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


def run(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.decode()}{done.stdout.decode()}")


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["import", "-display", DISPLAY, "-window", "root", "-colors", "64", str(path)], check=False
    )


if __name__ == "__main__":
    sys.exit(main())
