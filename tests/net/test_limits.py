"""Counts of connections by address, network, rate and process."""

from __future__ import annotations

import pytest

from posthouse.net.limits import (
    ACCESS_NAMES,
    ConnectionLimits,
    Connections,
    Limit,
    Networks,
    WholeProcess,
)


def connections(process: WholeProcess | None = None, **limits: object) -> Connections:
    options = ConnectionLimits(**{"rate_per_minute": 1000, **limits})  # type: ignore[arg-type]
    return Connections(options, process or WholeProcess())


def limit(counts: Connections, address: str, now_s: float = 0.0) -> Limit | None:
    reached = counts.admit(address, now_s)
    return reached.limit if reached else None


def test_one_address_has_its_connections_and_no_more() -> None:
    counts = connections(per_address_max=2)
    assert [limit(counts, "192.0.2.1") for _ in range(3)] == [None, None, Limit.PER_ADDRESS]
    assert limit(counts, "192.0.2.2") is None
    counts.release("192.0.2.1")
    assert limit(counts, "192.0.2.1") is None


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        (["192.0.2.1", "192.0.2.2", "192.0.2.255"], "192.0.3.1"),
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::"], "2001:db8:0:1::1"),
    ],
)
def test_a_network_is_a_24_or_a_64(inside: list[str], outside: str) -> None:
    counts = connections(per_network_max=2)
    assert [limit(counts, address) for address in inside] == [None, None, Limit.PER_NETWORK]
    assert limit(counts, outside) is None


def test_new_connections_have_a_rate_a_minute() -> None:  # F34
    counts = connections(rate_per_minute=3, per_address_max=1)
    for _ in range(3):
        assert limit(counts, "192.0.2.1") is None
        counts.release("192.0.2.1")
    assert limit(counts, "192.0.2.1") is Limit.RATE
    assert limit(counts, "192.0.2.1", 150.0) is None


def test_the_process_has_a_limit_over_all_services_and_for_exempt_ones_too() -> None:
    process = WholeProcess(2)
    smtp = connections(process, exempt_networks=("127.0.0.0/8",))
    imap = connections(process)
    assert limit(smtp, "127.0.0.1") is None and limit(imap, "192.0.2.1") is None
    assert limit(smtp, "127.0.0.1") is limit(imap, "192.0.2.9") is Limit.CONNECTIONS
    smtp.release("127.0.0.1")
    assert limit(imap, "192.0.2.9") is None


def test_exempt_networks_have_no_limits_of_their_own() -> None:
    counts = connections(per_address_max=1, rate_per_minute=1, exempt_networks=("127.0.0.0/8",))
    assert {limit(counts, "127.0.0.1") for _ in range(100)} == {None}
    assert counts.addresses == 0


def test_counts_take_memory_for_open_connections_only() -> None:  # P9
    counts = connections(rows_max=10)
    for number in range(1000):
        address = f"198.18.{number // 256}.{number % 256}"
        assert limit(counts, address) is None
        counts.release(address)
    assert counts.addresses == 0 and counts._networks == {} and len(counts._rate) == 10
    counts.prune(1000.0)
    assert len(counts._rate) == 0


def test_networks_take_addresses_and_networks_and_refuse_nonsense() -> None:
    networks = Networks(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"])
    assert "10.9.8.7" in networks and "2001:db8::1" in networks and "192.0.2.7" in networks
    assert "192.0.2.8" not in networks and "" not in networks and "x" not in networks
    with pytest.raises(ValueError, match=r"10\.0\.0\.300"):
        Networks(["10.0.0.300"])


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("per_address_max", Limit.PER_ADDRESS_IMAP),
        ("per_network_max", Limit.PER_NETWORK_IMAP),
        ("rate_per_minute", Limit.RATE_IMAP),
    ],
)
def test_limits_of_imap_and_pop3_have_their_own_names(name: str, reached: Limit) -> None:
    counts = connections(names=ACCESS_NAMES, **{name: 1})
    assert limit(counts, "192.0.2.1") is None
    assert limit(counts, "192.0.2.1") is reached
