"""GnuPG, Sequoia's sq and rnp: what they write is read here, what is written here they read."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from posthouse.message import mime
from posthouse.mimesec import (
    Protection,
    Signature,
    SignatureResult,
    Summary,
    open_message,
    protect,
)
from posthouse.mimesec.pgp import armour, content, locking
from posthouse.mimesec.pgp.armour import Kind
from posthouse.mimesec.pgp.keys import PrivateKey, PublicKey, merged, read_private, read_public
from posthouse.mimesec.pgp.make import KeyForm, revoked_by, with_end
from posthouse.mimesec.pgp.opener import PgpOpener
from posthouse.mimesec.pgp.packets import Tag, encoded, walk
from posthouse.mimesec.pgp.recipient import PgpRecipient
from posthouse.mimesec.pgp.sealer import PgpSealer
from posthouse.mimesec.pgp.session import session_key
from posthouse.mimesec.pgp.signer import PgpSigner
from posthouse.mimesec.pgp.structure import sealed_message
from posthouse.mimesec.ports import ProtectionError
from tests.interop.programs import needs_program
from tests.mimesec.pgp.people import ADA, BOB, NOW, PLAIN, person, with_revocation
from tests.mimesec.pgp.test_hostile import rsa_key, sealed

GPG = needs_program("gpg", package="gnupg")
SQ = needs_program("sq", package="sq")
RNP = needs_program("rnp", package="rnp")
PASSWORD = "sesame street 7"
OLD = [KeyForm.CURVE25519, KeyForm.RSA3072]


class Gpg:
    """GnuPG with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home

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
        return {**os.environ, "GNUPGHOME": str(self.home), "LC_ALL": "C"}

    def trusting(self) -> None:
        """All keys, without anybody's certification."""
        (self.home / "gpg.conf").write_text("trust-model always\n")

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


def fresh(gpg: Gpg) -> Path:
    """Another home, beside that one."""
    home = gpg.home / "other"
    home.mkdir(mode=0o700)
    return home


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


def two_subkeys(gpg: Gpg) -> str:
    """A key that certifies, with one part that encrypts and one that signs; its fingerprint."""
    everything = ("--passphrase", "", "--quick-generate-key", f"GPG <{ADA}>")
    gpg.out(*everything, "ed25519", "cert", "1y")
    [made] = read_public(gpg.out("--export", ADA))
    for algorithm, use in (("cv25519", "encr"), ("ed25519", "sign")):
        gpg.out("--passphrase", "", "--quick-add-key", made.fingerprint, algorithm, use, "1y")
    return made.fingerprint


@GPG
def test_a_key_whose_primary_part_gpg_kept_back_signs_and_decrypts(gpg: Gpg) -> None:
    fingerprint = two_subkeys(gpg)
    gpg.trusting()
    [public] = read_public(gpg.out("--export", ADA))
    [private] = read_private(gpg.out("--export-secret-subkeys", ADA))
    assert private.public.fingerprint == fingerprint == public.fingerprint
    entity = b"Content-Type: text/plain\r\n\r\nunder the oak\r\n"
    sealed = gpg.out("--encrypt", "-r", ADA, stdin=entity)
    assert PgpOpener(own=[private]).unseal(sealed, at=NOW).entity == entity
    octets = protect(PLAIN, Protection(signer=PgpSigner(private)), at=NOW)
    found = open_message(octets, [PgpOpener(known=[public], trusted=[fingerprint])], at=NOW)
    assert found.summary is Summary.SIGNED
    text = private.armored(PASSWORD, salt=os.urandom(locking.SALT_OCTETS))
    with_its_own = Gpg(fresh(gpg))
    try:
        with_its_own.out("--passphrase", PASSWORD, "--import", stdin=text)
        shown = with_its_own.out("--with-colons", "--list-secret-keys")
        assert b":#:" in next(line for line in shown.splitlines() if line.startswith(b"sec:"))
        decrypted = with_its_own.out("--passphrase", PASSWORD, "--decrypt", stdin=sealed)
        assert decrypted == entity
    finally:
        with_its_own.close()


@GPG
def test_the_part_that_signed_may_be_revoked_or_over(gpg: Gpg) -> None:
    fingerprint = two_subkeys(gpg)
    entity = b"Content-Type: text/plain\r\n\r\nunder the oak\r\n"
    signature = gpg.out("-u", ADA, "--detach-sign", stdin=entity)

    def found() -> tuple[SignatureResult, str]:
        [public] = read_public(gpg.out("--export", ADA))
        assert not public.is_revoked
        opener = PgpOpener(known=[public], trusted=[fingerprint])
        [one] = opener.verify(entity, signature, at=NOW)
        return one.result, one.reason

    assert found() == (SignatureResult.VALID, "")
    edit = ("--command-fd", "0", "--passphrase", "", "--edit-key", fingerprint)
    gpg.out(*edit, stdin=b"key 2\nrevkey\ny\n0\n\ny\nsave\n")
    result, reason = found()
    assert result is SignatureResult.REVOKED and "the part of its key" in reason


def with_short_part(gpg: Gpg) -> str:
    """A key for a year, whose part that encrypts ends in a moment; its fingerprint."""
    everything = ("--passphrase", "", "--quick-generate-key", f"GPG <{ADA}>")
    gpg.out(*everything, "ed25519", "cert,sign", "1y")
    [made] = read_public(gpg.out("--export", ADA))
    short = ("cv25519", "encr", "seconds=2")
    gpg.out("--passphrase", "", "--quick-add-key", made.fingerprint, *short)
    gpg.trusting()
    return made.fingerprint


def sealed_to(public: PublicKey, at: datetime) -> bytes:
    wish = Protection(sealer=PgpSealer(), recipients=(PgpRecipient(public),))
    return block(protect(PLAIN, wish, at=at))


@GPG
def test_what_encrypts_ends_before_the_key(gpg: Gpg) -> None:
    fingerprint = with_short_part(gpg)
    [public] = read_public(gpg.out("--export", ADA))
    ends = public.encrypts_until
    assert ends is not None and public.expires_at is not None and ends < public.expires_at
    just_before = ends - timedelta(seconds=1)
    assert public.why_unusable(just_before) == ""
    assert "BEGIN PGP MESSAGE" in sealed_to(public, just_before).decode()
    why = f"the part of the key that encrypts ended on {ends:%Y-%m-%d}"
    assert PgpRecipient(public).why_unusable(NOW) == why
    with pytest.raises(ProtectionError, match="the part of the key that encrypts ended"):
        sealed_to(public, NOW)
    # Another part beside it: that one alone is encrypted to, whenever the key was read.
    gpg.out("--passphrase", "", "--quick-add-key", fingerprint, "cv25519", "encr", "100d")
    [both] = read_public(gpg.out("--export", ADA))
    assert both.why_unusable(NOW) == "" and both.encrypts_until is not None
    [_, _, newer] = both.key_ids
    assert sealed_message(armour.one(sealed_to(both, NOW), Kind.MESSAGE)).recipients == (newer,)
    assert abs(both.encrypts_until - NOW - timedelta(days=100)) < timedelta(days=1)


@GPG
def test_a_revoked_part_is_not_encrypted_to(gpg: Gpg) -> None:
    fingerprint = two_subkeys(gpg)
    edit = ("--command-fd", "0", "--passphrase", "", "--edit-key", fingerprint)
    gpg.out(*edit, stdin=b"key 1\nrevkey\ny\n0\n\ny\nsave\n")
    [public] = read_public(gpg.out("--export", ADA))
    assert public.why_unusable(NOW) == "the part of the key that encrypts was revoked"
    assert public.encrypts_until == public.expires_at


@GPG
def test_ends_of_keys_are_those_that_gpg_and_we_give(gpg: Gpg) -> None:
    gpg.made(ADA)
    [key] = read_private(gpg.out("--export-secret-keys", ADA))
    later = NOW.replace(microsecond=0) + timedelta(days=500)
    gpg.out("--import", stdin=with_end(key, at=later).public.armored())
    shown = gpg.out("--with-colons", "--list-keys").splitlines()
    [row] = [line.split(b":") for line in shown if line.startswith(b"pub:")]
    assert int(row[6]) == int(later.timestamp())
    gpg.out("--passphrase", "", "--quick-set-expire", key.public.fingerprint, "10d")
    [public] = read_public(gpg.out("--export", ADA))
    assert public.expires_at is not None
    assert abs(public.expires_at - NOW - timedelta(days=10)) < timedelta(days=1)
    assert "ended on" in public.why_unusable(NOW + timedelta(days=12))


@GPG
@pytest.mark.parametrize("algorithm", ["ed25519", "rsa2048", "nistp384"])
def test_a_key_of_gpg_gets_another_end_with_its_parts_though_it_has_ended(
    gpg: Gpg, algorithm: str
) -> None:
    everything = ("--passphrase", "", "--quick-generate-key", f"GPG <{ADA}>")
    gpg.out(*everything, algorithm, "cert,sign", "seconds=2")
    [made] = read_public(gpg.out("--export", ADA))
    for part, use in (("cv25519", "encr"), ("ed25519", "sign"), ("rsa2048", "encr")):
        add = ("--quick-add-key", made.fingerprint, part, use, "seconds=1")
        gpg("--passphrase", "", "--faked-system-time", f"{made.created_at:%Y%m%dT%H%M%S}", *add)
    gone = ("--command-fd", "0", "--passphrase", "", "--edit-key", made.fingerprint)
    gpg(*gone, stdin=b"key 3\nrevkey\ny\n0\n\ny\nsave\n")
    gpg.trusting()
    time.sleep(2.1)
    assert gpg("--encrypt", "-r", ADA, stdin=b"x").returncode != 0
    [ended] = read_private(gpg.out("--export-secret-keys", ADA))
    assert len(ended.public.key_ids) == 4
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=500)
    key = with_end(ended, at=later)
    assert key.public.expires_at == key.public.encrypts_until == later
    gpg.out("--import", stdin=key.public.armored())
    rows = [one.split(b":") for one in gpg.out("--with-colons", "--list-keys").splitlines()]
    parts = [row for row in rows if row[0] in (b"pub", b"sub")]
    end = int(later.timestamp())
    assert [int(row[6]) for row in parts[:3]] == [end] * 3
    assert [row[1] == b"r" for row in parts] == [False, False, False, True]
    assert gpg.out("--decrypt", stdin=gpg.out("--encrypt", "-r", ADA, stdin=b"x")) == b"x"
    gpg.out("--armor", "--detach-sign", stdin=b"x")
    protect(PLAIN, Protection(signer=PgpSigner(key)), at=NOW)


@GPG
def test_revocations_that_gpg_wrote_revoke_here(gpg: Gpg) -> None:
    gpg.made(ADA)
    [public] = read_public(gpg.out("--export", ADA))
    [path] = (gpg.home / "openpgp-revocs.d").iterdir()
    text = path.read_bytes().replace(b"\n:-----BEGIN", b"\n-----BEGIN")  # its guard against haste
    gone = revoked_by(public, text)
    assert gone.is_revoked
    gpg.out("--import", stdin=gone.armored())
    assert b"\npub:r:" in b"\n" + gpg.out("--with-colons", "--list-keys")
    [seen] = read_public(gpg.out("--export", ADA))
    assert seen.is_revoked and merged(public, seen).is_revoked


@GPG
def test_text_that_gpg_signed_as_text_is_good_with_any_line_ends(gpg: Gpg) -> None:
    gpg.made(ADA)
    [ada] = read_public(gpg.out("--export", ADA))
    entity = b"Content-Type: text/plain\n\nunder the oak  \n"
    signature = gpg.out("-u", ADA, "--textmode", "--detach-sign", stdin=entity)
    opener = PgpOpener(known=[ada], trusted=[ada.fingerprint])
    for form in (entity, entity.replace(b"\n", b"\r\n")):
        [found] = opener.verify(form, signature, at=NOW)
        assert found.result is SignatureResult.VALID


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


def typing(word: str, command: Sequence[str | Path], home: Path) -> bytes:
    """What a program writes that asks for a password on its terminal."""
    terminal, inner = os.openpty()
    try:
        os.write(terminal, f"{word}\n".encode())
        done = subprocess.run(
            ["setsid", "--ctty", "--wait", *map(str, command)],
            stdin=inner,
            capture_output=True,
            check=False,
            timeout=60,
            env={**os.environ, "HOME": str(home), "SEQUOIA_HOME": str(home)},
        )
    finally:
        os.close(terminal)
        os.close(inner)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


@SQ
@pytest.mark.parametrize("form", OLD)
def test_sq_opens_our_keys_by_their_password(tmp_path: Path, form: KeyForm) -> None:
    bob = person(BOB, form)
    key, sealed = tmp_path / "bob.pgp", tmp_path / "sealed"
    key.write_bytes(bob.armored(PASSWORD, salt=os.urandom(locking.SALT_OCTETS)))
    wish = Protection(sealer=PgpSealer(), recipients=(PgpRecipient(bob.public),))
    sealed.write_bytes(block(protect(PLAIN, wish, at=NOW)))
    decrypt = ["sq", "decrypt", "--recipient-key", key, sealed]
    assert b"under the oak" in typing(PASSWORD, decrypt, tmp_path)


@SQ
def test_keys_that_sq_makes_are_used_here(tmp_path: Path) -> None:
    key, text, sig = tmp_path / "sq.pgp", tmp_path / "text", tmp_path / "sig"
    run(["sq", "key", "generate", "--userid", f"SQ <{ADA}>", "--export", key], tmp_path)
    [private] = read_private(key.read_bytes())
    assert private.public.addresses == (ADA,)
    signed, signature = parts(protect(PLAIN, Protection(signer=PgpSigner(private)), at=NOW))
    text.write_bytes(signed)
    sig.write_bytes(signature)
    run(["sq", "verify", "--signer-cert", key, "--detached", sig, text], tmp_path)
    made = run(["sq", "encrypt", "--recipient-cert", key, "--signer-key", key, text], tmp_path)
    believed = [private.public.fingerprint]
    opener = PgpOpener(own=[private], known=[private.public], trusted=believed)
    unsealed = opener.unseal(made, at=NOW)
    assert unsealed.entity == signed
    assert [one.result for one in unsealed.signatures] == [SignatureResult.VALID]


@SQ
def test_a_letter_for_somebody_else_is_not_the_author_s_word_to_us(tmp_path: Path) -> None:
    """Its reader encrypted it anew, with the author's signature inside (RFC 9580 §5.2.3.36)."""
    ada, cat, bob = person(), person("cat@example.com"), rsa_key()
    text = tmp_path / "text"
    text.write_bytes(b"Content-Type: text/plain\r\n\r\nunder the oak\r\n")
    files = {}
    for name, octets in (("ada", ada.octets), ("cat", cat.public.octets)):
        files[name] = tmp_path / f"{name}.pgp"
        files[name].write_bytes(octets)
    sealing = ["sq", "encrypt", "--recipient-cert", files["cat"], "--signer-key", files["ada"]]
    made = run([*sealing, text], tmp_path)

    def signature(octets: bytes, *own: PrivateKey) -> Signature:
        believed = [ada.public.fingerprint]
        opener = PgpOpener(own=own, known=[ada.public], trusted=believed)
        (found,) = opener.unseal(octets, at=NOW).signatures
        return found

    found = signature(made, cat)
    assert found.result is SignatureResult.VALID
    message = sealed_message(armour.one(made, Kind.MESSAGE))
    (subkey,) = [one for one in cat.subkeys if one.key_id == message.recipients[0]]
    packets = content.decrypted(message.container, session_key(message.session_keys[0], subkey))
    found = signature(sealed(packets, bob), bob)
    assert found.result is SignatureResult.INVALID and "for other readers" in found.reason
    assert signature(packets).result is SignatureResult.INVALID


@SQ
def test_sq_sees_that_our_key_was_revoked_and_that_it_ended(tmp_path: Path) -> None:
    key, revocation = with_revocation()
    file = tmp_path / "ada.pgp"
    file.write_bytes(revoked_by(key.public, revocation).armored())
    assert b"evoked" in run(["sq", "inspect", file], tmp_path)
    file.write_bytes(with_end(key, at=NOW + timedelta(days=77)).public.armored())
    day = f"{NOW + timedelta(days=77):%Y-%m-%d}".encode()
    assert day in run(["sq", "inspect", file], tmp_path)


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


@RNP
@pytest.mark.parametrize("form", OLD)
def test_rnp_takes_our_key_with_its_password(tmp_path: Path, form: KeyForm) -> None:
    key = person(BOB, form)
    home, sealed = tmp_path / "rnp", tmp_path / "sealed"
    home.mkdir(mode=0o700)
    (tmp_path / "bob.asc").write_bytes(key.armored(PASSWORD, salt=os.urandom(locking.SALT_OCTETS)))
    run(["rnpkeys", "--homedir", home, "--import-keys", tmp_path / "bob.asc"], tmp_path)
    wish = Protection(sealer=PgpSealer(), recipients=(PgpRecipient(key.public),))
    sealed.write_bytes(block(protect(PLAIN, wish, at=NOW)))
    rnp = ["rnp", "--homedir", home, "--password", PASSWORD]
    run([*rnp, "--decrypt", sealed, "--output", tmp_path / "out"], tmp_path)
    assert b"under the oak" in (tmp_path / "out").read_bytes()


@RNP
@pytest.mark.parametrize("size", [0, 5, 1 << 18, (1 << 20) + 1])
def test_the_older_ocb_that_rnp_writes_is_opened_and_changes_are_found(
    tmp_path: Path, size: int
) -> None:
    bob = person(BOB)
    home, text, made = tmp_path / "rnp", tmp_path / "text", tmp_path / "made"
    home.mkdir(mode=0o700)
    (tmp_path / "bob.asc").write_bytes(bob.public.armored())
    run(["rnpkeys", "--homedir", home, "--import-keys", tmp_path / "bob.asc"], tmp_path)
    text.write_bytes(os.urandom(size))
    seal = ["rnp", "--homedir", home, "--encrypt", "-r", BOB, "--aead=ocb", "-z", "0"]
    run([*seal, text, "--output", made], tmp_path)
    octets = made.read_bytes()
    assert [one.tag for one in walk(octets)] == [Tag.PKESK, Tag.AEAD]
    opener = PgpOpener(own=[bob])
    unsealed = opener.unseal(octets, at=NOW)
    assert unsealed.entity == text.read_bytes() and unsealed.encryption.is_authenticated
    assert unsealed.encryption.algorithm == "AES-256-OCB"
    [key, container] = walk(octets)
    for at in (1, 3, 10, len(container.body) // 2, -20, -1):
        body = bytearray(container.body)
        body[at] ^= 1
        changed = opener.unseal(key.octets + encoded(Tag.AEAD, bytes(body)), at=NOW)
        assert not changed.encryption.is_opened and changed.entity == b""
    cut = opener.unseal(key.octets + encoded(Tag.AEAD, container.body[:-16]), at=NOW)  # H65
    assert not cut.encryption.is_opened and cut.entity == b""
