"""`PgpSealer`: encrypts entities to certificates, signed inside where there is a signer (RFC 3156
§4, §6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import sequoia, wrapping
from posthouse.mimesec.pgp.keys import PublicKey
from posthouse.mimesec.pgp.recipient import PgpRecipient
from posthouse.mimesec.pgp.signer import PgpSigner
from posthouse.mimesec.pgp.structure import RECIPIENTS_MAX
from posthouse.mimesec.ports import ProtectionError, Recipient, Signer


class PgpSealer:
    @property
    def scheme(self) -> Scheme:
        return Scheme.OPENPGP

    def seal(
        self, entity: bytes, recipients: Sequence[Recipient], *, at: datetime, signer: Signer | None
    ) -> bytes:
        """A multipart/encrypted."""
        if not recipients:
            raise ProtectionError(
                "there is nobody to encrypt to", hint="name at least one recipient"
            )
        if len(recipients) > RECIPIENTS_MAX:
            raise ProtectionError(
                f"more than {RECIPIENTS_MAX} recipients of one message",
                hint="send it in several parts of the recipients",
            )
        checked = [_checked(one, at) for one in recipients]
        own = _own(signer, at)
        try:
            certs = [one.cert_at(at) for one in checked]
            message = sequoia.encrypt(entity, certs, None if own is None else own.private.tsk)
        except sequoia.Failed:
            raise ProtectionError("the message could not be encrypted by OpenPGP") from None
        return wrapping.multipart_encrypted(message)


def _checked(recipient: Recipient, at: datetime) -> PublicKey:
    if not isinstance(recipient, PgpRecipient):
        raise ProtectionError(
            f"the key of {', '.join(recipient.addresses) or 'a recipient'} is not an OpenPGP key",
            hint="encrypt to each recipient by one scheme",
        )
    if why := recipient.why_unusable(at):
        whose = ", ".join(recipient.addresses) or recipient.key
        raise ProtectionError(
            f"nothing can be encrypted to {whose}: {why}", hint=f"get a newer key of {whose}"
        )
    return recipient.public


def _own(signer: Signer | None, at: datetime) -> PgpSigner | None:
    if signer is None:
        return None
    if not isinstance(signer, PgpSigner):
        raise ProtectionError("a message encrypted by OpenPGP is signed by OpenPGP")
    signer.check(at)
    return signer
