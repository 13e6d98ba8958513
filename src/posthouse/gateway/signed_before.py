"""Whether the sender's own program has signed a message: by a signature that is there, and not by a
name in a header field."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from posthouse.accounts.mail_keys import MailKey
from posthouse.message import mime
from posthouse.message.fields import HeaderSection
from posthouse.message.mime import Part
from posthouse.mimesec.findings import Scheme, SignatureResult
from posthouse.mimesec.layers import Openers, layer_at, peel
from posthouse.mimesec.pgp.keys import PublicKey
from posthouse.mimesec.pgp.opener import PgpOpener
from posthouse.mimesec.ports import Opener, ProtectionError
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.chain import Trust
from posthouse.mimesec.smime.identity import read_certificates
from posthouse.mimesec.smime.opener import SmimeOpener

KNOWN_MAX: Final = 20
"""Keys of the sender's that a signature is compared with."""
UNPACKED_FREE_OCTETS: Final = 1024 * 1024
UNPACKED_RATIO_MAX: Final = 2
"""This is done in the server's own process, so a message may be that many times as large when it is
unpacked, and those octets more; what is larger is signed once more."""
_FORMS: Final = frozenset({
    (b"multipart", b"signed"),
    (b"multipart", b"encrypted"),  # OpenPGP's, of what is only signed (RFC 9580 §10.3)
    (b"application", b"pkcs7-mime"),
    (b"application", b"x-pkcs7-mime"),
    (b"application", b"octet-stream"),  # of programs that know no better (RFC 8551 §3.2.1)
})  # fmt: skip
# Worth no more than no signature. Of a key that is not known here nothing can be said, and programs
# may well have one.
_WRONG: Final = frozenset({SignatureResult.INVALID, SignatureResult.UNSUPPORTED})


def may_be_signed(section: HeaderSection) -> bool:
    """By its form, at little cost: whether `is_signed` has to be asked."""
    root = Part(section, len(section.octets))
    return (root.maintype, root.subtype) in _FORMS


def is_signed(octets: bytes, own: Sequence[MailKey], at: datetime) -> bool:
    """Whether all of a message's content is signed, and the outermost signature can be read and is
    not wrong. Linear in the message, in memory too, but for a bounded number of signatures; for a
    worker.

    Args:
        own: keys of the sender's, the only ones that a signature is compared with.
    """
    root = mime.scan(octets)
    found = layer_at(root)
    if found is None or root.section.has_stray_lines:
        return False
    unpacked_octets_max = UNPACKED_FREE_OCTETS + UNPACKED_RATIO_MAX * len(octets)
    peeled = peel(found, Openers(_openers(own[:KNOWN_MAX], unpacked_octets_max), at))
    outermost = peeled.layers[0] if peeled.layers else None
    if outermost is None or outermost.encryption is not None:
        return False
    return any(one.result not in _WRONG for one in outermost.signatures)


def _openers(own: Sequence[MailKey], unpacked_octets_max: int) -> tuple[Opener, ...]:
    certificates: list[Certificate] = []
    keys: list[PublicKey] = []
    for key in own:
        try:
            if key.scheme is Scheme.SMIME:
                certificates += read_certificates(key.public)
            else:
                keys.append(PublicKey(key.public))
        except ProtectionError:  # it cannot be read any more
            continue
    return (
        SmimeOpener(trust=Trust(known=certificates), unpacked_octets_max=unpacked_octets_max),
        PgpOpener(known=keys, unpacked_octets_max=unpacked_octets_max),
    )
