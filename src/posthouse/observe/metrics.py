"""Every metric of a node, built in one place and read by Prometheus.

Counting is a plain addition to a slot, as prometheus-client's own counters take a lock and about a
microsecond; its families are only made when somebody asks. Each counter is added to by one thread
(the event loop, or the store's writer for its own), so no addition is lost. Labels come from closed
sets; a value outside its set counts as "other".
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from posthouse.kernel.tls_result import ResultType

OTHER: Final = "other"

SECONDS_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIZES: Final = (1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864)

SERVICES: Final = (
    *("mx", "submission", "submissions", "imap", "imaps", "pop3", "pop3s", "lmtp"),
    *("http", "https"),
)
DECISIONS: Final = ("accepted", "deferred", "refused")
ENDS: Final = ("delivered", "relayed", "failed", "expired", "dropped")
ATTEMPTS: Final = ("relayed", "deferred", "failed")
QUEUE_STATES: Final = ("waiting", "leased", "held")
HANDSHAKES: Final = ("failed",)
SECURED: Final = ("dane", "mta-sts", "verified", "unverified", "plaintext")
TLS_RESULTS: Final = tuple(one.value for one in ResultType if one is not ResultType.SUCCESS)
"""RFC 8460 §4.3."""
LOGINS: Final = ("accepted", "refused", "banned", "unavailable")
CERTIFICATE_ORDERS: Final = ("obtained", "failed")
FAULTS: Final = ("disk", "full", "busy", "lost", "dns", "worker", "bug")


MAILAUTH_RESULTS: Final = tuple(
    f"{method} {result}"
    for method, results in (
        ("spf", "none neutral pass fail softfail policy temperror permerror"),
        ("dkim", "none neutral pass fail policy temperror permerror"),
        ("dmarc", "none pass fail temperror permerror"),
        ("arc", "none pass fail temperror"),
        ("iprev", "pass fail temperror permerror"),
        ("homograph", "fail"),
        ("dns-budget", "policy"),
    )
    for result in results.split()
)


class Counter:
    """Only goes up."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total: float = 0

    def add(self, amount: float = 1) -> None:
        self.total += amount


class Gauge:
    """Goes up and down, or is asked for when read."""

    __slots__ = ("ask", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self.ask: Callable[[], float] | None = None
        """When set, called at each reading in place of `value`."""

    def add(self, amount: float = 1) -> None:
        self.value += amount

    def read(self) -> float:
        return self.value if self.ask is None else self.ask()


class Histogram:
    """Counts observations by size."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum: float = 0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        total = 0
        found = []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            found.append(("+Inf" if bound == float("inf") else str(float(bound)), float(total)))
        return found


Child = TypeVar("Child", Counter, Gauge, Histogram)


class Family(Generic[Child]):
    """A metric with its children, one for each value of its label (or only one, without a label).

    `family["mx"]` gives a child; keep it, to spare the look-up on hot paths.
    """

    __slots__ = ("children", "help", "label", "name", "only")

    def __init__(
        self, name: str, text: str, make: Callable[[], Child], label: str, values: Iterable[str]
    ) -> None:
        self.name = name
        self.help = text
        self.label = label
        names = (*values, OTHER) if label else ("",)
        self.children: dict[str, Child] = {value: make() for value in names}
        self.only: Child = self.children[names[-1]]
        """The child of a family without a label."""

    def __getitem__(self, value: str) -> Child:
        return self.children.get(value, self.only)

    def shown(self) -> Iterator[tuple[list[str], Child]]:
        """Label values and children; "other" only once it was used."""
        for value, child in self.children.items():
            if not self.label:
                yield [], child
            elif value != OTHER or not _is_unused(child):
                yield [value], child


def _is_unused(child: Counter | Gauge | Histogram) -> bool:
    match child:
        case Counter():
            return child.total == 0
        case Histogram():
            return child.sum == 0 and child.count == 0
        case Gauge():
            return child.value == 0 and child.ask is None


class Metrics:
    """All of a process. Attributes are single children, or families to be indexed by a label."""

    def __init__(self, limit_names: Iterable[str] = ()) -> None:
        """
        Args:
            limit_names: the closed set of `posthouse_limit_total`'s label, from `config.limits`.
        """
        self.families: list[Family[Counter] | Family[Gauge] | Family[Histogram]] = []
        self._connections()
        self._mail()
        self._queue_and_relay()
        self._inner_life(limit_names)

    def _connections(self) -> None:
        self.connections_refused = self._counters(
            "connections_refused", "Connections turned away at the door.", "service", SERVICES
        )
        self.sessions = self._gauges("sessions", "Sessions open now.", "service", SERVICES)
        self.handshakes = self._counters(
            "tls_handshakes", "TLS handshakes that failed on our ports.", "outcome", HANDSHAKES
        )
        self.logins = self._counters("logins", "Logins on all services.", "outcome", LOGINS)
        self.auth_failures = self._counters("auth_failures", "Failed logins.", "service", SERVICES)

    def _mail(self) -> None:
        self.messages = self._counters(
            "messages", "Messages decided on, by what became of them.", "decision", DECISIONS
        )
        self.mailauth_results = self._counters(
            "mailauth_results",
            "Results of the checks of who mail is from, as method and result.",
            "check",
            MAILAUTH_RESULTS,
        )
        self.recipients_refused = self._counter("recipients_refused", "RCPT commands refused.")
        self.message_octets = self._histogram("message_octets", "Size of messages taken.", SIZES)
        self.recipients_settled = self._counters(
            "recipients_settled", "Recipients that reached their one end.", "end", ENDS
        )
        self.dsns = self._counter("dsns", "Notices to senders about mail that was in the queue.")

    def _queue_and_relay(self) -> None:
        self.queue_recipients = self._gauges(
            "queue_recipients", "Recipients in the queue.", "state", QUEUE_STATES
        )
        self.queue_oldest_seconds = self._gauge(
            "queue_oldest_seconds", "Age of the oldest message in the queue."
        )
        self.attempts = self._counters(
            "relay_attempts", "Recipients tried at another host, by outcome.", "outcome", ATTEMPTS
        )
        self.relay_sessions = self._gauge("relay_sessions", "Sessions open to other hosts.")
        self.relay_handshakes = self._counters(
            "relay_tls_handshakes",
            "TLS handshakes that failed with other hosts.",
            "outcome",
            HANDSHAKES,
        )
        self.relay_secured = self._counters(
            "relay_secured",
            "Sessions opened with other hosts, by what their TLS was worth.",
            "by",
            SECURED,
        )
        self.relay_tls_failures = self._counters(
            "relay_tls_failures",
            "What TLS with other hosts failed of, whether mail was held back for it or not.",
            "result",
            TLS_RESULTS,
        )
        self.duplicates = self._counter(
            "duplicates_possible", "Recipients tried again though an attempt's end is not known."
        )

    def _inner_life(self, limit_names: Iterable[str]) -> None:
        self.commit_seconds = self._histogram(
            "commit_seconds", "Duration of group commits.", SECONDS_FAST
        )
        self.commit_units = self._histogram(
            "commit_units", "Units of work that shared a commit.", BATCH_SIZES
        )
        self.store_waiting = self._gauge("store_waiting", "Units waiting for the writer.")
        self.unknown_commits = self._counter(
            "unknown_commits", "Commits whose fate was not known when we answered."
        )
        self.dns_questions = self._counter("dns_questions", "Questions asked over the network.")
        self.dns_failures = self._counter(
            "dns_failures", "Questions that ended in a temporary failure."
        )
        self.dns_cached = self._counter("dns_cached", "Questions answered from the cache.")
        self.loop_lag_seconds = self._histogram(
            "loop_lag_seconds", "How late the event loop wakes.", SECONDS_FAST
        )
        self.stress = self._gauge("stress", "1 while limits under stress apply.")
        self.certificate_expiry_seconds = self._gauge(
            "certificate_expiry_seconds",
            "Until the first certificate in use expires; not of self-signed ones.",
        )
        self.certificate_orders = self._counters(
            "certificate_orders", "Orders at an authority.", "outcome", CERTIFICATE_ORDERS
        )
        self.faults = self._counters("faults", "Faults of our own met.", "kind", FAULTS)
        self.limits = self._counters("limit", "Limits reached.", "name", tuple(limit_names))

    def exposition(self) -> bytes:
        """The text that Prometheus reads (version 0.0.4)."""
        return generate_latest(self.registry())

    def registry(self) -> CollectorRegistry:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Reader(self))
        ProcessCollector(registry=registry)
        return registry

    def _counter(self, name: str, text: str) -> Counter:
        return self._counters(name, text).only

    def _counters(
        self, name: str, text: str, label: str = "", values: Iterable[str] = ()
    ) -> Family[Counter]:
        family = Family(f"posthouse_{name}", text, Counter, label, values)
        self.families.append(family)
        return family

    def _gauge(self, name: str, text: str) -> Gauge:
        return self._gauges(name, text).only

    def _gauges(
        self, name: str, text: str, label: str = "", values: Iterable[str] = ()
    ) -> Family[Gauge]:
        family = Family(f"posthouse_{name}", text, Gauge, label, values)
        self.families.append(family)
        return family

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
        return self._histograms(name, text, bounds).only

    def _histograms(
        self,
        name: str,
        text: str,
        bounds: tuple[float, ...],
        label: str = "",
        values: Iterable[str] = (),
    ) -> Family[Histogram]:
        family = Family(f"posthouse_{name}", text, lambda: Histogram(bounds), label, values)
        self.families.append(family)
        return family


class _Reader(Collector):
    """Makes prometheus-client's families of ours when they are read."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        for family in self._metrics.families:
            labels = [family.label] if family.label else []
            yield _family(family, labels)


def _family(
    family: Family[Counter] | Family[Gauge] | Family[Histogram], labels: list[str]
) -> Metric:
    counter = CounterMetricFamily(family.name, family.help, labels=labels)
    gauge = GaugeMetricFamily(family.name, family.help, labels=labels)
    histogram = HistogramMetricFamily(family.name, family.help, labels=labels)
    found: Metric = gauge
    for values, child in family.shown():
        match child:
            case Counter():
                counter.add_metric(values, child.total)
                found = counter
            case Gauge():
                gauge.add_metric(values, child.read())
            case Histogram():
                histogram.add_metric(values, child.buckets(), child.sum)
                found = histogram
    return found
