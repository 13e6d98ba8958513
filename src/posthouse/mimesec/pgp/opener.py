"""`PgpOpener`: verifies and opens what others protected by OpenPGP (RFC 3156, RFC 9580)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from posthouse.mimesec.findings import Encryption, Scheme, Signature, SignatureResult
from posthouse.mimesec.pgp import armour, sequoia, structure
from posthouse.mimesec.pgp.armour import BadArmour, Kind
from posthouse.mimesec.pgp.keys import PrivateKey, PublicKey
from posthouse.mimesec.pgp.packets import BadPackets
from posthouse.mimesec.pgp.structure import ANONYMOUS, WEAK_HASHES, SignaturePacket
from posthouse.mimesec.ports import ProtectionError, Unsealed

if TYPE_CHECKING:
    from pysequoia import Cert

TRIES_MAX: Final = 5
"""Private keys that are tried on a message."""
CLOCK_SKEW: Final = timedelta(minutes=10)
"""How far in the future a signature may have been made."""
_OF_DOCUMENTS: Final = frozenset({0, 1})


class PgpOpener:
    def __init__(
        self,
        *,
        own: Sequence[PrivateKey] = (),
        known: Sequence[PublicKey] = (),
        trusted: Collection[str] = (),
    ) -> None:
        """
        Args:
            own: private keys of ours, old ones too, for mail of their time; their certificates are
                trusted.
            known: certificates of others.
            trusted: fingerprints of those that somebody vouches for.
        """
        self._own = tuple(own)
        self._known = {one.fingerprint: one for one in (*known, *(each.public for each in own))}
        self._trusted = frozenset(trusted) | {one.public.fingerprint for one in own}

    def __repr__(self) -> str:
        return f"PgpOpener({len(self._own)} of our own, {len(self._known)} in all)"

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
        try:
            octets = armour.one(sealed, Kind.MESSAGE)
            message = structure.sealed_message(octets)
        except (BadArmour, BadPackets) as error:
            return _closed(str(error))
        found = self._decrypted(octets, message.recipients)
        if isinstance(found, str):
            return _closed(found, message)
        encryption = Encryption(
            scheme=Scheme.OPENPGP,
            is_opened=True,
            is_authenticated=True,
            algorithm=message.algorithm,
            recipients=_named(message.recipients),
        )
        signatures = tuple(self._inner(found, at))
        return Unsealed(encryption=encryption, entity=found.content, signatures=signatures)

    # --- verifying ---

    def _verified(self, signed: bytes, packet: SignaturePacket, at: datetime) -> Signature:
        if packet.kind not in _OF_DOCUMENTS:
            return _of(packet, SignatureResult.INVALID, "it is no signature of a text")
        if packet.hash_name in WEAK_HASHES:
            reason = f"it is by {packet.hash_name}, which can be forged"
            return _of(packet, SignatureResult.UNSUPPORTED, reason)
        signer = self._key_of(packet.issuers)
        if signer is None:
            named = packet.issuers[0] if packet.issuers else "nobody"
            return _of(packet, SignatureResult.NO_KEY, f"the key {named} is not at hand")
        if packet.made_at is None:
            return _of(packet, SignatureResult.INVALID, "it does not say when it was made", signer)
        if packet.made_at > at + CLOCK_SKEW:
            return _of(packet, SignatureResult.INVALID, "it was made in the future", signer)
        if packet.expires_at is not None and packet.expires_at <= at:
            return _of(packet, SignatureResult.EXPIRED, "the signature itself has ended", signer)
        result, reason = self._state(signer, packet.made_at)
        if result in (SignatureResult.REVOKED, SignatureResult.EXPIRED):
            return _of(packet, result, reason, signer)
        if not sequoia.is_good(signed, packet.octets, signer.cert):
            reason = "the text was changed, or another key made it"
            return _of(packet, SignatureResult.INVALID, reason, signer)
        return _of(packet, result, reason, signer)

    def _inner(self, found: sequoia.Decrypted, at: datetime) -> Iterator[Signature]:
        """Of the signatures inside an encryption nothing is seen but who made them, and whether
        that is proven."""
        good = frozenset(found.signed_by)
        told: set[str] = set()
        for issuer in found.issuers[: structure.SIGNATURES_MAX]:
            signer = self._key_of((issuer,))
            if signer is None:
                yield _signature(SignatureResult.NO_KEY, f"the key {issuer} is not at hand")
            elif signer.fingerprint not in told:
                told.add(signer.fingerprint)
                result, reason = self._state(signer, at)
                if signer.fingerprint in good and result is SignatureResult.EXPIRED:
                    # The library holds a signature to the time it was made at.
                    result, reason = self._trust(signer)
                elif signer.fingerprint not in good and result is not SignatureResult.REVOKED:
                    result = SignatureResult.INVALID
                    reason = "the text was changed, or its key was not in force"
                yield Signature(
                    scheme=Scheme.OPENPGP,
                    result=result,
                    reason=reason,
                    addresses=signer.addresses,
                    key=signer.fingerprint,
                    algorithm=signer.algorithm,
                )

    def _state(self, signer: PublicKey, at: datetime) -> tuple[SignatureResult, str]:
        """What a good signature of that time is worth."""
        if signer.is_revoked:
            return SignatureResult.REVOKED, "its key was revoked"
        if signer.expires_at is not None and signer.expires_at <= at:
            return SignatureResult.EXPIRED, f"its key ended on {signer.expires_at:%Y-%m-%d}"
        if signer.created_at > at:
            return SignatureResult.EXPIRED, "its key was made later"
        return self._trust(signer)

    def _trust(self, signer: PublicKey) -> tuple[SignatureResult, str]:
        if signer.fingerprint in self._trusted:
            return SignatureResult.VALID, ""
        return SignatureResult.UNTRUSTED, "nobody vouches for its key"

    def _key_of(self, issuers: Sequence[str]) -> PublicKey | None:
        for named in issuers:
            for one in self._known.values():
                if named == one.fingerprint or any(_fits(named, each) for each in one.key_ids):
                    return one
        return None

    # --- decrypting ---

    def _decrypted(self, octets: bytes, recipients: Sequence[str]) -> sequoia.Decrypted | str:
        """The content, or why there is none."""
        hidden = ANONYMOUS in recipients
        fitting = [
            one
            for one in self._own
            if hidden
            or any(_fits(named, each) for named in recipients for each in one.public.key_ids)
        ]
        if not fitting:
            return "it is for other keys: none of its recipients is here"
        for key in fitting[:TRIES_MAX]:
            try:
                return sequoia.decrypt(octets, key.tsk, self._certs)
            except sequoia.Failed:
                continue
            except ProtectionError as error:
                return error.text
        if hidden:
            return "none of the keys here opens it"
        return "it cannot be decrypted: it was changed, or is damaged"

    def _certs(self, issuers: Sequence[str]) -> list[Cert]:
        found = [self._key_of((one,)) for one in issuers]
        return [one.cert for one in dict.fromkeys(found) if one is not None]


def _fits(named: str, key_id: str) -> bool:
    """Whether a key id or fingerprint is that of a key."""
    if len(named) == 64:  # of version 6, whose key id is its beginning
        return named.startswith(key_id)
    return named.endswith(key_id)


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
        algorithm=f"{packet.algorithm} with {packet.hash_name}",
        made_at=packet.made_at,
    )


def _closed(reason: str, message: structure.SealedMessage | None = None) -> Unsealed:
    encryption = Encryption(
        scheme=Scheme.OPENPGP,
        is_opened=False,
        reason=reason,
        algorithm=message.algorithm if message is not None else "",
        recipients=_named(message.recipients) if message is not None else (),
    )
    return Unsealed(encryption=encryption)
