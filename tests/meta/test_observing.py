"""What the reference pages promise is really written: each event and each metric."""

from __future__ import annotations

import re
from pathlib import Path

from posthouse.observe import events
from posthouse.observe.events import EVENTS, Event
from posthouse.observe.metrics import Counter, Family, Gauge, Histogram, Metrics

SOURCE = Path(__file__).parents[2] / "src" / "posthouse"
REGISTRIES = {SOURCE / "observe" / "events.py", SOURCE / "observe" / "metrics.py"}


def source() -> str:
    paths = sorted(set(SOURCE.rglob("*.py")) - REGISTRIES)
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def test_every_event_is_written_somewhere() -> None:
    text = source()
    names = {value.name: at for at, value in vars(events).items() if isinstance(value, Event)}
    assert set(names) == set(EVENTS)
    unused = [
        name
        for name, constant in names.items()
        if not re.search(rf"\b{constant}\b", text) and f'"{name}"' not in text
    ]
    assert unused == []


def test_every_metric_is_written_somewhere() -> None:
    text = source()
    metrics = Metrics()
    written = set()
    for name, value in vars(metrics).items():
        if isinstance(value, Counter | Gauge | Histogram | Family) and re.search(
            rf"\b_?metrics\.{name}\b", text
        ):
            written.add(id(value.only if isinstance(value, Family) else value))
    assert [family.name for family in metrics.families if id(family.only) not in written] == []
