"""A limit was reached: count it and leave one line, the same way everywhere."""

from __future__ import annotations

from posthouse.observe import events
from posthouse.observe.log import Log
from posthouse.observe.metrics import Metrics


class LimitWatch:
    """Counts in `posthouse_limit_total{name=}` and logs name, value, observed and peer."""

    __slots__ = ("_log", "_metrics")

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def reached(
        self, name: str, *, value: float, observed: float, peer: str = "", trace: str = ""
    ) -> None:
        """
        Args:
            name: the setting, "smtp.idle_s"; `config.limits.limit_names` has all of them.
            value: what the limit is.
            observed: what was asked for or used, in the same unit.
            peer: address of the other side, "" where there is none.
        """
        self._metrics.limits[name].add()
        self._log.write(
            events.LIMIT_REACHED,
            trace=trace,
            name=name,
            value=value,
            observed=observed,
            peer=peer,
        )
