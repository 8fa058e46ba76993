"""OpenTelemetry: a real service sends to a real collector, which reads what it gets."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from embedder.version import VERSION
from tests.api.conftest import Artifacts, environment, serving
from tests.conftest import ROOT
from tests.factories import view_bytes

STAGES = ["receive", "queue", "decode", "network", "search"]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass
class Collector:
    """What a collector has received.

    Attributes:
        spans: Of all requests.
        metrics: Names with the attributes that were told with each.
        resource: Attributes of the service.
    """

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    metrics: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    resource: dict[str, str] = field(default_factory=dict)

    def take(self, path: str, body: bytes) -> None:
        """Read one message."""
        if path == "/v1/traces":
            for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource = texts(sent.resource.attributes)
                self.spans += [span for scope in sent.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for metric in (one for scope in measured.scope_metrics for one in scope.metrics):
                    points = metric.histogram.data_points or metric.sum.data_points
                    told = [texts(point.attributes) for point in points]
                    self.metrics.setdefault(metric.name, []).extend(told)


def texts(attributes: object) -> dict[str, str]:
    """Read attributes."""
    pairs: list[KeyValue] = list(attributes)  # type: ignore[call-overload] (a repeated field)
    return {pair.key: pair.value.string_value or str(pair.value.int_value) for pair in pairs}


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector that takes OTLP over HTTP."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            collector.take(self.path, gzip.decompress(body) if packed else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield collector
        server.shutdown()


@pytest.fixture(scope="module")
def collected(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Collector:
    """Ask a service about a picture, as part of a trace, and stop it."""
    log = tmp_path_factory.mktemp("traced") / "log"
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        with serving(artifacts, log, "--threads", "2", "--drain-seconds", "0") as service:
            answer = httpx.post(
                f"{service.url}/v1/predict",
                content=view_bytes(1, 0),
                headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
                timeout=60,
                trust_env=False,
            )
            assert answer.status_code == 200
    return collector


def test_a_request_is_one_trace_with_one_span_a_stage(collected: Collector) -> None:
    """Below the span that the client named; the stages lie one after the other within."""
    spans = [span for span in collected.spans if span.trace_id.hex() == TRACE]
    [request] = [span for span in spans if span.parent_span_id.hex() == PARENT]
    assert request.name == "POST /v1/predict"
    assert texts(request.attributes)["http.response.status_code"] == "200"
    stages = sorted(
        (span for span in spans if span is not request), key=lambda s: s.start_time_unix_nano
    )
    assert [span.name for span in stages] == STAGES
    assert {span.parent_span_id for span in stages} == {request.span_id}
    slack = 1_000_000  # ns: clocks are read one after the other
    for before, after in pairwise(stages):
        assert before.start_time_unix_nano <= before.end_time_unix_nano
        assert before.end_time_unix_nano <= after.start_time_unix_nano + slack
    assert request.start_time_unix_nano <= stages[0].start_time_unix_nano + slack
    assert stages[-1].end_time_unix_nano <= request.end_time_unix_nano + slack


def test_metrics_arrive(collected: Collector) -> None:
    """Those of requests, and the time of each stage."""
    told = collected.metrics
    assert {point["stage"] for point in told["cairn.stage.duration"]} == set(STAGES)
    addresses = {point.get("http.route") for point in told["http.server.request.duration"]}
    assert "/v1/predict" in addresses


def test_the_service_says_who_it_is(collected: Collector) -> None:
    """By its name and version; what the environment adds is added."""
    assert collected.resource["service.name"] == "cairn"
    assert collected.resource["service.version"] == VERSION
    assert collected.resource["deployment.environment.name"] == "test"


def test_a_dead_collector_stops_nothing(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures are answered, and the service stops in time."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with serving(artifacts, tmp_path / "log", "--threads", "2", "--drain-seconds", "0") as service:
        for view in range(3):
            answer = httpx.post(
                f"{service.url}/predict", content=view_bytes(1, view), timeout=60, trust_env=False
            )
            assert answer.status_code == 200


OFF = "import sys, service.app as a; from service.settings import Settings as S; "
OFF += "from pathlib import Path as P; a.create_app(S(store=P('s'), embedder=P('e'))); "


def test_the_sdk_is_not_loaded_while_it_is_off() -> None:
    """Nor anything that could send."""
    program = (
        OFF + "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'requests'))])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "[]\n"


def test_a_collector_without_the_sdk_is_refused_in_words(artifacts: Artifacts) -> None:
    """The extra to install is named."""
    program = "import sys; sys.modules['opentelemetry.sdk'] = None; import runpy; "
    program += "sys.argv[0] = 'cairn-serve'; runpy.run_module('service', run_name='__main__')"
    words = ["--store", str(artifacts.store), "--embedder", str(artifacts.embedder), "--port", "0"]
    ended = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=ROOT,
        env=environment() | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert re.search(r"pip install 'cairn-landmarks\[otel\]'", ended.stderr)
    assert "Traceback" not in ended.stderr


def test_the_log_names_the_peer(artifacts: Artifacts, tmp_path: Path) -> None:
    """As its address, or the one that a trusted proxy names."""
    log, flags = tmp_path / "log", ("--threads", "2", "--trusted-proxies", "127.0.0.1")
    with serving(artifacts, log, *flags, "--drain-seconds", "0") as service:
        for headers in ({}, {"X-Forwarded-For": "192.0.2.7"}):
            httpx.get(f"{service.url}/docs", headers=headers, trust_env=False)
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"/docs"' in line]
    assert [line["peer"] for line in lines] == ["127.0.0.1", "192.0.2.7"]
    assert re.fullmatch(r"GET /docs 200 [\d.]+ ms from 192.0.2.7", lines[1]["message"])
