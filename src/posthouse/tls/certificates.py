"""Server certificates from files: checked in plain words, chosen by name, replaced while running.

`Certificates` holds one or more of them; the first is the default for clients that send no name or
an unknown one (H62). `reload_if_changed` takes new files only whole: a half-written, expired or
mismatched pair leaves the old certificate in use and says so (F35). `put` takes one more, or one in
place of another, while running: ACME's come that way.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes

from posthouse.kernel.errors import UserError
from posthouse.kernel.ports import Clock
from posthouse.net.client_hello import alpn_offers
from posthouse.tls.contexts import server_context

FILE_OCTETS_MAX: Final = 1_048_576
RSA_BITS_MIN: Final = 2048  # RFC 9325 §4.5
ACME_ALPN: Final = b"acme-tls/1"  # RFC 8737 §6.2


class CertificateFiles(msgspec.Struct, frozen=True, kw_only=True):
    chain: Path
    """PEM, the server's own certificate first, then those that lead to the root."""
    key: Path
    """PEM, not encrypted."""


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that passed every check, with the context that serves it."""

    files: CertificateFiles
    context: ssl.SSLContext
    names: tuple[str, ...]
    """DNS names it is for, in lower case; `*.` at the front stands for one label."""
    leaf: x509.Certificate
    not_after: datetime
    is_self_signed: bool
    sha256: str
    warnings: tuple[str, ...]
    """What works but should be put right, in words."""


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What `reload_if_changed` did about files that changed."""

    files: CertificateFiles
    certificate: Certificate | None
    """None when the old one stays in use, because of `problem`."""
    problem: str = ""
    hint: str = ""


_Stamp = tuple[tuple[int, int, int], ...]


class Certificates:
    """The certificates of one process; `context` is what listeners and STARTTLS use."""

    def __init__(
        self,
        files: Sequence[CertificateFiles],
        clock: Clock,
        *,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    ) -> None:
        """Load them all, the default first.

        Args:
            minimum_version: the oldest TLS version their contexts speak.

        Raises:
            UserError: a file is missing, malformed, expired or does not fit its key.
        """
        if not files:
            raise UserError("no certificate is configured")
        self._clock = clock
        self._minimum_version = minimum_version
        self._stamps: dict[CertificateFiles, _Stamp] = {}
        loaded = []
        for item in files:
            self._stamps[item] = _stamp(item)
            loaded.append(self._load(item))
        self._loaded = tuple(loaded)
        self._by_name = _names(self._loaded)
        self.challenge: Callable[[str], ssl.SSLContext | None] = _no_challenge
        """The context that answers tls-alpn-01 for a name, while an authority may ask."""

    def context(self) -> ssl.SSLContext:
        """The context for a new handshake; it switches to the certificate for the client's name."""
        return self._loaded[0].context

    @property
    def loaded(self) -> tuple[Certificate, ...]:
        return self._loaded

    def for_name(self, name: str | None) -> Certificate:
        """The certificate for a server name; the default for None and unknown ones."""
        if name is None:
            return self._loaded[0]
        name = name.lower().rstrip(".")
        found = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
        return found or self._loaded[0]

    def put(
        self,
        files: CertificateFiles,
        *,
        instead_of: CertificateFiles | None = None,
        is_default: bool = False,
        may_be_expired: bool = False,
    ) -> Certificate:
        """Serve one more certificate from now on; nothing changes when it cannot be used.

        Handshakes and connections under way go on with what they began with.

        Args:
            instead_of: the one it takes the place of, where that is served.
            is_default: for clients that send no name, too.
            may_be_expired: better than none: who verifies by DANE looks at the key only.

        Raises:
            UserError: as for `load_certificate`.
        """
        stamp = _stamp(files)
        new = self._load(files, may_be_expired=may_be_expired)
        replaced = {files, instead_of}
        places = [at for at, old in enumerate(self._loaded) if old.files in replaced]
        others = [old for old in self._loaded if old.files not in replaced]
        place = 0 if is_default else places[0] if places else len(others)
        loaded = (*others[:place], new, *others[place:])
        self._stamps = {item.files: self._stamps.get(item.files, stamp) for item in loaded}
        self._stamps[files] = stamp
        self._loaded, self._by_name = loaded, _names(loaded)
        return new

    def reload_if_changed(self) -> list[Reloaded]:
        """Look at the files; take what is new and right. Each changed state is told once.

        Blocks for some milliseconds when a file has changed, microseconds when none has. Call it
        about once a minute and on SIGHUP.
        """
        done: list[Reloaded] = []
        current = list(self._loaded)
        for index, old in enumerate(self._loaded):
            stamp = _stamp(old.files)
            if stamp == self._stamps[old.files]:
                continue
            self._stamps[old.files] = stamp
            try:
                new = self._load(old.files)
            except UserError as error:
                done.append(
                    Reloaded(files=old.files, certificate=None, problem=error.text, hint=error.hint)
                )
            else:
                current[index] = new
                done.append(Reloaded(files=old.files, certificate=new))
        self._loaded = tuple(current)
        self._by_name = _names(self._loaded)
        return done

    def _load(self, files: CertificateFiles, *, may_be_expired: bool = False) -> Certificate:
        certificate = load_certificate(
            files,
            self._clock.now(),
            minimum_version=self._minimum_version,
            may_be_expired=may_be_expired,
        )
        certificate.context.sni_callback = self._choose
        return certificate

    def _choose(self, tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """OpenSSL asks which context serves this name (RFC 6066 §3)."""
        tls.sni = name  # type: ignore[attr-defined]  # SniObject has it
        answer = self.challenge(name.lower()) if name is not None else None
        # Only who offers this protocol may see the answer's certificate (RFC 8737 §3).
        if answer is not None and ACME_ALPN in alpn_offers(getattr(tls, "hello", b"")):
            tls.context = answer
            return
        chosen = self.for_name(name).context
        if chosen is not context:
            tls.context = chosen


def load_certificate(
    files: CertificateFiles,
    now: datetime,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    may_be_expired: bool = False,
) -> Certificate:
    """Read, check and make a context.

    Raises:
        UserError: with the file's name, what is wrong with it and what to do.
    """
    chain_pem, key_pem = _read(files.chain), _read(files.key)
    chain = _parse_chain(chain_pem, files.chain)
    _check_key(chain, key_pem, files)
    leaf = chain[0]
    if not (may_be_expired and now > leaf.not_valid_after_utc):
        _check_dates(leaf, files.chain, now)
    context = server_context(minimum_version)
    try:
        context.load_cert_chain(str(files.chain), str(files.key), password=_no_password)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{files.chain}: OpenSSL does not take it: {reason}") from error
    # OpenSSL read the files a second time: make sure that it saw what we have checked.
    if _read(files.chain) != chain_pem or _read(files.key) != key_pem:
        raise UserError(f"{files.chain} or its key changed while it was read")
    return Certificate(
        files=files,
        context=context,
        names=_dns_names(leaf),
        leaf=leaf,
        not_after=leaf.not_valid_after_utc,
        is_self_signed=leaf.subject == leaf.issuer,
        sha256=leaf.fingerprint(hashes.SHA256()).hex(),
        warnings=_warnings(leaf, files),
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            octets = file.read(FILE_OCTETS_MAX + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if len(octets) > FILE_OCTETS_MAX:
        raise UserError(f"{path} is too large for a certificate or key")
    return octets


def _parse_chain(pem: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise UserError(
            f"{path} holds no complete certificate",
            hint="it must be PEM, from -----BEGIN CERTIFICATE----- to the last -----END …-----",
        ) from error


def _check_key(chain: list[x509.Certificate], pem: bytes, files: CertificateFiles) -> None:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise UserError(
            f"{files.key} is protected by a password",
            hint=f"openssl pkey -in {files.key} -out plain.pem removes it",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UserError(f"{files.key} holds no complete private key") from error
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < RSA_BITS_MIN:
        raise UserError(f"{files.key}: an RSA key needs {RSA_BITS_MIN} bits, it has {key.key_size}")
    own = _spki(key.public_key())  # type: ignore[arg-type]  # X25519 keys differ from every one
    if own == _spki(_public_key(chain[0])):
        return
    if any(own == _spki(_public_key(certificate)) for certificate in chain[1:]):
        raise UserError(
            f"{files.chain} is in the wrong order", hint="put the server's own certificate first"
        )
    raise UserError(f"the key in {files.key} does not belong to the certificate in {files.chain}")


def _public_key(certificate: x509.Certificate) -> CertificateIssuerPublicKeyTypes:
    try:
        return certificate.public_key()  # type: ignore[return-value]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UserError("a certificate has a public key of an unknown kind") from error


def _spki(key: CertificateIssuerPublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _check_dates(leaf: x509.Certificate, path: Path, now: datetime) -> None:
    if now > leaf.not_valid_after_utc:
        raise UserError(
            f"the certificate in {path} expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            hint="renew it, or remove the setting to use a self-signed one",
        )
    if now < leaf.not_valid_before_utc:
        raise UserError(
            f"the certificate in {path} is valid only from"
            f" {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on",
            hint="check this machine's clock",
        )


def _dns_names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))


def _warnings(leaf: x509.Certificate, files: CertificateFiles) -> tuple[str, ...]:
    found = []
    try:
        mode = files.key.stat().st_mode
    except OSError as error:
        raise UserError(f"{files.key} changed while it was read: {error.strerror}") from error
    if mode & 0o077:
        found.append(f"{files.key} can be read by other users: chmod 600 {files.key}")
    if not _dns_names(leaf):
        found.append(f"the certificate in {files.chain} names no host; clients will refuse it")
    return tuple(found)


def _names(loaded: Sequence[Certificate]) -> dict[str, Certificate]:
    """By DNS name; where two certificates have one, the earlier in the configuration serves it."""
    by_name: dict[str, Certificate] = {}
    for certificate in loaded:
        for name in certificate.names:
            by_name.setdefault(name, certificate)
    return by_name


def _stamp(files: CertificateFiles) -> _Stamp:
    """Changes whenever a file does; a missing file has a stamp too."""
    stamps = []
    for path in (files.chain, files.key):
        try:
            status = path.stat()
        except OSError:
            stamps.append((0, 0, 0))
        else:
            stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(stamps)


def _no_challenge(name: str) -> None:
    return None


def _no_password() -> str:
    """Otherwise OpenSSL would ask the terminal."""
    return ""
