"""Signing and verifying: what is made, and what is wrong with what others made."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from posthouse.message.mime import content, scan
from posthouse.mimesec.findings import Scheme, Signature, SignatureResult
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.smime import algorithms, der, signed, structures
from posthouse.mimesec.smime.capabilities import Cipher
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.chain import Trust
from posthouse.mimesec.smime.identity import Identity
from posthouse.mimesec.smime.make import KeyKind, make_authority, make_identity
from posthouse.mimesec.smime.opener import SmimeOpener
from posthouse.mimesec.smime.signer import SmimeSigner
from posthouse.mimesec.trust import Pin
from tests.mimesec.smime.people import (
    ALICE,
    AT,
    BOB,
    ENTITY,
    authority,
    decoded,
    halves,
    identity,
    opener,
    trust,
)

SIGNING = [
    KeyKind.P256,
    KeyKind.P384,
    KeyKind.P521,
    KeyKind.RSA2048,
    KeyKind.ED25519,
    KeyKind.ED448,
]
MICALG = {
    KeyKind.P384: "sha-384",
    KeyKind.P521: "sha-512",
    KeyKind.ED25519: "sha-512",
    KeyKind.ED448: "unknown",
}


def verified(
    message: bytes, *, expected: str = ALICE, trusted: Trust | None = None, at: datetime = AT
) -> Signature:
    first, second = halves(message)
    (found,) = opener(expected=expected, trusted=trusted).verify(first, second, at=at)
    return found


def signed_structure(who: Identity | None = None, entity: bytes = ENTITY) -> bytes:
    return halves(SmimeSigner(who or identity()).sign(entity, at=AT))[1]


@pytest.mark.parametrize("is_pss", [False, True])
@pytest.mark.parametrize("kind", SIGNING, ids=lambda kind: kind.value)
def test_what_is_signed_is_verified(kind: KeyKind, is_pss: bool) -> None:
    who = identity(kind=kind)
    signer = SmimeSigner(who, is_pss=is_pss)
    message = signer.sign(ENTITY, at=AT)
    found = verified(message)
    assert (found.result, found.reason) == (SignatureResult.VALID, "")
    assert (found.scheme, found.made_at, found.addresses) == (Scheme.SMIME, AT, (ALICE,))
    assert found.key == who.certificate.fingerprint == signer.key
    assert found.certificates[0] == who.certificate.octets
    assert ("PSS" in found.algorithm) is (is_pss and kind is KeyKind.RSA2048)
    opaque = opener().unseal(decoded(signer.sign_opaque(ENTITY, at=AT)), at=AT)
    assert opaque.entity == ENTITY
    assert [one.result for one in opaque.signatures] == [SignatureResult.VALID]
    assert opaque.encryption.algorithm == "" and not opaque.encryption.is_authenticated


@pytest.mark.parametrize("kind", SIGNING, ids=lambda kind: kind.value)
def test_a_signed_message_has_the_form_of_rfc_8551(kind: KeyKind) -> None:
    message = SmimeSigner(identity(kind=kind)).sign(ENTITY, at=AT)
    head = message.split(b"\r\n\r\n", 1)[0].decode().replace("\r\n ", " ")
    assert re.fullmatch(
        'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; '
        f'micalg={MICALG.get(kind, "sha-256")}; boundary="[!-~]+"',
        head,
    )
    root = scan(message)
    first, second = root.children
    assert message[first.start : first.end] == ENTITY
    assert (second.maintype, second.subtype) == (b"application", b"pkcs7-signature")
    assert b'filename="smime.p7s"' in message and b'name="smime.p7s"' in message
    assert all(len(line) <= 998 for line in message.split(b"\r\n"))
    assert b"\n" not in message.replace(b"\r\n", b"")
    assert content(second, octets_max=100_000) == halves(message)[1]


def test_an_opaque_message_has_the_form_of_rfc_8551() -> None:
    message = SmimeSigner(identity()).sign_opaque(ENTITY, at=AT)
    head = message.split(b"\r\n\r\n", 1)[0].decode().replace("\r\n ", " ").split("\r\n")
    assert head == [
        'Content-Type: application/pkcs7-mime; smime-type=signed-data; name="smime.p7m"',
        "Content-Transfer-Encoding: base64",
        'Content-Disposition: attachment; filename="smime.p7m"',
    ]


def test_a_boundary_that_the_entity_has_is_not_taken() -> None:
    from posthouse.mimesec.smime.wrapping import multipart_signed

    first = multipart_signed(b"", b"signature", "sha-256")
    boundary = first.split(b'boundary="')[1].split(b'"')[0]
    second = multipart_signed(b"--" + boundary, b"signature", "sha-256")
    assert second.split(b'boundary="')[1].split(b'"')[0] != boundary


@pytest.mark.parametrize(
    "entity", [b"", b"\r\n", b"no header section", b"\0\xff" * 10, ENTITY * 5000]
)
def test_any_octets_are_signed_as_they_are(entity: bytes) -> None:
    first, second = halves(SmimeSigner(identity()).sign(entity, at=AT))
    assert first == entity
    assert opener().verify(first, second, at=AT)[0].result is SignatureResult.VALID


# --- what is wrong ---


def test_a_changed_text_is_told() -> None:
    first, second = halves(SmimeSigner(identity()).sign(ENTITY, at=AT))
    (found,) = opener().verify(first.replace(b"five", b"nine"), second, at=AT)
    assert found.result is SignatureResult.INVALID
    assert found.reason == "the text was changed after it was signed"


def test_another_from_is_a_mismatch_and_no_from_is_one_too() -> None:  # H65
    message = SmimeSigner(identity()).sign(ENTITY, at=AT)
    found = verified(message, expected=BOB)
    assert found.result is SignatureResult.MISMATCH
    assert found.reason == f"the message is from {BOB}, the certificate is for {ALICE}"
    first, second = halves(message)
    (found,) = SmimeOpener(trust=trust()).verify(first, second, at=AT)
    assert found.result is SignatureResult.MISMATCH and "no From" in found.reason
    several = SmimeOpener(trust=trust(), expected_addresses=[ALICE, BOB])
    assert several.verify(first, second, at=AT)[0].result is SignatureResult.MISMATCH


def test_the_domain_of_from_may_be_in_any_case() -> None:
    message = SmimeSigner(identity()).sign(ENTITY, at=AT)
    assert verified(message, expected="alice@EXAMPLE.Org").result is SignatureResult.VALID
    assert verified(message, expected="Alice@example.org").result is SignatureResult.MISMATCH


def test_nobody_is_trusted_without_a_root() -> None:
    message = SmimeSigner(identity()).sign(ENTITY, at=AT)
    found = verified(message, trusted=Trust())
    assert found.result is SignatureResult.UNTRUSTED
    assert found.reason == "the certificate of its issuer Small Authority is missing"
    alone = make_identity([ALICE], at=AT)
    found = verified(SmimeSigner(alone).sign(ENTITY, at=AT))
    assert found.result is SignatureResult.UNTRUSTED and "self-signed" in found.reason
    own = Trust(roots=[alone.certificate])
    message = SmimeSigner(alone).sign(ENTITY, at=AT)
    assert verified(message, trusted=own).result is SignatureResult.VALID


def test_a_pinned_certificate_is_trusted_for_the_address_of_its_pin() -> None:
    alone = make_identity(["somebody@example.com"], at=AT)
    message = SmimeSigner(alone).sign(ENTITY, at=AT)
    pinned = Trust(pins=[Pin(alone.certificate.fingerprint, ALICE)])
    assert verified(message, trusted=pinned).result is SignatureResult.VALID
    plain = Trust(pins=[Pin(alone.certificate.fingerprint)])
    assert verified(message, trusted=plain).result is SignatureResult.MISMATCH


def test_an_expired_certificate_is_told_with_its_day() -> None:
    brief = make_identity([ALICE], at=AT, days=10, issuer=authority())
    message = SmimeSigner(brief).sign(ENTITY, at=AT)
    found = verified(message, at=AT + timedelta(days=11))
    assert found.result is SignatureResult.EXPIRED
    assert "has expired on 2026-03-14" in found.reason
    found = verified(message, at=AT - timedelta(days=2))
    assert found.result is SignatureResult.EXPIRED and "not valid before" in found.reason


def test_a_signing_time_outside_of_the_certificate_is_told() -> None:
    who = identity()
    made = signed.maker(algorithms.signing_algorithm(who.key), who.certificate, (), encryption=None)
    structure = signed.make(made, ENTITY, at=datetime(2020, 1, 2, tzinfo=UTC), is_detached=True)
    (found,) = opener().verify(ENTITY, structure, at=AT)
    assert found.result is SignatureResult.EXPIRED and "2020-01-02" in found.reason


def test_a_certificate_for_encryption_only_signs_nothing() -> None:
    who = identity(can_sign=False)
    with pytest.raises(ProtectionError, match="key usage lacks digitalSignature"):
        SmimeSigner(who)
    made = signed.maker(algorithms.signing_algorithm(who.key), who.certificate, (), encryption=None)
    structure = signed.make(made, ENTITY, at=AT, is_detached=True)
    (found,) = opener().verify(ENTITY, structure, at=AT)
    assert found.result is SignatureResult.UNTRUSTED and "digitalSignature" in found.reason


def test_an_expired_certificate_signs_nothing_and_says_so() -> None:
    signer = SmimeSigner(identity())
    with pytest.raises(ProtectionError, match="has expired") as raised:
        signer.sign(ENTITY, at=AT + timedelta(days=4000))
    assert raised.value.hint


def test_a_key_that_only_agrees_signs_nothing() -> None:
    with pytest.raises(ProtectionError):
        SmimeSigner(identity(kind=KeyKind.X25519))


def test_a_signer_without_a_certificate_at_hand_is_told() -> None:
    who = identity()
    bare = rebuilt(signed_structure(who), certificates=())
    (found,) = opener().verify(ENTITY, bare, at=AT)
    assert found.result is SignatureResult.NO_KEY
    known = Trust(roots=[authority().certificate], known=[who.certificate])
    (found,) = opener(trusted=known).verify(ENTITY, bare, at=AT)
    assert found.result is SignatureResult.VALID


def rebuilt(structure: bytes, *, certificates: tuple[bytes, ...] | None = None, **changed: bytes):
    """The structure with other certificates, or with some of its only signer's fields replaced."""
    fields = der.Fields.of(der.Fields.of(structure).rest()[1].content)
    version, digests, inner = fields.take().whole, fields.take().whole, fields.take().whole
    present = fields.take(der.context(0)).whole
    signer = der.Fields.of(der.element(fields.take(der.SET).content, der.SEQUENCE).whole)
    names = ("version", "sid", "digest", "attributes", "algorithm", "signature")
    parts = [changed.get(name, one.whole) for name, one in zip(names, signer.rest(), strict=True)]
    if certificates is not None:
        present = der.set_of(certificates, identifier=der.context(0)) if certificates else b""
    body = der.sequence(version, digests, inner, present, der.set_of([der.sequence(*parts)]))
    return signed.content_info(structures.SIGNED_DATA, body)


def test_rebuilding_changes_nothing_by_itself() -> None:
    structure = signed_structure()
    assert rebuilt(structure) == structure


def test_another_certificate_of_the_same_key_is_no_signer() -> None:
    """Without signingCertificateV2 one could put another certificate there (RFC 5035 §1)."""
    who = identity()
    twin = Certificate(authority_signed_twin(who))
    assert twin.key_octets == who.certificate.key_octets
    structure = signed_structure(who)
    swapped = rebuilt(
        structure, certificates=(twin.octets,), sid=der.sequence(signed.issuer_serial(twin))
    )
    (found,) = opener(expected=BOB).verify(ENTITY, swapped, at=AT)
    assert found.result is SignatureResult.INVALID
    assert "another certificate" in found.reason


def authority_signed_twin(who: Identity) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    return (
        x509.CertificateBuilder()
        .subject_name(who.certificate.subject_name)
        .issuer_name(authority().certificate.subject_name)
        .public_key(who.key.public_key())
        .serial_number(77)
        .not_valid_before(AT)
        .not_valid_after(AT + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(BOB)]), critical=False)
        .sign(authority().key, SHA256())
        .public_bytes(Encoding.DER)
    )


def attributes_of(structure: bytes) -> list[bytes]:
    found = structures.read(structure)
    assert isinstance(found, structures.SignedData)
    assert found.signers[0].attributes is not None
    return [
        one.whole
        for one in der.elements(der.element(found.signers[0].attributes.as_sent, der.SET).content)
    ]


def resigned(attributes: list[bytes]) -> bytes:
    """The structure with these attributes in this order, signed as they stand."""
    who = identity()
    body = b"".join(attributes)
    signature = algorithms.signing_algorithm(who.key).sign(der.tlv(der.SET, body))
    return rebuilt(
        signed_structure(who),
        attributes=der.tlv(der.context(0), body),
        signature=der.octet_string(signature),
    )


def test_attributes_in_another_order_are_taken_as_they_were_signed() -> None:
    found = opener().verify(ENTITY, resigned(attributes_of(signed_structure())[::-1]), at=AT)
    assert found[0].result is SignatureResult.VALID


def test_attributes_sent_in_another_order_than_signed_are_sorted_first() -> None:
    structure = signed_structure()
    shuffled = der.tlv(der.context(0), b"".join(attributes_of(structure)[::-1]))
    (found,) = opener().verify(ENTITY, rebuilt(structure, attributes=shuffled), at=AT)
    assert found.result is SignatureResult.VALID


@pytest.mark.parametrize(
    ("missing", "result"),
    [
        (signed.CONTENT_TYPE, SignatureResult.INVALID),
        (signed.MESSAGE_DIGEST, SignatureResult.INVALID),
        (signed.SIGNING_TIME, SignatureResult.VALID),
        (signed.SIGNING_CERTIFICATE_V2, SignatureResult.VALID),
        (signed.SMIME_CAPABILITIES, SignatureResult.VALID),
    ],
)
def test_attributes_that_have_to_be_there_are_missed(missing: str, result: SignatureResult) -> None:
    kept = [one for one in attributes_of(signed_structure()) if der.oid(missing) not in one]
    assert opener().verify(ENTITY, resigned(kept), at=AT)[0].result is result


def test_two_digests_are_none() -> None:
    other = signed.attribute(signed.MESSAGE_DIGEST, der.octet_string(bytes(32)))
    found = opener().verify(ENTITY, resigned([*attributes_of(signed_structure()), other]), at=AT)
    assert found[0].result is SignatureResult.INVALID and "more than once" in found[0].reason


def test_the_content_type_has_to_be_the_one_that_was_signed() -> None:
    kept = [
        one for one in attributes_of(signed_structure()) if der.oid(signed.CONTENT_TYPE) not in one
    ]
    other = signed.attribute(signed.CONTENT_TYPE, der.oid(structures.ENVELOPED_DATA))
    found = opener().verify(ENTITY, resigned([*kept, other]), at=AT)
    assert found[0].result is SignatureResult.INVALID


def test_signed_attributes_shown_as_a_text_are_no_signature_on_it() -> None:
    """Taking the attributes off makes them the text that the signature is on (RFC 5652 has no
    mark against it)."""
    structure = signed_structure()
    found = structures.read(structure)
    assert isinstance(found, structures.SignedData) and found.signers[0].attributes
    text = found.signers[0].attributes.as_sent
    stripped = rebuilt(structure, attributes=b"")
    (found_one,) = opener().verify(text, stripped, at=AT)
    assert found_one.result is SignatureResult.INVALID
    assert found_one.reason == "the text is a part of another signature"


@pytest.mark.parametrize("is_good", [True, False])
def test_algorithm_protection_is_looked_at(is_good: bool) -> None:
    parts = structures.read(signed_structure())
    assert isinstance(parts, structures.SignedData)
    digest = algorithms.digest_der(algorithms.SHA256 if is_good else algorithms.SHA512)
    algorithm = der.tlv(der.context(1), der.oid(parts.signers[0].algorithm.oid))
    protection = signed.attribute(signed.ALGORITHM_PROTECTION, der.sequence(digest, algorithm))
    found = opener().verify(
        ENTITY, resigned([*attributes_of(signed_structure()), protection]), at=AT
    )
    assert (found[0].result is SignatureResult.VALID) is is_good


def test_broken_algorithms_are_named() -> None:
    structure = signed_structure()
    sha1 = rebuilt(structure, digest=algorithms.algorithm(algorithms.SHA1.oid))
    (found,) = opener().verify(ENTITY, sha1, at=AT)
    assert found.result is SignatureResult.UNSUPPORTED and "SHA-1" in found.reason
    ecdsa = rebuilt(structure, algorithm=algorithms.algorithm("1.2.840.10045.4.1"))
    (found,) = opener().verify(ENTITY, ecdsa, at=AT)
    assert found.result is SignatureResult.UNSUPPORTED and "ECDSA with SHA-1" in found.reason
    unknown = rebuilt(structure, algorithm=algorithms.algorithm("1.2.3.4"))
    (found,) = opener().verify(ENTITY, unknown, at=AT)
    assert found.result is SignatureResult.UNSUPPORTED and "1.2.3.4" in found.reason


def test_a_key_of_another_kind_than_the_algorithm_is_told() -> None:
    rsa = rebuilt(
        signed_structure(),
        algorithm=algorithms.algorithm(algorithms.RSA_ENCRYPTION, der.NULL_VALUE),
    )
    (found,) = opener().verify(ENTITY, rsa, at=AT)
    assert found.result is SignatureResult.INVALID


def test_an_opaque_signature_beside_another_text_is_told() -> None:
    structure = decoded(SmimeSigner(identity()).sign_opaque(ENTITY, at=AT))
    (found,) = opener().verify(b"another text", structure, at=AT)
    assert found.result is SignatureResult.INVALID and "another text" in found.reason


def test_certificates_without_a_signature_are_no_signature() -> None:
    body = der.sequence(
        der.number(1),
        der.set_of([]),
        der.sequence(der.oid(structures.DATA)),
        der.set_of([identity().certificate.octets], identifier=der.context(0)),
        der.set_of([]),
    )
    info = signed.content_info(structures.SIGNED_DATA, body)
    (found,) = opener().verify(ENTITY, info, at=AT)
    assert found.result is SignatureResult.INVALID and "nobody has signed" in found.reason
    unsealed = opener().unseal(info, at=AT)
    assert not unsealed.encryption.is_opened and unsealed.entity == b""


def test_subject_key_ids_name_signers_too() -> None:
    who = identity()
    sid = der.tlv(der.context(0, is_constructed=False), who.certificate.key_identifier)
    (found,) = opener().verify(ENTITY, rebuilt(signed_structure(who), sid=sid), at=AT)
    assert found.result is SignatureResult.VALID


def test_a_chain_is_sent_and_found() -> None:
    root = make_authority("Root", at=AT)
    middle = make_authority("Middle", at=AT, issuer=root, kind=KeyKind.ED25519)
    who = make_identity([ALICE], at=AT, issuer=middle)
    message = SmimeSigner(who).sign(ENTITY, at=AT)
    found = verified(message, trusted=Trust(roots=[root.certificate]))
    assert found.result is SignatureResult.VALID
    assert found.certificates == (who.certificate.octets, middle.certificate.octets)
    short = SmimeSigner(who, has_chain=False).sign(ENTITY, at=AT)
    assert verified(short, trusted=Trust(roots=[root.certificate])).result is (
        SignatureResult.UNTRUSTED
    )


def test_a_signer_with_an_encryption_certificate_sends_it_along() -> None:
    encryption = identity(kind=KeyKind.X25519)
    signer = SmimeSigner(identity(kind=KeyKind.ED25519), encryption=encryption.certificate)
    first, second = halves(signer.sign(ENTITY, at=AT))
    (checked,) = opener().check(first, second, at=AT)
    assert checked.preference == encryption.certificate
    assert checked.capabilities is not None
    assert checked.capabilities.ciphers[0] is Cipher.AES_256_GCM


def test_more_signers_than_are_looked_at_are_refused() -> None:
    structure = signed_structure()
    fields = der.Fields.of(der.Fields.of(structure).rest()[1].content)
    parts = [fields.take().whole for _ in range(4)]
    signer = der.element(fields.take(der.SET).content, der.SEQUENCE).whole
    for count, is_taken in ((structures.SIGNERS_MAX, True), (structures.SIGNERS_MAX + 1, False)):
        body = der.sequence(*parts, der.set_of([signer] * count))
        info = signed.content_info(structures.SIGNED_DATA, body)
        found = opener().verify(ENTITY, info, at=AT)
        assert len(found) == (count if is_taken else 1)
        assert (found[0].result is SignatureResult.VALID) is is_taken
