"""What ``POST /predict`` answers for good pictures."""

from __future__ import annotations

import asyncio
import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from embedder.embedder import Embedder
from embedder.manifest import read_manifest
from index.gallery.gallery import Gallery
from tests.api.conftest import Artifacts, Running
from tests.conftest import ROOT
from tests.factories import view_bytes

ALWAYS = {"landmark_id", "name", "url", "confidence", "probability", "known", "gallery", "embedder"}


def gallery_pictures(artifacts: Artifacts) -> list[tuple[str, bytes]]:
    """Give every picture of the gallery with its landmark."""
    files = sorted(artifacts.photographs.glob("*/*.jpg"))
    assert len(files) == 30
    return [(file.parent.name, file.read_bytes()) for file in files]


def test_a_picture_of_the_gallery_gives_its_own_class(
    client: httpx.Client, artifacts: Artifacts
) -> None:
    """Each of them is its own nearest neighbor, with a confidence near 1 and not above it."""
    for landmark, data in gallery_pictures(artifacts):
        answer = client.post("/predict", content=data).json()
        assert answer["landmark_id"] == landmark
        assert 0.999 < answer["confidence"] <= 1.0


def test_an_answer_holds_what_is_promised(client: httpx.Client, artifacts: Artifacts) -> None:
    """The keys of the contract are there, and the artifacts are named."""
    answer = client.post("/predict", content=view_bytes(2, 99))
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == ALWAYS
    assert body["name"] == "landmark-2"
    assert body["embedder"] == read_manifest(artifacts.embedder)[1]
    assert body["gallery"] == (artifacts.store / "CURRENT").read_text().strip()


def test_without_a_calibration_nothing_is_claimed(client: httpx.Client) -> None:
    """``probability`` and ``known`` are null, neither true nor false."""
    body = client.post("/predict", content=view_bytes(2, 99)).json()
    assert body["probability"] is None
    assert body["known"] is None


def _raw(client: httpx.Client, data: bytes, content_type: str | None) -> dict[str, Any]:
    headers = {} if content_type is None else {"content-type": content_type}
    answer = client.post("/predict", content=data, headers=headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


CONTENT_TYPES = (
    "image/jpeg",
    "image/png",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    None,
)


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_a_raw_body_is_read_whatever_it_is_called(
    client: httpx.Client, content_type: str | None
) -> None:
    """Clients name the same bytes in many ways; what they are decides."""
    data = view_bytes(3, 99)
    assert _raw(client, data, content_type) == _raw(client, data, "image/jpeg")


@pytest.mark.parametrize("filename", ["a.jpg", "naïve café.jpg", '"; drop.jpg', "a.txt"])
def test_multipart_and_raw_give_the_same_answer(client: httpx.Client, filename: str) -> None:
    """The form's file name and content type change nothing."""
    data = view_bytes(3, 99)
    form = client.post("/predict", files={"file": (filename, data, "text/plain")})
    assert form.status_code == 200
    assert form.json() == _raw(client, data, "image/jpeg")


def test_other_fields_of_the_form_do_no_harm(client: httpx.Client) -> None:
    """A web form may send more than the picture."""
    data = view_bytes(3, 99)
    form = client.post("/predict", files={"file": data}, data={"comment": "my holiday"})
    assert form.status_code == 200


def test_confidence_is_the_cosine_in_full_precision(
    client: httpx.Client, artifacts: Artifacts
) -> None:
    """HTTP loses no digit of what the library finds, so it agrees with ``cairn-index predict``."""
    embedder = Embedder.load(artifacts.embedder)
    gallery = Gallery.open(artifacts.store, embedder_digest=embedder.digest)
    for view in range(90, 100):
        data = view_bytes(view % 5, view)
        query = embedder.embed([embedder.prepare(data)])
        found = gallery.search(query, 1)
        answer = client.post("/predict", content=data).json()
        assert answer["confidence"] == pytest.approx(float(found.similarities[0, 0]), abs=1e-6)
        code = int(gallery.catalog.landmarks[found.rows[0, 0]])
        assert answer["landmark_id"] == gallery.catalog.landmark_id(code)
    gallery.close()
    embedder.close()


def test_answers_agree_with_a_prediction_over_files(
    client: httpx.Client, artifacts: Artifacts, tmp_path: Path
) -> None:
    """``cairn-index predict`` writes the same landmarks, and confidences within 1e-5."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(20):
        (pictures / f"{number}.jpg").write_bytes(view_bytes(number % 7, 300 + number))
    flags = ["--store", str(artifacts.store), "--embedder", str(artifacts.embedder)]
    files = ["--pictures", str(pictures), "--out", str(tmp_path / "submission.csv")]
    subprocess.run(
        [sys.executable, "-m", "index", "predict", *flags, *files],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    with (tmp_path / "submission.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 20
    for row in rows:
        landmark, confidence = row["landmarks"].split()
        body = client.post("/predict", content=(pictures / f"{row['id']}.jpg").read_bytes()).json()
        assert body["landmark_id"] == landmark
        assert body["confidence"] == pytest.approx(float(confidence), abs=1e-5)


@pytest.mark.parametrize("k", [0, 1, 7, 30, 100])
def test_as_many_neighbors_as_asked_for(client: httpx.Client, k: int) -> None:
    """Nearest first, at most the whole gallery, the first of them being the answer."""
    body = client.post("/predict", params={"k": k}, content=view_bytes(4, 99)).json()
    assert body.keys() == ALWAYS | {"neighbors"}
    neighbors = body["neighbors"]
    assert len(neighbors) == min(k, 30)
    assert len({neighbor["picture"] for neighbor in neighbors}) == len(neighbors)
    similarities = [neighbor["similarity"] for neighbor in neighbors]
    assert similarities == sorted(similarities, reverse=True)
    if neighbors:
        promised = {"landmark_id", "name", "url", "picture", "similarity", "credit"}
        assert neighbors[0].keys() == promised
        assert neighbors[0]["name"] == body["name"]
        assert neighbors[0]["landmark_id"] == body["landmark_id"]
        assert neighbors[0]["similarity"] == body["confidence"]


def test_requests_at_the_same_time_get_their_own_answers(service: Running) -> None:
    """Forty at once, each with another picture, none mixed up with another."""

    async def ask_all() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=40)
        async with httpx.AsyncClient(
            base_url=service.url, timeout=60, limits=limits, trust_env=False
        ) as client:
            return await asyncio.gather(
                *(client.post("/predict", content=view_bytes(n % 5, 200 + n)) for n in range(40))
            )

    answers = asyncio.run(ask_all())
    assert [answer.json()["landmark_id"] for answer in answers] == [
        f"landmark-{n % 5}" for n in range(40)
    ]


def test_alive_and_ready_say_so(client: httpx.Client, artifacts: Artifacts) -> None:
    """``/healthz`` says little; ``/readyz`` says what answers, and in which arithmetic."""
    assert client.get("/healthz").json() == {"status": "alive"}
    ready = client.get("/readyz").json()
    embedder = Embedder.load(artifacts.embedder)
    assert ready == {
        "status": "ready",
        "gallery": (artifacts.store / "CURRENT").read_text().strip(),
        "rows": 30,
        "embedder": embedder.digest,
        "device": embedder.device,
        "runtime": embedder.runtime,
        "precision": embedder.precision,
        "gallery_precision": embedder.precision,
    }
    embedder.close()


def test_openapi_tells_of_both_kinds_of_body(client: httpx.Client) -> None:
    """A generated client finds each kind of body, the parameters and the problems."""
    predict = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    bodies = {"multipart/form-data", "application/json", "image/*"}
    assert bodies <= predict["requestBody"]["content"].keys()
    parameters = [parameter["name"] for parameter in predict["parameters"]]
    assert parameters == ["k", "landmarks", "only", "picture", "together"]
    assert {"200", "400", "413", "415", "422", "503"} <= predict["responses"].keys()
    unprocessable = predict["responses"]["422"]["content"]
    assert list(unprocessable) == ["application/problem+json"]


def test_similar_pictures_are_nearer_than_others(client: httpx.Client) -> None:
    """All six pictures of the landmark come before any other, as the drawn gallery is made."""
    body = client.post("/predict", params={"k": 6}, content=view_bytes(4, 99)).json()
    assert {neighbor["landmark_id"] for neighbor in body["neighbors"]} == {"landmark-4"}
    assert np.mean([neighbor["similarity"] for neighbor in body["neighbors"]]) > 0.9
