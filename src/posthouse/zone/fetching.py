"""What to do when others cannot fetch a page of ours."""

from __future__ import annotations

from typing import Final

from posthouse.config import build_acme
from posthouse.config.schema import Config
from posthouse.kernel.ports import FetchFailed, FetchTrouble

UNTRUSTED: Final = ("issuer", "self-signed", "self signed")
"""In OpenSSL's words of a chain that ends nowhere."""


def fetch_advice(error: FetchFailed, host: str, config: Config) -> str:
    if error.kind is FetchTrouble.TLS:
        return _certificate_advice(str(error), host, config)
    if error.kind is FetchTrouble.DNS:
        return (
            f"{host} has to lead to this server: publish its CNAME record (posthouse dns records)"
        )
    return f"{host} has to lead to this server, with port 443 open"


def _certificate_advice(words: str, host: str, config: Config) -> str:
    needed = f"a certificate for {host} is needed"
    if not config.acme.is_enabled:
        return f"{needed}, which [acme] obtains by itself"
    if build_acme.acme_folder(config).files(host) is None:
        return f"{needed}; [acme] has none yet: posthouse certificate list says why"
    authority = config.acme.directory.removeprefix("https://").partition("/")[0]
    if any(each in words for each in UNTRUSTED):
        return (
            f"[acme] has obtained one from {authority}, whose root this machine does not trust, nor"
            " will others: set acme.directory to an authority that all trust"
        )
    return (
        f"[acme] has obtained one from {authority}: does {host} lead here, and is that one"
        " in use? posthouse certificate list tells"
    )
