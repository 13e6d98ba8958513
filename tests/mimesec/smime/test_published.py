"""Published certificates, keys and mail: RFC 9216, and a message signed by Thunderbird."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from posthouse.kernel.secret import Secret
from posthouse.message.mime import content, scan
from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.smime import pem
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.chain import Trust, check_path
from posthouse.mimesec.smime.identity import Identity, from_pkcs12, private_key, read_certificates
from posthouse.mimesec.smime.opener import SmimeOpener
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signer import SmimeSigner
from tests.mimesec.smime.people import ENTITY, decoded, halves

NOW = datetime(2026, 3, 4, tzinfo=UTC)
PEOPLE = {"alice": 4, "bob": 5, "carlos": 7, "dana": 8}  # their sections of RFC 9216
ROOTS = {"rsa": "3-1-rsa", "ed25519": "6-1-ed25519"}


@pytest.fixture
def folder(vectors: Path) -> Path:
    return vectors / "smime"


def named(folder: Path, start: str) -> bytes:
    (found,) = (folder / "rfc9216").glob(f"{start}-*.pem")
    return found.read_bytes()


def certificate(folder: Path, start: str) -> Certificate:
    (found,) = read_certificates(named(folder, start))
    return found


def pkcs12_of(folder: Path, name: str) -> tuple[Identity, ...]:
    lines = named(folder, f"{PEOPLE[name]}-5").splitlines()
    armoured = b"\n".join(line for line in lines if b"---" not in line)
    whole = b"-----BEGIN CERTIFICATE-----\n" + armoured + b"\n-----END CERTIFICATE-----"
    (octets,) = pem.certificates(whole)
    return from_pkcs12(octets, Secret(name))


def roots(folder: Path) -> Trust:
    return Trust(roots=[certificate(folder, one) for one in ROOTS.values()])


@pytest.mark.parametrize("name", PEOPLE)
def test_pkcs12_of_rfc_9216_gives_both_identities(folder: Path, name: str) -> None:
    section = PEOPLE[name]
    signing, opening = pkcs12_of(folder, name)
    assert signing.certificate == certificate(folder, f"{section}-1")
    assert opening.certificate == certificate(folder, f"{section}-3")
    assert (signing.can_sign, signing.can_decrypt) == (True, False)
    assert (opening.can_sign, opening.can_decrypt) == (False, True)
    for number, who in ((2, signing), (4, opening)):
        same = Identity(private_key(named(folder, f"{section}-{number}")), who.certificate)
        assert same.key_octets() == who.key_octets()


@pytest.mark.parametrize("name", PEOPLE)
def test_people_of_rfc_9216_write_to_each_other(folder: Path, name: str) -> None:
    signing, opening = pkcs12_of(folder, name)
    address = f"{name}@smime.example"
    assert signing.addresses == opening.addresses == (address,)
    signer = SmimeSigner(signing, encryption=opening.certificate)
    others = [pkcs12_of(folder, other)[1] for other in PEOPLE]
    recipients = [SmimeRecipient(who.certificate, trust=roots(folder)) for who in others]
    message = SmimeSealer().seal(ENTITY, recipients, at=NOW, signer=signer)
    for who in others:
        ours = SmimeOpener(identities=[who], trust=roots(folder), expected_addresses=[address])
        first, second = halves(ours.unseal(decoded(message), at=NOW).entity)
        assert first == ENTITY
        (checked,) = ours.check(first, second, at=NOW)
        assert (checked.signature.result, checked.signature.reason) == (
            SignatureResult.VALID,
            "",
        )
        assert checked.preference == opening.certificate


@pytest.mark.parametrize(("root", "cross"), [("3-1", "6-3"), ("6-1", "3-3")])
def test_cross_signed_authorities_lead_to_either_root(folder: Path, root: str, cross: str) -> None:
    """RFC 9216: each of the two authorities certified the other."""
    trust = Trust(roots=[certificate(folder, root)])
    offered = [certificate(folder, one) for one in ("3-3", "6-3")]
    for section in PEOPLE.values():
        leaf = certificate(folder, f"{section}-1")
        found = check_path(leaf, trust, offered=offered, at=NOW)
        assert found.result is SignatureResult.VALID, found.reason
        direct = leaf.issuer == certificate(folder, root).subject
        assert len(found.path) == (2 if direct else 3)


def test_certificates_of_rfc_9216_end_in_2052(folder: Path) -> None:
    found = check_path(
        certificate(folder, "4-1"), roots(folder), at=datetime(2060, 1, 1, tzinfo=UTC)
    )
    assert found.result is SignatureResult.EXPIRED and "2052" in found.reason


def test_mail_signed_by_thunderbird_in_2013_is_refused_for_sha1(folder: Path) -> None:
    octets = (folder / "mimekit" / "thunderbird-signed.txt").read_bytes()
    octets = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    text, signature = scan(octets).children
    structure = content(signature, octets_max=100_000)
    ours = SmimeOpener(expected_addresses=["fejj@gnome.org"])
    at = datetime(2013, 11, 2, 21, tzinfo=UTC)
    (found,) = ours.verify(octets[text.start : text.end], structure, at=at)
    assert found.result is SignatureResult.UNSUPPORTED
    assert found.reason == "it uses SHA-1, which is broken"
    assert found.addresses == ("fejj@gnome.org",)
    assert found.made_at == datetime(2013, 11, 2, 20, 28, 4, tzinfo=UTC)
    assert len(found.certificates) > 1
