"""/metrics for Prometheus and /health for whoever watches the process, on a loopback listener."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from posthouse.observe.metrics import Metrics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
KEEPALIVE_S: Final = 15.0
SHUTDOWN_S: Final = 1.0
REQUEST_OCTETS_MAX: Final = 1024
"""Of a body; both pages are asked for without one."""

Health = Callable[[], tuple[bool, dict[str, str | int | float | bool]]]
"""Whether all is well, and what is known of each part, in words and numbers."""


class MetricsServer:
    """Serves both pages; `start` for each listener, `close` once."""

    def __init__(self, metrics: Metrics, health: Health) -> None:
        self._metrics = metrics
        self._health = health
        self._runner: web.AppRunner | None = None

    async def start(self, address: str, port: int) -> tuple[str, int]:
        """Listen; what was bound, with the real port where `port` is 0.

        Raises:
            OSError: the port is taken or not ours.
        """
        runner = await self._ready()
        site = web.TCPSite(runner, address, port)
        before = len(runner.addresses)
        await site.start()
        bound = runner.addresses[before]
        return bound[0], bound[1]

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _ready(self) -> web.AppRunner:
        if self._runner is None:
            app = web.Application(client_max_size=REQUEST_OCTETS_MAX)
            app.router.add_get("/metrics", self._show_metrics)
            app.router.add_get("/health", self._show_health)
            # Signals are the process's own affair; who reads metrics is not worth a log line.
            self._runner = web.AppRunner(
                app,
                handle_signals=False,
                access_log=None,
                keepalive_timeout=KEEPALIVE_S,
                shutdown_timeout=SHUTDOWN_S,
            )
            await self._runner.setup()
        return self._runner

    async def _show_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    async def _show_health(self, request: web.Request) -> web.Response:
        is_well, details = self._health()
        body = msgspec.json.encode({"ok": is_well, **details}) + b"\n"
        return web.Response(
            body=body, status=200 if is_well else 503, content_type="application/json"
        )
