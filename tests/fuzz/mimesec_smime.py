"""Targets of S/MIME: CMS structures, certificates with CRLs and OCSP responses, PKCS #12 files.

The people in it are made anew in each run of the tests, as keys are; what is mutated is not.
"""

from __future__ import annotations

from collections.abc import Hashable

from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.chain import Trust, check_path
from posthouse.mimesec.smime.der import BadStructure
from posthouse.mimesec.smime.identity import from_pkcs12
from posthouse.mimesec.smime.make import KeyKind
from posthouse.mimesec.smime.revocation import Crl, OcspResponse
from tests.fuzz.target import Target
from tests.mimesec.smime.people import AT, ENTITY, authority, identity, trust
from tests.mimesec.smime.test_hostile import OPENER, SAMPLES
from tests.mimesec.smime.test_identity import PASSWORD, PFX_SAMPLE
from tests.mimesec.smime.test_revocation import CRL_SAMPLE, OCSP_SAMPLE


def cms(octets: bytes) -> Hashable:
    """As a detached signature and as an application/pkcs7-mime."""
    found = OPENER.verify(ENTITY, octets, at=AT)
    assert found
    for one in found:
        assert (one.result is SignatureResult.VALID) is (one.reason == "")
        assert one.reason.isprintable()
    unsealed = OPENER.unseal(octets, at=AT)
    layer = unsealed.encryption
    assert layer.is_opened or (unsealed.entity == b"" and layer.reason.isprintable())
    assert all(name.isprintable() for name in layer.recipients)
    return (
        tuple((one.result, one.reason[:24], one.algorithm) for one in found[:3]),
        (layer.is_opened, layer.is_authenticated, layer.algorithm, layer.reason[:24]),
    )


def certificate(octets: bytes) -> Hashable:
    """Its words for people, and its way to a root that did not issue it."""
    try:
        found = Certificate(octets)
    except BadStructure as error:
        return str(error)
    assert found.name.isprintable() and found.label.isprintable()
    path = check_path(found, trust(), offered=[authority().certificate, found], at=AT)
    assert path.reason.isprintable()
    return (
        path.result,
        path.reason[:16],
        len(found.addresses),
        found.why_not_signing()[:16],
        found.why_not_encryption()[:16],
        len(found.key_identifier),
        found.key_algorithm,
    )


def revocation(octets: bytes) -> Hashable:
    """What they say of somebody else is never that she was revoked."""
    seen: list[Hashable] = []
    for kind in (Crl, OcspResponse):
        try:
            found = kind(octets)
        except BadStructure as error:
            seen.append(str(error))
            continue
        believed = Trust(roots=[authority().certificate], revocations=[found])
        other = identity("eve@example.org").certificate
        assert check_path(other, believed, at=AT).result is SignatureResult.VALID
        seen.append(check_path(identity().certificate, believed, at=AT).result)
    return tuple(seen)


def pkcs12(octets: bytes) -> Hashable:
    try:
        found = from_pkcs12(octets, PASSWORD)
    except ProtectionError as error:
        assert PASSWORD.reveal() not in f"{error.text} {error.hint}" and error.hint
        return error.text
    return tuple((one.can_sign, one.can_decrypt, len(one.chain)) for one in found)


TARGETS = (
    Target("cms", cms, tuple(SAMPLES.values())),
    Target(
        "certificate",
        certificate,
        (
            authority().certificate.octets,
            identity().certificate.octets,
            identity(kind=KeyKind.RSA2048).certificate.octets,
            identity(kind=KeyKind.X25519).certificate.octets,
        ),
    ),
    Target("revocation", revocation, (CRL_SAMPLE, OCSP_SAMPLE)),
    Target("pkcs12", pkcs12, (PFX_SAMPLE,)),
)
