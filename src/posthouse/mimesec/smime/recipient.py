"""`SmimeRecipient`: somebody's certificate to encrypt to."""

from __future__ import annotations

from datetime import datetime

from posthouse.mimesec.findings import Scheme, SignatureResult
from posthouse.mimesec.smime.capabilities import Capabilities
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
    ) -> None:
        """
        Args:
            capabilities: what they said that they read, where it is known.
            trust: when given, a certificate that nobody vouches for, or that is revoked, is not
                usable (RFC 8550 §4.2). Without it the caller has decided already.
            offered: certificates that help to find the way to a root.
        """
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
        return self.certificate.addresses

    @property
    def key(self) -> str:
        return self.certificate.fingerprint

    def why_unusable(self, at: datetime) -> str:
        why = self.certificate.why_not_valid(at) or self.certificate.why_not_encryption()
        if why:
            return f"the certificate {why}"
        if self._trust is not None:
            found = check_path(self.certificate, self._trust, offered=self._offered, at=at)
            if found.result is not SignatureResult.VALID:
                return found.reason
        return ""
