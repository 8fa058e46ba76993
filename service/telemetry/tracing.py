"""OpenTelemetry's half of the telemetry: spans and metrics, on where a collector is named.

FastAPI makes the span of each request, a child of the ``traceparent`` that came with it, and
measures requests; the stages within are here. Nothing of the SDK is imported while it is off.
"""

import os
import time
from collections.abc import Iterable

from fastapi.telemetry import TelemetryConfig
from opentelemetry import context, metrics, trace

from embedder.version import VERSION

OFF_FOR_FASTAPI: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}
"""What FastAPI is given while OpenTelemetry is off."""

Place = context.Context
"""Where in a trace something happens."""


class Tracing:
    """Turns what is measured into spans and metrics of OpenTelemetry.

    Args:
        tracers: Makes the spans.
        meters: Makes the metrics.

    Attributes:
        fastapi: What FastAPI is given for its own spans and metrics.
    """

    def __init__(self, tracers: trace.TracerProvider, meters: metrics.MeterProvider) -> None:
        self.fastapi: TelemetryConfig = {
            "tracer_provider": tracers,
            "meter_provider": meters,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        }
        self._tracer = tracers.get_tracer("cairn", VERSION)
        self._seconds = meters.get_meter("cairn", VERSION).create_histogram(
            "cairn.stage.duration", unit="s", description="Time by stage."
        )

    def record(self, stage: str, started: float, seconds: float, places: Iterable[Place]) -> None:
        """Record a stage: once as a time, and as a span of each request that it was for.

        Args:
            stage: Its name.
            started: When, by ``time.perf_counter()``.
            seconds: How long.
            places: Where in the traces of these requests.
        """
        self._seconds.record(seconds, {"stage": stage})
        begin = time.time_ns() - round((time.perf_counter() - started) * 1e9)
        for place in places:
            span = self._tracer.start_span(stage, place, start_time=begin)
            span.end(begin + round(seconds * 1e9))

    def close(self) -> None:
        """Send what has not been sent; waits for the collector."""
        for provider in (self.fastapi["tracer_provider"], self.fastapi["meter_provider"]):
            if shutdown := getattr(provider, "shutdown", None):
                shutdown()


def here() -> Place:
    """Return where in its trace the running request is."""
    return context.get_current()


def tracing_of_environment() -> Tracing | None:
    """Open what OpenTelemetry's own variables ask for; None if they name no collector.

    ``OTEL_EXPORTER_OTLP_ENDPOINT``, or that of traces or of metrics, names it. All others, such as
    ``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER`` and ``OTEL_EXPORTER_OTLP_HEADERS``, are read by
    the SDK.

    Raises:
        OSError: A collector is named, and the extra ``otel`` is not installed.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    traces, measures = _is_sent("TRACES"), _is_sent("METRICS")
    if not (traces or measures):
        return None
    try:
        from service.telemetry import otlp
    except ImportError as error:
        raise OSError(
            "OTEL_EXPORTER_OTLP_ENDPOINT names a collector, but OpenTelemetry's SDK is not "
            "installed: pip install 'cairn-landmarks[otel]'"
        ) from error
    return Tracing(
        otlp.tracer_provider() if traces else trace.NoOpTracerProvider(),
        otlp.meter_provider() if measures else metrics.NoOpMeterProvider(),
    )


def _is_sent(signal: str) -> bool:
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    named = any(os.environ.get(name) for name in endpoints)
    return named and os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp") != "none"
