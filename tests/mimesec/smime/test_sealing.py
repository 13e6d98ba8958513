"""Encrypting and opening: every pair of algorithms, who may read, and what an attacker tries."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mimesec.findings import Scheme, SignatureResult
from posthouse.mimesec.ports import ProtectionError, Unsealed
from posthouse.mimesec.smime import (
    algorithms,
    capabilities,
    ciphers,
    der,
    enveloped,
    opening,
    structures,
)
from posthouse.mimesec.smime.capabilities import CHOICE, COMMON, OWN, Capabilities, Cipher
from posthouse.mimesec.smime.enveloped import KeyTransport
from posthouse.mimesec.smime.identity import Identity
from posthouse.mimesec.smime.make import KeyKind, make_identity
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signed import content_info
from posthouse.mimesec.smime.signer import SmimeSigner
from tests.mimesec.smime.people import (
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

OPENING = [
    KeyKind.RSA2048,
    KeyKind.P256,
    KeyKind.P384,
    KeyKind.P521,
    KeyKind.X25519,
    KeyKind.X448,
]


def sealed(*who: Identity, entity: bytes = ENTITY, sealer: SmimeSealer | None = None) -> bytes:
    recipients = [SmimeRecipient(one.certificate) for one in who]
    sealer = sealer or SmimeSealer(cipher=Cipher.AES_256_GCM)
    return sealer.seal(entity, recipients, at=AT, signer=None)


def opened(message: bytes, *who: Identity) -> Unsealed:
    return opener(*who).unseal(decoded(message), at=AT)


@pytest.mark.parametrize("cipher", CHOICE, ids=lambda cipher: cipher.label)
@pytest.mark.parametrize("kind", OPENING, ids=lambda kind: kind.value)
def test_what_is_sealed_is_opened(kind: KeyKind, cipher: Cipher) -> None:
    who = identity(kind=kind)
    ways = itertools.product((KeyTransport.OAEP, KeyTransport.PKCS1), (False, True), (False, True))
    for transport, has_key_ids, is_hkdf in ways:
        sealer = SmimeSealer(
            cipher=cipher, key_transport=transport, has_key_ids=has_key_ids, is_hkdf=is_hkdf
        )
        unsealed = opened(sealed(who, sealer=sealer), who)
        assert unsealed.entity == ENTITY
        found = unsealed.encryption
        assert (found.scheme, found.is_opened, found.reason) == (Scheme.SMIME, True, "")
        assert (found.algorithm, found.is_authenticated) == (cipher.label, cipher.is_authenticated)
        named = who.certificate.key_identifier.hex().upper()
        assert found.recipients == (named if has_key_ids else who.certificate.label,)


def test_gcm_is_authenticated_and_each_message_is_new() -> None:
    who = identity()
    one, other = sealed(who), sealed(who)
    assert one != other
    assert b"smime-type=authEnveloped-data" in one and b'filename="smime.p7m"' in one
    assert opened(one, who).encryption.algorithm == "AES-256-GCM"
    old = sealed(who, sealer=SmimeSealer(cipher=Cipher.AES_256_CBC))
    assert b"smime-type=enveloped-data" in old


def test_each_of_several_recipients_opens_it_and_nobody_else() -> None:
    people = [identity(f"{kind.name}@example.org", kind) for kind in OPENING]
    message = sealed(*people)
    for one in people:
        assert opened(message, one).entity == ENTITY
    unsealed = opened(message, identity(BOB))
    assert (unsealed.entity, unsealed.encryption.is_opened) == (b"", False)
    assert unsealed.encryption.reason == opening.NO_KEY
    assert len(unsealed.encryption.recipients) == len(OPENING)


def test_one_recipient_named_twice_gets_one_copy() -> None:
    who = identity()
    assert len(opened(sealed(who, who), who).encryption.recipients) == 1


def test_a_signature_goes_inside() -> None:
    alice, bob = identity(), identity(BOB, KeyKind.RSA2048)
    message = SmimeSealer().seal(
        ENTITY, [SmimeRecipient(bob.certificate)], at=AT, signer=SmimeSigner(alice)
    )
    inner = opened(message, bob).entity
    first, second = halves(inner)
    assert first == ENTITY
    assert opener().verify(first, second, at=AT)[0].result is SignatureResult.VALID


def test_signed_data_right_inside_becomes_an_entity() -> None:
    who = identity()
    opaque = decoded(SmimeSigner(who).sign_opaque(ENTITY, at=AT))
    inner = der.Fields.of(opaque).rest()[1].content
    structure = bytes(
        enveloped.make(inner, [(who.certificate, KeyTransport.PKCS1)], Cipher.AES_256_CBC)
    )
    # The type of the content is inside, where nothing protects it in EnvelopedData.
    head, oid = der.oid(structures.DATA), der.oid(structures.SIGNED_DATA)
    at = structure.rindex(head)
    unsealed = opener(who).unseal(structure[:at] + oid + structure[at + len(head) :], at=AT)
    assert b"smime-type=signed-data" in unsealed.entity
    again = opener().unseal(decoded(unsealed.entity), at=AT)
    assert again.entity == ENTITY and again.signatures[0].result is SignatureResult.VALID


# --- what is chosen ---


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([None, None], Cipher.AES_256_CBC),
        ([Capabilities((Cipher.AES_128_CBC, Cipher.AES_256_CBC))], Cipher.AES_256_CBC),
        ([Capabilities((Cipher.AES_128_CBC, Cipher.TRIPLE_DES_CBC)), None], Cipher.AES_128_CBC),
        ([Capabilities((Cipher.AES_128_GCM, Cipher.AES_256_CBC))], Cipher.AES_128_GCM),
        ([Capabilities((Cipher.TRIPLE_DES_CBC,))], Cipher.AES_128_CBC),
        ([Capabilities(())], Cipher.AES_256_CBC),
    ],
)
def test_the_cipher_is_one_that_all_are_known_to_read(
    known: Sequence[Capabilities | None], expected: Cipher
) -> None:
    people = [identity(f"r{number}@example.org") for number in range(len(known))]
    recipients = [
        SmimeRecipient(who.certificate, capabilities=said)
        for who, said in zip(people, known, strict=True)
    ]
    message = SmimeSealer().seal(ENTITY, recipients, at=AT, signer=None)
    assert opened(message, people[0]).encryption.algorithm == expected.label


@pytest.mark.parametrize("has_oaep", [True, False])
def test_oaep_is_for_readers_who_said_that_they_know_it(has_oaep: bool) -> None:
    who = identity(kind=KeyKind.RSA2048)
    recipient = SmimeRecipient(who.certificate, capabilities=Capabilities((), has_oaep))
    message = SmimeSealer().seal(ENTITY, [recipient], at=AT, signer=None)
    found = structures.read(decoded(message))
    assert isinstance(found, structures.Sealed)
    used = found.recipients[0].algorithm.oid
    assert used == (algorithms.RSA_OAEP if has_oaep else algorithms.RSA_ENCRYPTION)


def test_our_own_capabilities_come_back() -> None:
    found = capabilities.read_capabilities(capabilities.write_capabilities(OWN))
    assert found.ciphers[:2] == (Cipher.AES_256_GCM, Cipher.AES_128_GCM)
    assert found.has_oaep and set(CHOICE) <= set(found.ciphers)


@pytest.mark.parametrize("said", [OWN, COMMON])
def test_capabilities_can_be_kept_as_words(said: Capabilities) -> None:
    assert Capabilities.of_words(said.words) == said
    assert Capabilities.of_words(("ROT-13", *said.words)) == said
    assert Capabilities.of_words(()) is None


def test_oaep_with_other_digests_than_ours_is_not_taken_for_ours() -> None:
    for parameters in (b"", der.sequence()):  # none at all; the defaults, which are SHA-1
        said = der.sequence(algorithms.algorithm(algorithms.RSA_OAEP, parameters))
        assert not capabilities.read_capabilities(said).has_oaep


# --- who is refused ---


def test_what_is_wrong_with_a_recipient_is_said_with_the_address() -> None:
    signing = identity(can_decrypt=False)
    edwards = identity(kind=KeyKind.ED25519)
    brief = make_identity([BOB], at=AT, days=2, issuer=authority())
    for who, at, words in (
        (signing, AT, "its key usage lacks keyAgreement"),
        (edwards, AT, "cannot be encrypted to"),
        (brief, AT + timedelta(days=3), "has expired on 2026-03-06"),
    ):
        recipient = SmimeRecipient(who.certificate)
        assert words in recipient.why_unusable(at)
        with pytest.raises(ProtectionError, match=words) as raised:
            SmimeSealer().seal(ENTITY, [recipient], at=at, signer=None)
        assert who.addresses[0] in raised.value.hint


def test_a_recipient_nobody_vouches_for_is_refused_when_asked() -> None:
    alone = make_identity([BOB], at=AT)
    assert SmimeRecipient(alone.certificate).why_unusable(AT) == ""
    asked = SmimeRecipient(alone.certificate, trust=trust())
    assert "self-signed" in asked.why_unusable(AT)
    assert SmimeRecipient(identity().certificate, trust=trust()).why_unusable(AT) == ""


def test_nobody_and_a_key_of_another_scheme_are_refused() -> None:
    class Other:
        scheme = Scheme.OPENPGP
        addresses = (BOB,)
        key = "ABCD"

        def why_unusable(self, at) -> str:
            return ""

    with pytest.raises(ProtectionError, match="nobody"):
        SmimeSealer().seal(ENTITY, [], at=AT, signer=None)
    with pytest.raises(ProtectionError, match="OpenPGP"):
        SmimeSealer().seal(ENTITY, [Other()], at=AT, signer=None)
    with pytest.raises(ProtectionError, match="not written"):
        SmimeSealer(cipher=Cipher.TRIPLE_DES_CBC)


# --- attacks ---


def test_changed_cbc_is_marked_as_unauthenticated() -> None:  # H65: EFAIL
    """The first block becomes what the attacker wants, by the initial vector; nobody can notice
    that, so what comes out is never called authenticated."""
    who = identity(kind=KeyKind.RSA2048)
    structure = decoded(sealed(who, sealer=SmimeSealer(cipher=Cipher.AES_256_CBC)))
    wanted = b'<img src="http:/'
    found = structures.read(structure)
    assert isinstance(found, structures.Sealed)
    vector = der.element(found.algorithm.parameters, der.OCTET_STRING).content
    forged = bytes(a ^ b ^ c for a, b, c in zip(vector, ENTITY, wanted, strict=False))
    unsealed = opener(who).unseal(structure.replace(vector, forged), at=AT)
    assert unsealed.entity == wanted + ENTITY[16:]
    assert unsealed.encryption.is_opened and not unsealed.encryption.is_authenticated


def test_gcm_shown_as_cbc_or_without_its_tag_is_refused() -> None:
    """AuthEnvelopedData turned into EnvelopedData would be decrypted without its proof."""
    who = identity(kind=KeyKind.RSA2048)
    structure = decoded(sealed(who))
    fields = der.Fields.of(der.Fields.of(structure).rest()[1].content)
    parts = [one.whole for one in fields.rest()][:-1]
    bare = content_info(structures.ENVELOPED_DATA, der.sequence(*parts))
    unsealed = opener(who).unseal(bare, at=AT)
    assert not unsealed.encryption.is_opened and "does not belong" in unsealed.encryption.reason
    old = decoded(sealed(who, sealer=SmimeSealer(cipher=Cipher.AES_256_CBC)))
    inner = der.Fields.of(old).rest()[1].content
    parts = [one.whole for one in der.Fields.of(inner).rest()] + [der.octet_string(bytes(16))]
    dressed = content_info(structures.AUTH_ENVELOPED_DATA, der.sequence(*parts))
    assert not opener(who).unseal(dressed, at=AT).encryption.is_opened


@given(st.data())
def test_no_changed_octet_of_authenticated_content_gets_through(data: st.DataObject) -> None:
    who = identity()
    structure = bytearray(GCM_SAMPLE)
    where = data.draw(st.integers(0, len(structure) - 1))
    structure[where] ^= data.draw(st.integers(1, 255))
    unsealed = opener(who).unseal(bytes(structure), at=AT)
    assert unsealed.entity in (b"", ENTITY)
    assert unsealed.encryption.is_opened is bool(unsealed.entity)


GCM_SAMPLE = decoded(sealed(identity()))


def with_key(structure: bytes, encrypted: bytes) -> bytes:
    found = structures.read(structure)
    assert isinstance(found, structures.Sealed)
    (recipient,) = found.recipients
    assert len(recipient.key) == len(encrypted)
    return structure.replace(recipient.key, encrypted)


def test_a_sender_learns_nothing_from_how_it_fails() -> None:
    """Bleichenbacher's question: is the padding good? All answers are the same."""
    who = identity(kind=KeyKind.RSA2048)
    public = who.certificate.public_key
    assert isinstance(public, rsa.RSAPublicKey)
    sealer = SmimeSealer(key_transport=KeyTransport.PKCS1, cipher=Cipher.AES_256_GCM)
    structure = decoded(sealed(who, sealer=sealer))
    modulus = public.public_numbers().n
    attempts = [
        bytes(256),  # not even a number that was encrypted
        (modulus - 1).to_bytes(256, "big"),
        (2).to_bytes(256, "big"),
        public.encrypt(b"short", padding.PKCS1v15()),
        public.encrypt(b"", padding.PKCS1v15()),
        public.encrypt(bytes(32), padding.PKCS1v15()),
        public.encrypt(bytes(200), padding.PKCS1v15()),
    ]
    findings = {opener(who).unseal(with_key(structure, one), at=AT).encryption for one in attempts}
    assert {one.reason for one in findings} == {opening.FAILED}
    assert len(findings) == 1


@pytest.mark.parametrize("kind", OPENING, ids=lambda kind: kind.value)
def test_a_damaged_key_has_the_same_reason_everywhere(kind: KeyKind) -> None:
    who = identity(kind=kind)
    for transport in (KeyTransport.OAEP, KeyTransport.PKCS1):
        # By GCM: of CBC one wrong key in 256 opens to something, which is not authenticated.
        sealer = SmimeSealer(key_transport=transport, cipher=Cipher.AES_256_GCM)
        structure = decoded(sealed(who, sealer=sealer))
        found = structures.read(structure)
        assert isinstance(found, structures.Sealed)
        key = found.recipients[0].key
        damaged = with_key(structure, bytes((key[0] & 0x7F ^ 1,)) + key[1:])
        assert opener(who).unseal(damaged, at=AT).encryption.reason == opening.FAILED


def test_a_point_off_the_curve_tells_nothing_of_the_key() -> None:
    who = identity()
    found = structures.read(GCM_SAMPLE)
    assert isinstance(found, structures.Sealed)
    (recipient,) = found.recipients
    assert isinstance(recipient, structures.KeyAgreement)
    point = recipient.originator
    for other in (point[:-1] + bytes((point[-1] ^ 1,)), b"\x04" + bytes(64), bytes(65)):
        unsealed = opener(who).unseal(GCM_SAMPLE.replace(point, other), at=AT)
        assert unsealed.encryption.reason == opening.FAILED
    low = decoded(sealed(identity(kind=KeyKind.X25519)))
    found = structures.read(low)
    assert isinstance(found, structures.Sealed)
    (recipient,) = found.recipients
    assert isinstance(recipient, structures.KeyAgreement)
    zero = low.replace(recipient.originator, bytes(32))
    unsealed = opener(identity(kind=KeyKind.X25519)).unseal(zero, at=AT)
    assert unsealed.encryption.reason == opening.FAILED


def test_one_recipient_named_many_times_costs_few_private_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    who = identity(kind=KeyKind.RSA2048)
    structure = decoded(sealed(who))
    inner = der.Fields.of(der.Fields.of(structure).rest()[1].content)
    version, recipients, *rest = (one.whole for one in inner.rest())
    one = der.element(recipients, der.SET).content
    damaged = one[:-1] + bytes((one[-1] ^ 1,))
    calls = []
    real = opening._content_key
    monkeypatch.setattr(opening, "_content_key", lambda *given: (calls.append(1), real(*given))[1])

    def repeated(count: int) -> bytes:
        body = der.sequence(version, der.tlv(der.SET, damaged * count), *rest)
        return content_info(structures.AUTH_ENVELOPED_DATA, body)

    unsealed = opener(who).unseal(repeated(structures.RECIPIENTS_MAX), at=AT)
    assert unsealed.encryption.reason == opening.FAILED
    assert len(calls) == opening.TRIED_MAX
    unsealed = opener(who).unseal(repeated(structures.RECIPIENTS_MAX + 1), at=AT)
    assert "more than 2000" in unsealed.encryption.reason


# --- what is read besides ---


def resealed(algorithm: bytes, content: bytes, *, tag: bytes | None, key: bytes) -> bytes:
    """A structure with one RSA recipient and a content of the test's making."""
    who = identity(kind=KeyKind.RSA2048)
    info = enveloped._key_transport(who.certificate, key, KeyTransport.PKCS1, by_id=False)
    inner = der.sequence(
        der.oid(structures.DATA), algorithm, der.tlv(der.context(0, is_constructed=False), content)
    )
    parts = [der.number(0), der.set_of([info]), inner]
    if tag is None:
        return content_info(structures.ENVELOPED_DATA, der.sequence(*parts))
    body = der.sequence(*parts, der.octet_string(tag))
    return content_info(structures.AUTH_ENVELOPED_DATA, body)


@pytest.mark.parametrize("tag_octets", [12, 14, 16])
def test_ccm_of_others_is_opened(tag_octets: int) -> None:
    key, nonce = ciphers.fresh(32), ciphers.fresh(12)
    mixed = AESCCM(key, tag_octets).encrypt(nonce, ENTITY, None)
    parameters = der.octet_string(nonce) + (der.number(tag_octets) if tag_octets > 12 else b"")
    structure = resealed(
        algorithms.algorithm(Cipher.AES_256_CCM.value, der.sequence(parameters)),
        mixed[:-tag_octets],
        tag=mixed[-tag_octets:],
        key=key,
    )
    unsealed = opener(identity(kind=KeyKind.RSA2048)).unseal(structure, at=AT)
    assert unsealed.entity == ENTITY and unsealed.encryption.is_authenticated


@pytest.mark.parametrize(
    ("oid", "words"),
    [
        ("1.2.840.113549.3.2", "RC2"),
        ("1.3.14.3.2.7", "DES"),
        ("1.2.840.113549.3.4", "RC4"),
        ("1.2.3.4", "1.2.3.4"),
    ],
)
def test_ciphers_anybody_breaks_are_refused_by_name(oid: str, words: str) -> None:
    structure = resealed(
        algorithms.algorithm(oid, der.octet_string(bytes(8))), bytes(64), tag=None, key=bytes(16)
    )
    found = opener(identity(kind=KeyKind.RSA2048)).unseal(structure, at=AT).encryption
    assert not found.is_opened and words in found.reason


@pytest.mark.parametrize("tag_octets", [4, 8, 11])
def test_tags_that_can_be_guessed_are_refused(tag_octets: int) -> None:
    parameters = der.sequence(der.octet_string(bytes(12)), der.number(tag_octets))
    structure = resealed(
        algorithms.algorithm(Cipher.AES_128_GCM.value, parameters),
        b"x",
        tag=bytes(tag_octets),
        key=bytes(16),
    )
    found = opener(identity(kind=KeyKind.RSA2048)).unseal(structure, at=AT).encryption
    assert "length that is not taken" in found.reason


def packed(octets: bytes) -> bytes:
    body = der.sequence(
        der.number(0),
        algorithms.algorithm(opening.ZLIB),
        der.sequence(der.oid(structures.DATA), der.tlv(der.context(0), der.octet_string(octets))),
    )
    return content_info(structures.COMPRESSED_DATA, body)


def test_packed_content_is_unpacked_within_bounds() -> None:
    ours = opener()
    assert ours.unseal(packed(zlib.compress(ENTITY)), at=AT).entity == ENTITY
    small_bomb = zlib.compress(bytes(opening.UNPACKED_OCTETS_FREE))
    assert len(ours.unseal(packed(small_bomb), at=AT).entity) == opening.UNPACKED_OCTETS_FREE
    for octets, words in (
        (zlib.compress(bytes(50_000_000)), "far more than it is"),
        (zlib.compress(ENTITY)[:-5], "not whole"),
        (b"no such thing", "damaged"),
        (b"", "not whole"),
    ):
        unsealed = ours.unseal(packed(octets), at=AT)
        assert unsealed.entity == b"" and words in unsealed.encryption.reason


def test_a_message_for_a_password_is_told_so() -> None:
    inner = der.sequence(
        der.oid(structures.DATA),
        algorithms.algorithm(Cipher.AES_256_CBC.value, der.octet_string(bytes(16))),
        der.tlv(der.context(0, is_constructed=False), bytes(32)),
    )
    body = der.sequence(der.number(3), der.set_of([der.tlv(der.context(3), b"")]), inner)
    found = opener(identity()).unseal(content_info(structures.ENVELOPED_DATA, body), at=AT)
    assert "password" in found.encryption.reason
