"""pytest's fixture `mail_server`, found through the entry point.

This module is loaded in every run of pytest where Posthouse is installed, so it loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from posthouse.testing.server import MailServer


@pytest.fixture(scope="session")
def mail_server_of_session() -> Iterator[MailServer]:
    """One server for the whole run; use `mail_server`, which is empty for each test."""
    from posthouse.testing.server import MailServer

    with MailServer.ephemeral() as server:
        yield server


@pytest.fixture
def mail_server(mail_server_of_session: MailServer) -> MailServer:
    """A whole mail server on loopback, with no mail in it. It takes mail for any address."""
    mail_server_of_session.clear()
    return mail_server_of_session
