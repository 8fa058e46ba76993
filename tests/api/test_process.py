"""The process around the service: how it starts, refuses to, and stops."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from embedder.embedder import Embedder
from embedder.manifest import read_manifest
from index.building.build import build
from index.building.recipe import BuildRecipe
from index.gallery.store import Store
from photographs import open_data
from tests.api.conftest import Artifacts, command, environment, serving
from tests.conftest import ROOT
from tests.factories import tiny_embedder, view_bytes


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command that is expected to end by itself."""
    return subprocess.run(
        arguments,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_foreign_embedder_is_refused_with_both_digests(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    """The gallery of one embedder is not served with another."""
    other = tiny_embedder(tmp_path / "other", seed=1)
    ended = run(command(replace(artifacts, embedder=other)))
    assert ended.returncode == 3
    assert read_manifest(other)[1] in ended.stderr
    assert read_manifest(artifacts.embedder)[1] in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_damaged_embedder_is_refused_by_file(artifacts: Artifacts, tmp_path: Path) -> None:
    """One flipped bit in the network."""
    damaged = shutil.copytree(artifacts.embedder, tmp_path / "damaged")
    data = bytearray((damaged / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (damaged / "model.onnx").write_bytes(data)
    ended = run(command(replace(artifacts, embedder=damaged)))
    assert ended.returncode == 3
    assert "model.onnx" in ended.stderr


def test_an_empty_store_is_refused(artifacts: Artifacts, tmp_path: Path) -> None:
    """And the person learns what makes a gallery."""
    ended = run(command(replace(artifacts, store=tmp_path)))
    assert ended.returncode == 6
    assert "cairn-index build" in ended.stderr


def test_a_port_in_use_is_refused_in_words(artifacts: Artifacts) -> None:
    """At once, and not as a damaged artifact."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(command(artifacts, "--port", str(port)))
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr


def test_settings_that_are_wrong_are_all_named() -> None:
    """Exit code 2, a line for each, and the environment's name beside the flag's."""
    ended = run([sys.executable, "-m", "service", "--port", "x", "--max-bytes", "0"])
    assert ended.returncode == 2
    *lines, hint = ended.stderr.splitlines()
    assert "--help" in hint
    assert [line.partition(": ")[0] for line in lines] == ["cairn-serve"] * 4
    assert [line.split(": ")[1] for line in lines] == [
        "--store (CAIRN_STORE)",
        "--embedder (CAIRN_EMBEDDER)",
        "--port (CAIRN_PORT)",
        "--max-bytes (CAIRN_MAX_BYTES)",
    ]


def test_another_precision_than_the_gallery_s_is_told(artifacts: Artifacts, tmp_path: Path) -> None:
    """In ``/readyz``, and as a warning in the log; agreement needs no warning."""
    with serving(artifacts, tmp_path / "log", "--precision", "f32") as running:
        ready = httpx.get(f"{running.url}/readyz", trust_env=False).json()
    assert ready["precision"] == "f32"
    warned = "queries are embedded in f32" in (tmp_path / "log").read_text()
    assert warned == (ready["gallery_precision"] != "f32")


@pytest.mark.parametrize("kind", ["exact", "fastscan"])
def test_a_gallery_is_brought_into_memory(artifacts: Artifacts, tmp_path: Path, kind: str) -> None:
    """Before the first answer where each query passes all of it, else beside the answers."""
    embedder, store = Embedder.load(artifacts.embedder), Store(tmp_path / "store")
    manifest = build(store, embedder, open_data(artifacts.photographs), BuildRecipe(kind=kind))
    embedder.close()
    log, said = tmp_path / "log", f"the gallery {manifest.build_id} is in memory"
    with serving(replace(artifacts, store=store.path), log):
        end = time.monotonic() + 20
        while said not in log.read_text() and time.monotonic() < end:
            time.sleep(0.02)
    before, _, after = log.read_text().partition("ready: {")
    assert (said in before, said in after) == (kind == "exact", kind != "exact")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_requests_in_flight_finish(
    artifacts: Artifacts, tmp_path: Path, number: signal.Signals
) -> None:
    """A picture half sent at the stop is still answered, then the process ends with 0."""
    data = view_bytes(3, 0)
    with serving(artifacts, tmp_path / "log") as running:
        address = urlsplit(running.url)
        with socket.create_connection((address.hostname, address.port), timeout=20) as link:
            head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(data)}\r\n\r\n"
            link.sendall(head.encode() + data[:100])
            time.sleep(0.3)
            running.process.send_signal(number)
            time.sleep(0.3)
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{running.url}/healthz", trust_env=False)
            link.sendall(data[100:])
            answer = b"".join(iter(lambda: link.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"landmark-3"' in answer
        assert running.process.wait(20) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_help_is_instant_and_imports_nothing_heavy() -> None:
    """Neither the web framework nor numpy is loaded to print it."""
    program = (
        "import sys, service.cli as main\n"
        "try: main.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('pydantic', 'numpy', 'fastapi', 'faiss', 'torch') if m in sys.modules])"
    )
    ended = run([sys.executable, "-c", program])
    assert ended.returncode == 0
    assert "--max-pixels" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "[]"
