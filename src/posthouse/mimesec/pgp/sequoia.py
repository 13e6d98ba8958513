"""The one place that imports pysequoia: its functions by our types, its failures in our words.

It reports every failure as a RuntimeError with English text, sometimes with a backtrace, so nothing
of that is shown: who calls knows what was tried, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from posthouse.mimesec.ports import NotInstalled

if TYPE_CHECKING:
    from types import ModuleType

    from pysequoia import Cert, Sig, Tsk

T = TypeVar("T")


class Failed(Exception):
    """The library could not do it. It holds none of its words."""


def library() -> ModuleType:
    """Raises NotInstalled."""
    try:
        import pysequoia
    except ImportError:
        raise NotInstalled(
            "OpenPGP needs a library that is not installed",
            hint="pip install 'posthouse[mimesec]'",
        ) from None
    return pysequoia


def tried(action: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """The result of a call into the library. Raises Failed."""
    try:
        return action(*arguments, **named)
    except Exception as error:
        raise Failed(type(error).__name__) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of the language it is written in
            raise
        raise Failed("PanicException") from None


def armoured(octets: bytes, kind: str) -> bytes:
    """Text with a checksum, LF at the ends of lines.

    Args:
        kind: a name of `armour.Kind`.
    """
    pgp = library()
    kinds = {
        "MESSAGE": pgp.ArmorKind.Message,
        "SIGNATURE": pgp.ArmorKind.Signature,
        "PUBLIC_KEY": pgp.ArmorKind.PublicKey,
        "PRIVATE_KEY": pgp.ArmorKind.SecretKey,
    }
    text: str = pgp.armor(octets, kinds[kind])
    return text.encode("ascii")


# --- keys ---


def certificate(octets: bytes) -> Cert:
    found: Cert = tried(library().Cert.from_bytes, octets)
    return found


class Facts:
    """What a certificate says of itself by good signatures, as of now."""

    def __init__(self, cert: Cert) -> None:
        """Raises Failed: nothing on it is in force, or it is by weak algorithms."""
        self.fingerprint: str = tried(lambda: cert.fingerprint).upper()
        self.is_revoked: bool = tried(lambda: cert.is_revoked)
        self.expires_at: datetime | None = tried(lambda: cert.expiration)
        self.user_ids: tuple[str, ...] = tuple(tried(lambda: list(map(str, cert.user_ids))))


def private(octets: bytes) -> Tsk:
    found: Tsk = tried(library().Tsk.from_bytes, octets)
    return found


def merged(old: bytes, new: bytes) -> bytes:
    """Both of the same key, without secret parts. Raises Failed."""
    return bytes(tried(certificate(old).merge, certificate(new)))


def encrypted_to(cert: Cert) -> bytes:
    """A message to a certificate, and so to whichever of its parts the library takes: those that
    are good now, and where all have ended, these all the same. Empty where there is none."""
    try:
        return encrypt(b"", [cert], None)
    except Failed:
        return b""


# --- messages ---


def sign(key: Tsk, octets: bytes) -> bytes:
    """A detached signature over octets. Raises Failed when the key cannot sign now."""
    pgp = library()
    signer = tried(key.signer)
    found: bytes = tried(pgp.sign, signer, octets, mode=pgp.SignatureMode.DETACHED, armor=False)
    return found


def encrypt(octets: bytes, to: Sequence[Cert], key: Tsk | None) -> bytes:
    """A message, signed inside where there is a key. Raises Failed."""
    signer = None if key is None else tried(key.signer)
    found: bytes = tried(library().encrypt, octets, list(to), signer=signer, armor=False)
    return found


def signature(octets: bytes) -> Sig:
    found: Sig = tried(library().Sig.from_bytes, octets)
    return found


def is_good(octets: bytes, one: bytes, cert: Cert) -> bool:
    """Whether a detached signature over octets was made by that certificate, in force then."""
    try:
        made = signature(one)
        done = tried(library().verify, bytes=octets, store=lambda ids: [cert], signature=made)
    except Failed:
        return False
    return bool(done.valid_sigs)


class Decrypted:
    """The content, and who is named as its signer."""

    def __init__(self, content: bytes, issuers: Sequence[str], signed_by: Sequence[str]) -> None:
        self.content = content
        self.issuers = tuple(issuers)
        """Key ids or fingerprints of all signatures, upper-case; nothing proves them."""
        self.signed_by = tuple(signed_by)
        """Fingerprints of certificates with a good signature, upper-case."""


def decrypt(octets: bytes, key: Tsk, known: Callable[[Sequence[str]], Sequence[Cert]]) -> Decrypted:
    """Open a message with a key. Its signatures do not decide whether it opens.

    Args:
        known: certificates by the key ids or fingerprints in signatures.

    Raises:
        Failed: it is for another key, or was changed.
    """
    pgp = library()
    issuers: list[str] = []

    def store(ids: Sequence[str]) -> list[Cert]:
        issuers.extend(one.upper() for one in ids)
        return list(known(issuers))

    decryptor = tried(key.decryptor)
    try:
        done = tried(pgp.decrypt, octets, decryptor=decryptor, store=store)
        signed_by = [one.certificate.upper() for one in done.valid_sigs]
    except Failed:
        # It also fails where no signature is good; then it is opened without them.
        done = tried(pgp.decrypt, octets, decryptor=tried(key.decryptor))
        signed_by = []
    return Decrypted(done.bytes or b"", tuple(dict.fromkeys(issuers)), signed_by)
