from __future__ import annotations

from collections.abc import Iterator

import pytest

from posthouse.testing import MailServer
from tests.gateway.house import ADA, BOB, CAT, PASSWORD, House


@pytest.fixture
def house() -> Iterator[House]:
    accounts = dict.fromkeys((ADA, BOB, CAT), PASSWORD)
    with MailServer.ephemeral(accounts, takes_anything=False) as server:
        yield House(server)
