"""What signed mail teaches, and what domains publish."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256, sha512

import pytest

from posthouse.kernel.ports import TlsaRecord
from posthouse.message.address import AddressError
from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.smime import smimea
from posthouse.mimesec.smime.capabilities import Cipher
from posthouse.mimesec.smime.chain import Trust, check_path
from posthouse.mimesec.smime.identity import Identity
from posthouse.mimesec.smime.learning import Learnt, learn
from posthouse.mimesec.smime.make import KeyKind, make_authority, make_identity
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signer import SmimeSigner
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


def learnt(
    signer: SmimeSigner, *, expected: str = ALICE, believed: Trust | None = None
) -> tuple[Learnt, ...]:
    first, second = halves(signer.sign(ENTITY, at=AT))
    ours = opener(expected=expected, trusted=believed)
    return learn(ours.check(first, second, at=AT), believed or trust(), at=AT)


def test_a_signer_can_be_answered_encrypted() -> None:
    who = identity()
    (found,) = learnt(SmimeSigner(who))
    assert (found.address, found.certificate, found.said_at) == (ALICE, who.certificate, AT)
    recipient = SmimeRecipient(
        found.certificate, capabilities=found.capabilities, trust=trust(), offered=found.chain
    )
    message = SmimeSealer().seal(ENTITY, [recipient], at=AT, signer=None)
    unsealed = opener(who).unseal(decoded(message), at=AT)
    assert unsealed.entity == ENTITY
    assert unsealed.encryption.algorithm == Cipher.AES_256_GCM.label


@pytest.mark.parametrize("kind", [KeyKind.X25519, KeyKind.RSA2048])
def test_the_preferred_certificate_is_learnt(kind: KeyKind) -> None:
    encryption = identity(kind=kind, can_sign=False)
    (found,) = learnt(SmimeSigner(identity(), encryption=encryption.certificate))
    assert found.certificate == encryption.certificate


@pytest.mark.parametrize("case", ["another address", "untrusted", "expired", "signing"])
def test_a_preferred_certificate_that_does_not_fit_is_not_learnt(case: str) -> None:
    wrong = {
        "another address": lambda: identity(BOB),
        "untrusted": lambda: make_identity([ALICE], at=AT),
        "expired": lambda: make_identity(
            [ALICE], at=AT - timedelta(days=50), days=9, issuer=authority()
        ),
        "signing": lambda: identity(can_decrypt=False),
    }[case]()
    (found,) = learnt(SmimeSigner(identity(), encryption=wrong.certificate))
    assert found.certificate == identity().certificate
    only_signs = identity(kind=KeyKind.ED25519)
    assert learnt(SmimeSigner(only_signs, encryption=wrong.certificate)) == ()


def test_signatures_that_are_not_valid_teach_nothing() -> None:
    assert learnt(SmimeSigner(identity()), expected=BOB) == ()
    assert learnt(SmimeSigner(identity()), believed=Trust()) == ()


# --- SMIMEA ---


def test_the_name_is_the_one_of_rfc_8162() -> None:
    # RFC 8162 §3: hugh@example.com
    assert smimea.name("hugh@example.com") == (
        "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._smimecert.example.com"
    )
    assert smimea.name("Hugh@EXAMPLE.com") != smimea.name("hugh@example.com")
    label = sha256("zoë".encode()).hexdigest()[:56]
    assert smimea.name("zoë@exämple.org") == f"{label}._smimecert.xn--exmple-cua.org"
    with pytest.raises(AddressError):
        smimea.name("hugh")


def test_whole_certificates_are_taken_from_records() -> None:
    who = identity()
    octets = who.certificate.octets
    records = [
        TlsaRecord(3, 0, 0, octets),
        TlsaRecord(3, 0, 0, octets),
        TlsaRecord(3, 0, 1, sha256(octets).digest()),
        TlsaRecord(3, 1, 0, who.certificate.key_octets),
        TlsaRecord(2, 0, 0, authority().certificate.octets),
        TlsaRecord(3, 0, 0, b"no certificate"),
        TlsaRecord(9, 0, 0, octets),
    ]
    assert smimea.certificates(records) == (octets,)
    assert smimea.authorities(records) == (authority().certificate,)
    assert smimea.issuers(records) == (authority().certificate.octets,)
    only_named = [TlsaRecord(1, 0, 0, octets)]
    assert smimea.certificates(only_named) == () == smimea.narrowed(records)
    assert smimea.narrowed(only_named) == (octets,)
    assert smimea.certificates([smimea.record(who.certificate)]) == (octets,)


@pytest.mark.parametrize(
    ("selector", "matching", "is_good"),
    [(0, 0, True), (0, 1, True), (0, 2, True), (1, 0, True), (1, 1, True), (1, 2, True),
     (2, 0, False), (0, 3, False)],
)  # fmt: skip
def test_a_domain_vouches_for_its_own(selector: int, matching: int, is_good: bool) -> None:
    alone = make_identity([ALICE], at=AT)
    selected = alone.certificate.octets if selector == 0 else alone.certificate.key_octets
    data = {1: sha256(selected).digest(), 2: sha512(selected).digest()}.get(matching, selected)
    records = [TlsaRecord(3, selector, matching, data)]
    pins = smimea.pins(ALICE, records, [alone.certificate, identity().certificate])
    assert len(pins) == is_good
    found = check_path(alone.certificate, Trust(pins=pins), at=AT)
    assert (found.result is SignatureResult.VALID) is is_good


def test_a_domains_authority_is_a_root_for_its_mailbox() -> None:
    own = make_authority("Own", at=AT)
    who: Identity = make_identity([ALICE], at=AT, issuer=own)
    roots = smimea.authorities([TlsaRecord(2, 0, 0, own.certificate.octets)])
    assert check_path(who.certificate, Trust(roots=roots), at=AT).result is SignatureResult.VALID


def test_a_digest_can_be_published() -> None:
    record = smimea.record(identity().certificate, is_digest=True)
    assert smimea.is_match(record, identity().certificate)
    assert not smimea.is_match(record, identity(BOB).certificate)
