"""The TLS of a client: which certificates count, and which is our own."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Final

from posthouse.kernel.secret import HIDDEN
from posthouse.sending.errors import OptionError
from posthouse.tls.contexts import SUITES_TLS12, opportunistic_client_context

__all__ = ["client_context", "unchecked_context"]

_HASHED: Final = re.compile(r"[0-9a-f]{8}\.[0-9]+")
VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def client_context(
    *,
    version_min: str = "1.2",
    ca: str | Path | bytes | None = None,
    certificate: str | Path | None = None,
    certificate_key: str | Path | None = None,
    is_verifying: bool = True,
) -> ssl.SSLContext:
    """A context that checks certificates and names, unless it is told not to.

    Raises:
        OptionError: naming the option and what is wrong with its file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _version(version_min)
    context.set_ciphers(SUITES_TLS12)
    if not is_verifying:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is None:
        context.load_default_certs()
    else:
        _trust(context, ca)
    if certificate is not None:
        _present(context, certificate, certificate_key)
    elif certificate_key is not None:
        raise OptionError("certificate_key", "is of no use without the option certificate")
    return context


def unchecked_context() -> ssl.SSLContext:
    """For opportunistic TLS: any certificate is better than none (RFC 7435)."""
    return opportunistic_client_context()


def _version(text: str) -> ssl.TLSVersion:
    try:
        return VERSIONS[text.strip().lower().removeprefix("tls").lstrip("v")]
    except KeyError:
        raise OptionError(
            "tls_version_min", f"is {text!r}", hint='it can be "1.2" or "1.3"'
        ) from None


def _trust(context: ssl.SSLContext, ca: str | Path | bytes) -> None:
    if isinstance(ca, bytes) or (isinstance(ca, str) and "-----BEGIN" in ca):
        text = ca.decode("ascii", "replace") if isinstance(ca, bytes) else ca
        try:
            context.load_verify_locations(cadata=text)
        except ssl.SSLError as error:
            hint = "a certificate begins with -----BEGIN CERTIFICATE-----, as in its PEM file"
            raise OptionError("ca", "holds no certificate in PEM", hint=hint) from error
        return
    path = _path("ca", ca)
    try:
        if path.is_dir():
            if not any(_HASHED.fullmatch(one.name) for one in path.iterdir()):
                raise OptionError(
                    "ca",
                    f"names the folder {path}, which has no certificates under their hashes",
                    hint=f"openssl rehash {path} makes the names; or give a file",
                )
            context.load_verify_locations(capath=str(path))
        else:
            context.load_verify_locations(cafile=str(path))
    except ssl.SSLError as error:
        hint = "a certificate begins with -----BEGIN CERTIFICATE-----"
        raise OptionError(
            "ca", f"names {path}, which holds no certificate in PEM", hint=hint
        ) from error
    except OSError as error:
        raise OptionError(
            "ca",
            f"names {path}, which cannot be read: {error.strerror}",
            hint=f"relative paths are looked for in {Path.cwd()}",
        ) from None


def _path(option: str, value: object) -> Path:
    if isinstance(value, (str, Path)):
        return Path(value)
    raise OptionError(option, f"is {type(value).__name__}", hint="give the path of a PEM file")


def _present(context: ssl.SSLContext, certificate: str | Path, key: str | Path | None) -> None:
    certificate = _path("certificate", certificate)
    if key is not None:
        key = _path("certificate_key", key)

    def no_passphrase() -> str:
        raise OptionError(
            "certificate_key",
            "names a key with a passphrase",
            hint="take the passphrase off it, or give an ssl_context of your own",
        )

    try:
        context.load_cert_chain(certificate, key, password=no_passphrase)
    except ssl.SSLError as error:
        raise OptionError(
            "certificate",
            f"names {certificate}, which cannot be used with its key: {_said(error)}",
        ) from None
    except OSError as error:
        which = (
            "certificate_key" if key is not None and Path(certificate).exists() else "certificate"
        )
        raise OptionError(which, f"cannot be read: {error.strerror}") from None


def _said(error: ssl.SSLError) -> str:
    return (error.reason or HIDDEN).replace("_", " ").lower()
