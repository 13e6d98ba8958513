"""The reference pages of log events and metrics, made from the registries: `python -m
posthouse.observe.reference` writes them, and a test fails when they are stale."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from posthouse.observe.events import EVENTS
from posthouse.observe.metrics import Counter, Histogram, Metrics

EVENTS_PAGE: Final = Path("docs/reference/log-events.md")
METRICS_PAGE: Final = Path("docs/reference/metrics.md")

_MADE: Final = (
    "<!-- Made from src/posthouse/observe by `python -m posthouse.observe.reference`;"
    " do not edit. -->"
)
_EVENTS_HEAD: Final = f"""\
# Log events

{_MADE}

Posthouse leaves one line for each event, as JSON or (`log.format = "text"`) for reading. A line has
`at` (UTC), `level`, `event` and the fields named below. `trace` is the id of a connection, and with
`.n` behind it the id of the n-th transaction on it, which is also the id that `posthouse explain`,
the queue and `Received` fields show; so one search finds a message from its connection to its last
attempt. Fields are escaped and cut at `log.field_octets_max`; no line holds message content or a
secret.

| Event | Level | Meaning and usual fields |
| --- | --- | --- |
"""
_METRICS_HEAD: Final = f"""\
# Metrics

{_MADE}

Served for Prometheus on `/metrics` of the listener in `[metrics]` (port 9925 of 127.0.0.1 unless
the config says otherwise), beside `/health`. The names of `posthouse_limit_total` are the settings
that `posthouse config show --limits` lists.

| Metric | Type | Label | Meaning |
| --- | --- | --- | --- |
"""


def events_page() -> str:
    """The page of log events in Markdown."""
    rows = (f"| `{e.name}` | {e.level.value} | {e.meaning} |\n" for e in EVENTS.values())
    return _EVENTS_HEAD + "".join(rows)


def metrics_page() -> str:
    """The page of metrics in Markdown."""
    rows = []
    for family in Metrics().families:
        kind, name = "gauge", family.name
        if isinstance(family.only, Counter):
            kind, name = "counter", f"{name}_total"
        elif isinstance(family.only, Histogram):
            kind = "histogram"
        values = ", ".join(f"`{value}`" for value in family.children if value not in ("", "other"))
        label = f"`{family.label}`: {values}".removesuffix(": ") if family.label else ""
        rows.append(f"| `{name}` | {kind} | {label} | {family.help} |\n")
    return _METRICS_HEAD + "".join(rows)


def main() -> None:
    """Write the pages into the project that the current folder is."""
    EVENTS_PAGE.parent.mkdir(parents=True, exist_ok=True)
    EVENTS_PAGE.write_text(events_page(), encoding="utf-8")
    METRICS_PAGE.write_text(metrics_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
