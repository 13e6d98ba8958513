"""Submission over HTTP, put together for one node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from posthouse.kernel.ids import TraceId
from posthouse.reception.door import Door
from posthouse.reception.service import Service
from posthouse.web.api import Api

if TYPE_CHECKING:
    from posthouse.app.node import Node


def submission_api(node: Node, service: Service, trace_id: Callable[[], TraceId]) -> Api:
    """
    Args:
        service: of its own, like that of port 587.
    """
    return Api(
        door=Door(service),
        store=node.store,
        authenticator=node.authenticator,
        clock=node.world.clock,
        deadlines=node.deadlines,
        trace_id=trace_id,
        log=node.log,
        metrics=node.metrics,
        message_octets_max=lambda: node.config.smtp.message_octets_max,
    )
