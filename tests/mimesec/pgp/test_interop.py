"""GnuPG, Sequoia's sq and rnp: what they write is read here, what is written here they read."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from posthouse.message import mime
from posthouse.mimesec import Protection, SignatureResult, Summary, open_message, protect
from posthouse.mimesec.pgp import locking
from posthouse.mimesec.pgp.keys import read_private, read_public
from posthouse.mimesec.pgp.make import KeyForm
from posthouse.mimesec.pgp.opener import PgpOpener
from posthouse.mimesec.pgp.recipient import PgpRecipient
from posthouse.mimesec.pgp.sealer import PgpSealer
from posthouse.mimesec.pgp.signer import PgpSigner
from tests.interop.programs import needs_program
from tests.mimesec.pgp.people import ADA, BOB, NOW, PLAIN, person, with_revocation

GPG = needs_program("gpg", package="gnupg")
SQ = needs_program("sq", package="sq")
RNP = needs_program("rnp", package="rnp")
PASSWORD = "sesame street 7"
OLD = [KeyForm.CURVE25519, KeyForm.RSA3072]


class Gpg:
    """GnuPG with a home of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __call__(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = ["gpg", "--batch", "--yes", "--pinentry-mode", "loopback"]
        return subprocess.run(
            [*command, *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            env=self._environment(),
        )

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "GNUPGHOME": str(self._home), "LC_ALL": "C"}

    def trusting(self) -> None:
        """All keys, without anybody's certification."""
        (self._home / "gpg.conf").write_text("trust-model always\n")

    def out(self, *arguments: str, stdin: bytes = b"") -> bytes:
        done = self(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def made(self, address: str, *, password: str = "") -> None:
        self.out(
            *("--passphrase", password, "--quick-generate-key", f"GPG <{address}>"),
            *("default", "default", "1y"),
        )

    def close(self) -> None:
        subprocess.run(["gpgconf", "--kill", "all"], env=self._environment(), check=False)


@pytest.fixture
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    home = tmp_path_factory.mktemp("g", numbered=True)
    home.chmod(0o700)
    made = Gpg(home)
    yield made
    made.close()


def parts(octets: bytes) -> tuple[bytes, bytes]:
    """The signed part and the signature of a multipart/signed."""
    root = mime.scan(octets)
    signed, signature = root.children
    return (
        octets[signed.start : signed.end],
        mime.content(signature, octets_max=1 << 20),
    )


def block(octets: bytes) -> bytes:
    begin = octets.index(b"-----BEGIN PGP MESSAGE")
    return octets[begin : octets.index(b"-----END PGP MESSAGE-----") + 25] + b"\n"


@GPG
@pytest.mark.parametrize("form", OLD)
def test_gpg_verifies_and_decrypts_what_we_write(gpg: Gpg, tmp_path: Path, form: KeyForm) -> None:
    ada, bob = person(form=form), person(BOB, form)
    gpg.out("--import", stdin=ada.public.armored())
    gpg.out("--import", stdin=bob.armored(None))
    gpg.trusting()
    signed, signature = parts(protect(PLAIN, Protection(signer=PgpSigner(ada)), at=NOW))
    (tmp_path / "text").write_bytes(signed)
    (tmp_path / "sig").write_bytes(signature)
    done = gpg("--verify", str(tmp_path / "sig"), str(tmp_path / "text"))
    assert done.returncode == 0 and b"Good signature" in done.stderr
    wish = Protection(
        signer=PgpSigner(ada), sealer=PgpSealer(), recipients=(PgpRecipient(bob.public),)
    )
    done = gpg("--decrypt", stdin=block(protect(PLAIN, wish, at=NOW)))
    assert done.returncode == 0, done.stderr
    assert b"under the oak" in done.stdout and b"Good signature" in done.stderr


@GPG
@pytest.mark.parametrize("form", OLD)
def test_gpg_takes_our_keys_with_a_password_and_gives_them_back(gpg: Gpg, form: KeyForm) -> None:
    key, revocation = with_revocation(form=form)
    text = key.armored(PASSWORD, salt=os.urandom(locking.SALT_OCTETS))
    gpg.out("--passphrase", PASSWORD, "--import", stdin=text)
    back = gpg.out("--passphrase", PASSWORD, "--armor", "--export-secret-keys")
    [again] = read_private(back, PASSWORD)
    assert again.public.fingerprint == key.public.fingerprint
    assert again.public.expires_at == key.public.expires_at
    shown = gpg.out("--with-colons", "--list-keys")
    assert key.public.fingerprint.encode() in shown
    gpg.out("--import", stdin=revocation)
    assert b"\npub:r:" in b"\n" + gpg.out("--with-colons", "--list-keys")
    assert read_public(gpg.out("--export"))[0].is_revoked


@GPG
def test_what_gpg_writes_is_verified_and_decrypted(gpg: Gpg) -> None:
    gpg.made(ADA, password=PASSWORD)
    bob = person(BOB)
    gpg.out("--import", stdin=bob.public.armored())
    gpg.trusting()
    [ada] = read_public(gpg.out("--armor", "--export", ADA))
    assert ada.addresses == (ADA,) and ada.expires_at is not None
    [private] = read_private(
        gpg.out("--passphrase", PASSWORD, "--export-secret-keys", ADA), PASSWORD
    )
    assert private.public.fingerprint == ada.fingerprint
    entity = b"Content-Type: text/plain\r\n\r\nunder the oak\r\n"
    opener = PgpOpener(own=[bob], known=[ada], trusted=[ada.fingerprint])
    signature = gpg.out(
        "--passphrase", PASSWORD, "-u", ADA, "--armor", "--detach-sign", stdin=entity
    )
    [found] = opener.verify(entity, signature, at=NOW)
    assert found.result is SignatureResult.VALID, found
    sealed = gpg.out(
        *("--passphrase", PASSWORD, "-u", ADA, "--armor", "--sign", "--encrypt", "-r", BOB),
        stdin=entity,
    )
    unsealed = opener.unseal(sealed, at=NOW)
    assert unsealed.entity == entity and unsealed.encryption.is_authenticated
    assert [one.result for one in unsealed.signatures] == [SignatureResult.VALID]
    packed = gpg.out(
        *("--passphrase", PASSWORD, "-u", ADA, "--compress-algo", "zlib", "-s", "-e", "-r", BOB),
        stdin=entity,
    )
    unsealed = opener.unseal(packed, at=NOW)
    assert unsealed.entity == entity
    assert [one.result for one in unsealed.signatures] == [SignatureResult.VALID]
    hidden = gpg.out("--armor", "--encrypt", "--hidden-recipient", BOB, stdin=entity)
    assert opener.unseal(hidden, at=NOW).entity == entity


@GPG
def test_text_that_gpg_signed_or_encrypted_without_mime_is_read(gpg: Gpg) -> None:
    gpg.made(ADA)
    bob = person(BOB)
    gpg.out("--import", stdin=bob.public.armored())
    gpg.trusting()
    [ada] = read_public(gpg.out("--export", ADA))
    opener = PgpOpener(own=[bob], known=[ada], trusted=[ada.fingerprint])
    head = f"From: {ADA}\r\nTo: {BOB}\r\nSubject: x\r\n\r\n".encode()
    text = b"- under the oak  \nfrom here\n"
    clear = gpg.out("-u", ADA, "--clear-sign", stdin=text)
    found = open_message(head + clear.replace(b"\n", b"\r\n"), [opener], at=NOW)
    assert found.summary is Summary.SIGNED, found
    sealed = gpg.out("-u", ADA, "--armor", "-s", "-e", "-r", BOB, stdin=text)
    found = open_message(head + sealed.replace(b"\n", b"\r\n"), [opener], at=NOW)
    assert found.summary is Summary.SIGNED_AND_ENCRYPTED and b"under the oak" in found.octets
    beside = open_message(head + b"pay me\r\n" + clear.replace(b"\n", b"\r\n"), [opener], at=NOW)
    assert beside.summary is Summary.PARTLY  # H65: only what is inside is signed


@GPG
def test_an_old_gpg_hash_is_not_believed(gpg: Gpg) -> None:
    gpg.made(ADA)
    [ada] = read_public(gpg.out("--export", ADA))
    weak = gpg.out(
        *("-u", ADA, "--digest-algo", "SHA1", "--allow-weak-digest-algos"),
        *("--armor", "--detach-sign"),
        stdin=b"text",
    )
    opener = PgpOpener(known=[ada], trusted=[ada.fingerprint])
    [found] = opener.verify(b"text", weak, at=NOW)
    assert found.result is SignatureResult.UNSUPPORTED and "SHA-1" in found.reason


# --- sq ---


def run(command: Sequence[str | Path], home: Path, stdin: bytes = b"") -> bytes:
    done = subprocess.run(
        list(map(str, command)),
        input=stdin,
        capture_output=True,
        check=False,
        env={**os.environ, "HOME": str(home), "SEQUOIA_HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


@SQ
def test_sq_reads_what_we_write_and_we_what_it_writes(tmp_path: Path) -> None:
    ada, bob = person(), person(BOB)
    files = {name: tmp_path / name for name in ("ada.pgp", "bob.pgp", "text", "sig", "sealed")}
    files["ada.pgp"].write_bytes(ada.armored(None))
    files["bob.pgp"].write_bytes(bob.armored(None))
    signed, signature = parts(protect(PLAIN, Protection(signer=PgpSigner(ada)), at=NOW))
    files["text"].write_bytes(signed)
    files["sig"].write_bytes(signature)
    verify = ["sq", "verify", "--signer-cert", files["ada.pgp"], "--detached", files["sig"]]
    run([*verify, files["text"]], tmp_path)
    wish = Protection(sealer=PgpSealer(), recipients=(PgpRecipient(bob.public),))
    files["sealed"].write_bytes(block(protect(PLAIN, wish, at=NOW)))
    decrypt = ["sq", "decrypt", "--recipient-key", files["bob.pgp"], files["sealed"]]
    assert b"under the oak" in run(decrypt, tmp_path)
    encrypt = ["sq", "encrypt", "--recipient-cert", files["bob.pgp"]]
    encrypt += ["--signer-key", files["ada.pgp"], files["text"]]
    made = run(encrypt, tmp_path)
    opener = PgpOpener(own=[bob], known=[ada.public], trusted=[ada.public.fingerprint])
    unsealed = opener.unseal(made, at=NOW)
    assert unsealed.entity == signed
    assert [one.result for one in unsealed.signatures] == [SignatureResult.VALID]


# --- rnp ---


@RNP
@pytest.mark.parametrize("form", OLD)
def test_rnp_reads_what_we_write_and_we_what_it_writes(tmp_path: Path, form: KeyForm) -> None:
    ada, bob = person(form=form), person(BOB, form)
    home, text = tmp_path / "rnp", tmp_path / "text"
    home.mkdir(mode=0o700)
    for name, key in (("ada.asc", ada), ("bob.asc", bob)):
        (tmp_path / name).write_bytes(key.armored(None))
        run(["rnpkeys", "--homedir", home, "--import-keys", tmp_path / name], tmp_path)
    wish = Protection(
        signer=PgpSigner(ada), sealer=PgpSealer(), recipients=(PgpRecipient(bob.public),)
    )
    sealed = tmp_path / "sealed.asc"
    sealed.write_bytes(block(protect(PLAIN, wish, at=NOW)))
    rnp = ["rnp", "--homedir", home, "--password", ""]
    run([*rnp, "--decrypt", sealed, "--output", tmp_path / "out"], tmp_path)
    assert b"under the oak" in (tmp_path / "out").read_bytes()
    text.write_bytes(b"Content-Type: text/plain\r\n\r\nunder the oak\r\n")
    made = tmp_path / "made"
    run(
        [*rnp, "--sign", "--encrypt", "-u", ADA, "-r", BOB, "--armor", text, "--output", made],
        tmp_path,
    )
    opener = PgpOpener(own=[bob], known=[ada.public], trusted=[ada.public.fingerprint])
    unsealed = opener.unseal(made.read_bytes(), at=NOW)
    assert unsealed.entity == text.read_bytes()
    assert [one.result for one in unsealed.signatures] == [SignatureResult.VALID]
