"""The script behind `make demo`: the service outlives it, answers, and can be stopped."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from embedder.embedder import Embedder
from index.building.build import build
from index.gallery.store import Store
from photographs import open_data
from tests.conftest import ROOT
from tests.factories import photographs, tiny_embedder


def demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run demo.py as make does, where a proxy is set that does not know this machine."""
    command = [sys.executable, "demo.py", *map(str, arguments)]
    environment = os.environ | {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def start(state: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Start a service over the artifacts beside the state."""
    root = state.parent
    places = ("--store", root / "store", "--embedder", root / "embedder", "--data", root / "data")
    return demo("start", *places, "--state", state, *arguments)


def address_of(started: subprocess.CompletedProcess[str]) -> str:
    """Read the service's address from what was printed."""
    found = re.search(r"http://[\d.:]+", started.stdout)
    assert found, started.stdout + started.stderr
    return found[0]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """Make artifacts of a folder of photographs; afterwards stop whatever was started."""
    data = photographs(tmp_path / "data")
    path = tiny_embedder(tmp_path / "embedder")
    with closing(Embedder.load(path, device="cpu", precision="f32", threads=1)) as embedder:
        build(Store(tmp_path / "store"), embedder, open_data(data))
    yield tmp_path / "state"
    demo("stop", "--state", tmp_path / "state")


def test_the_demo_answers_outlives_its_script_and_stops(state: Path) -> None:
    """What is printed is a picture of the person's own, its answer, and a living address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        started = start(state, "--port", port)
    assert started.returncode == 0, started.stdout + started.stderr
    assert f"Port {port} is taken" in started.stdout
    picture = re.search(r"Asked about +(\S+)", started.stdout)
    assert picture
    landmark = Path(picture[1]).parent.name
    assert re.search(rf"The answer .*{landmark}", started.stdout)
    address = address_of(started)
    assert httpx.get(f"{address}/readyz").status_code == 200
    stopped = demo("stop", "--state", state)
    assert "Stopping the service" in stopped.stdout
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/readyz")
    assert demo("stop", "--state", state).stdout == ""


def test_a_second_start_stops_the_first(state: Path) -> None:
    """There is never more than one service of the demo."""
    first = address_of(start(state, "--port", 0))
    pid = int((state / "service.pid").read_text())
    again = start(state, "--port", 0)
    assert f"Stopping the service (process {pid})" in again.stdout
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{first}/readyz")
    assert httpx.get(f"{address_of(again)}/readyz").status_code == 200


def test_a_service_that_cannot_start_is_shown_with_its_log(state: Path) -> None:
    """The end of the log is printed, the exit code is 1, and no pid file is left."""
    (state.parent / "embedder" / "model.onnx").unlink()
    failed = start(state, "--port", 0)
    assert failed.returncode == 1
    assert "model.onnx" in failed.stdout
    assert not (state / "service.pid").exists()


def test_a_foreign_process_is_not_stopped(state: Path) -> None:
    """A pid file left over from before a restart may name anything: only a service is stopped."""
    state.mkdir()
    with subprocess.Popen(["sleep", "60"]) as other:
        (state / "service.pid").write_text(f"{other.pid}\n")
        demo("stop", "--state", state)
        assert other.poll() is None
        other.kill()
