"""The stages of a request: a histogram of their times and, where OpenTelemetry is on, their spans.

OpenTelemetry is on where its own environment variables name a collector
(``OTEL_EXPORTER_OTLP_ENDPOINT``, or that of traces or metrics). FastAPI then makes the span of each
request, a child of the ``traceparent`` that came with it; here are the spans within. Nothing of
the SDK is imported otherwise.
"""

from __future__ import annotations

_ENDPOINT = "OTEL_EXPORTER_OTLP_{}ENDPOINT"
_SCOPE = "cairn"


class Tracing:
    """Sends traces and metrics to the collector that the environment names.

    Attributes:
        tracers: Makes the spans.
        meters: Makes the metrics.
    """
