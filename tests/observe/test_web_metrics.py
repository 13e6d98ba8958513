"""The pages for Prometheus and for whoever watches the process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from posthouse.observe.metrics import Metrics
from posthouse.web.metrics import MetricsServer


class House:
    """What /health asks."""

    def __init__(self) -> None:
        self.is_well = True

    def health(self) -> tuple[bool, dict[str, str | int | float | bool]]:
        return self.is_well, {"store": "open" if self.is_well else "lost", "queue": 3}


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
async def url(house: House) -> AsyncIterator[str]:
    metrics = Metrics()
    metrics.messages["accepted"].add()
    server = MetricsServer(metrics, house.health)
    address, port = await server.start("127.0.0.1", 0)
    yield f"http://{address}:{port}"
    await server.close()


async def test_metrics_are_served_as_prometheus_reads_them(url: str) -> None:
    async with aiohttp.ClientSession() as client, client.get(f"{url}/metrics") as answer:
        text = await answer.text()
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'posthouse_messages_total{decision="accepted"} 1.0' in text


async def test_health_is_green_or_red(url: str, house: House) -> None:
    async with aiohttp.ClientSession() as client:
        async with client.get(f"{url}/health") as answer:
            assert answer.status == 200
            assert await answer.json() == {"ok": True, "store": "open", "queue": 3}
        house.is_well = False
        async with client.get(f"{url}/health") as answer:
            assert answer.status == 503
            assert await answer.json() == {"ok": False, "store": "lost", "queue": 3}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/..%2f..%2fetc/passwd", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/health", 405),
    ],
)
async def test_nothing_else_is_served(url: str, method: str, path: str, status: int) -> None:
    async with aiohttp.ClientSession() as client, client.request(method, url + path) as answer:
        assert answer.status == status


async def test_a_taken_port_is_told(url: str, house: House) -> None:
    other = MetricsServer(Metrics(), house.health)
    with pytest.raises(OSError, match="in use"):
        await other.start("127.0.0.1", int(url.rpartition(":")[2]))
    await other.close()
