"""New galleries and embedders under load: nothing dropped, nothing mixed, nothing bad served."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from embedder.artifacts.files import write_atomic
from embedder.embedder import Embedder
from embedder.manifest import read_manifest
from index.building.build import build
from index.gallery.store import Store
from photographs import open_data
from service.contract.api_keys import digest_of
from tests.api.conftest import Artifacts, Running, serving
from tests.factories import photographs, tiny_embedder, view_bytes

ADMIN = "an admin key for tests"
FLAGS = ("--poll-seconds", "0.1", "--admin-keys", digest_of(ADMIN))
QUIET = ("--poll-seconds", "1000", "--admin-keys", digest_of(ADMIN))


@pytest.fixture
def own(artifacts: Artifacts, tmp_path: Path) -> Artifacts:
    """Give a store, and a folder of embedders, that the test may change."""
    shutil.copytree(artifacts.store, tmp_path / "store")
    shutil.copytree(artifacts.embedder, tmp_path / "embedders" / "first")
    return replace(artifacts, store=tmp_path / "store", embedder=tmp_path / "embedders")


def publish(own: Artifacts, place: Path, pictures: Path) -> str:
    """Build a gallery with the embedder in ``place`` and publish it; return its id."""
    embedder = Embedder.load(place)
    build(Store(own.store), embedder, open_data(pictures))
    embedder.close()
    return (own.store / "CURRENT").read_text().strip()


def point(own: Artifacts, build_id: str) -> None:
    """Publish a build that is in the store already."""
    write_atomic(own.store / "CURRENT", f"{build_id}\n".encode())


def ready(service: Running) -> dict[str, Any]:
    """Ask what answers."""
    body: dict[str, Any] = httpx.get(f"{service.url}/readyz", timeout=60, trust_env=False).json()
    return body


def until(true: Callable[[], bool]) -> None:
    """Wait for what the service does by itself."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def reload(service: Running) -> httpx.Response:
    """Order a reload."""
    headers = {"X-API-Key": ADMIN}
    return httpx.post(f"{service.url}/admin/reload", headers=headers, timeout=30, trust_env=False)


def test_a_new_gallery_is_followed(own: Artifacts, tmp_path: Path) -> None:
    """A landmark that was added is known without a restart."""
    with serving(own, tmp_path / "log", *FLAGS) as service:
        pictures = photographs(tmp_path / "more", landmarks=7)
        new = publish(own, own.embedder / "first", pictures)
        until(lambda: ready(service)["gallery"] == new)
        answer = httpx.post(
            f"{service.url}/predict", content=view_bytes(6, 0), timeout=60, trust_env=False
        )
        assert answer.json()["landmark_id"] == "landmark-6"
        assert answer.json()["gallery"] == new


def test_a_new_embedder_and_its_gallery_are_switched_to_as_a_pair(
    own: Artifacts, tmp_path: Path
) -> None:
    """The new embedder lies beside the old one; publishing the gallery switches to both."""
    with serving(own, tmp_path / "log", *FLAGS) as service:
        before = ready(service)
        place = tiny_embedder(own.embedder / "second", seed=5)
        time.sleep(0.5)
        assert ready(service)["embedder"] == before["embedder"]
        new = publish(own, place, own.photographs)
        until(lambda: ready(service)["gallery"] == new)
        assert ready(service)["embedder"] == read_manifest(place)[1]


@pytest.mark.parametrize("how", ["order", "signal"])
def test_a_reload_can_be_ordered(own: Artifacts, tmp_path: Path, how: str) -> None:
    """Over HTTP with the admin key, or by SIGHUP."""
    pictures = photographs(tmp_path / "more", landmarks=6)
    with serving(own, tmp_path / "log", *QUIET) as service:
        new = publish(own, own.embedder / "first", pictures)
        assert ready(service)["gallery"] != new
        if how == "signal":
            service.process.send_signal(signal.SIGHUP)
            until(lambda: ready(service)["gallery"] == new)
        else:
            assert reload(service).json() == ready(service)
            assert ready(service)["gallery"] == new


def test_an_embedder_half_laid_beside_the_one_that_serves_is_no_fault(
    own: Artifacts, tmp_path: Path
) -> None:
    """A copy takes its time; until it is wanted, it is nobody's concern."""
    with serving(own, tmp_path / "log", *QUIET) as service:
        half = own.embedder / "ahead"  # comes before the other one by name
        half.mkdir()
        (half / "manifest.json").write_bytes(b"")
        assert reload(service).is_success
        assert "refused" not in ready(service)


def damage(own: Artifacts, build_id: str) -> None:
    """Flip a bit in the vectors, which leaves their size as it was."""
    path = own.store / "builds" / build_id / "vectors.faiss"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.unlink()
    path.write_bytes(data)


def foreign(own: Artifacts, _build_id: str) -> None:
    """Take away the embedder that made the gallery."""
    shutil.rmtree(own.embedder / "second")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(damage, "artifact-damaged"), (foreign, "artifact-mismatch")],
    ids=["damaged", "foreign"],
)
def test_what_is_bad_is_refused_and_the_old_serves_on(
    own: Artifacts, tmp_path: Path, spoil: Callable[[Artifacts, str], None], reason: str
) -> None:
    """``/readyz`` and the metrics say so, until something good is published."""
    with serving(own, tmp_path / "log", *FLAGS) as service:
        old = ready(service)
        place = tiny_embedder(own.embedder / "second", seed=5)
        aside = replace(own, store=shutil.copytree(own.store, tmp_path / "aside"))
        bad = publish(aside, place, own.photographs)
        shutil.copytree(aside.store / "builds" / bad, own.store / "builds" / bad)
        spoil(own, bad)
        point(own, bad)
        until(lambda: "refused" in ready(service))
        assert ready(service)["refused"] == {"gallery": bad, "reason": reason}
        assert ready(service)["gallery"] == old["gallery"]
        metrics = httpx.get(f"{service.url}/metrics", timeout=60, trust_env=False).text
        assert "cairn_refused 1.0" in metrics
        answer = reload(service)
        assert answer.status_code == 409
        assert answer.json()["code"] == "reload-refused"
        assert str(tmp_path) not in answer.text
        assert httpx.post(
            f"{service.url}/predict", content=view_bytes(1, 0), timeout=60, trust_env=False
        ).is_success
        point(own, old["gallery"])
        until(lambda: "refused" not in ready(service))
    assert bad in (tmp_path / "log").read_text()


class Askers:
    """Clients that ask without a pause, each about a landmark of its own."""

    def __init__(self, url: str) -> None:
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.faults: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url, n)) for n in range(4)]

    def __enter__(self) -> Askers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url: str, number: int) -> None:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            while not self._stop.is_set():
                answer = client.post("/predict", content=view_bytes(number, 50))
                if answer.status_code == 200:
                    self.answers.append((number, answer.json()))
                else:
                    self.faults.append(answer.text)


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("swaps", [20, pytest.param(200, marks=pytest.mark.full)])
def test_many_swaps_under_load_drop_and_mix_nothing(
    own: Artifacts, tmp_path: Path, swaps: int
) -> None:
    """Every answer names the build it came from, and is what that build answers."""
    first = (own.store / "CURRENT").read_text().strip()
    names = photographs(tmp_path / "other", landmarks=5)
    for folder in sorted(names.iterdir()):
        folder.rename(folder.with_name(folder.name.replace("landmark", "other")))
    place = tiny_embedder(own.embedder / "second", seed=5)
    second = publish(own, place, names)
    point(own, first)
    words = {first: "landmark", second: "other"}
    digests = {first: read_manifest(own.embedder / "first")[1], second: read_manifest(place)[1]}
    with serving(own, tmp_path / "log", *QUIET) as service, Askers(service.url) as askers:
        for number in range(swaps):
            point(own, (second, first)[number % 2])
            assert reload(service).is_success
    assert askers.faults == []
    assert {body["gallery"] for _, body in askers.answers} == {first, second}
    for number, body in askers.answers:
        assert body["landmark_id"] == f"{words[body['gallery']]}-{number}"
        assert body["embedder"] == digests[body["gallery"]]
