"""From a certificate to a root: what a path may not have, and how much is tried."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from functools import lru_cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.smime import chain
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.chain import PathCheck, Trust, check_path
from posthouse.mimesec.smime.der import BadStructure
from posthouse.mimesec.smime.identity import Identity
from posthouse.mimesec.smime.make import KeyKind, make_authority, make_identity
from tests.mimesec.smime.people import ALICE, AT, authority, identity

VALID, UNTRUSTED = SignatureResult.VALID, SignatureResult.UNTRUSTED
YEAR = timedelta(days=365)


@lru_cache
def root() -> Identity:
    return make_authority("Root", at=AT)


def checked(leaf: Identity, *roots: Identity, at: datetime = AT, **trust) -> PathCheck:
    believed = Trust(roots=[one.certificate for one in roots or (root(),)], **trust)
    return check_path(leaf.certificate, believed, offered=leaf.chain, at=at)


def issued(
    issuer: Identity,
    *extensions: tuple[x509.ExtensionType, bool],
    name: str = "Somebody",
    key: object = None,
    digest: hashes.HashAlgorithm | None = None,
    pad: object = None,
) -> Identity:
    """A certificate with just these extensions."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.certificate.subject_name)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(AT - YEAR)
        .not_valid_after(AT + YEAR)
    )
    for extension, is_critical in extensions:
        built = built.add_extension(extension, critical=is_critical)
    made = built.sign(issuer.key, digest or hashes.SHA256(), rsa_padding=pad)
    octets = made.public_bytes(Encoding.DER)
    return Identity(own, Certificate(octets), (issuer.certificate, *issuer.chain))


MAIL = (x509.SubjectAlternativeName([x509.RFC822Name(ALICE)]), False)
CA = (x509.BasicConstraints(True, None), True)


def test_a_path_of_several_kinds_of_keys_is_good() -> None:
    last = root()
    for kind in (KeyKind.ED25519, KeyKind.RSA2048, KeyKind.P384, KeyKind.ED448):
        last = make_authority(f"Below {kind.value}", at=AT, issuer=last, kind=kind)
    leaf = make_identity([ALICE], at=AT, issuer=last)
    found = checked(leaf)
    assert (found.result, len(found.path)) == (VALID, 6)
    assert found.path[0] == leaf.certificate and found.path[-1] == root().certificate


def test_an_intermediate_may_come_from_the_keeper() -> None:
    middle = make_authority("Middle", at=AT, issuer=root())
    leaf = make_identity([ALICE], at=AT, issuer=middle).certificate
    alone = Trust(roots=[root().certificate])
    assert check_path(leaf, alone, at=AT).reason == (
        "the certificate of its issuer Middle is missing"
    )
    for helped in ("intermediates", "known"):
        more = Trust(roots=[root().certificate], **{helped: [middle.certificate]})
        assert check_path(leaf, more, at=AT).result is VALID


def test_an_intermediate_may_be_a_root() -> None:
    middle = make_authority("Middle", at=AT, issuer=root())
    leaf = make_identity([ALICE], at=AT, issuer=middle)
    found = checked(leaf, middle)
    assert (found.result, len(found.path)) == (VALID, 2)


def test_a_forged_issuer_is_named() -> None:
    impostor = make_authority("Root", at=AT)
    leaf = make_identity([ALICE], at=AT, issuer=impostor).certificate
    stripped = issued(impostor, MAIL).certificate  # without a key identifier to tell them apart
    believed = Trust(roots=[root().certificate])
    found = check_path(stripped, believed, at=AT)
    assert found.result is UNTRUSTED
    assert found.reason == "the certificate of Somebody was not signed by Root"
    assert check_path(leaf, believed, at=AT).result is UNTRUSTED


@pytest.mark.parametrize("is_inner", [False, True])
def test_expired_certificates_are_named(is_inner: bool) -> None:
    brief = make_authority("Brief", at=AT, issuer=root(), days=10 if is_inner else 4000)
    leaf = make_identity([ALICE], at=AT, issuer=brief, days=900 if is_inner else 10)
    assert checked(leaf).result is VALID
    found = checked(leaf, at=AT + timedelta(days=20))
    assert found.result is SignatureResult.EXPIRED
    assert ("Brief" if is_inner else ALICE) in found.reason


def test_a_valid_way_is_found_beside_an_expired_one() -> None:
    """Two certificates of one authority, as after a renewal."""
    middle = make_authority("Middle", at=AT, issuer=root(), days=5)
    leaf = make_identity([ALICE], at=AT, issuer=middle)
    renewed = issued(
        root(),
        CA,
        (x509.SubjectKeyIdentifier.from_public_key(middle.key.public_key()), False),
        name="Middle",
        key=middle.key,
    )
    offered = [middle.certificate, renewed.certificate]
    believed = Trust(roots=[root().certificate])
    for order in itertools.permutations(offered):
        found = check_path(leaf.certificate, believed, offered=order, at=AT + timedelta(days=9))
        assert found.result is VALID


def test_who_is_no_authority_issues_nothing() -> None:
    for wrong in ((x509.BasicConstraints(False, None), True), None):
        middle = issued(root(), *([wrong] if wrong else []), name="Not one")
        found = checked(issued(middle, MAIL))
        assert (found.result, found.reason) == (
            UNTRUSTED,
            "Not one is no authority (basicConstraints)",
        )


def test_an_authority_has_to_be_for_certificates() -> None:
    usage = x509.KeyUsage(True, False, False, False, False, False, True, False, False)
    found = checked(issued(issued(root(), CA, (usage, True), name="No signer"), MAIL))
    assert found.reason == "No signer may not sign certificates (keyUsage)"


def test_an_authority_for_servers_only_is_not_for_mail() -> None:
    servers = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    found = checked(issued(issued(root(), CA, (servers, False), name="Web"), MAIL))
    assert found.result is UNTRUSTED and found.reason.startswith("Web is not for e-mail")
    found = checked(issued(root(), MAIL, (servers, False)))
    assert found.result is UNTRUSTED and "not for e-mail" in found.reason
    anything = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
    assert checked(issued(root(), MAIL, (anything, False))).result is VALID


def test_path_lengths_are_kept() -> None:
    top = make_authority("Top", at=AT, path_length=0)
    assert checked(make_identity([ALICE], at=AT, issuer=top), top).result is VALID
    below = make_authority("Below", at=AT, issuer=top)
    found = checked(make_identity([ALICE], at=AT, issuer=below), top)
    assert found.reason == "Top allows no more than 0 authorities below it"


def test_a_path_of_more_than_ten_is_not_gone() -> None:
    last = root()
    lengths = []
    for number in range(chain.DEPTH_MAX):
        lengths.append(checked(make_identity([ALICE], at=AT, issuer=last)))
        last = make_authority(f"Below {number}", at=AT, issuer=last)
    *short, longest = lengths
    assert {one.result for one in short} == {VALID}
    assert len(short[-1].path) == chain.DEPTH_MAX
    assert longest.result is UNTRUSTED and "longer than 10" in longest.reason


def test_authorities_that_certify_each_other_take_bounded_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(9)]
    circle = [
        Identity(key, issued(root(), CA, name=f"Peer {number}", key=key).certificate)
        for number, key in enumerate(keys)
    ]
    crossed = [
        issued(issuer, CA, name=f"Peer {number}", key=key).certificate
        for issuer in circle
        for number, key in enumerate(keys)
        if issuer.key is not key
    ]
    leaf = issued(circle[0], MAIL)
    checks = []
    real = chain._Search._is_signed
    monkeypatch.setattr(
        chain._Search, "_is_signed", lambda *given: (checks.append(1), real(*given))[1]
    )
    found = check_path(
        leaf.certificate, Trust(roots=[authority().certificate]), offered=crossed, at=AT
    )
    assert found.result is UNTRUSTED
    assert len(checks) <= chain.CANDIDATES_MAX


def test_an_unknown_critical_extension_is_not_passed_over() -> None:
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0")
    found = checked(issued(root(), MAIL, (odd, True)))
    assert found.reason == "the certificate of Somebody has the critical extension 1.2.3.4"
    assert checked(issued(root(), MAIL, (odd, False))).result is VALID


def test_a_demanded_policy_is_not_taken_for_granted() -> None:
    demanding = x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None)
    found = checked(issued(issued(root(), CA, (demanding, True), name="Strict"), MAIL))
    assert found.result is UNTRUSTED and "demands a policy" in found.reason
    mild = x509.PolicyConstraints(require_explicit_policy=None, inhibit_policy_mapping=0)
    assert checked(issued(issued(root(), CA, (mild, True), name="Mild"), MAIL)).result is VALID


@lru_cache
def rsa_authority(bits: int = 2048) -> Identity:
    key = rsa.generate_private_key(65537, bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"RSA {bits}")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(AT - YEAR)
        .not_valid_after(AT + YEAR)
        .add_extension(*CA)
        .sign(key, hashes.SHA256())
    )
    return Identity(key, Certificate(made.public_bytes(Encoding.DER)))


def test_pss_signatures_on_certificates_are_checked() -> None:
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
    leaf = issued(rsa_authority(), MAIL, digest=hashes.SHA384(), pad=pss)
    assert checked(leaf, rsa_authority()).result is VALID


def test_sha1_on_a_certificate_is_refused_by_name() -> None:
    leaf = issued(rsa_authority(), MAIL)
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    swapped = Certificate(leaf.certificate.octets.replace(sha256, sha1))
    found = check_path(swapped, Trust(roots=[rsa_authority().certificate]), at=AT)
    assert found.result is SignatureResult.UNSUPPORTED
    assert "RSA with SHA-1" in found.reason


def test_short_rsa_keys_of_authorities_are_refused() -> None:
    found = checked(issued(rsa_authority(1024), MAIL), rsa_authority(1024))
    assert found.result is SignatureResult.UNSUPPORTED
    assert "an RSA key of 1024 bits is too short" in found.reason


# --- name constraints ---

CONSTRAINED = [
    (["example.org"], [], "alice@example.org", True),
    (["example.org"], [], "alice@EXAMPLE.ORG", True),
    (["example.org"], [], "alice@mail.example.org", False),
    ([".example.org"], [], "alice@mail.example.org", True),
    ([".example.org"], [], "alice@example.org", False),
    (["example.org"], [], "alice@example.net", False),
    (["alice@example.org"], [], "alice@example.org", True),
    (["alice@example.org"], [], "bob@example.org", False),
    ([], ["example.org"], "alice@example.org", False),
    ([], ["example.org"], "alice@example.net", True),
    ([".example.org", "example.org"], ["mail.example.org"], "a@mail.example.org", False),
    (["example.org"], [], "zoë@example.org", True),
    (["example.org"], [], "zoë@example.net", False),
    (["xn--exmple-cua.org"], [], "zoë@exämple.org", True),
]


@pytest.mark.parametrize(("permitted", "excluded", "address", "is_good"), CONSTRAINED)
def test_name_constraints_of_addresses(
    permitted: list[str], excluded: list[str], address: str, is_good: bool
) -> None:
    limited = make_authority(
        "Limited",
        at=AT,
        issuer=root(),
        constraints=x509.NameConstraints(
            [x509.RFC822Name(one) for one in permitted] or None,
            [x509.RFC822Name(one) for one in excluded] or None,
        ),
    )
    for issuer in (limited, make_authority("Below", at=AT, issuer=limited)):
        found = checked(make_identity([address], at=AT, issuer=issuer))
        assert (found.result is VALID) is is_good, found.reason
        assert is_good or "name constraints of Limited" in found.reason


def test_the_old_address_in_the_subject_is_constrained_too() -> None:
    limited = make_authority(
        "Limited",
        at=AT,
        issuer=root(),
        constraints=x509.NameConstraints([x509.RFC822Name("example.net")], None),
    )
    own = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, ALICE)]))
        .issuer_name(limited.certificate.subject_name)
        .public_key(own.public_key())
        .serial_number(7)
        .not_valid_before(AT)
        .not_valid_after(AT + YEAR)
        .sign(limited.key, hashes.SHA256())
    )
    leaf = Identity(own, Certificate(made.public_bytes(Encoding.DER)), (limited.certificate,))
    assert leaf.addresses == (ALICE,)
    assert "name constraints of Limited" in checked(leaf).reason


@pytest.mark.parametrize(
    ("base", "name", "is_good"), [("Org", "org", True), ("Org", "Other", False)]
)
def test_name_constraints_of_directory_names(base: str, name: str, is_good: bool) -> None:
    def directory(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    constraints = x509.NameConstraints([x509.DirectoryName(directory(base))], None)
    limited = make_authority("Limited", at=AT, issuer=root(), constraints=constraints)
    leaf = make_identity([ALICE], at=AT, issuer=limited, name=name)
    assert (checked(leaf).result is VALID) is is_good


def test_constraints_that_cannot_be_judged_are_told() -> None:
    constraints = x509.NameConstraints(None, [x509.UniformResourceIdentifier("example.org")])
    limited = make_authority("Limited", at=AT, issuer=root(), constraints=constraints)
    assert checked(make_identity([ALICE], at=AT, issuer=limited)).result is VALID
    names = x509.SubjectAlternativeName(
        [x509.RFC822Name(ALICE), x509.UniformResourceIdentifier("https://example.org")]
    )
    assert "cannot be judged" in checked(issued(limited, (names, False))).reason


def test_names_and_constraints_beyond_all_measure_are_refused() -> None:
    many = [x509.RFC822Name(f"d{number}.example") for number in range(300)]
    limited = make_authority(
        "Limited", at=AT, issuer=root(), constraints=x509.NameConstraints(None, many)
    )
    names = x509.SubjectAlternativeName(
        [x509.RFC822Name(f"a{number}@example.org") for number in range(100)]
    )
    found = checked(issued(limited, (names, False)))
    assert found.result is UNTRUSTED and "too many names" in found.reason


# --- certificates by themselves ---


def test_what_is_no_certificate_is_told() -> None:
    good = identity().certificate.octets
    for octets in (b"", b"\x30\0", good[:-1], good[:100], b"\x30" + good, bytes(70_000)):
        with pytest.raises(BadStructure):
            Certificate(octets)


def test_a_certificate_shows_what_it_says() -> None:
    certificate = identity().certificate
    assert certificate.addresses == (ALICE,)
    assert certificate.name == ALICE
    assert certificate.label == f"{certificate.serial:X} of Small Authority"
    assert len(certificate.fingerprint) == 64 and certificate.fingerprint.isupper()
    assert certificate.key_algorithm == "1.2.840.10045.2.1"
    assert "Small" not in repr(certificate) and ALICE in repr(certificate)


def test_names_of_strangers_stay_on_one_line() -> None:
    leaf = issued(root(), MAIL, name="a\r\nX: b\x1b[31m")
    assert leaf.certificate.name == "a??X: b?[31m"
