"""`--keep-unsure` in the running service, from an unknown picture to one more of the gallery."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from embedder.embedder import Embedder
from index.building.build import build
from index.cli import main
from index.evaluation.calibrate import CalibrationRecipe, calibrate
from index.gallery.store import Store
from photographs import open_data
from tests.api.conftest import Artifacts, Running, serving
from tests.factories import photographs, picture_bytes, tiny_embedder, view_bytes

STRANGER = picture_bytes(503)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Make a gallery that knows what it does not know."""
    directory = tmp_path_factory.mktemp("calibrated")
    data, queries = photographs(directory / "data"), directory / "queries"
    maker, store = tiny_embedder(directory / "embedder", dimension=48), Store(directory / "store")
    for landmark in range(5):
        folder = queries / f"landmark-{landmark}"
        folder.mkdir(parents=True)
        for number in range(40):
            (folder / f"{number}.jpg").write_bytes(view_bytes(landmark, 100 + number))
            stranger = picture_bytes(2000 + landmark * 40 + number)
            (queries / f"{landmark}-{number}.jpg").write_bytes(stranger)
    embedder = Embedder.load(maker)
    build(store, embedder, open_data(data))
    calibrate(store, embedder, open_data(queries), CalibrationRecipe(0.9))
    embedder.close()
    return Artifacts(data, maker, store.path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the place where pictures are kept."""
    return tmp_path_factory.mktemp("kept") / "unsure"


@pytest.fixture(scope="module")
def service(
    artifacts: Artifacts, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Serve it, and keep what is not known."""
    log = tmp_path_factory.mktemp("unsure") / "log"
    with serving(artifacts, log, "--keep-unsure", str(folder)) as running:
        yield running


def test_what_is_not_known_is_kept_sorted_and_added(
    service: Running, artifacts: Artifacts, folder: Path
) -> None:
    """And is known from then on."""
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        known = client.post("/predict", content=view_bytes(1, 0)).json()
        forms = [("file", ("../../x.jpg", STRANGER)), ("file", ("y.jpg", view_bytes(2, 0)))]
        outcomes = client.post("/predict/batch", files=forms).json()["outcomes"]
        assert (known["known"], outcomes[0]["answer"]["known"]) == (True, False)
        deadline = time.monotonic() + 30
        while not list(folder.glob("*.jpg")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        [picture] = folder.glob("*.jpg")
        assert picture.read_bytes() == STRANGER
        assert json.loads(picture.with_suffix(".json").read_text()) == outcomes[0]["answer"]

        new = folder / "A new landmark"
        new.mkdir()
        picture.rename(new / picture.name)
        places = ("--store", artifacts.store, "--embedder", artifacts.embedder, "--data", folder)
        assert main(["add", *map(str, places)]) == 0
        while (answer := client.post("/predict", content=STRANGER).json())["known"] is not True:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert answer["landmark_id"] == "A new landmark"


def test_the_page_says_that_pictures_are_kept(service: Running) -> None:
    """In one sentence, which the page of other services does not show."""
    page = httpx.get(service.url, trust_env=False).text
    assert '<p class="small" hidden>The service does not store your pictures.' in page
    assert '<p class="small" >Pictures that the service is not sure of may be kept' in page


def test_other_services_say_that_they_store_nothing(artifacts: Artifacts, tmp_path: Path) -> None:
    """And they do not."""
    with serving(artifacts, tmp_path / "log") as running:
        page = httpx.get(running.url, trust_env=False).text
    assert '<p class="small" >The service does not store your pictures.' in page
    assert '<p class="small" hidden>Pictures that the service is not sure of may be kept' in page
