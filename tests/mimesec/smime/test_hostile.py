"""Whatever octets come, there is a finding, soon."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.smime import der, structures
from posthouse.mimesec.smime.capabilities import Cipher
from posthouse.mimesec.smime.make import KeyKind
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signed import content_info
from posthouse.mimesec.smime.signer import SmimeSigner
from tests.mimesec.smime.people import AT, ENTITY, decoded, halves, identity, opener
from tests.mimesec.smime.test_der import indefinite

pytestmark = pytest.mark.timed

SECONDS = 2.0


def samples() -> dict[str, bytes]:
    people = [identity(kind=kind) for kind in (KeyKind.P256, KeyKind.RSA2048, KeyKind.X25519)]
    recipients = [SmimeRecipient(who.certificate) for who in people]
    found = {}
    for cipher in (Cipher.AES_256_GCM, Cipher.AES_128_CBC):
        sealed = SmimeSealer(cipher=cipher).seal(ENTITY, recipients, at=AT, signer=None)
        found[cipher.label] = decoded(sealed)
    for kind in (KeyKind.P256, KeyKind.RSA2048, KeyKind.ED25519):
        signer = SmimeSigner(identity(kind=kind))
        found[f"opaque {kind.value}"] = decoded(signer.sign_opaque(ENTITY, at=AT))
        found[f"detached {kind.value}"] = halves(signer.sign(ENTITY, at=AT))[1]
    return found


SAMPLES = samples()
OPENER = opener(*(identity(kind=kind) for kind in (KeyKind.P256, KeyKind.RSA2048, KeyKind.X25519)))


def looked_at(octets: bytes) -> None:
    """Both ways in; what is promised of any result."""
    began_s = time.perf_counter()
    for signature in OPENER.verify(ENTITY, octets, at=AT):
        assert (signature.result is SignatureResult.VALID) is (signature.reason == "")
        assert signature.reason.isprintable()
    unsealed = OPENER.unseal(octets, at=AT)
    encryption = unsealed.encryption
    assert encryption.is_opened or (unsealed.entity == b"" and encryption.reason)
    assert not encryption.is_authenticated or encryption.is_opened
    assert encryption.reason.isprintable()
    assert all(name.isprintable() for name in encryption.recipients)
    assert time.perf_counter() - began_s < SECONDS


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_good_in_der_and_ber(name: str) -> None:
    for octets in (SAMPLES[name], _as_ber(SAMPLES[name])):
        unsealed = OPENER.unseal(octets, at=AT)
        if name.startswith("detached"):
            (found,) = OPENER.verify(ENTITY, octets, at=AT)
            assert found.result is SignatureResult.VALID
        else:
            assert unsealed.entity == ENTITY
        looked_at(octets)


def _as_ber(octets: bytes) -> bytes:
    """Indefinite lengths outside of certificates, whose octets are signed."""
    fields = der.Fields.of(octets)
    kind, content = fields.take(der.OID).whole, fields.take(der.context(0)).content
    if der.dotted(kind[2:]) != structures.SIGNED_DATA:
        return indefinite(octets)
    parts = b""
    for one in der.Fields.of(content).rest():
        if one.identifier == der.context(0):
            parts += b"\xa0\x80" + one.content + b"\0\0"
        else:
            parts += indefinite(one.whole)
    return b"\x30\x80" + kind + b"\xa0\x80\x30\x80" + parts + b"\0\0" * 3


@settings(max_examples=300)
@given(st.data())
def test_changed_octets_are_a_finding(data: st.DataObject) -> None:
    octets = bytearray(SAMPLES[data.draw(st.sampled_from(sorted(SAMPLES)))])
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    looked_at(bytes(octets))


@given(st.data())
def test_cut_and_joined_octets_are_a_finding(data: st.DataObject) -> None:
    one, other = (SAMPLES[data.draw(st.sampled_from(sorted(SAMPLES)))] for _ in range(2))
    cut, joined = data.draw(st.integers(0, len(one))), data.draw(st.integers(0, len(other)))
    looked_at(one[:cut] + other[joined:])


@given(st.binary(max_size=300))
def test_any_octets_are_a_finding(octets: bytes) -> None:
    looked_at(octets)
    looked_at(content_info(structures.SIGNED_DATA, octets))
    looked_at(content_info(structures.ENVELOPED_DATA, octets))
    looked_at(content_info(structures.AUTH_ENVELOPED_DATA, octets))
    looked_at(content_info(structures.COMPRESSED_DATA, octets))


@given(st.data())
def test_a_field_replaced_by_any_value_is_a_finding(data: st.DataObject) -> None:
    """Deeper than single octets get: a whole value is replaced, with all lengths right."""
    whole = SAMPLES[data.draw(st.sampled_from(sorted(SAMPLES)))]
    value = data.draw(
        st.sampled_from([b"", b"\x05\0", der.number(0), der.number(-1), der.number(1 << 40)])
        | st.binary(max_size=40).map(der.octet_string)
        | st.sampled_from([der.oid("1.2.3"), der.sequence(), der.set_of([]), b"\xa0\0", b"\x80\0"])
    )
    looked_at(_replaced(whole, value, data.draw))


def _replaced(octets: bytes, value: bytes, draw) -> bytes:
    parts = der.elements(octets)
    if not parts:
        return value
    at = draw(st.integers(0, len(parts) - 1))
    chosen = parts[at]
    if chosen.identifier & der.CONSTRUCTED and draw(st.integers(0, 5)):
        new = der.tlv(chosen.identifier, _replaced(chosen.content, value, draw))
    else:
        new = value
    return b"".join(new if number == at else one.whole for number, one in enumerate(parts))


MANY = 60_000


@pytest.mark.parametrize(
    "body",
    [
        der.sequence(der.number(1), der.tlv(der.SET, b"\x30\0" * MANY)),
        der.sequence(
            der.number(1),
            der.set_of([]),
            der.sequence(der.oid(structures.DATA)),
            der.tlv(der.context(0), b"\x30\x80" + b"\5\0" * MANY + b"\0\0"),
        ),
        b"\x30\x80" * 39 + b"\5\0" * MANY,
        b"\x24\x80" + b"\x04\0" * MANY + b"\0\0",
    ],
    ids=["set", "indefinite", "nested", "chunks"],
)
def test_many_values_are_looked_at_quickly(body: bytes) -> None:
    for kind in (structures.SIGNED_DATA, structures.ENVELOPED_DATA):
        looked_at(content_info(kind, body))


def test_many_certificates_are_looked_at_quickly() -> None:
    octets = identity().certificate.octets
    signer = der.Fields.of(SAMPLES["detached P-256"]).rest()[1].content
    parts = der.Fields.of(signer).rest()
    crowd = der.tlv(der.context(0), b"".join(_numbered(octets, n) for n in range(3000)))
    body = [crowd if one.identifier == der.context(0) else one.whole for one in parts]
    looked_at(content_info(structures.SIGNED_DATA, der.sequence(*body)))


def _numbered(octets: bytes, number: int) -> bytes:
    """The certificate with another end of its signature."""
    return octets[:-4] + number.to_bytes(4, "big")


def test_secrets_are_in_no_finding() -> None:
    who = identity(kind=KeyKind.RSA2048)
    unsealed = OPENER.unseal(SAMPLES["AES-256-GCM"], at=AT)
    shown = repr((who, unsealed.encryption, OPENER.identities))
    assert "RSAPrivateKey" not in shown and "BEGIN" not in shown
