"""The real service, on a real socket, over tiny real artifacts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from embedder.embedder import Embedder
from embedder.photographs import open_data
from index.build import build
from index.store import Store
from tests.conftest import ROOT
from tests.factories import photographs, tiny_embedder, view_bytes

MAX_BYTES = 300_000
"""Small, so that a test of the limit is quick; still larger than any picture drawn here."""

MAX_PIXELS = 4_000_000
"""Not the default either, so that a limit that is not handed on is noticed."""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """What a service needs, and the photographs that it was made from."""

    photographs: Path
    embedder: Path
    store: Path


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers at ``url``; its log is in ``log``."""

    url: str
    process: subprocess.Popen[str]
    log: Path


def command(artifacts: Artifacts, *flags: str) -> list[str]:
    """Word the command that serves ``artifacts`` on a free port."""
    fixed = ["--store", str(artifacts.store), "--embedder", str(artifacts.embedder), "--port", "0"]
    return [sys.executable, "-m", "service", *fixed, *flags]


def environment() -> dict[str, str]:
    """Give this process's environment without settings that it may hold for a service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CAIRN_")}


@contextmanager
def serving(artifacts: Artifacts, log: Path, *flags: str) -> Iterator[Running]:
    """Start the service, wait until it says where it answers, and stop it at the end."""
    with (
        log.open("w") as sink,
        subprocess.Popen(
            command(artifacts, *flags),
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, f"the service did not start: {log.read_text()}"
        try:
            yield Running(url, process, log)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Make an embedder, and a gallery of 5 landmarks with 6 pictures each."""
    directory = tmp_path_factory.mktemp("artifacts")
    pictures = photographs(directory / "photographs")
    maker = tiny_embedder(directory / "embedder")
    store = directory / "store"
    embedder = Embedder.load(maker)
    build(Store(store), embedder, open_data(pictures))
    embedder.close()
    return Artifacts(pictures, maker, store)


@pytest.fixture(scope="session")
def service(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run one service for all tests that only ask it."""
    log = tmp_path_factory.mktemp("service") / "log"
    limits = ("--max-bytes", str(MAX_BYTES), "--max-pixels", str(MAX_PIXELS))
    with serving(artifacts, log, *limits, "--threads", "2") as running:
        yield running


@pytest.fixture
def client(service: Running) -> Iterator[httpx.Client]:
    """Ask the service; whatever a test does to it, it must still answer afterwards."""
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:
        yield client
        assert service.process.poll() is None, service.log.read_text()
        answer = client.post("/predict", content=view_bytes(1, 0))
        assert answer.status_code == 200
        assert answer.json()["landmark_id"] == "landmark-1"
