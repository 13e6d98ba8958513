"""CRLs and OCSP responses: only what the right key signed counts."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.smime import der
from posthouse.mimesec.smime.chain import Trust, check_path
from posthouse.mimesec.smime.der import BadStructure
from posthouse.mimesec.smime.identity import Identity
from posthouse.mimesec.smime.make import KeyKind, make_authority, make_identity
from posthouse.mimesec.smime.revocation import Crl, OcspResponse, Revocation
from posthouse.mimesec.smime.signer import SmimeSigner
from tests.mimesec.smime.people import ALICE, AT, BOB, ENTITY, authority, halves, identity, opener
from tests.mimesec.smime.test_chain import MAIL, issued

DAY = timedelta(days=1)


def crl(
    *revoked: Identity,
    issuer: Identity | None = None,
    since: datetime = AT - DAY,
    reason: x509.ReasonFlags | None = None,
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    made: datetime = AT,
) -> bytes:
    by = issuer or authority()
    built = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(by.certificate.subject_name)
        .last_update(made)
        .next_update(made + 7 * DAY)
    )
    for one in revoked:
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(one.certificate.serial)
            .revocation_date(since)
        )
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        built = built.add_revoked_certificate(entry.build())
    for extension, is_critical in extra:
        built = built.add_extension(extension, critical=is_critical)
    return built.sign(by.key, hashes.SHA256()).public_bytes(Encoding.DER)


def response(
    who: Identity,
    *,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.REVOKED,
    signer: Identity | None = None,
    issuer: Identity | None = None,
    digest: hashes.HashAlgorithm | None = None,
) -> bytes:
    by, over = signer or authority(), issuer or authority()
    is_revoked = status is ocsp.OCSPCertStatus.REVOKED
    built = ocsp.OCSPResponseBuilder().add_response(
        cert=x509.load_der_x509_certificate(who.certificate.octets),
        issuer=x509.load_der_x509_certificate(over.certificate.octets),
        algorithm=digest or hashes.SHA1(),
        cert_status=status,
        this_update=AT,
        next_update=AT + DAY,
        revocation_time=AT - DAY if is_revoked else None,
        revocation_reason=x509.ReasonFlags.key_compromise if is_revoked else None,
    )
    own = x509.load_der_x509_certificate(by.certificate.octets)
    built = built.responder_id(ocsp.OCSPResponderEncoding.HASH, own)
    if signer is not None:
        built = built.certificates([own])
    return built.sign(by.key, hashes.SHA256()).public_bytes(Encoding.DER)


def result(who: Identity, *known: Revocation, at: datetime = AT) -> tuple[SignatureResult, str]:
    trust = Trust(roots=[authority().certificate], revocations=known)
    found = check_path(who.certificate, trust, offered=who.chain, at=at)
    return found.result, found.reason


def is_revoked(who: Identity, *known: Revocation, at: datetime = AT) -> bool:
    return result(who, *known, at=at)[0] is SignatureResult.REVOKED


def test_a_crl_revokes_with_its_day_and_reason() -> None:
    who, other = identity(), identity(BOB)
    found = Crl(crl(who, reason=x509.ReasonFlags.key_compromise))
    assert result(who, found) == (
        SignatureResult.REVOKED,
        f"the certificate of {ALICE} was revoked on 2026-03-03 (keyCompromise)",
    )
    assert result(other, found)[0] is SignatureResult.VALID
    assert is_revoked(who, Crl(crl(other)), Crl(crl(who)))
    assert is_revoked(who, Crl(crl(who, made=AT - 400 * DAY)))  # an old list still says so


def test_a_signature_of_a_revoked_certificate_is_revoked() -> None:
    first, second = halves(SmimeSigner(identity()).sign(ENTITY, at=AT))
    trust = Trust(roots=[authority().certificate], revocations=[Crl(crl(identity()))])
    (found,) = opener(trusted=trust).verify(first, second, at=AT)
    assert found.result is SignatureResult.REVOKED and "2026-03-03" in found.reason


def test_a_crl_in_the_message_counts_when_it_is_the_issuers() -> None:
    _, structure = halves(SmimeSigner(identity()).sign(ENTITY, at=AT))
    outer = der.Fields.of(structure)
    kind = outer.take(der.OID).whole
    *head, signers = der.Fields.of(outer.take().content).rest()
    stranger = make_authority("Small Authority", at=AT)
    for octets, expected in (
        (crl(identity()), SignatureResult.REVOKED),
        (crl(identity(), issuer=stranger), SignatureResult.VALID),
        (der.sequence(), SignatureResult.VALID),
    ):
        lists = der.tlv(der.context(1), octets)
        body = der.sequence(*(one.whole for one in head), lists, signers.whole)
        whole = der.sequence(kind, der.tlv(der.context(0), body))
        (found,) = opener().verify(ENTITY, whole, at=AT)
        assert found.result is expected, found.reason


def test_what_is_revoked_later_was_not_before() -> None:
    assert not is_revoked(identity(), Crl(crl(identity(), since=AT + DAY)))
    assert is_revoked(identity(), Crl(crl(identity(), since=AT + DAY)), at=AT + 2 * DAY)


def test_who_is_taken_off_a_list_is_not_on_it() -> None:
    gone = Crl(crl(identity(), reason=x509.ReasonFlags.remove_from_crl))
    assert not is_revoked(identity(), gone)


def test_a_crl_of_somebody_else_says_nothing() -> None:
    impostor = make_authority("Small Authority", at=AT)
    assert not is_revoked(identity(), Crl(crl(identity(), issuer=impostor)))
    stranger = make_authority("Another", at=AT)
    assert not is_revoked(identity(), Crl(crl(identity(), issuer=stranger)))
    no_lists = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    limited = issued(
        authority(), (x509.BasicConstraints(True, None), True), (no_lists, True), name="No lists"
    )
    assert not is_revoked(issued(limited, MAIL), Crl(crl(issued(limited, MAIL), issuer=limited)))


def scope(**only: bool) -> tuple[x509.ExtensionType, bool]:
    given = {
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
        **only,
    }
    return (
        x509.IssuingDistributionPoint(
            full_name=[x509.UniformResourceIdentifier("http://example.org/crl")],
            relative_name=None,
            only_some_reasons=None,
            **given,
        ),
        True,
    )


@pytest.mark.parametrize(
    ("only", "is_meant"),
    [
        ({}, True),
        ({"only_contains_user_certs": True}, True),
        ({"only_contains_ca_certs": True}, False),
        ({"indirect_crl": True}, False),
    ],
)
def test_the_scope_of_a_crl_is_kept(only: dict[str, bool], is_meant: bool) -> None:
    assert is_revoked(identity(), Crl(crl(identity(), extra=(scope(**only),)))) is is_meant


def test_a_crl_with_an_unknown_critical_extension_is_not_believed() -> None:
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0")
    assert not is_revoked(identity(), Crl(crl(identity(), extra=((odd, True),))))
    assert is_revoked(identity(), Crl(crl(identity(), extra=((odd, False),))))


def test_an_authority_in_between_can_be_revoked() -> None:
    middle = make_authority("Middle", at=AT, issuer=authority())
    leaf = make_identity([ALICE], at=AT, issuer=middle)
    found = result(leaf, Crl(crl(middle)))
    assert found == (
        SignatureResult.REVOKED,
        "the certificate of Middle was revoked on 2026-03-03",
    )


@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.SHA256()])
def test_an_ocsp_response_revokes(digest: hashes.HashAlgorithm) -> None:
    who = identity()
    found = OcspResponse(response(who, digest=digest))
    assert result(who, found) == (
        SignatureResult.REVOKED,
        f"the certificate of {ALICE} was revoked on 2026-03-03 (keyCompromise)",
    )
    assert not is_revoked(identity(BOB), found)
    good = OcspResponse(response(who, status=ocsp.OCSPCertStatus.GOOD))
    assert not is_revoked(who, good)
    assert not is_revoked(who, found, at=AT - 2 * DAY)


def test_an_ocsp_response_may_be_signed_by_a_delegate() -> None:
    who = identity()
    meant = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
    delegate = issued(authority(), (meant, False), name="Responder")
    assert is_revoked(who, OcspResponse(response(who, signer=delegate)))


@pytest.mark.parametrize("kind", ["not meant", "of another", "forged"])
def test_an_ocsp_response_of_somebody_else_says_nothing(kind: str) -> None:
    who = identity()
    meant = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)
    signer = {
        "not meant": lambda: issued(authority(), name="Responder"),
        "of another": lambda: issued(make_authority("Other", at=AT), meant, name="Responder"),
        "forged": lambda: issued(make_authority("Small Authority", at=AT), meant, name="R"),
    }[kind]()
    assert not is_revoked(who, OcspResponse(response(who, signer=signer)))
    elsewhere = make_authority("Other", at=AT)
    assert not is_revoked(who, OcspResponse(response(who, issuer=elsewhere)))


def test_ed25519_signs_lists_too() -> None:
    by = make_authority("Edwards", at=AT, kind=KeyKind.ED25519)
    who = make_identity([ALICE], at=AT, issuer=by)
    built = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(by.certificate.subject_name)
        .last_update(AT)
        .next_update(AT + DAY)
        .add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(who.certificate.serial)
            .revocation_date(AT - DAY)
            .build()
        )
    )
    octets = built.sign(by.key, None).public_bytes(Encoding.DER)
    trust = Trust(roots=[by.certificate], revocations=[Crl(octets)])
    assert check_path(who.certificate, trust, at=AT).result is SignatureResult.REVOKED


@pytest.mark.parametrize("kind", [Crl, OcspResponse])
@given(data=st.data())
def test_damaged_lists_and_responses_revoke_nobody_else(kind: type, data: st.DataObject) -> None:
    octets = bytearray(CRL_SAMPLE if kind is Crl else OCSP_SAMPLE)
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(octets)))
    for one in (bytes(octets), bytes(octets[:cut])):
        try:
            found = kind(one)
        except BadStructure:
            continue
        assert not is_revoked(identity(BOB), found)


CRL_SAMPLE = crl(identity())
OCSP_SAMPLE = response(identity())
