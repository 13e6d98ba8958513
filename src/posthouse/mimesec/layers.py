"""Cryptographic layers: found, and taken off one by one (RFC 9787 §4.1, RFC 1847, RFC 3156,
RFC 8551 §3).

A layer is recognised by its MIME form only, and in one way: where two Content-Type fields, a
boundary that is said twice or a third part, seen by everybody or by some, would let another reader
see something else, there is no layer. Whatever is in a message, the number of layers and of calls
to openers is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from enum import Enum, auto
from typing import Final

import msgspec

from posthouse.message import mime
from posthouse.message.mime import Part
from posthouse.mimesec.findings import Encryption, Scheme, Signature, SignatureResult
from posthouse.mimesec.ports import Opener, Unsealed

LAYERS_MAX: Final = 8
"""Around one payload."""
CALLS_MAX: Final = 64
"""To openers for one message, each of which may cost a private key operation."""

_PGP_SIGNATURE: Final = b"application/pgp-signature"
_PGP_ENCRYPTED: Final = b"application/pgp-encrypted"
_SIGNATURE_SCHEMES: Final = {
    _PGP_SIGNATURE: Scheme.OPENPGP,
    b"application/pkcs7-signature": Scheme.SMIME,
    b"application/x-pkcs7-signature": Scheme.SMIME,
}
_PKCS7: Final = frozenset({b"pkcs7-mime", b"x-pkcs7-mime"})
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
# What is the most that can be said, first.
_ORDER: Final = (
    SignatureResult.VALID,
    SignatureResult.MISMATCH,
    SignatureResult.UNTRUSTED,
    SignatureResult.EXPIRED,
    SignatureResult.REVOKED,
    SignatureResult.INVALID,
    SignatureResult.UNSUPPORTED,
    SignatureResult.NO_KEY,
)


class LayerKind(Enum):
    SIGNED = auto()  # multipart/signed
    SEALED = auto()  # multipart/encrypted, application/pkcs7-mime


class FoundLayer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer by its form; what is in it is not looked at yet."""

    kind: LayerKind
    scheme: Scheme
    octets: bytes
    """The decoded signature or what is sealed."""
    signed: bytes = b""
    """The signed part as it was signed: lines ended by CRLF."""


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer as an opener saw it."""

    scheme: Scheme
    encryption: Encryption | None = None
    """None where it only signs."""
    signatures: tuple[Signature, ...] = ()


class Peeled(msgspec.Struct, frozen=True, kw_only=True):
    """A Cryptographic Envelope (RFC 9787 §4.2), from the outside to where it could be opened."""

    layers: tuple[Layer, ...]
    entity: bytes
    """The Cryptographic Payload; b"" where a layer stays closed."""
    reason: str = ""
    """Why it stays closed, in words."""

    @property
    def is_open(self) -> bool:
        return not self.reason

    @property
    def encryptions(self) -> tuple[Encryption, ...]:
        return tuple(one.encryption for one in self.layers if one.encryption is not None)

    @property
    def inner_signatures(self) -> tuple[Signature, ...]:
        """Those on the content. One outside an encryption is on what nobody can read: its signer
        need not know what is inside."""
        found: list[Signature] = []
        for layer in self.layers:
            if layer.encryption is not None:
                found = []
            found += layer.signatures
        return tuple(found)

    @property
    def outer_signatures(self) -> tuple[Signature, ...]:
        every = [one for layer in self.layers for one in layer.signatures]
        return tuple(every[: len(every) - len(self.inner_signatures)])


class Openers:
    """The openers at hand, and how often they may still be asked."""

    def __init__(self, openers: Sequence[Opener], at: datetime) -> None:
        self._openers = tuple(openers)
        self._at = at
        self.calls_left = CALLS_MAX

    def verify(self, scheme: Scheme, signed: bytes, signature: bytes) -> tuple[Signature, ...]:
        """Of the opener that can say most; at least one."""
        best: tuple[Signature, ...] = ()
        for opener in self._of(scheme):
            found = opener.verify(signed, signature, at=self._at)
            found = tuple(one for one in found if one.scheme is scheme)
            if found and (not best or _rank(found) < _rank(best)):
                best = found
        if best:
            return best
        reason = f"there is nothing here that reads signatures of {scheme.value}"
        return (Signature(scheme=scheme, result=SignatureResult.NO_KEY, reason=reason),)

    def unseal(self, scheme: Scheme, sealed: bytes) -> Unsealed:
        """Of the first opener that can, or else what one says why not."""
        closed: Unsealed | None = None
        for opener in self._of(scheme):
            found = opener.unseal(sealed, at=self._at)
            if found.encryption.scheme is not scheme:
                continue
            if found.encryption.is_opened:
                return found
            closed = closed or found
        if closed is not None:
            return closed
        reason = f"there is no key of {scheme.value} here"
        return Unsealed(encryption=Encryption(scheme=scheme, is_opened=False, reason=reason))

    def _of(self, scheme: Scheme) -> list[Opener]:
        """Openers need not say their scheme; those that do are not asked about the other one."""
        found = []
        for opener in self._openers:
            if getattr(opener, "scheme", scheme) is scheme and self.calls_left > 0:
                self.calls_left -= 1
                found.append(opener)
        return found


def _rank(found: Sequence[Signature]) -> int:
    return min(_ORDER.index(one.result) for one in found)


# --- finding ---


def layer_at(part: Part) -> FoundLayer | None:
    """The layer that a part is, or None."""
    if part.is_ambiguous:
        return None
    if part.maintype == b"multipart":
        if part.subtype == b"signed":
            return _multipart_signed(part)
        return _multipart_encrypted(part) if part.subtype == b"encrypted" else None
    if part.maintype == b"application" and _is_pkcs7(part):
        return FoundLayer(kind=LayerKind.SEALED, scheme=Scheme.SMIME, octets=_content(part))
    return None


def _multipart_signed(part: Part) -> FoundLayer | None:
    """RFC 1847 §2.1: two parts, and the second is of the type that the protocol names."""
    protocol = (part.parameters.raw(b"protocol") or b"").lower()
    if len(part.children) != 2 or part.has_odd_delimiters:
        return None
    signed, signature = part.children
    kind = signature.maintype + b"/" + signature.subtype
    scheme = _SIGNATURE_SCHEMES.get(kind)
    if scheme is None or _SIGNATURE_SCHEMES.get(protocol, scheme) is not scheme:
        return None
    octets = part.section.octets[signed.start : signed.end]
    return FoundLayer(
        kind=LayerKind.SIGNED,
        scheme=scheme,
        octets=_content(signature),
        signed=_BARE_LF.sub(b"\r\n", octets),
    )


def _multipart_encrypted(part: Part) -> FoundLayer | None:
    """RFC 3156 §4: a part that says so, and one of octets."""
    if len(part.children) != 2 or part.has_odd_delimiters:
        return None
    control, sealed = part.children
    if control.maintype + b"/" + control.subtype != _PGP_ENCRYPTED:
        return None
    protocol = (part.parameters.raw(b"protocol") or _PGP_ENCRYPTED).lower()
    if protocol != _PGP_ENCRYPTED or sealed.children or sealed.maintype == b"message":
        return None
    return FoundLayer(kind=LayerKind.SEALED, scheme=Scheme.OPENPGP, octets=_content(sealed))


def _is_pkcs7(part: Part) -> bool:
    if part.subtype in _PKCS7:
        return (part.parameters.raw(b"smime-type") or b"").lower() != b"certs-only"
    if part.subtype != b"octet-stream":  # of programs that know no better (RFC 8551 §3.2.1)
        return False
    return (part.file_name or "").lower().endswith((".p7m", ".p7z"))


def _content(part: Part) -> bytes:
    return mime.content(part, octets_max=max(part.size_octets, 1))


# --- taking off ---


def peel(found: FoundLayer, openers: Openers) -> Peeled:
    """Take off that layer and those directly inside it."""
    layers: list[Layer] = []
    for _ in range(LAYERS_MAX):
        if found.kind is LayerKind.SIGNED:
            signatures = openers.verify(found.scheme, found.signed, found.octets)
            layers.append(Layer(scheme=found.scheme, signatures=signatures))
            entity = found.signed
        else:
            unsealed = openers.unseal(found.scheme, found.octets)
            layer = _layer(found.scheme, unsealed)
            if layer.encryption is not None or layer.signatures:  # else it was only packed
                layers.append(layer)
            if not unsealed.encryption.is_opened:
                reason = unsealed.encryption.reason or "it cannot be opened"
                return Peeled(layers=tuple(layers), entity=b"", reason=reason)
            entity = unsealed.entity
        root = mime.scan(entity)
        inner = layer_at(root)
        # Where a line is no field, some readers see it as the beginning of a text, and this layer
        # as nothing. Who wrote that line need not be who signed what is in the layer.
        if inner is None or root.section.has_stray_lines:
            return Peeled(layers=tuple(layers), entity=entity)
        found = inner
    reason = f"there are more than {LAYERS_MAX} layers around it"
    return Peeled(layers=tuple(layers), entity=b"", reason=reason)


def _layer(scheme: Scheme, unsealed: Unsealed) -> Layer:
    """Openers say by an empty algorithm that what they opened was not encrypted."""
    encryption = unsealed.encryption
    is_none = encryption.is_opened and not encryption.algorithm
    return Layer(
        scheme=scheme,
        encryption=None if is_none else encryption,
        signatures=unsealed.signatures,
    )
