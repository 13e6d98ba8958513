"""S/MIME and OpenPGP for `posthouse send`: a key of ours from a file, and those of the recipients.

Which scheme a file is for shows in the file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from posthouse.cli.output import CommandError, read_password, say
from posthouse.cli.send_options import KeysWish
from posthouse.cli.send_secrets import KEY_VARIABLE, secret_of
from posthouse.kernel.secret import Secret
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import (
    PgpRecipient,
    PgpSealer,
    PgpSigner,
    read_private,
    read_public,
)
from posthouse.mimesec.pgp.keys import is_openpgp
from posthouse.mimesec.ports import ProtectionError, Recipient, Sealer, Signer
from posthouse.mimesec.protection import Protection
from posthouse.mimesec.smime.identity import from_pem, from_pkcs12, read_certificates
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signer import SmimeSigner
from posthouse.sending.protecting import other_authors

__all__ = ["protection_of", "warn_of_author"]

FILE_OCTETS_MAX: Final = 8 << 20
_PEM: Final = b"-----BEGIN "
_PRIVATE: Final = b"PRIVATE KEY-----"
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_SEQUENCE: Final = b"\x30"
"""The first octet of DER."""
_VERSION_3: Final = b"\x02\x01\x03"
"""Where a PKCS #12 file begins (RFC 7292 §4), and no certificate."""


def protection_of(wish: KeysWish) -> Protection | None:
    """
    Raises:
        click.UsageError: options that do not go together.
        CommandError: a file holds no key, or its password is wrong.
    """
    if wish.sign is None:
        for option, value in (
            ("--sign-key", wish.sign_key),
            ("--key-password-file", wish.key_password_file),
        ):
            if value is not None:
                raise click.UsageError(f"{option} needs --sign")
    if wish.sign is None and not wish.encrypt_to:
        return None
    signer = None
    if wish.sign is not None:
        signer = _signer(wish, wish.sign)
    recipients = tuple(_recipient(path) for path in wish.encrypt_to)
    schemes = {one.scheme for one in recipients}
    if len(schemes) > 1:
        raise CommandError(
            "--encrypt-to: one message cannot be encrypted by S/MIME and OpenPGP both",
            hint="send it twice, to the recipients of each",
        )
    sealer: Sealer | None = None
    if recipients:
        sealer = SmimeSealer() if Scheme.SMIME in schemes else PgpSealer()
    return Protection(signer=signer, recipients=recipients, sealer=sealer, allows_other_author=True)


def warn_of_author(protection: Protection, octets: bytes) -> None:
    """Readers compare the key with From (RFC 8550 §3); say so when they will complain."""
    signer = protection.signer
    if signer is not None and other_authors(signer, octets):
        shown = ", ".join(signer.addresses) or "nobody's address"
        say(f"the key of --sign is for {shown}: readers will say so of this From")


# --- files ---


def _signer(wish: KeysWish, path: Path) -> Signer:
    octets = _read("--sign", path)
    key = _read("--sign-key", wish.sign_key) if wish.sign_key is not None else octets
    password = secret_of("--key-password-file", wish.key_password_file, KEY_VARIABLE)
    try:
        return _opened(octets, key, password)
    except ProtectionError as error:
        if password is None and "password" in error.text and sys.stdin.isatty():
            password = read_password(password_stdin=False, prompt=f"Password of {path.name}")
            return _reopened(octets, key, password)
        hint = error.hint
        if password is None and "password" in error.text:
            hint = f"give it with --key-password-file or in ${KEY_VARIABLE}"
        raise CommandError(f"--sign: {error.text}", hint=hint) from None


def _reopened(octets: bytes, key: bytes, password: Secret) -> Signer:
    try:
        return _opened(octets, key, password)
    except ProtectionError as error:
        raise CommandError(f"--sign: {error.text}", hint=error.hint) from None


def _opened(octets: bytes, key: bytes, password: Secret | None) -> Signer:
    if is_openpgp(octets):
        return PgpSigner(read_private(octets, password)[0])
    if _PRIVATE not in key and _PEM in key:
        raise ProtectionError(
            "there is no private key in the file", hint="name the file of the key with --sign-key"
        )
    if key is not octets or _PEM in octets:
        return SmimeSigner(from_pem(key, octets, password))
    if octets[:1] != _SEQUENCE:
        raise ProtectionError(
            "the file holds no key",
            hint="give a PKCS #12 file (.p12, .pfx), PEM with key and certificate, or an OpenPGP"
            " key (gpg --armor --export-secret-keys)",
        )
    found = from_pkcs12(octets, password)
    if not found:
        raise ProtectionError(
            "there is no private key in the file", hint="export the certificate with its key"
        )
    return SmimeSigner(found[0])


def _recipient(path: Path) -> Recipient:
    octets = _read("--encrypt-to", path)
    try:
        if is_openpgp(octets):
            return PgpRecipient(read_public(octets)[0])
        if hint := _no_certificate(octets):
            raise CommandError(f"--encrypt-to: {path} holds no certificate alone", hint=hint)
        found = read_certificates(octets)
    except ProtectionError as error:
        raise CommandError(f"--encrypt-to: {path}: {error.text}", hint=error.hint) from None
    if not found:
        raise CommandError(f"--encrypt-to: {path} holds no certificate")
    return SmimeRecipient(found[0])


def _no_certificate(octets: bytes) -> str:
    """What to do about a file of keys, which is not what is wanted from others."""
    is_pkcs12 = octets[:1] == _SEQUENCE and _VERSION_3 in octets[2:9]
    if is_pkcs12 or (_PRIVATE in octets and _CERTIFICATE not in octets):
        return "that is a private key; name the certificate of the recipient (.crt, .cer, .pem)"
    return ""


def _read(option: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            octets = file.read(FILE_OCTETS_MAX + 1)
    except FileNotFoundError:
        raise CommandError(f"{option}: there is no file {str(path)!r}") from None
    except OSError as error:
        raise CommandError(f"{option}: {str(path)!r} cannot be read: {error.strerror}") from None
    if len(octets) > FILE_OCTETS_MAX:
        raise CommandError(f"{option}: {str(path)!r} is over {FILE_OCTETS_MAX >> 20} MiB")
    return octets
