"""S/MIME and OpenPGP: signing, verifying, encrypting and opening whole messages, purely.

    from posthouse.mimesec import Protection, open_message
    from posthouse.mimesec.smime import SmimeRecipient, SmimeSealer, SmimeSigner

Keys, certificates and the time come in as arguments; whoever calls finds and keeps them. Nothing
here asks a network, a clock or a disk. Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from posthouse.mimesec.explain import lines
    from posthouse.mimesec.findings import Encryption, Scheme, Signature, SignatureResult
    from posthouse.mimesec.header_policy import HeaderPolicy
    from posthouse.mimesec.opening import Opened, Section, Summary, open_message
    from posthouse.mimesec.ports import Opener, ProtectionError, Recipient, Sealer, Signer
    from posthouse.mimesec.protection import (
        ProtectedCopy,
        Protection,
        protect,
        protect_each,
    )
    from posthouse.mimesec.trust import Pin

__all__ = [
    "Encryption",
    "HeaderPolicy",
    "Opened",
    "Opener",
    "Pin",
    "ProtectedCopy",
    "Protection",
    "ProtectionError",
    "Recipient",
    "Scheme",
    "Sealer",
    "Section",
    "Signature",
    "SignatureResult",
    "Signer",
    "Summary",
    "lines",
    "open_message",
    "protect",
    "protect_each",
]

_HOMES: Final = {
    "posthouse.mimesec.explain": ("lines",),
    "posthouse.mimesec.findings": ("Encryption", "Scheme", "Signature", "SignatureResult"),
    "posthouse.mimesec.header_policy": ("HeaderPolicy",),
    "posthouse.mimesec.opening": ("Opened", "Section", "Summary", "open_message"),
    "posthouse.mimesec.ports": ("Opener", "ProtectionError", "Recipient", "Sealer", "Signer"),
    "posthouse.mimesec.protection": ("ProtectedCopy", "Protection", "protect", "protect_each"),
    "posthouse.mimesec.trust": ("Pin",),
}
_HOME: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
