"""Keys of others, found from Python."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from posthouse.kernel.ports import FetchFailed, FetchTrouble, TlsaRecord
from posthouse.mimesec.pgp import PgpRecipient, PgpSealer, make_key
from posthouse.mimesec.pgp import dns as pgp_dns
from posthouse.mimesec.protection import Protection
from posthouse.mimesec.smime import SmimeRecipient, make_identity, smimea
from posthouse.sending import Message, MessageError, Transport, find_keys
from tests.gateway.house import EVE
from tests.gateway.test_key_places import ADVANCED, DIRECT, Web, Zone

NOW = datetime.now(UTC)
GONE = FetchFailed("there is no such host", FetchTrouble.DNS)


def find(web: Web, zone: Zone, address: str = EVE, **more: Any) -> Any:
    return asyncio.run(find_keys(address, fetch=web, resolver=zone, **more))


def test_a_key_of_the_directory_can_be_encrypted_to() -> None:
    key, _ = make_key([EVE], at=NOW, days=9)
    found = find(Web({ADVANCED: GONE, DIRECT: key.public.octets}), Zone())
    (one,) = found.keys
    assert isinstance(one.recipient, PgpRecipient) and one.where == "WKD"
    assert [words.partition(":")[0] for words in found.nothing] == [
        "OPENPGPKEY record",
        "SMIMEA record",
    ]
    wish = Protection(recipients=(one.recipient,), sealer=PgpSealer())
    with Transport("memory:") as way:
        way.send(Message(sender="a@b.example", to=EVE, text="under the oak", protection=wish))
        assert b"under the oak" not in way.letters[0].octets


def test_records_count_with_dnssec_only() -> None:
    certificate = make_identity([EVE], at=NOW).certificate
    key, _ = make_key([EVE], at=NOW, days=9)
    record = smimea.record(certificate)
    zone = {smimea.name(EVE): record, pgp_dns.name(EVE): key.public.octets}
    found = find(Web(), Zone(zone))
    assert {type(one.recipient) for one in found.keys} == {PgpRecipient, SmimeRecipient}
    found = find(Web(), Zone(zone, is_signed=False))
    assert found.keys == () and "without DNSSEC" in " ".join(found.nothing)


def test_a_certificate_that_its_domain_only_names_is_not_taken() -> None:
    certificate = make_identity([EVE], at=NOW).certificate
    zone = {smimea.name(EVE): TlsaRecord(1, 0, 0, certificate.octets)}
    found = find(Web(), Zone(zone))
    assert found.keys == () and "below an authority" in found.nothing[-1]


def test_what_names_another_address_is_no_key_of_theirs() -> None:
    key, _ = make_key(["bob@far.example"], at=NOW, days=9)
    found = find(Web({ADVANCED: key.public.octets}), Zone())
    assert found.keys == () and "names another address" in found.nothing[0]
    found = find(Web({ADVANCED: b"nonsense"}), Zone())
    assert found.keys == () and found.nothing[0].startswith("WKD: ")


def test_an_outage_is_told_from_a_no() -> None:
    slow = FetchFailed("no answer in time", FetchTrouble.TIMEOUT)
    assert find(Web({ADVANCED: slow}), Zone()).is_for_now
    assert not find(Web({ADVANCED: 404}), Zone()).is_for_now
    with pytest.raises(MessageError, match="is no address"):
        find(Web(), Zone(), "nobody")


def test_it_is_loaded_when_it_is_used() -> None:
    code = (
        "import sys, posthouse.sending as s; assert 'posthouse.dns' not in sys.modules;"
        " s.find_keys; assert not {'posthouse.store', 'posthouse.accounts'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
