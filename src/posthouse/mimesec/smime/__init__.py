"""S/MIME 4.0 (RFC 8551): CMS structures (RFC 5652) over the primitives of cryptography.

`SmimeSigner`, `SmimeRecipient`, `SmimeSealer` and `SmimeOpener` are what `mimesec.ports` asks for;
`from_pkcs12`, `from_pem` and `read_certificates` read keys and certificates, `make_identity` makes
them, `Trust` says whom to believe. Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from posthouse.mimesec.smime.capabilities import COMMON, Capabilities, Cipher
    from posthouse.mimesec.smime.certificates import Certificate
    from posthouse.mimesec.smime.chain import Trust
    from posthouse.mimesec.smime.identity import (
        Identity,
        from_pem,
        from_pkcs12,
        read_certificates,
    )
    from posthouse.mimesec.smime.make import KeyKind, make_authority, make_identity
    from posthouse.mimesec.smime.opener import SmimeOpener
    from posthouse.mimesec.smime.recipient import SmimeRecipient
    from posthouse.mimesec.smime.revocation import Crl, OcspResponse, list_urls, ocsp_urls
    from posthouse.mimesec.smime.sealer import SmimeSealer
    from posthouse.mimesec.smime.signer import SmimeSigner

__all__ = [
    "COMMON",
    "Capabilities",
    "Certificate",
    "Cipher",
    "Crl",
    "Identity",
    "KeyKind",
    "OcspResponse",
    "SmimeOpener",
    "SmimeRecipient",
    "SmimeSealer",
    "SmimeSigner",
    "Trust",
    "from_pem",
    "from_pkcs12",
    "list_urls",
    "make_authority",
    "make_identity",
    "ocsp_urls",
    "read_certificates",
]

_HOMES: Final = {
    "capabilities": ("COMMON", "Capabilities", "Cipher"),
    "certificates": ("Certificate",),
    "chain": ("Trust",),
    "identity": ("Identity", "from_pem", "from_pkcs12", "read_certificates"),
    "make": ("KeyKind", "make_authority", "make_identity"),
    "opener": ("SmimeOpener",),
    "recipient": ("SmimeRecipient",),
    "revocation": ("Crl", "OcspResponse", "list_urls", "ocsp_urls"),
    "sealer": ("SmimeSealer",),
    "signer": ("SmimeSigner",),
}
_HOME: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
