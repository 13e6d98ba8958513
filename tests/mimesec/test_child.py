"""Messages opened in a process of their own, with real keys."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from posthouse.kernel.ports import Isolated, IsolationFailed
from posthouse.mimesec import child
from posthouse.mimesec.child import OpenRequest, PgpKeys, SmimeKey, SmimeKeys, open_isolated
from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.opening import Opened, Summary
from posthouse.mimesec.pgp.make import make_key
from posthouse.mimesec.pgp.recipient import PgpRecipient
from posthouse.mimesec.pgp.sealer import PgpSealer
from posthouse.mimesec.pgp.signer import PgpSigner
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.smime.make import KeyKind, make_identity
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signer import SmimeSigner
from posthouse.mimesec.trust import Pin
from posthouse.net.isolated import ProcessIsolation
from posthouse.sim.isolated import InlineIsolation

AT = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
MIB = 1024 * 1024
ALICE = make_identity(["alice@a.example"], at=AT - timedelta(days=1), days=30, kind=KeyKind.P256)
BOB = make_identity(["bob@b.example"], at=AT - timedelta(days=1), days=30, kind=KeyKind.P256)
MESSAGE = (
    b"From: alice@a.example\r\nTo: bob@b.example\r\nSubject: Tea\r\n"
    b"Content-Type: text/plain\r\n\r\nAt five?\r\n"
)
KEYS = SmimeKeys(
    own=(SmimeKey(BOB.key_pem(), BOB.certificates_pem()), SmimeKey(b"junk", b"junk")),
    roots=(ALICE.certificates_pem(), b"junk"),
    crls=(b"junk",),
    ocsp=(b"junk",),
)


def sealed(message: bytes = MESSAGE) -> bytes:
    protection = Protection(
        signer=SmimeSigner(ALICE),
        sealer=SmimeSealer(),
        recipients=(SmimeRecipient(BOB.certificate),),
    )
    return protect(message, protection, at=AT)


@pytest.fixture
async def isolation() -> AsyncIterator[ProcessIsolation]:
    made = ProcessIsolation()
    yield made
    made.close()


async def opened(isolated: Isolated, message: bytes, **bounds: float) -> Opened:
    request = OpenRequest(message=message, at=AT, smime=KEYS)
    given = {"timeout_s": 30.0, "memory_octets": 256 * MIB, "result_octets": 100 * MIB, **bounds}
    return await open_isolated(isolated, request, **given)  # type: ignore[arg-type]


async def test_a_message_is_opened_in_a_process_of_its_own(isolation: ProcessIsolation) -> None:
    found = await opened(isolation, sealed())
    assert found.summary is Summary.SIGNED_AND_ENCRYPTED
    assert b"Subject: Tea\r\n" in found.octets
    assert found.whole is not None
    (signature,) = found.whole.signatures
    assert signature.result is SignatureResult.VALID
    assert signature.made_at == AT
    assert found == await opened(InlineIsolation(), sealed())


async def test_a_large_message_fits_and_a_result_too_large_does_not(
    isolation: ProcessIsolation,
) -> None:
    attached = b"".join(b"%b\r\n" % os.urandom(36).hex().encode() for _ in range(8 * MIB // 74))
    message = sealed(MESSAGE + attached)
    found = await opened(isolation, message)
    assert found.summary is Summary.SIGNED_AND_ENCRYPTED
    assert len(found.octets) > 8 * MIB
    with pytest.raises(IsolationFailed, match="larger than"):
        await opened(isolation, message, result_octets=MIB)
    with pytest.raises(IsolationFailed, match="more than 8 MiB of memory"):
        await opened(isolation, message, memory_octets=8 * MIB)


async def test_openpgp_is_opened_there_too(isolation: ProcessIsolation) -> None:
    now = datetime.now(UTC)
    alice, _ = make_key(["alice@a.example"], at=now - timedelta(hours=1), days=30)
    bob, _ = make_key(["bob@b.example"], at=now - timedelta(hours=1), days=30)
    protection = Protection(
        signer=PgpSigner(alice), sealer=PgpSealer(), recipients=(PgpRecipient(bob.public),)
    )
    message = protect(MESSAGE, protection, at=now)
    pin = Pin(alice.public.fingerprint, "alice@a.example")
    expected = {
        (pin,): (Summary.SIGNED_AND_ENCRYPTED, SignatureResult.VALID),
        (): (Summary.ENCRYPTED, SignatureResult.UNTRUSTED),
    }
    for pins, (summary, result) in expected.items():
        keys = PgpKeys(own=(b"junk", bob.octets), known=(alice.public.octets, b"junk"), pins=pins)
        request = OpenRequest(message=message, at=now, pgp=keys, smime=KEYS)
        for shown in (repr(keys), repr(request)):
            assert bob.octets[-32:].hex() not in shown and repr(bob.octets)[2:40] not in shown
        found = await open_isolated(
            isolation, request, timeout_s=30, memory_octets=256 * MIB, result_octets=MIB
        )
        assert found.summary is summary and b"Subject: Tea\r\n" in found.octets
        assert found.whole is not None
        assert [one.result for one in found.whole.signatures] == [result]


async def test_a_plain_message_comes_back_as_it_is(isolation: ProcessIsolation) -> None:
    assert await opened(isolation, MESSAGE) == Opened(octets=MESSAGE, summary=Summary.NOT_PROTECTED)


async def test_an_answer_that_is_none_is_a_failure() -> None:
    class Lying(InlineIsolation):
        async def run(self, work: str, octets: bytes, **bounds: object) -> bytes:  # type: ignore[override]
            return b"\xc1"

    with pytest.raises(IsolationFailed, match="cannot be understood"):
        await opened(Lying(), MESSAGE)


def test_the_request_shows_no_key() -> None:
    request = OpenRequest(message=MESSAGE, at=AT, smime=KEYS)
    secret = BOB.key_pem().split(b"\n")[1].decode()
    for one in (request, KEYS, KEYS.own[0]):
        assert secret not in repr(one) and "PRIVATE" not in repr(one)


def test_what_the_simulator_calls_is_what_the_process_calls() -> None:
    request = OpenRequest(message=sealed(), at=AT, smime=KEYS, allow_unauthenticated=True)
    answer = child.open_in_child(msgspec.msgpack.encode(request))
    found = msgspec.msgpack.decode(answer, type=Opened)
    assert found.summary is Summary.SIGNED_AND_ENCRYPTED
