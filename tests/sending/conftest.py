from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme


class Certificates(NamedTuple):
    """Server contexts, and the authority to trust."""

    good: ssl.SSLContext
    other_name: ssl.SSLContext
    self_signed: ssl.SSLContext
    expired: ssl.SSLContext
    ca: str
    wants_client: ssl.SSLContext
    client: str
    """Path of a client's certificate with its key."""


def _context(issued: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued.configure_cert(context)
    return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    import datetime

    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = trustme.CA(), trustme.CA()
    past = datetime.datetime(2020, 1, 1)
    ca = Path(folder, "ca.pem")
    authority.cert_pem.write_to_path(str(ca))
    client = Path(folder, "client.pem")
    authority.issue_cert("ada@example.org").private_key_and_cert_chain_pem.write_to_path(
        str(client)
    )
    wants_client = _context(authority.issue_cert("localhost", "127.0.0.1"))
    authority.configure_trust(wants_client)
    wants_client.verify_mode = ssl.CERT_REQUIRED
    return Certificates(
        good=_context(authority.issue_cert("localhost", "127.0.0.1")),
        other_name=_context(authority.issue_cert("mail.elsewhere.test")),
        self_signed=_context(stranger.issue_cert("localhost", "127.0.0.1")),
        expired=_context(authority.issue_cert("localhost", "127.0.0.1", not_after=past)),
        ca=str(ca),
        wants_client=wants_client,
        client=str(client),
    )
