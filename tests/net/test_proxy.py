"""The PROXY header: every form, every cut, every lie."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.net.proxy import V1_OCTETS_MAX, V2_REST_OCTETS_MAX, ProxyError, parse_proxy

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = bytes([198, 51, 100, 7, 192, 0, 2, 1]) + struct.pack("!HH", 4711, 25)
V6 = bytes.fromhex("20010db8000000000000000000000007") * 2 + struct.pack("!HH", 4711, 25)


def v2(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


GOOD = [
    (b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 25\r\n", ("198.51.100.7", 4711)),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n", ("2001:db8::7", 4711)),
    (b"PROXY TCP6 2001:DB8:0:0::7 ::1 65535 0\r\n", ("2001:db8::7", 65535)),
    (b"PROXY TCP6 ::ffff:198.51.100.7 ::1 1 2\r\n", ("198.51.100.7", 1)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f:f whatever 1 2\r\n", None),
    (v2(0x21, 0x11, V4), ("198.51.100.7", 4711)),
    (v2(0x21, 0x11, V4 + b"\x04\x00\x02xx"), ("198.51.100.7", 4711)),  # a TLV behind
    (v2(0x21, 0x21, V6), ("2001:db8::7", 4711)),
    (v2(0x20, 0x00, b""), None),  # LOCAL: the proxy's health check
    (v2(0x20, 0x11, V4), None),
    (v2(0x21, 0x00, b"xyz"), None),
    (v2(0x21, 0x31, b"\x00" * 216), None),
]

BAD = [
    b"EHLO x\r\n",
    b"PROXZ TCP4",
    b"proxy TCP4 198.51.100.7 192.0.2.1 4711 25\r\n",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 25\n",
    b"PROXY  TCP4 198.51.100.7 192.0.2.1 4711 25\r\n",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 25 \r\n",
    b"PROXY TCP4 198.51.100.07 192.0.2.1 4711 25\r\n",
    b"PROXY TCP4 198.51.100.256 192.0.2.1 4711 25\r\n",
    b"PROXY TCP4 2001:db8::7 192.0.2.1 4711 25\r\n",
    b"PROXY TCP6 198.51.100.7 192.0.2.1 4711 25\r\n",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 65536 25\r\n",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 04711 25\r\n",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 -1 25\r\n",
    b"PROXY UDP4 198.51.100.7 192.0.2.1 4711 25\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY UNKNOWN\n",
    b"PROXY " + b"x" * V1_OCTETS_MAX,
    b"\r\n\r\nEHLO x\r\n",
    b"\x16\x03\x01\x02\x00\x01",  # a ClientHello
    v2(0x11, 0x11, V4),  # version 1 in binary
    v2(0x22, 0x11, V4),
    v2(0x21, 0x12, V4),  # UDP
    v2(0x21, 0x11, V4[:-1]),
    v2(0x21, 0x21, V4),
    v2(0x21, 0x11, V4 + b"\x00" * V2_REST_OCTETS_MAX),
]


@pytest.mark.parametrize(("header", "source"), GOOD)
def test_a_header_gives_the_client_and_its_length(
    header: bytes, source: tuple[str, int] | None
) -> None:
    parsed = parse_proxy(header + b"EHLO x\r\n")
    assert parsed is not None
    assert (parsed.octets, parsed.source) == (len(header), source)
    assert (parsed.destination is None) == (source is None)


@pytest.mark.parametrize(("header", "source"), GOOD)
def test_every_cut_of_a_header_waits_for_more(
    header: bytes, source: tuple[str, int] | None
) -> None:
    for cut in range(len(header)):
        assert parse_proxy(header[:cut]) is None


@pytest.mark.parametrize("octets", BAD)
def test_what_is_no_exact_header_is_an_error(octets: bytes) -> None:  # H21
    with pytest.raises(ProxyError):
        parse_proxy(octets)


@given(st.binary(max_size=300) | st.binary(max_size=40).map(lambda rest: SIGNATURE + rest))
def test_any_octets_give_a_header_or_none_or_the_one_error(octets: bytes) -> None:
    try:
        parsed = parse_proxy(octets)
    except ProxyError:
        return
    assert parsed is None or 0 < parsed.octets <= len(octets)
