"""`SmimeSealer`: encrypts entities to certificates (RFC 8551 §3.3, §3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from posthouse.mimesec import given
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.ports import ProtectionError, Recipient, Signer
from posthouse.mimesec.smime import capabilities, enveloped, wrapping
from posthouse.mimesec.smime.algorithms import UnsupportedForm
from posthouse.mimesec.smime.capabilities import CHOICE, Cipher
from posthouse.mimesec.smime.certificates import printable
from posthouse.mimesec.smime.enveloped import KeyTransport
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.structures import RECIPIENTS_MAX


class SmimeSealer:
    def __init__(
        self,
        *,
        cipher: Cipher | None = None,
        key_transport: KeyTransport = KeyTransport.AS_READER,
        has_key_ids: bool = False,
        is_hkdf: bool = False,
    ) -> None:
        """
        Args:
            cipher: None takes the best that all recipients are known to read, and AES-256-CBC for
                those of whom nothing is known, as Thunderbird reads no other. Changes on its way
                are noticed by AES_256_GCM alone, or by a signature inside.
            key_transport: to RSA certificates.
            has_key_ids: name recipients by key id in place of issuer and serial number.
            is_hkdf: derive keys for X25519 by HKDF (RFC 8418 §2.2).

        Raises:
            ProtectionError: the cipher is none, or is read, but not written.
        """
        if cipher is not None:
            given.check_choice(cipher, CHOICE, "the cipher of a SmimeSealer")
        given.check_choice(key_transport, KeyTransport, "the key_transport of a SmimeSealer")
        if cipher is not None and cipher not in CHOICE:
            raise ProtectionError(
                f"{cipher.label} is read, but not written",
                hint="take one of " + ", ".join(one.label for one in CHOICE),
            )
        self._cipher = cipher
        self._key_transport = key_transport
        self._has_key_ids = has_key_ids
        self._is_hkdf = is_hkdf

    def seal(
        self, entity: bytes, recipients: Sequence[Recipient], *, at: datetime, signer: Signer | None
    ) -> bytes:
        """An application/pkcs7-mime. The signature goes inside, so only readers learn of it."""
        found = [self._checked(one, at) for one in recipients]
        if not found:
            raise ProtectionError(
                "there is nobody to encrypt to", hint="name at least one recipient"
            )
        if len(found) > RECIPIENTS_MAX:
            raise ProtectionError(
                f"more than {RECIPIENTS_MAX} certificates to encrypt to",
                hint="send the message in several parts of the recipients",
            )
        if signer is not None:
            entity = signer.sign(entity, at=at)
        cipher = self._cipher or capabilities.best_for_all([one.capabilities for one in found])
        unique = {one.key: one for one in found}
        try:
            structure = enveloped.make(
                entity,
                [(one.certificate, self._transport(one)) for one in unique.values()],
                cipher,
                has_key_ids=self._has_key_ids,
                is_hkdf=self._is_hkdf,
            )
        except (UnsupportedForm, ValueError) as refused:
            raise ProtectionError(
                f"the message cannot be encrypted: {refused}",
                hint="ask the recipients for certificates with RSA or EC keys",
            ) from None
        kind = "authEnveloped-data" if cipher.is_authenticated else "enveloped-data"
        return wrapping.pkcs7_mime(structure, kind)

    def _checked(self, recipient: Recipient, at: datetime) -> SmimeRecipient:
        name = printable(", ".join(recipient.addresses) or recipient.key[:16])
        if not isinstance(recipient, SmimeRecipient):
            raise ProtectionError(
                f"the key of {name} is one of {recipient.scheme.value}, not of "
                f"{Scheme.SMIME.value}",
                hint=f"give the S/MIME certificate of {name}",
            )
        if why := recipient.why_unusable(at):
            raise ProtectionError(
                f"nothing can be encrypted to {name}: {why}",
                hint=f"ask {name} for a new certificate, or send without encryption",
            )
        return recipient

    def _transport(self, recipient: SmimeRecipient) -> KeyTransport:
        if self._key_transport is not KeyTransport.AS_READER:
            return self._key_transport
        known = recipient.capabilities
        return KeyTransport.OAEP if known and known.has_oaep else KeyTransport.PKCS1
