"""`PgpOpener`: verifies and opens what others protected by OpenPGP (RFC 3156, RFC 9580)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.mimesec import given
from posthouse.mimesec.findings import Encryption, Scheme, Signature, SignatureResult
from posthouse.mimesec.pgp import armour, content, sequoia, structure
from posthouse.mimesec.pgp.armour import BadArmour, Kind
from posthouse.mimesec.pgp.keys import CLOCK_SKEW, PrivateKey, PublicKey
from posthouse.mimesec.pgp.packets import BadPackets, Tag
from posthouse.mimesec.pgp.parts import part_named, short_id
from posthouse.mimesec.pgp.session import NotForUs, Subkey, session_key
from posthouse.mimesec.pgp.structure import (
    ANONYMOUS,
    STRONG_HASHES,
    WEAK_HASHES,
    SealedMessage,
    SignaturePacket,
)
from posthouse.mimesec.ports import ProtectionError, Unsealed
from posthouse.mimesec.trust import Pin, pinned_addresses

if TYPE_CHECKING:
    from pysequoia import Cert

TRIES_MAX: Final = 20
"""Private keys that are tried on a message."""
CANDIDATES_MAX: Final = 4
"""Certificates that are tried on a signature."""
_GOOD: Final = frozenset({SignatureResult.VALID, SignatureResult.UNTRUSTED})
_OF_DOCUMENTS: Final = frozenset({0, 1})


class PgpOpener:
    def __init__(
        self,
        *,
        own: Sequence[PrivateKey] = (),
        known: Sequence[PublicKey] = (),
        trusted: Collection[str | Pin] = (),
        revoked: Collection[str] = (),
        unpacked_octets_max: int = content.CONTENT_MAX,
    ) -> None:
        """
        Args:
            own: private keys of ours, old ones too, for mail of their time. They decrypt; what they
                have signed is verified by `known` and `trusted` as anybody's.
            known: certificates that signatures are verified by.
            trusted: fingerprints of those that somebody vouches for: for all addresses that the key
                names, or as a `Pin` for one of them.
            revoked: fingerprints of those that are used no more, whatever they say themselves.
            unpacked_octets_max: of what is only packed or signed; where it is more it stays closed.

        Raises:
            ProtectionError: something of another kind was given.
        """
        self._own = given.all_of(own, PrivateKey, "own")
        self._known = {one.fingerprint: one for one in given.all_of(known, PublicKey, "known")}
        self._pins = given.pins(trusted, "trusted")
        self._trusted = frozenset(pin.fingerprint for pin in self._pins)
        self._unpacked_octets_max = unpacked_octets_max
        self._revoked = frozenset(pin.fingerprint for pin in given.pins(revoked, "revoked"))

    def __repr__(self) -> str:
        return f"PgpOpener({len(self._own)} of our own, {len(self._known)} known)"

    @property
    def scheme(self) -> Scheme:
        return Scheme.OPENPGP

    def verify(self, signed: bytes, signature: bytes, *, at: datetime) -> tuple[Signature, ...]:
        try:
            packets = structure.signature_packets(armour.one(signature, Kind.SIGNATURE))
        except (BadArmour, BadPackets) as error:
            return (_signature(SignatureResult.INVALID, f"it cannot be read: {error}"),)
        try:
            return tuple(self._verified(signed, packet, at) for packet in packets)
        except ProtectionError as error:  # the library is not there
            return (_signature(SignatureResult.UNSUPPORTED, error.text),)

    def unseal(self, sealed: bytes, *, at: datetime) -> Unsealed:
        """Open a message. One that is only signed or packed (RFC 9580 §10.3) is no encryption: then
        `encryption.algorithm` is "" and `is_authenticated` False, however `signatures` turned out.
        """
        try:
            octets = armour.one(sealed, Kind.MESSAGE)
            if structure.is_in_the_open(octets):
                return self._in_the_open(octets, at)
            message = structure.sealed_message(octets)
        except (BadArmour, BadPackets) as error:
            return _closed(str(error))
        try:
            return self._opened(octets, message, at)
        except (BadPackets, ProtectionError) as error:
            return _closed(str(error), message)

    # --- verifying ---

    def _verified(self, signed: bytes, packet: SignaturePacket, at: datetime) -> Signature:
        if packet.why_unread:
            return _of(packet, SignatureResult.UNSUPPORTED, packet.why_unread)
        if packet.kind not in _OF_DOCUMENTS:
            return _of(packet, SignatureResult.INVALID, "it is no signature of a text")
        if packet.hash_name in WEAK_HASHES:
            reason = f"it is by {packet.hash_name}, which can be forged"
            return _of(packet, SignatureResult.UNSUPPORTED, reason)
        if packet.hash_name not in STRONG_HASHES:
            reason = f"it is by {packet.hash_name}, which is not known here"
            return _of(packet, SignatureResult.UNSUPPORTED, reason)
        # A key id says little: anybody can put the key of another into a certificate of theirs.
        found = [
            self._checked(signed, packet, signer, at)
            for signer in islice(self._keys_of(packet.issuers), CANDIDATES_MAX)
        ]
        if not found:
            named = packet.issuers[0] if packet.issuers else "nobody"
            return _of(packet, SignatureResult.NO_KEY, f"the key {named} is not at hand")
        good = (one for one in found if one.result in _GOOD)
        return next(good, found[0])

    def _checked(
        self, signed: bytes, packet: SignaturePacket, signer: PublicKey, at: datetime
    ) -> Signature:
        if packet.made_at is None:
            return _of(packet, SignatureResult.INVALID, "it does not say when it was made", signer)
        if packet.made_at > at + CLOCK_SKEW:
            return _of(packet, SignatureResult.INVALID, "it was made in the future", signer)
        if packet.expires_at is not None and packet.expires_at <= at:
            return _of(packet, SignatureResult.EXPIRED, "the signature itself has ended", signer)
        result, reason = self._state(signer, packet.made_at)
        if result in _GOOD and not sequoia.is_good(signed, packet.octets, signer.cert):
            result, reason = _why_not_good(packet, signer)
        return self._for(signer, _of(packet, result, reason, signer))

    def _for(self, signer: PublicKey, signature: Signature) -> Signature:
        """A VALID one names the addresses that somebody vouches for, and no other of its key: what
        compares it with From goes by them."""
        if signature.result is not SignatureResult.VALID:
            return signature
        believed = pinned_addresses(self._pins, signer.fingerprint, signer.addresses) or ()
        return msgspec.structs.replace(signature, addresses=believed)

    def _state(self, signer: PublicKey, made_at: datetime) -> tuple[SignatureResult, str]:
        """What a good signature of that time is worth.

        A key that ended since keeps what it signed: letters do not turn false by their age, and who
        could make them look older has the key anyway. A revoked one keeps nothing, whatever the
        reason it names, since the reason is in the hands of whoever has the key.
        """
        if signer.is_revoked or signer.fingerprint in self._revoked:
            return SignatureResult.REVOKED, "its key was revoked"
        if signer.expires_at is not None and signer.expires_at <= made_at:
            return SignatureResult.EXPIRED, f"its key ended on {signer.expires_at:%Y-%m-%d}"
        if signer.created_at > made_at + CLOCK_SKEW:
            return SignatureResult.EXPIRED, "its key was made later"
        if signer.fingerprint in self._trusted:
            return SignatureResult.VALID, ""
        return SignatureResult.UNTRUSTED, "nobody vouches for its key"

    def _keys_of(self, issuers: Sequence[str]) -> Iterator[PublicKey]:
        """Those that may be meant, each once: trusted ones first, then those that are named."""
        fitting = [
            one for one in self._known.values() if any(_is_named(issuer, one) for issuer in issuers)
        ]
        yield from sorted(
            fitting,
            key=lambda one: (one.fingerprint not in self._trusted, one.fingerprint not in issuers),
        )

    def _key_of(self, issuer: str) -> PublicKey | None:
        return next(self._keys_of((issuer,)), None)

    def _in_the_open(self, octets: bytes, at: datetime) -> Unsealed:
        """Raises BadPackets."""
        found = content.content(octets, octets_max=self._unpacked_octets_max)
        return Unsealed(
            encryption=Encryption(scheme=Scheme.OPENPGP, is_opened=True),
            entity=found.octets,
            signatures=self._all_verified(found, at, reader=""),
        )

    def _all_verified(
        self, found: content.Content, at: datetime, *, reader: str | None
    ) -> tuple[Signature, ...]:
        """
        Args:
            reader: the fingerprint of the key that it was encrypted to; "" where it was to none,
                None where a message does not name it, as one to a hidden recipient.
        """
        return tuple(
            _meant(self._verified(found.octets, one, at), one, reader) for one in found.signatures
        )

    # --- decrypting ---

    def _opened(self, octets: bytes, message: SealedMessage, at: datetime) -> Unsealed:
        """Raises BadPackets, ProtectionError: it stays closed."""
        is_known_here = True
        for session, subkey, reader in islice(self._fitting(message), TRIES_MAX):
            try:
                key = session_key(session, subkey)
                packets = content.decrypted(message.container, key)
            except NotForUs:
                is_known_here = False
                continue
            found = content.content(packets)
            signatures = self._all_verified(found, at, reader=reader)
            return _unsealed(message, found.octets, signatures, cipher=key.cipher)
        if is_known_here:
            raise BadPackets("it is for other keys: none of its recipients is here")
        return self._opened_by_library(octets, message, at)

    def _fitting(self, message: SealedMessage) -> Iterator[tuple[bytes, Subkey, str | None]]:
        """Session keys with the private keys that may get them out, and whose those are, where the
        message says so."""
        for named, body in zip(message.recipients, message.session_keys, strict=True):
            for own in self._own:
                for subkey in own.subkeys:
                    if named == ANONYMOUS:
                        yield body, subkey, None
                    elif named == subkey.key_id:
                        yield body, subkey, own.public.fingerprint

    def _opened_by_library(self, octets: bytes, message: SealedMessage, at: datetime) -> Unsealed:
        """Of algorithms that are not known here. Of its signatures nothing is told but who is
        named and who is proven."""
        for own in self._own[:TRIES_MAX]:
            try:
                found = sequoia.decrypt(octets, own.tsk, self._certs)
            except sequoia.Failed:
                continue
            return _unsealed(message, found.content, tuple(self._told(found, at)), cipher=None)
        raise BadPackets("none of the keys here opens it, or it was changed on its way")

    def _told(self, found: sequoia.Decrypted, at: datetime) -> Iterator[Signature]:
        good = frozenset(found.signed_by)
        for issuer in found.issuers[: structure.SIGNATURES_MAX]:
            signer = self._key_of(issuer)
            if signer is None:
                yield _signature(SignatureResult.NO_KEY, f"the key {issuer} is not at hand")
                continue
            result, reason = self._state(signer, at)
            if signer.fingerprint not in good and result is not SignatureResult.REVOKED:
                result = SignatureResult.INVALID
                reason = "the text was changed, or its key was not in force"
            signature = Signature(
                scheme=Scheme.OPENPGP,
                result=result,
                reason=reason,
                addresses=signer.addresses,
                key=signer.fingerprint,
                algorithm=signer.algorithm,
            )
            yield self._for(signer, signature)

    def _certs(self, issuers: Sequence[str]) -> list[Cert]:
        found = islice(self._keys_of(issuers), CANDIDATES_MAX * structure.SIGNATURES_MAX)
        return [one.cert for one in found]


def _is_named(issuer: str, key: PublicKey) -> bool:
    """By a fingerprint or key id, of a subkey too."""
    return short_id(issuer) in key.key_ids


def _meant(signature: Signature, packet: SignaturePacket, reader: str | None) -> Signature:
    """Who gets a letter can encrypt it, with its signature, to somebody else, who would believe
    that the author wrote to them (RFC 9580 §5.2.3.36)."""
    is_good = signature.result in _GOOD
    if not is_good or not packet.intended or reader is None or reader in packet.intended:
        return signature
    reason = "its author signed it for other readers, and somebody else has sent it here"
    return msgspec.structs.replace(signature, result=SignatureResult.INVALID, reason=reason)


def _why_not_good(packet: SignaturePacket, signer: PublicKey) -> tuple[SignatureResult, str]:
    """Of a signature that the library does not take. What the certificate says of the subkey is not
    proven here, so it only says what kind of bad it is."""
    assert packet.made_at is not None
    part = part_named(signer.octets, packet.issuers)
    if part is not None and part.is_revoked:
        return SignatureResult.REVOKED, "the part of its key that made it was revoked"
    if part is not None and part.expires_at is not None and part.expires_at <= packet.made_at:
        ended = f"{part.expires_at:%Y-%m-%d}"
        return SignatureResult.EXPIRED, f"the part of its key that made it ended on {ended}"
    if part is not None and part.why_weak:
        return SignatureResult.UNSUPPORTED, part.why_weak
    return SignatureResult.INVALID, "the text was changed, or another key made it"


def _named(recipients: Sequence[str]) -> tuple[str, ...]:
    return tuple(one if one != ANONYMOUS else "somebody not named" for one in recipients)


def _signature(result: SignatureResult, reason: str) -> Signature:
    return Signature(scheme=Scheme.OPENPGP, result=result, reason=reason)


def _of(
    packet: SignaturePacket, result: SignatureResult, reason: str, signer: PublicKey | None = None
) -> Signature:
    return Signature(
        scheme=Scheme.OPENPGP,
        result=result,
        reason=reason,
        addresses=signer.addresses if signer is not None else (),
        key=signer.fingerprint if signer is not None else (packet.issuers or ("",))[0],
        algorithm=f"{packet.algorithm} with {packet.hash_name}" if packet.algorithm else "",
        made_at=packet.made_at,
    )


def _unsealed(
    message: SealedMessage, octets: bytes, signatures: tuple[Signature, ...], *, cipher: int | None
) -> Unsealed:
    algorithm = message.algorithm
    if cipher is not None and message.container.tag == Tag.SEIPD:
        algorithm = f"{structure.CIPHERS[cipher]} with MDC"
    encryption = Encryption(
        scheme=Scheme.OPENPGP,
        is_opened=True,
        is_authenticated=True,
        algorithm=algorithm,
        recipients=_named(message.recipients),
    )
    return Unsealed(encryption=encryption, entity=octets, signatures=signatures)


def _closed(reason: str, message: SealedMessage | None = None) -> Unsealed:
    encryption = Encryption(
        scheme=Scheme.OPENPGP,
        is_opened=False,
        reason=reason,
        algorithm=message.algorithm if message is not None else "",
        recipients=_named(message.recipients) if message is not None else (),
    )
    return Unsealed(encryption=encryption)
