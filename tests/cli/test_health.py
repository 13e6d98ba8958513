"""What `curl` shows of /health in a terminal."""

from __future__ import annotations

import aiohttp

from posthouse.observe.metrics import Metrics
from posthouse.web.metrics import MetricsServer


async def test_health_ends_with_a_newline() -> None:
    server = MetricsServer(Metrics(), lambda: (True, {}))
    address, port = await server.start("127.0.0.1", 0)
    url = f"http://{address}:{port}/health"
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        assert await answer.text() == '{"ok":true}\n'
    await server.close()
