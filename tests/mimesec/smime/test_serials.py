"""Certificates whose serial numbers are not positive, as of roots that every system still has."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

from posthouse.mimesec.smime import der
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.serials import with_positive_serials
from tests.mimesec.fakes import NOW

KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Old Root")])


def root(serial: bytes, *, names_issuer: bool = True) -> bytes:
    """Self-signed, by its content octets. Nothing writes such a number, so it is written over
    another of the same length."""
    public, other = KEY.public_key(), b"\x5a\x17\xc3\x7e\x21"[: len(serial)]
    number = int.from_bytes(other, "big")
    builder = (
        x509.CertificateBuilder(NAME, NAME, public, number, NOW, NOW + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    if names_issuer:
        digest = x509.SubjectKeyIdentifier.from_public_key(public).digest
        identifier = x509.AuthorityKeyIdentifier(digest, [x509.DirectoryName(NAME)], number)
        builder = builder.add_extension(identifier, critical=False)
    made = builder.sign(KEY, SHA256())
    body = made.tbs_certificate_bytes
    for kind in (der.INTEGER, der.context(2, is_constructed=False)):
        body = body.replace(der.tlv(kind, other), der.tlv(kind, serial))
    algorithm = der.Fields.of(made.public_bytes(Encoding.DER)).rest()[1].whole
    signature = der.tlv(der.BIT_STRING, b"\0" + KEY.sign(body, ec.ECDSA(SHA256())))
    return der.sequence(body, algorithm, signature)


@pytest.mark.parametrize("serial", [b"\0", b"\xff", b"\x80\0", b"\xa5\0\0\0\x03"])
@pytest.mark.parametrize("names_issuer", [True, False])
def test_they_are_read_without_a_warning(serial: bytes, names_issuer: bool) -> None:
    """RFC 5280 §4.1.2.2; a warning fails here."""
    octets = root(serial, names_issuer=names_issuer)
    found = Certificate(octets)
    assert found.serial == int.from_bytes(serial, "big", signed=True) <= 0
    assert (found.octets, found.name) == (octets, "Old Root")
    assert found.is_issuer_named(found)
    # The signature is on the octets that it came with.
    assert found.public_key is not None and found.signed.is_signed_by(found.public_key)
    with pytest.warns(CryptographyDeprecationWarning, match="serial number"):
        x509.load_der_x509_certificate(octets)  # so it is one that the library complains of


def test_what_is_positive_stays_as_it_is() -> None:
    octets = root(b"\x07")
    assert with_positive_serials(octets) == octets
