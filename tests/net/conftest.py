"""A certificate authority for the tests, and contexts made with it."""

from __future__ import annotations

import ssl

import pytest
import trustme

from posthouse.tls.contexts import server_context


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = server_context()
    authority.issue_cert("mail.example.org").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
