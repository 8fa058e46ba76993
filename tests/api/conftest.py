"""The real service, on a real socket, over tiny real artifacts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from embedder.embedder import Embedder
from index.building.build import build
from index.building.recipe import BuildRecipe
from index.gallery.store import Store
from photographs import open_data
from tests.conftest import ROOT
from tests.factories import photographs, tiny_embedder, view_bytes

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.api.browsing import Visit

MAX_BYTES = 300_000
"""Small, so that a test of the limit is quick; still larger than any picture drawn here."""

MAX_PIXELS = 4_000_000
"""Not the default either, so that a limit that is not handed on is noticed."""

PATIENCE_MILLISECONDS = 30_000
"""How long a browser may take over anything."""


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
    fixed = ["--store", str(artifacts.store), "--embedder", str(artifacts.embedder)]
    fixed += ["--port", "0", "--drain-seconds", "0"]
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


def children(process: int) -> list[int]:
    """Find the processes that a process has started."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in listed.split()]


def fork_server_of(service: Running) -> int:
    """Find the process that holds the gallery."""
    [fork_server] = children(service.process.pid)
    return fork_server


def workers_of(service: Running) -> list[int]:
    """Find the processes that answer pictures."""
    return children(fork_server_of(service))


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


@pytest.fixture(scope="session")
def shown(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Build the gallery again, with pictures that can be shown."""
    store = Store(tmp_path_factory.mktemp("shown") / "store")
    embedder = Embedder.load(artifacts.embedder)
    build(store, embedder, open_data(artifacts.photographs), BuildRecipe(thumbnail_side=48))
    embedder.close()
    return replace(artifacts, store=store.path)


@pytest.fixture(scope="session")
def open_service(shown: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serve it to anybody."""
    log = tmp_path_factory.mktemp("page") / "log"
    with serving(shown, log, "--max-bytes", str(MAX_BYTES)) as running:
        yield running


@pytest.fixture(scope="module")  # its event loop would be in the way of other tests
def browser() -> Iterator[Browser]:
    """Start Chromium, as Debian packs it."""
    from playwright.sync_api import expect, sync_playwright

    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=path, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Give a function that opens the page of a service; nothing may go wrong in it unseen."""
    from tests.api.browsing import Visit

    visits = []

    def open_page(service: Running, *foreseen: str, **options: Any) -> Visit:
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        visited = Visit(context.new_page(), service.url, foreseen)
        visits.append(visited)
        visited.open()
        return visited

    yield open_page
    for visited in visits:
        visited.close()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Write pictures that the gallery has not seen, one of each of three landmarks."""
    paths = [tmp_path / f"holiday {landmark}.jpg" for landmark in range(3)]
    for landmark, path in enumerate(paths):
        path.write_bytes(view_bytes(landmark, 50))
    return paths
