"""What is told of an IMAP connection whose TLS never starts."""

from __future__ import annotations

from typing import Any

from posthouse.kernel.ids import TraceId
from posthouse.net.stream import Peer, Stream, TlsFailure, TlsTrouble
from tests.access.imap.house import House


async def test_a_handshake_that_takes_too_long_is_counted(house: House) -> None:  # H15
    nobody: Any = None
    for trouble in (TlsTrouble.TIMEOUT, TlsTrouble.VERSION):
        stream = Stream(nobody, trace_id=TraceId("t1"), deadlines=house.deadlines)
        stream.peer = Peer("192.0.2.1", 1025)
        house.service.session(stream).lost(TlsFailure(trouble, "no TLS"))
    assert house.observer.limits == ["tls.handshake_s"]
    assert [event for event, _ in house.observer.events] == ["imap.tls_failed"] * 2
