"""The process around the service: how it starts, refuses to, and stops."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from tests.api.conftest import (
    Artifacts,
    command,
    environment,
    fork_server_of,
    serving,
    workers_of,
)
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


@contextmanager
def waiting(artifacts: Artifacts, log: Path) -> Iterator[str]:
    """Start a service that has nothing to serve yet; give its address once it has said why."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [*command(artifacts, "--port", str(port)), "--poll-seconds", "0.1"]
    with (
        log.open("w") as sink,
        subprocess.Popen(
            arguments, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=sink, text=True
        ) as process,
    ):
        end = time.monotonic() + 60
        while "nothing serves" not in log.read_text():
            assert time.monotonic() < end
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(30) == 0
    assert "Traceback" not in log.read_text()


def test_a_foreign_embedder_is_refused_with_both_digests(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    """The gallery of one embedder is not served with another."""
    other = tiny_embedder(tmp_path / "other", seed=1)
    with waiting(replace(artifacts, embedder=other), tmp_path / "log") as url:
        assert httpx.get(f"{url}/healthz", trust_env=False).is_success
        answer = httpx.get(f"{url}/readyz", trust_env=False)
        assert (answer.status_code, answer.json()["code"]) == (503, "not-ready")
        assert "artifact-mismatch" in answer.json()["detail"]
        asked = httpx.post(f"{url}/predict", content=view_bytes(0, 0), trust_env=False)
        assert (asked.status_code, asked.json()["code"]) == (503, "not-ready")
        assert int(asked.headers["retry-after"]) >= 1
    log = (tmp_path / "log").read_text()
    assert read_manifest(other)[1] in log
    assert read_manifest(artifacts.embedder)[1] in log


def test_a_damaged_embedder_is_refused_by_file(artifacts: Artifacts, tmp_path: Path) -> None:
    """One flipped bit in the network."""
    damaged = shutil.copytree(artifacts.embedder, tmp_path / "damaged")
    data = bytearray((damaged / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (damaged / "model.onnx").write_bytes(data)
    with waiting(replace(artifacts, embedder=damaged), tmp_path / "log"):
        assert "model.onnx" in (tmp_path / "log").read_text()


def test_what_is_missing_at_the_start_is_served_once_it_is_there(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    """A person learns what makes a gallery, and needs no restart after that."""
    store = tmp_path / "store"
    with waiting(replace(artifacts, store=store), tmp_path / "log") as url:
        assert "cairn-index build" in (tmp_path / "log").read_text()
        shutil.copytree(artifacts.store, store)
        end = time.monotonic() + 60
        while not httpx.get(f"{url}/readyz", trust_env=False).is_success:
            assert time.monotonic() < end
            time.sleep(0.05)
        asked = httpx.post(f"{url}/predict", content=view_bytes(2, 0), trust_env=False)
        assert asked.json()["landmark_id"] == "landmark-2"


def test_a_file_that_comes_late_is_waited_for(artifacts: Artifacts, tmp_path: Path) -> None:
    """As over NFS: what is published names it, and nothing else changes when it is there."""
    store = shutil.copytree(artifacts.store, tmp_path / "store")
    [vectors] = store.glob("builds/*/vectors.faiss")
    late = vectors.rename(tmp_path / "late")
    with waiting(replace(artifacts, store=store), tmp_path / "log") as url:
        assert "vectors.faiss is missing" in (tmp_path / "log").read_text()
        late.rename(vectors)
        end = time.monotonic() + 60
        while not httpx.get(f"{url}/readyz", trust_env=False).is_success:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_stop_before_anything_is_open_is_heard(artifacts: Artifacts) -> None:
    """From the first line on, as an orchestrator expects of process 1, which has no defaults."""
    program = "import service.cli, os, signal; os.kill(os.getpid(), signal.SIGTERM); print('deaf')"
    ended = run([sys.executable, "-c", f"import service.cli; service.cli.hear_stops(); {program}"])
    assert (ended.returncode, ended.stdout) == (0, "")


def test_a_worker_that_dies_is_replaced_and_no_picture_lost(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    """Whatever kills it: a fault of a library, or the system in want of memory."""
    with serving(artifacts, tmp_path / "log", "--threads", "2") as running:
        before = set(workers_of(running))
        asked: list[httpx.Response] = []

        def ask() -> None:
            for _ in range(40):
                data = view_bytes(1, 0)
                asked.append(
                    httpx.post(f"{running.url}/predict", content=data, timeout=60, trust_env=False)
                )

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for worker in before:
            time.sleep(0.2)
            os.kill(worker, signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in asked} == {200}
        end = time.monotonic() + 30
        while len(workers_of(running)) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert not before & set(workers_of(running))
    assert "was ended by signal 9" in (tmp_path / "log").read_text()


def test_workers_give_way_to_the_front_process(artifacts: Artifacts, tmp_path: Path) -> None:
    """It needs little time, but at once."""
    with serving(artifacts, tmp_path / "log") as running:
        own = os.getpriority(os.PRIO_PROCESS, running.process.pid)
        for worker in workers_of(running):
            assert os.getpriority(os.PRIO_PROCESS, worker) == min(19, own + 10)


def test_a_fork_server_that_dies_is_opened_anew(artifacts: Artifacts, tmp_path: Path) -> None:
    """Its workers answer meanwhile; when one of them dies too, everything is opened again."""
    with serving(artifacts, tmp_path / "log", "--threads", "1", "--poll-seconds", "0.1") as running:
        workers = workers_of(running)
        os.kill(fork_server_of(running), signal.SIGKILL)
        url = f"{running.url}/predict"
        assert httpx.post(url, content=view_bytes(1, 0), timeout=60, trust_env=False).is_success
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        for _ in range(3):
            answer = httpx.post(url, content=view_bytes(1, 0), timeout=60, trust_env=False)
            assert answer.is_success, answer.text


def test_no_process_stays_when_the_service_is_killed(artifacts: Artifacts, tmp_path: Path) -> None:
    """Not by a signal that it can hear, but for good."""
    with serving(artifacts, tmp_path / "log") as running:
        others = [fork_server_of(running), *workers_of(running)]
        running.process.kill()
        end = time.monotonic() + 20
        while any(Path(f"/proc/{process}/status").exists() for process in others):
            assert time.monotonic() < end
            time.sleep(0.05)


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
def test_a_gallery_is_checked_and_in_memory(
    artifacts: Artifacts, tmp_path: Path, kind: str
) -> None:
    """All of it, beside the answers, whatever kind it is."""
    embedder, store = Embedder.load(artifacts.embedder), Store(tmp_path / "store")
    manifest = build(store, embedder, open_data(artifacts.photographs), BuildRecipe(kind=kind))
    embedder.close()
    log, said = tmp_path / "log", f"every byte of the gallery {manifest.build_id} is"
    with serving(replace(artifacts, store=store.path), log):
        end = time.monotonic() + 20
        while said not in log.read_text():
            assert time.monotonic() < end
            time.sleep(0.02)


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
