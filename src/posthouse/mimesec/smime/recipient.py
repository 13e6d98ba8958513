"""`SmimeRecipient`: somebody's certificate to encrypt to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from posthouse.mimesec import given
from posthouse.mimesec.findings import Scheme, SignatureResult
from posthouse.mimesec.smime.capabilities import Capabilities, check
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.chain import Trust, check_path


class SmimeRecipient:
    def __init__(
        self,
        certificate: Certificate,
        *,
        capabilities: Capabilities | None = None,
        trust: Trust | None = None,
        offered: tuple[Certificate, ...] = (),
        for_addresses: str | Sequence[str] = (),
    ) -> None:
        """
        Args:
            certificate: as `read_certificates` gives it.
            capabilities: what they said that they read, where it is known.
            trust: when given, a certificate that nobody vouches for, or that is revoked, is not
                usable (RFC 8550 §4.2). Without it the caller has decided already.
            offered: certificates that help to find the way to a root.
            for_addresses: whose it is, too, by the caller's word, though the certificate does not
                name them: somebody under another address, a team that shares one key.

        Raises:
            ProtectionError: what was given is no certificate, or one of the addresses is none.
        """
        given.check_kind(certificate, Certificate, "the certificate of a SmimeRecipient")
        if capabilities is not None:
            check(capabilities, "the capabilities of a SmimeRecipient")
        if trust is not None:
            given.check_kind(trust, Trust, "the trust of a SmimeRecipient")
        offered = given.all_of(offered, Certificate, "offered")
        self._for_addresses = given.addresses(for_addresses, "for_addresses")
        self.certificate = certificate
        self.capabilities = capabilities
        self._trust = trust
        self._offered = offered

    def __repr__(self) -> str:
        return f"SmimeRecipient({self.certificate!r})"

    @property
    def scheme(self) -> Scheme:
        return Scheme.SMIME

    @property
    def addresses(self) -> tuple[str, ...]:
        return (*self.certificate.addresses, *self._for_addresses)

    @property
    def key(self) -> str:
        return self.certificate.fingerprint

    def why_unusable(self, at: datetime) -> str:
        given.check_time(at, "at")
        why = self.certificate.why_not_valid(at) or self.certificate.why_not_encryption()
        if why:
            return f"the certificate {why}"
        if self._trust is not None:
            found = check_path(self.certificate, self._trust, offered=self._offered, at=at)
            if found.result is not SignatureResult.VALID:
                return found.reason
        return ""
