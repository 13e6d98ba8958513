"""Metrics are cheap to count, closed in their labels, and read by Prometheus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from posthouse.config.limits import limit_names
from posthouse.observe import reference
from posthouse.observe.limits import LimitWatch
from posthouse.observe.log import Log
from posthouse.observe.metrics import Histogram, Metrics
from posthouse.observe.options import LogOptions

PROJECT = Path(__file__).parents[2]


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.exposition().decode()
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_gauges_and_histograms_are_read_back() -> None:
    metrics = Metrics()
    metrics.messages["accepted"].add()
    metrics.messages["accepted"].add()
    metrics.sessions["imap"].add(3)
    metrics.sessions["imap"].add(-1)
    metrics.commit_units.observe(3)
    metrics.commit_units.observe(1_000)
    metrics.queue_oldest_seconds.ask = lambda: 12.5
    found = samples(metrics)
    assert found["posthouse_messages_total", (("decision", "accepted"),)] == 2
    assert found["posthouse_messages_total", (("decision", "refused"),)] == 0
    assert found["posthouse_sessions", (("service", "imap"),)] == 2
    assert found["posthouse_commit_units_bucket", (("le", "2.0"),)] == 0
    assert found["posthouse_commit_units_bucket", (("le", "4.0"),)] == 1
    assert found["posthouse_commit_units_bucket", (("le", "+Inf"),)] == 2
    assert found["posthouse_commit_units_sum", ()] == 1_003
    assert found["posthouse_queue_oldest_seconds", ()] == 12.5
    assert found["process_resident_memory_bytes", ()] > 0


def test_a_label_outside_its_set_counts_as_other_and_makes_no_new_series() -> None:
    metrics = Metrics(["smtp.idle_s"])
    size = len(samples(metrics))
    for at in range(100):
        metrics.limits[f"made.up.{at}"].add()
    found = samples(metrics)
    assert found["posthouse_limit_total", (("name", "other"),)] == 100
    assert len(found) == size + 1


# P9
def test_every_limit_of_the_config_has_its_own_counter_from_the_start() -> None:
    found = samples(Metrics(limit_names()))
    counted = {labels[0][1] for name, labels in found if name == "posthouse_limit_total"}
    assert counted == set(limit_names())


@given(st.lists(st.floats(0, 100)))
def test_buckets_are_cumulative_and_hold_every_observation(values: list[float]) -> None:
    histogram = Histogram((0.5, 1.0, 10.0))
    for value in values:
        histogram.observe(value)
    assert [count for _, count in histogram.buckets()] == [
        sum(value <= bound for value in values) for bound in (0.5, 1.0, 10.0, float("inf"))
    ]


def test_a_reached_limit_is_counted_and_leaves_one_line() -> None:
    lines: list[bytes] = []
    metrics = Metrics(["smtp.idle_s"])
    log = Log(lines.append, unix_us=lambda: 0, options=LogOptions())
    LimitWatch(log, metrics).reached(
        "smtp.idle_s", value=300.0, observed=300.2, peer="192.0.2.1", trace="t"
    )
    assert metrics.limits["smtp.idle_s"].total == 1
    (line,) = lines
    said = json.loads(line)
    assert (said["name"], said["value"], said["observed"]) == ("smtp.idle_s", 300.0, 300.2)
    assert (said["peer"], said["trace"], said["event"]) == ("192.0.2.1", "t", "limit.reached")


@pytest.mark.parametrize(
    ("page", "path"),
    [
        (reference.events_page, reference.EVENTS_PAGE),
        (reference.metrics_page, reference.METRICS_PAGE),
    ],
)
def test_the_reference_pages_are_fresh(page: object, path: Path) -> None:
    assert callable(page)
    written = (PROJECT / path).read_text(encoding="utf-8")
    assert written == page(), "run `python -m posthouse.observe.reference`"
