"""A received message opened: decrypted and verified, with what is proven said for each section and
for nothing else (RFC 9787 §4 and §6, RFC 9788 §4, RFC 8551, RFC 3156).

Only layers that are around the whole message, with nothing beside them, say something about the
message. What is signed or encrypted deeper inside is a section of its own: it is verified and
decrypted apart, is never put into the message's text, and makes no message "signed" or "encrypted"
(EFAIL, H65). What was decrypted without proof that nobody changed it is not shown as the message
unless a valid signature inside proves it, or the caller asks for that.

Pure and synchronous; private keys and untrusted octets meet here, so a server calls it by
`mimesec.child` in a process of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import Enum
from typing import Final

import msgspec

from posthouse.message import mime, words
from posthouse.message.fields import HeaderSection
from posthouse.message.mime import Part
from posthouse.mimesec import given, inline
from posthouse.mimesec.entity import field_octets, join_message
from posthouse.mimesec.findings import Encryption, Scheme, Signature, SignatureResult
from posthouse.mimesec.header_protection import (
    GOSSIP,
    AddressKey,
    Authors,
    FromMismatch,
    HeaderScheme,
    ProtectedField,
    ProtectedHeader,
    address_keys,
    content_only,
    field_states,
    from_mismatch,
    read_authors,
    read_protected,
    rendered_fields,
)
from posthouse.mimesec.layers import Layer, Openers, Peeled, layer_at, peel
from posthouse.mimesec.ports import Opener

SECTIONS_MAX: Final = 32
"""Looked at inside one message; more of them stay what they are."""

REFUSED: Final = (
    "it could be decrypted, but nothing proves that it was not changed on its way, and what was"
    " changed may send its text to others when it is shown"
)
_STRAY: Final = "has a line among its fields that is none: some readers see a text from there on"
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._:+\-]{1,60}")


class Summary(Enum):
    """What may be said of a message, or of a section, as a whole (RFC 9787 §4.6)."""

    NOT_PROTECTED = "not protected"  # or by signatures that are not valid (RFC 9787 §6.4)
    SIGNED = "signed"
    ENCRYPTED = "encrypted"
    SIGNED_AND_ENCRYPTED = "signed and encrypted"
    PARTLY = "partly"  # some of its parts are protected, the message is not
    BROKEN = "broken"  # it is encrypted and stays closed


class SectionKind(Enum):
    MESSAGE = "message"  # all of it
    PART = "part"
    FORWARDED = "forwarded message"
    TEXT = "text"  # OpenPGP inside plain text


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is protected by itself."""

    kind: SectionKind
    path: str
    """Its part's number in `Opened.octets` as IMAP counts ("2.1"); "" for the message."""
    summary: Summary
    signatures: tuple[Signature, ...] = ()
    """On its content; VALID only where the key names the author (From)."""
    outer_signatures: tuple[Signature, ...] = ()
    """On its encrypted form: they prove nothing about who wrote the content."""
    encryptions: tuple[Encryption, ...] = ()
    """From the outside in."""
    reason: str = ""
    """Why it stays closed, in words; "" when it is open."""
    entity: bytes = b""
    """What these signatures and encryptions are on, as a MIME entity; b"" when it stays closed."""

    @property
    def is_authenticated(self) -> bool:
        """Of the encryptions: nobody changed what they hold."""
        return all(one.is_authenticated for one in self.encryptions)


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What a message turned out to be."""

    octets: bytes
    """To be shown: with the content of what is around the whole message in its place and the
    protected fields in its header section; as it came where nothing could be opened."""
    summary: Summary
    sections: tuple[Section, ...] = ()
    """The whole message first, when something is around it."""
    header_scheme: HeaderScheme | None = None
    fields: tuple[ProtectedField, ...] = ()
    """Those that are protected; all others are not."""
    from_mismatch: FromMismatch | None = None
    """The author inside is another than the one outside."""
    has_outer_from: bool = False
    """Of the two authors the one outside is shown, and people are to be warned, as no valid
    signature is the inner one's (RFC 9788 §4.4)."""

    @property
    def whole(self) -> Section | None:
        """The section that is the whole message."""
        first = self.sections[0] if self.sections else None
        return first if first is not None and first.kind is SectionKind.MESSAGE else None


def open_message(
    octets: bytes,
    openers: Sequence[Opener],
    *,
    at: datetime,
    from_addresses: Sequence[str] | None = None,
    allow_unauthenticated: bool = False,
) -> Opened:
    """Verify and decrypt what can be. Never raises for what a message holds; linear in it, but for
    what the openers do, who are asked a bounded number of times.

    Args:
        openers: with our keys, and with those of others and whom to trust.
        from_addresses: to compare signers with, instead of those of From.
        allow_unauthenticated: show as the message what was decrypted from a form that does not tell
            of changes (S/MIME with CBC) without a valid signature inside. Nothing of it may then be
            loaded from elsewhere or answered with quotes.

    Raises:
        ProtectionError: it is called with something else than octets, openers and a time.
    """
    given.check_octets(octets, "open_message")
    given.check_openers(openers, "openers")
    given.check_time(at, "at")
    asked = Openers(openers, at)
    root = mime.scan(octets)
    authors = _authors(root.section)
    if from_addresses is not None:
        authors = _expected(from_addresses, root.section)
    peeled = _around_all(root, asked)
    if peeled is None:
        sections = tuple(_sections(root, authors, asked, allow_unauthenticated))
        return Opened(octets=octets, summary=_of_parts(sections), sections=sections)
    judged = _judge(peeled, root.section, authors, allow_unauthenticated)
    header = judged.header
    whole = judged.section(SectionKind.MESSAGE, "")
    if whole.reason:
        return Opened(octets=octets, summary=whole.summary, sections=(whole,))
    entity = header.entity if header is not None else content_only(peeled.entity)
    mismatch = None if header is None else from_mismatch(root.section, header)
    has_outer_from = mismatch is not None and not judged.is_signed
    if header is None:
        fields = tuple(_outer_fields(root.section, is_encrypted=bool(peeled.encryptions)))
    else:
        fields = rendered_fields(root.section, header, has_outer_from=has_outer_from)
    authors = authors if has_outer_from else judged.authors
    nested = tuple(_sections(mime.scan(entity), authors, asked, allow_unauthenticated))
    is_plain = whole.summary is Summary.NOT_PROTECTED
    return Opened(
        octets=join_message(fields, entity),
        summary=_of_parts(nested) if is_plain else whole.summary,
        sections=(whole, *nested),
        header_scheme=None if header is None else header.scheme,
        fields=()
        if header is None
        else field_states(
            header, is_encrypted=bool(peeled.encryptions), is_signed=judged.is_signed
        ),
        from_mismatch=mismatch,
        has_outer_from=has_outer_from,
    )


def _of_parts(sections: Sequence[Section]) -> Summary:
    """A message that is not protected itself; what it forwards is another message's affair."""
    is_partly = any(
        one.kind is not SectionKind.FORWARDED and one.summary is not Summary.NOT_PROTECTED
        for one in sections
    )
    return Summary.PARTLY if is_partly else Summary.NOT_PROTECTED


def _outer_fields(section: HeaderSection, *, is_encrypted: bool) -> Iterator[bytes]:
    for field in section.fields:
        if field.name.startswith(b"content-") or field.name == b"mime-version":
            continue
        if not (is_encrypted and field.name == GOSSIP):
            yield field_octets(section, field)


# --- whose signature it may be ---


class _Authors(msgspec.Struct, frozen=True):
    """Whom a message says it is from."""

    keys: frozenset[AddressKey]
    shown: tuple[str, ...]
    fault: str = ""
    """Why no signature can be theirs."""


def _authors(section: HeaderSection) -> _Authors:
    return _of(read_authors(field_octets(section, field) for field in section.fields))


def _of(read: Authors) -> _Authors:
    return _Authors(read.keys, read.shown, read.fault)


def _expected(texts: Sequence[str], section: HeaderSection) -> _Authors:
    """What a caller knows better; two From fields are no signer's all the same."""
    fault = _authors(section).fault if section.count(b"from") > 1 else ""
    return _Authors(address_keys(texts), tuple(texts), fault)


def _inner_authors(header: ProtectedHeader | None, outer: _Authors) -> _Authors:
    """Of the protected From, where there is one."""
    if header is None or not any(one.name.lower() == "from" for one in header.protected):
        return outer
    return _of(read_authors(header.fields))


def _compared(signature: Signature, authors: _Authors) -> Signature:
    """VALID only for a key that names each author, whoever compared before."""
    if signature.result not in (SignatureResult.VALID, SignatureResult.MISMATCH):
        return signature
    named = address_keys(signature.addresses)
    if not authors.fault and authors.keys and authors.keys <= named:
        return msgspec.structs.replace(signature, result=SignatureResult.VALID, reason="")
    if authors.fault:
        reason = f"the message {authors.fault}"
    elif not authors.keys:
        reason = "the message has no From address to compare with"
    else:
        owner = ", ".join(signature.addresses[:4]) or "nobody"
        reason = f"the message is from {', '.join(authors.shown[:4])}, the key is of {owner}"
    reason = words.shown(reason)
    return msgspec.structs.replace(signature, result=SignatureResult.MISMATCH, reason=reason)


# --- what is said of one envelope ---


class _Judged(msgspec.Struct, frozen=True, kw_only=True):
    peeled: Peeled
    signatures: tuple[Signature, ...]
    outer_signatures: tuple[Signature, ...]
    header: ProtectedHeader | None
    authors: _Authors
    reason: str

    @property
    def is_signed(self) -> bool:
        return any(one.result is SignatureResult.VALID for one in self.signatures)

    @property
    def summary(self) -> Summary:
        if self.reason:
            return Summary.BROKEN
        if self.peeled.encryptions:
            return Summary.SIGNED_AND_ENCRYPTED if self.is_signed else Summary.ENCRYPTED
        return Summary.SIGNED if self.is_signed else Summary.NOT_PROTECTED

    def section(self, kind: SectionKind, path: str) -> Section:
        return Section(
            kind=kind,
            path=path,
            summary=self.summary,
            signatures=self.signatures,
            outer_signatures=self.outer_signatures,
            encryptions=self.peeled.encryptions,
            reason=self.reason,
            entity=b"" if self.reason else self.peeled.entity,
        )


def _judge(
    peeled: Peeled,
    outside: HeaderSection | None,
    authors: _Authors,
    allow_unauthenticated: bool,
) -> _Judged:
    """
    Args:
        outside: of the message that this is around, whose fields may be protected inside.
    """
    header = None
    if outside is not None and peeled.is_open:
        header = read_protected(peeled.entity, outside, is_encrypted=bool(peeled.encryptions))
    authors = _inner_authors(header, authors)
    # What was decrypted is shown without such lines.
    if outside is not None and outside.has_stray_lines and not peeled.encryptions:
        authors = msgspec.structs.replace(authors, fault=_STRAY)
    signatures = tuple(_compared(one, authors) for one in peeled.inner_signatures)
    reason = peeled.reason
    if not reason and not allow_unauthenticated:
        is_proven = all(one.is_authenticated for one in peeled.encryptions)
        if not is_proven and not any(one.result is SignatureResult.VALID for one in signatures):
            reason, header = _why_refused(signatures, authors), None
    return _Judged(
        peeled=peeled,
        signatures=signatures,
        outer_signatures=tuple(_compared(one, authors) for one in peeled.outer_signatures),
        header=header,
        authors=authors,
        reason=reason,
    )


def _why_refused(signatures: Sequence[Signature], authors: _Authors) -> str:
    """With what would open it, where that is in the hands of who reads it."""
    for one in signatures:
        trusted = msgspec.structs.replace(one, result=SignatureResult.VALID)
        is_untrusted = one.result is SignatureResult.UNTRUSTED
        if is_untrusted and _compared(trusted, authors).result is SignatureResult.VALID:
            owner = ", ".join(one.addresses[:4])
            return words.shown(
                f"{REFUSED}; the signature of {owner} inside would prove it, but nobody vouches for"
                f" its key ({one.key[:16]}): trust that, if you know that it is theirs, and the"
                " message opens"
            )
    return REFUSED


# --- what is around all, and what is inside ---


def _around_all(root: Part, asked: Openers) -> Peeled | None:
    found = layer_at(root)
    if found is not None:
        return peel(found, asked)
    if not _is_plain_text(root):
        return None
    text = _content(root)
    blocks = inline.blocks(text)
    if len(blocks) == 1 and inline.is_alone(blocks[0], text):
        return _peeled_block(blocks[0], root, asked)
    return None


def _sections(
    root: Part, authors: _Authors, asked: Openers, allow_unauthenticated: bool
) -> Iterator[Section]:
    """Each part, text or forwarded message below `root` that is protected by itself, in order."""
    waiting: list[tuple[Part, str, _Authors]] = [(root, "", authors)]
    left = SECTIONS_MAX
    while waiting and left > 0:
        part, path, authors = waiting.pop()
        is_clear = not part.section.has_stray_lines
        found = layer_at(part) if path and is_clear else None
        if found is not None:
            left -= 1
            judged = _judge(peel(found, asked), None, authors, allow_unauthenticated)
            yield judged.section(SectionKind.PART, path)
        elif part.message is not None and not part.is_ambiguous:
            inside, path = part.message, path or "1"
            forwarded = _around_all(inside, asked)
            authors = _authors(inside.section)
            if forwarded is None:
                waiting.extend(_below(inside, path, authors))
            else:
                left -= 1
                judged = _judge(forwarded, inside.section, authors, allow_unauthenticated)
                yield judged.section(SectionKind.FORWARDED, path)
        elif part.children:
            waiting.extend(_below(part, path, authors))
        elif _is_plain_text(part):
            for block in inline.blocks(_content(part))[:left]:
                left -= 1
                peeled = _peeled_block(block, part, asked)
                judged = _judge(peeled, None, authors, allow_unauthenticated)
                yield judged.section(SectionKind.TEXT, path or "1")


def _below(part: Part, path: str, authors: _Authors) -> Iterator[tuple[Part, str, _Authors]]:
    """The parts of a multipart, the last first; a message of one part is its own part 1. None of
    what others may divide in another way: nothing can be said of what they see."""
    if part.is_ambiguous or part.section.has_stray_lines:
        return
    dotted = f"{path}." if path else ""
    if not part.children:
        yield part, f"{dotted}1", authors
    for number in range(len(part.children), 0, -1):
        yield part.children[number - 1], f"{dotted}{number}", authors


def _is_plain_text(part: Part) -> bool:
    return part.maintype == b"text" and part.subtype == b"plain" and not part.is_ambiguous


def _content(part: Part) -> bytes:
    return mime.content(part, octets_max=max(part.size_octets, 1))


def _peeled_block(block: inline.Block, part: Part, asked: Openers) -> Peeled:
    charset = part.parameters.raw(b"charset") or b"utf-8"
    if not block.sealed:
        signatures = asked.verify(Scheme.OPENPGP, block.text, block.signature)
        layer = Layer(scheme=Scheme.OPENPGP, signatures=signatures)
        return Peeled(layers=(layer,), entity=_text_entity(block.text, charset))
    unsealed = asked.unseal(Scheme.OPENPGP, block.sealed)
    encryption: Encryption | None = unsealed.encryption
    if unsealed.encryption.is_opened and not unsealed.encryption.algorithm:
        encryption = None
    layer = Layer(scheme=Scheme.OPENPGP, encryption=encryption, signatures=unsealed.signatures)
    if not unsealed.encryption.is_opened:
        reason = unsealed.encryption.reason or "it cannot be opened"
        return Peeled(layers=(layer,), entity=b"", reason=reason)
    is_utf_8 = charset.lower() == b"us-ascii" and not unsealed.entity.isascii()
    charset = b"utf-8" if is_utf_8 else charset
    return Peeled(layers=(layer,), entity=_text_entity(unsealed.entity, charset))


def _text_entity(text: bytes, charset: bytes) -> bytes:
    charset = charset if _TOKEN.fullmatch(charset) else b"utf-8"
    return b"Content-Type: text/plain; charset=%b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%b" % (
        charset,
        text,
    )
