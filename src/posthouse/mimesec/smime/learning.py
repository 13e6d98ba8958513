"""Certificates learnt from signed mail (RFC 8551 §2.5.3, RFC 8550 §2.3): whoever signs with a
trusted certificate can be answered encrypted, without looking anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.smime import addresses
from posthouse.mimesec.smime.capabilities import Capabilities
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.chain import Trust, check_path
from posthouse.mimesec.smime.checking import Checked


class Learnt(msgspec.Struct, frozen=True, kw_only=True):
    address: str
    certificate: Certificate
    """To encrypt to."""
    chain: tuple[Certificate, ...]
    """Issuers that came with it."""
    capabilities: Capabilities | None
    said_at: datetime | None
    """When they signed it; what was said later counts (RFC 8551 §2.7.1)."""


def learn(checked: Iterable[Checked], trust: Trust, *, at: datetime) -> tuple[Learnt, ...]:
    """What VALID signatures teach about their signers. A certificate to encrypt to is taken only
    when it is trusted itself and names the same address as the signer's."""
    found: list[Learnt] = []
    for one in checked:
        if one.signature.result is not SignatureResult.VALID or one.certificate is None:
            continue
        for address in one.signature.addresses:
            certificate = _for_encryption(one, trust, address, at)
            if certificate is not None:
                found.append(
                    Learnt(
                        address=address,
                        certificate=certificate,
                        chain=tuple(each for each in one.offered if each != certificate),
                        capabilities=one.capabilities,
                        said_at=one.signature.made_at,
                    )
                )
    return tuple(found)


def _for_encryption(
    checked: Checked, trust: Trust, address: str, at: datetime
) -> Certificate | None:
    """The one that the signer prefers, else the signer's own, else another that came with it."""
    candidates = [checked.preference, checked.certificate, *checked.offered]
    for one in dict.fromkeys(each for each in candidates if each is not None):
        is_fitting = (
            addresses.names_all(one.addresses, (address,))
            and not one.why_not_encryption()
            and one.is_valid_at(at)
        )
        if is_fitting:
            path = check_path(one, trust, offered=checked.offered, at=at)
            if path.result is SignatureResult.VALID:
                return one
    return None
