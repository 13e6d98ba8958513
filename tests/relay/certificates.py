"""Certificates of hosts in the simulated world, and what the relay trusts."""

from __future__ import annotations

import hashlib
import ssl
import warnings

import msgspec
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from posthouse.kernel.ports import TlsaRecord
from posthouse.relay.options import TlsContexts, tls_contexts
from posthouse.tls.contexts import server_context
from posthouse.tls.der import public_key_info
from posthouse.tls.peers import Verifier

AUTHORITY = trustme.CA()
STRANGER = trustme.CA()
"""An authority that nobody trusts."""


def der(certificate: trustme.LeafCert) -> bytes:
    pem = certificate.cert_chain_pems[0].bytes()
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def root_der(authority: trustme.CA) -> bytes:
    pem = authority.cert_pem.bytes()
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def trusting() -> TlsContexts:
    """Contexts that trust `AUTHORITY` beside the system's roots."""
    contexts = tls_contexts()
    AUTHORITY.configure_trust(contexts.trusting)
    root = x509.load_der_x509_certificate(root_der(AUTHORITY))
    return msgspec.structs.replace(contexts, verifier=Verifier([root]))


def serving(certificate: trustme.LeafCert, *, with_root: trustme.CA | None = None):
    context = server_context()
    certificate.configure_cert(context)
    if with_root is not None:  # as DANE-TA asks, RFC 7672 §3.1.2
        pem = b"".join(part.bytes() for part in certificate.cert_chain_pems)
        whole = trustme.Blob(certificate.private_key_pem.bytes() + pem + with_root.cert_pem.bytes())
        with whole.tempfile() as path:
            context.load_cert_chain(path)
    return context


def old_tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """A server that speaks TLS 1.0 and nothing newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def tlsa_3_1_1(certificate: trustme.LeafCert) -> TlsaRecord:
    return TlsaRecord(3, 1, 1, hashlib.sha256(public_key_info(der(certificate))).digest())


def tlsa_2_0_1(authority: trustme.CA) -> TlsaRecord:
    return TlsaRecord(2, 0, 1, hashlib.sha256(root_der(authority)).digest())


def in_zone(record: TlsaRecord) -> str:
    return f"{record.usage} {record.selector} {record.matching} {record.data.hex()}"
