"""Sends traces and metrics to a collector, as OTLP over HTTP. Loaded only where one is named."""

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from embedder.version import VERSION


def tracer_provider() -> TracerProvider:
    """Make spans that a thread sends in batches."""
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def meter_provider() -> MeterProvider:
    """Make metrics that a thread sends once a minute, or every ``OTEL_METRIC_EXPORT_INTERVAL``."""
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    return MeterProvider([reader], resource=_resource(), shutdown_on_exit=False)


def _resource() -> Resource:
    """Describe this service; ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` win."""
    own = Resource({"service.name": "cairn", "service.version": VERSION})
    return Resource.create(own.merge(OTELResourceDetector().detect()).attributes)
