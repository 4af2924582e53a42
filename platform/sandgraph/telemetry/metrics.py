"""What a platform counts and measures of itself, in the formats of Prometheus.

Each platform has a registry of its own. What is counted on the way costs a few microseconds: the children of every
label are made once. What can be looked up is looked up when somebody asks (`Metrics.watch`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

#: Bounds of the buckets of everything that is measured in seconds.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_WAITING = (*SECONDS, 300, 900, 3_600)

#: Tenants that are counted by name, where they are; all further ones together are ``other``.
MOST_TENANTS = 100

_OTHER = "other"

M = TypeVar("M", Counter, Histogram)

#: Returns gauges by their name and, for those with a label, by its value.
Look = Callable[[], Mapping[str, float | Mapping[str, float]]]

#: Of what is looked up: the help text, and the label.
_LOOKED_UP = {
    "runs_active": ("Runs that are worked on.", ""),
    "runs_queued": ("Runs that wait for their turn.", ""),
    "pool_sandboxes": ("Sandboxes: idle, starting, leased, kept for their run, and how many shall be idle.", "state"),
    "check_ok": ("1 where a check of the readiness came out well the last time, 0 where not.", "check"),
    "disk_free_bytes": ("Free space where the data is.", ""),
}


@dataclass(frozen=True, slots=True)
class Described:
    """What there is to say of a metric.

    Attributes:
        name: As it is asked for; of a histogram, without ``_bucket``, ``_sum`` and ``_count``.
        kind: ``counter``, ``gauge`` or ``histogram``.
        labels: By which it is told apart.
        text: What it is.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


class Metrics:
    """One platform's metrics.

    Args:
        by_tenant: Whether runs are counted by tenant too.
    """

    def __init__(self, *, by_tenant: bool = False) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        #: All there are, but for those of the process.
        self.described = [
            Described(f"sandgraph_{name}", "gauge", (label,) if label else (), text)
            for name, (text, label) in _LOOKED_UP.items()
        ]
        self._looks = _Looks()
        self._tenants: set[str] | None = set() if by_tenant else None
        tenant = ["tenant"] if by_tenant else []
        self._accepted = self._counter("runs_accepted", "Runs that were accepted.", *tenant)
        self._ended = self._counter("runs_ended", "Runs that ended, by how.", "status", *tenant)
        self._queue_wait = self._histogram(
            "queue_wait_seconds",
            "How long a run waited from its arrival, or its waking, for its turn.",
            bounds=_WAITING,
        )
        self._attempts = _Children(self._counter("attempts", "Attempts that ended, by how.", "status"))
        self._attempt_s = self._histogram("attempt_seconds", "Time of an attempt in its sandbox.", bounds=_WAITING)
        self._slot_wait = self._histogram("slot_wait_seconds", "How long an attempt waited for a worker's slot.")
        self._lease_s = self._histogram(
            "sandbox_lease_seconds", "How long an attempt with a slot waited for its sandbox."
        )
        self._dispatch_s = self._histogram(
            "dispatch_seconds", "What an attempt took from its slot to its outcome beyond the time in its sandbox."
        )
        self._lines = self._counter("log_lines", "Lines that attempts printed and that were stored.")
        self._bytes = self._counter("log_bytes", "Bytes of those lines.")
        self._starts = _Children(self._histogram("sandbox_start_seconds", "Start of a sandbox until ready.", "runtime"))
        self._leases = _Children(
            self._counter(
                "pool_leases", "Sandboxes handed out: hit (was idle), kept (of the same run), miss.", "result"
            )
        )
        self._engine_s = _Children(
            self._histogram("engine_call_seconds", "Calls of the Docker engine, with retries.", "operation")
        )
        self._engine_errors = self._counter("engine_errors", "Calls of the Docker engine that failed.", "operation")
        self._db_s = _Children(self._histogram("db_transaction_seconds", "Transactions, without their wait.", "kind"))
        self._db_wait = _Children(self._histogram("db_wait_seconds", "How long a transaction waited to begin.", "kind"))
        self._requests = _Children(
            self._counter(
                "http_requests", "Requests that were answered, and WebSockets that ended.", "method", "route", "status"
            )
        )
        self._request_s = _Children(
            self._histogram("http_request_seconds", "Time to the first byte of the answer.", "method", "route")
        )
        self._limited = self._counter("http_rate_limited", "Requests that were refused with 429.", "route")
        self._followers = self._gauge("followers", "Clients that follow something live.", "transport")
        self._webhooks = self._counter(
            "webhook_deliveries", "Tries to deliver a webhook, by how they ended.", "outcome"
        )
        self._lag = self._histogram("loop_lag_seconds", "How late the event loop was for what was due.")
        self._stalls = self._counter("loop_stalls", "Times that the event loop did nothing for seconds.")
        build = self._gauge("build_info", "1; the release and the Python that runs it.", "version", "python")
        build.labels(version("sandgraph"), ".".join(map(str, sys.version_info[:3]))).set(1)
        ProcessCollector(namespace="sandgraph", registry=self.registry)
        self.registry.register(self._looks)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all of it, and the content type: OpenMetrics for who accepts that, else Prometheus's text."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def watch(self, look: Look) -> None:
        """Have gauges looked up whenever somebody asks; names are those of `_LOOKED_UP`."""
        self._looks.add(look)

    # Runs

    def run_accepted(self, tenant: str) -> None:
        """Count a run that is new."""
        (self._accepted if self._tenants is None else self._accepted.labels(self._tenant(tenant))).inc()

    def run_ended(self, status: str, tenant: str) -> None:
        """Count a run that ended."""
        labels = (status,) if self._tenants is None else (status, self._tenant(tenant))
        self._ended.labels(*labels).inc()

    def run_waited(self, seconds: float) -> None:
        """Note how long a run waited whose turn it is."""
        self._queue_wait.observe(seconds)

    # Attempts

    def attempt_ended(self, status: str, *, took_s: float, slot_wait_s: float, lease_s: float, inside_s: float) -> None:
        """Note an attempt that ended.

        Args:
            status: How.
            took_s: From its start to its outcome.
            slot_wait_s: Of that, what it waited for a slot;
            lease_s: and then for its sandbox;
            inside_s: and what it spent there.
        """
        self._attempts.of(status).inc()
        self._attempt_s.observe(inside_s)
        self._slot_wait.observe(slot_wait_s)
        self._lease_s.observe(lease_s)
        self._dispatch_s.observe(max(0.0, took_s - slot_wait_s - inside_s))

    def printed(self, lines: int, size: int) -> None:
        """Count lines that were stored, and their bytes."""
        self._lines.inc(lines)
        self._bytes.inc(size)

    # Sandboxes

    def sandbox_started(self, runtime: str, seconds: float) -> None:
        """Note a sandbox that is ready."""
        self._starts.of(runtime).observe(seconds)

    def sandbox_leased(self, result: str) -> None:
        """Count a lease: ``hit``, ``kept`` or ``miss``."""
        self._leases.of(result).inc()

    def engine_called(self, operation: str, seconds: float, *, failed: bool) -> None:
        """Note a call of the engine."""
        self._engine_s.of(operation).observe(seconds)
        if failed:
            self._engine_errors.labels(operation).inc()

    # The database

    def transaction(self, kind: str, waited_s: float, took_s: float) -> None:
        """Note a transaction, ``read`` or ``write``; may be called on any thread."""
        self._db_wait.of(kind).observe(waited_s)
        self._db_s.of(kind).observe(took_s)

    # The API

    def requested(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count a request; ``seconds`` are those to the first byte of its answer."""
        self._requests.of(method, route, str(status)).inc()
        if seconds is not None:
            self._request_s.of(method, route).observe(seconds)
        if status == 429:  # noqa: PLR2004 - Too Many Requests
            self._limited.labels(route).inc()

    @contextmanager
    def following(self, transport: str) -> Iterator[None]:
        """Count a client that follows something, for the length of the block."""
        followers = self._followers.labels(transport)
        followers.inc()
        try:
            yield
        finally:
            followers.dec()

    def webhook_tried(self, outcome: str) -> None:
        """Count a try to deliver a webhook."""
        self._webhooks.labels(outcome).inc()

    # The process

    def loop_was_late(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._lag.observe(seconds)

    def loop_stalled(self) -> None:
        """Count a time that the event loop did nothing for seconds."""
        self._stalls.inc()

    def _tenant(self, tenant: str) -> str:
        if self._tenants is None or tenant in self._tenants:
            return tenant
        if len(self._tenants) >= MOST_TENANTS:
            return _OTHER
        self._tenants.add(tenant)
        return tenant

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self.described.append(Described(f"sandgraph_{name}_total", "counter", labels, text))
        return Counter(name, text, labels, namespace="sandgraph", registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self.described.append(Described(f"sandgraph_{name}", "gauge", labels, text))
        return Gauge(name, text, labels, namespace="sandgraph", registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str, bounds: tuple[float, ...] = SECONDS) -> Histogram:
        self.described.append(Described(f"sandgraph_{name}", "histogram", labels, text))
        return Histogram(name, text, labels, namespace="sandgraph", registry=self.registry, buckets=bounds)


class _Children(Generic[M]):
    """A metric's children by the values of its labels, each made once."""

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._made: dict[tuple[str, ...], M] = {}

    def of(self, *values: str) -> M:
        child = self._made.get(values)
        if child is None:
            child = self._made[values] = self._metric.labels(*values)
        return child


class _Looks(Collector):
    """Gauges that are looked up."""

    def __init__(self) -> None:
        self._looks: list[Look] = []

    def add(self, look: Look) -> None:
        self._looks.append(look)

    def collect(self) -> Iterable[Metric]:
        found: dict[str, float | Mapping[str, float]] = {}
        for look in self._looks:
            found.update(look())
        for name, value in found.items():
            text, label = _LOOKED_UP[name]
            family = GaugeMetricFamily(f"sandgraph_{name}", text, labels=[label] if label else [])
            if isinstance(value, Mapping):
                for each, number in value.items():
                    family.add_metric([each], number)
            else:
                family.add_metric([], value)
            yield family

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily(f"sandgraph_{name}", text) for name, (text, _) in _LOOKED_UP.items()]
