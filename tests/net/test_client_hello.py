"""ALPN offers read from real and broken ClientHellos."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.net.client_hello import OCTETS_MAX, alpn_offers
from posthouse.net.tls_adapter import TlsAdapter


def hello(*protocols: str) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    client = TlsAdapter(context, server_side=False, server_name="mail.example.org")
    client.advance()
    return client.take_outgoing()


HELLO = hello("acme-tls/1")


@pytest.mark.parametrize(
    "protocols", [(), ("acme-tls/1",), ("h2", "http/1.1"), tuple(f"p{n}" for n in range(50))]
)
def test_what_openssl_offers_is_read(protocols: tuple[str, ...]) -> None:  # RFC 7301 §3.1
    assert alpn_offers(hello(*protocols)) == tuple(name.encode() for name in protocols)
    assert alpn_offers(hello(*protocols) + b"what follows") == tuple(
        name.encode() for name in protocols
    )


def test_a_hello_cut_over_many_records_is_one() -> None:  # RFC 8446 §5.1
    body = HELLO[5:]
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    cut = b"".join(HELLO[:3] + len(piece).to_bytes(2) + piece for piece in pieces)
    assert alpn_offers(cut) == (b"acme-tls/1",)


def test_a_hello_that_is_not_whole_offers_nothing() -> None:
    assert all(alpn_offers(HELLO[:end]) == () for end in range(len(HELLO)))


@given(st.binary(max_size=600))
def test_octets_of_any_kind_raise_nothing(octets: bytes) -> None:
    alpn_offers(octets)
    alpn_offers(HELLO[:11] + octets)
    alpn_offers(HELLO[:43] + octets)


@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255))
def test_one_changed_octet_raises_nothing(at: int, value: int) -> None:
    alpn_offers(HELLO[:at] + bytes([value]) + HELLO[at + 1 :])


def test_a_flood_is_looked_at_only_so_far() -> None:
    flood = (b"\x16\x03\x01\x00\x01\x01") * 1_000_000
    assert alpn_offers(flood) == ()
    assert len(flood) > OCTETS_MAX
