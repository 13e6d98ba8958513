"""`SmimeOpener`: verifies and opens what others protected (RFC 8551 §3, RFC 8550)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from posthouse.mimesec import given
from posthouse.mimesec.findings import Encryption, Scheme, Signature
from posthouse.mimesec.ports import Unsealed
from posthouse.mimesec.smime import checking, ciphers, opening, structures, wrapping
from posthouse.mimesec.smime.algorithms import UnsupportedForm
from posthouse.mimesec.smime.chain import Trust
from posthouse.mimesec.smime.checking import Checked
from posthouse.mimesec.smime.der import BadStructure
from posthouse.mimesec.smime.identity import Identity
from posthouse.mimesec.smime.opening import CannotOpen
from posthouse.mimesec.smime.signed import content_info
from posthouse.mimesec.smime.structures import Compressed, Sealed, SignedData


class SmimeOpener:
    def __init__(
        self,
        *,
        identities: Sequence[Identity] = (),
        trust: Trust | None = None,
        expected_addresses: Sequence[str] = (),
        unpacked_octets_max: int = opening.UNPACKED_OCTETS_MAX,
    ) -> None:
        """
        Args:
            identities: private keys of ours, old ones too, for mail of their time.
            trust: None trusts nobody, so that no signature is VALID.
            expected_addresses: those of the message's From. A signature is VALID only when its
                certificate names each of them, so without any none is.
            unpacked_octets_max: of what is packed; where it is more it stays closed.

        Raises:
            ProtectionError: something of another kind was given.
        """
        self.identities = given.all_of(identities, Identity, "identities")
        if trust is not None:
            given.check_kind(trust, Trust, "trust")
        self.trust = trust or Trust()
        self.expected_addresses = tuple(expected_addresses)
        self._unpacked_octets_max = unpacked_octets_max

    def verify(self, signed: bytes, signature: bytes, *, at: datetime) -> tuple[Signature, ...]:
        return tuple(one.signature for one in self.check(signed, signature, at=at))

    def check(self, signed: bytes, signature: bytes, *, at: datetime) -> tuple[Checked, ...]:
        """As `verify`, with what `learning` makes use of."""
        return checking.check(
            signature,
            signed,
            trust=self.trust,
            expected_addresses=self.expected_addresses,
            at=at,
        )

    def unseal(self, sealed: bytes, *, at: datetime) -> Unsealed:
        """Open an application/pkcs7-mime.

        What is only signed (opaque) or packed is no encryption: then `encryption.algorithm` is ""
        and `is_authenticated` False, however `signatures` turned out.
        """
        try:
            found = structures.read(sealed)
        except BadStructure as error:
            return _closed(f"it cannot be read: {error}")
        if isinstance(found, SignedData):
            return self._opaque(found, at)
        if isinstance(found, Compressed):
            return _unpacked(found, self._unpacked_octets_max)
        return self._decrypted(found)

    def _opaque(self, found: SignedData, at: datetime) -> Unsealed:
        checked = checking.check_structure(
            found, None, trust=self.trust, expected_addresses=self.expected_addresses, at=at
        )
        signatures = tuple(one.signature for one in checked)
        if found.content is None:
            encryption = _layer(reason="it holds no message, only certificates or a signature")
            return Unsealed(encryption=encryption, signatures=signatures)
        if found.content_type != structures.DATA:
            encryption = _layer(reason="what is signed is no message")
            return Unsealed(encryption=encryption, signatures=signatures)
        encryption = _layer(is_opened=True)
        return Unsealed(encryption=encryption, entity=found.content, signatures=signatures)

    def _decrypted(self, found: Sealed) -> Unsealed:
        algorithm = ""
        recipients = opening.recipients_named(found)
        try:
            cipher = ciphers.cipher_of(found)
            algorithm = cipher.label
            if why := opening.why_no_recipient(found):
                raise CannotOpen(why)
            entity = _entity(
                found.content_type, opening.open_sealed(found, cipher, self.identities)
            )
        except (CannotOpen, UnsupportedForm, BadStructure) as error:
            encryption = Encryption(
                scheme=Scheme.SMIME,
                is_opened=False,
                reason=str(error),
                algorithm=algorithm,
                recipients=recipients,
            )
            return Unsealed(encryption=encryption)
        encryption = Encryption(
            scheme=Scheme.SMIME,
            is_opened=True,
            is_authenticated=cipher.is_authenticated,
            algorithm=algorithm,
            recipients=recipients,
        )
        return Unsealed(encryption=encryption, entity=entity)


def _entity(content_type: str, content: bytes) -> bytes:
    """What is inside as a MIME entity; some put SignedData there without one around it."""
    if content_type == structures.DATA:
        return content
    if content_type == structures.SIGNED_DATA:
        return wrapping.pkcs7_mime(content_info(content_type, content), "signed-data")
    raise UnsupportedForm("what is encrypted is no message")


def _unpacked(found: Compressed, octets_max: int) -> Unsealed:
    try:
        entity = _entity(found.content_type, opening.unpacked(found, octets_max=octets_max))
    except (CannotOpen, UnsupportedForm) as error:
        return _closed(str(error))
    return Unsealed(encryption=_layer(is_opened=True), entity=entity)


def _layer(*, is_opened: bool = False, reason: str = "") -> Encryption:
    return Encryption(scheme=Scheme.SMIME, is_opened=is_opened, reason=reason)


def _closed(reason: str) -> Unsealed:
    return Unsealed(encryption=_layer(reason=reason))
