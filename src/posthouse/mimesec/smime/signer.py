"""`SmimeSigner`: signs entities with one identity (RFC 8551 §3.5)."""

from __future__ import annotations

from datetime import datetime

from posthouse.mimesec import given
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.smime import algorithms, capabilities, signed, wrapping
from posthouse.mimesec.smime.algorithms import UnsupportedForm
from posthouse.mimesec.smime.capabilities import OWN, Capabilities
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.identity import Identity


class SmimeSigner:
    """Ready to sign any number of messages: all that stays the same is made once. It may be used by
    several threads."""

    def __init__(
        self,
        identity: Identity,
        *,
        is_pss: bool = False,
        encryption: Certificate | None = None,
        has_chain: bool = True,
        reads: Capabilities = OWN,
    ) -> None:
        """
        Args:
            is_pss: sign by RSA-PSS in place of PKCS #1 v1.5, which every reader knows. A key that
                is for PSS only always does.
            encryption: what answers should be encrypted to, where that is another certificate.
            has_chain: send the issuers along, except for a root.
            reads: what answers may be encrypted by: whoever reads them in a program that knows no
                AES-GCM, as Thunderbird, says COMMON.

        Raises:
            ProtectionError: the key or its certificate is not for signatures, or is no Identity.
        """
        given.check_kind(identity, Identity, "the identity of a SmimeSigner")
        if encryption is not None:
            hint = "give that certificate: identity.certificate"
            given.check_kind(encryption, Certificate, "the encryption of a SmimeSigner", hint=hint)
        capabilities.check(reads, "the reads of a SmimeSigner")
        self.identity = identity
        certificate = identity.certificate
        why = certificate.why_not_signing()
        try:
            is_pss = is_pss or certificate.key_algorithm == algorithms.RSA_PSS
            algorithm = algorithms.signing_algorithm(identity.key, is_pss=is_pss)
        except UnsupportedForm as refused:
            raise ProtectionError(
                f"{refused} ({certificate.name})", hint="sign with an RSA, EC or Ed25519 key"
            ) from None
        why = why or algorithms.why_weak(identity.key.public_key())
        if why:
            raise ProtectionError(
                f"nothing can be signed by the certificate of {certificate.name}: it {why}",
                hint="use a certificate that was issued for signing e-mail",
            )
        sent = [one for one in identity.chain if not one.is_self_issued] if has_chain else []
        self._micalg = algorithm.digest.micalg
        self._maker = signed.maker(
            algorithm, certificate, tuple(sent), encryption=encryption, reads=reads
        )

    @property
    def scheme(self) -> Scheme:
        return Scheme.SMIME

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.identity.addresses

    @property
    def key(self) -> str:
        """As `Signature.key`."""
        return self.identity.certificate.fingerprint

    def sign(self, entity: bytes, *, at: datetime) -> bytes:
        """A multipart/signed, which readers without S/MIME can read, too.

        Raises:
            ProtectionError: the certificate is not valid at that time.
        """
        self._check(at)
        signature = signed.make(self._maker, entity, at=at, is_detached=True)
        return wrapping.multipart_signed(entity, signature, self._micalg)

    def sign_opaque(self, entity: bytes, *, at: datetime) -> bytes:
        """An application/pkcs7-mime with the entity inside: nothing on its way can change it, and
        only readers with S/MIME can read it (RFC 8551 §3.5.2).

        Raises:
            ProtectionError: as `sign`.
        """
        self._check(at)
        structure = signed.make(self._maker, entity, at=at, is_detached=False)
        return wrapping.pkcs7_mime(structure, "signed-data")

    def _check(self, at: datetime) -> None:
        given.check_time(at, "at")
        certificate = self.identity.certificate
        if why := certificate.why_not_valid(at):
            raise ProtectionError(
                f"nothing can be signed: the certificate of {certificate.name} {why}",
                hint="renew the certificate, then import the new one",
            )
