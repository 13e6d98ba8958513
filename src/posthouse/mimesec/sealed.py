"""Whether a message is an encrypted one, by what is in it and not by what it calls itself, and what
everybody can read of one that is only signed. Nothing is opened.

A signed message in the form of application/pkcs7-mime can be read by everybody, and so can a
multipart/encrypted with text in it.
"""

from __future__ import annotations

from typing import Final

from posthouse.message import mime
from posthouse.message.fields import read_section
from posthouse.message.mime import Part
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.layers import LAYERS_MAX, FoundLayer, LayerKind, layer_at
from posthouse.mimesec.pgp import armour, packets
from posthouse.mimesec.pgp.armour import BadArmour
from posthouse.mimesec.pgp.packets import BadPackets, Tag
from posthouse.mimesec.smime import structures
from posthouse.mimesec.smime.der import BadStructure
from posthouse.mimesec.smime.structures import SignedData

_FORMS: Final = frozenset({
    (b"multipart", b"encrypted"),
    (b"application", b"pkcs7-mime"),
    (b"application", b"x-pkcs7-mime"),
    (b"application", b"octet-stream"),  # of programs that know no better (RFC 8551 §3.2.1)
})  # fmt: skip
SAID_OCTETS_MAX: Final = 200
"""In the open, in front of what is encrypted."""
_BEGIN, _END = b"-----BEGIN PGP MESSAGE-----", b"-----END PGP MESSAGE-----"
_KEYS: Final = frozenset({Tag.PKESK, Tag.SKESK})
_CONTENTS: Final = frozenset({Tag.SEIPD, Tag.AEAD, Tag.SED})


def may_be_sealed(octets: bytes) -> bool:
    """By its form, at little cost: whether `is_sealed` has to be asked."""
    root = Part(read_section(octets), len(octets))
    return (root.maintype, root.subtype) in _FORMS


def is_sealed(octets: bytes) -> bool:
    """Whether all of a message's content is encrypted, by S/MIME or OpenPGP. Linear; for a worker
    where the message may be large."""
    if not may_be_sealed(octets):
        return False
    root = mime.scan(octets)
    found = None if root.section.has_stray_lines else layer_at(root)
    if found is None or found.kind is not LayerKind.SEALED:
        return False
    if root.children and not _is_alone(root, found.octets):
        return False
    return _is_cms(found.octets) if found.scheme is Scheme.SMIME else _is_openpgp(found.octets)


def open_payload(entity: bytes) -> bytes | None:
    """What is inside all the signatures around an entity, whatever they are worth; the entity where
    there are none, and None where something of it is encrypted or cannot be read."""
    for _ in range(LAYERS_MAX):
        found = layer_at(mime.scan(entity))
        if found is None:
            return entity
        inner = found.signed if found.kind is LayerKind.SIGNED else _opaque_content(found)
        if inner is None:
            return None
        entity = inner
    return None


def _opaque_content(found: FoundLayer) -> bytes | None:
    if found.scheme is not Scheme.SMIME:
        return None
    try:
        structure = structures.read(found.octets)
    except BadStructure:
        return None
    if not isinstance(structure, SignedData) or structure.content_type != structures.DATA:
        return None
    return structure.content


def _is_alone(root: Part, sealed: bytes) -> bool:
    """Whether a multipart/encrypted says nothing in the open beside the sentence that programs put
    in front of its parts for readers without MIME."""
    control, part = root.children
    octets, boundary = root.section.octets, root.parameters.raw(b"boundary") or b""
    delimiter = b"--" + boundary
    front = octets[root.body : control.start].replace(delimiter, b"").strip(b"- \t\r\n")
    behind = octets[part.end : root.end].replace(delimiter, b"").strip(b"- \t\r\n")
    said = mime.content(control, octets_max=SAID_OCTETS_MAX)
    text = sealed.strip()
    is_bare = not armour.is_armoured(text) or (text.startswith(_BEGIN) and text.endswith(_END))
    is_quiet = len(front) <= SAID_OCTETS_MAX and not behind
    return is_bare and is_quiet and said.strip().lower() == b"version: 1"


def _is_cms(octets: bytes) -> bool:
    try:
        return isinstance(structures.read(octets), structures.Sealed)
    except BadStructure:
        return False


def _is_openpgp(octets: bytes) -> bool:
    """RFC 9580 §10.3: session keys, then one encrypted content and nothing else."""
    try:
        message = armour.one(octets, armour.Kind.MESSAGE)
        tags = [one.tag for one in packets.walk(message) if not one.is_filling]
    except (BadArmour, BadPackets):
        return False
    return bool(tags) and tags[-1] in _CONTENTS and all(tag in _KEYS for tag in tags[:-1])
