"""The Prometheus metrics. Knows neither HTTP nor pictures.

Each application has a registry of its own: nothing is global. Names are part of the contract with
whoever monitors the service.
"""

import os
from collections.abc import Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from embedder.version import VERSION
from service.contract.schemas import Ready
from service.resources.processes import usage
from service.telemetry.tracing import Place, Tracing

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_PICTURES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """All metrics of the service.

    Args:
        tracing: Gets the stages, too; None where OpenTelemetry is off.

    Attributes:
        batch_pictures: Sizes of batches.
        requests: Requests by address (the route's pattern, not the path), method and status.
        request_seconds: Time from the header of a request to its answer, by address.
        outcomes: Queries: ``answered``, or the code of the problem. A request for several that
            fails as a whole counts as one.
        waiting: Pictures that are received and not yet answered.
        held_bytes: Bytes of uploads held in memory.
        refused_connections: Connections that were closed before they had made a request, by reason.
        reloads: Attempts to open another pair: ``switched`` or ``refused``.
        refused: 1 while a published gallery or embedder is refused and the previous pair serves.
    """

    def __init__(self, tracing: Tracing | None = None) -> None:
        self._tracing = tracing
        self._registry = CollectorRegistry()
        self._registry.register(_Processes())
        self._stage_seconds = self._histogram("stage_seconds", "Time by stage", "stage")
        self.request_seconds = self._histogram("request_seconds", "Time of requests", "address")
        self.batch_pictures = Histogram(
            "cairn_batch_pictures",
            "Pictures per batch",
            buckets=_PICTURES,
            registry=self._registry,
        )
        self.requests = self._counter("requests", "Requests", "address", "method", "status")
        self.outcomes = self._counter("pictures", "Pictures asked about", "outcome")
        self.reloads = self._counter("reloads", "Attempts to open another pair", "outcome")
        self.refused_connections = self._counter(
            "refused_connections", "Connections closed before they had made a request", "reason"
        )
        self.waiting = self._gauge("pictures_waiting", "Pictures received and not yet answered")
        self.held_bytes = self._gauge("held_bytes", "Bytes of pictures held in memory")
        self.refused = self._gauge("refused", "Whether a published gallery or embedder is refused")
        self._gauge("build_info", "1 for the version that runs", "version").labels(VERSION).set(1)
        self._rows = self._gauge("gallery_rows", "Pictures in the gallery")
        self._serving = self._gauge(
            "serving", "1 for what answers", "gallery", "embedder", "device"
        )

    def observe_stage(
        self, stage: str, started: float, seconds: float, places: Iterable[Place] = ()
    ) -> None:
        """Observe a stage, for Prometheus and, where it is on, for OpenTelemetry.

        Args:
            stage: ``receive``, ``queue`` and ``decode`` of one picture, ``network`` and
                ``search`` of a batch.
            started: When, by ``time.perf_counter()``.
            seconds: How long.
            places: Where in the traces of the requests that it was for.
        """
        self._stage_seconds.labels(stage).observe(seconds)
        if self._tracing is not None:
            self._tracing.record(stage, started, seconds, places)

    def serve(self, ready: Ready) -> None:
        """Record what answers from now on."""
        self._serving.clear()
        self._serving.labels(ready.gallery, ready.embedder, ready.device).set(1)
        self._rows.set(ready.rows)

    def expose(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, text: str, label: str) -> Histogram:
        return Histogram(f"cairn_{name}", text, [label], buckets=_SECONDS, registry=self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"cairn_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"cairn_{name}", text, labels, registry=self._registry)


class _Processes(Collector):
    """The usual ``process_*``: time and memory of all processes, the rest of the front process."""

    _OF_FRONT = ("process_start_time_seconds", "process_open_fds", "process_max_fds")

    def __init__(self) -> None:
        self._front = ProcessCollector(registry=None)
        self._cpu_seconds = 0.0

    def collect(self) -> Iterator[Metric]:
        """Measure them."""
        used = usage(os.getpid())
        # one that ended while they were measured is missing: a counter must not go down
        self._cpu_seconds = max(self._cpu_seconds, used.cpu_seconds)
        text = "of all processes of the service together"
        yield CounterMetricFamily("process_cpu_seconds", f"CPU time {text}", self._cpu_seconds)
        yield GaugeMetricFamily(
            "process_resident_memory_bytes", f"Resident memory {text}", used.memory_bytes
        )
        yield from (metric for metric in self._front.collect() if metric.name in self._OF_FRONT)
