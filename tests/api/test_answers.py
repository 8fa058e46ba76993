"""What can be asked beside one picture's landmark, over HTTP."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from embedder.embedder import Embedder
from index.building.build import build
from index.building.embedder_choice import EmbedderChoice
from index.building.recipe import BuildRecipe
from index.gallery.store import Store
from index.maintenance.add import add
from photographs import open_data
from service.contract.api_keys import digest_of
from tests.api.conftest import MAX_BYTES, Artifacts, Running, serving
from tests.api.test_requests import problem
from tests.factories import view_bytes

LINK = "http://commons.wikimedia.org/wiki/Category:H%C3%B4tel_de_Ville"
PICTURE = "landmark-2/picture-2-0"
JSON = {"Content-Type": "application/json"}
MOST = 3


@pytest.fixture(scope="module")
def running(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serve five landmarks without links, and one with a name and a link."""
    directory = tmp_path_factory.mktemp("answers")
    data, store = directory / "gldv2", Store(directory / "store")
    path = data / "train/a/b/c/abc1.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(view_bytes(7, 0))
    (data / "train.csv").write_text("id,url,landmark_id\nabc1,,7\n")
    (data / "train_label_to_category.csv").write_text(f"landmark_id,category\n7,{LINK}\n")
    with closing(Embedder.load(artifacts.embedder)) as embedder:
        build(store, embedder, open_data(artifacts.photographs), BuildRecipe())
    add(store, EmbedderChoice(artifacts.embedder), open_data(data))
    flags = ("--max-pictures", str(MOST), "--max-bytes", str(MAX_BYTES))
    with serving(replace(artifacts, store=store.path), directory / "log", *flags) as service:
        yield service


@pytest.fixture
def visitor(running: Running) -> Iterator[httpx.Client]:
    """Ask it."""
    with httpx.Client(base_url=running.url, timeout=60, trust_env=False) as client:
        yield client


def b64(data: bytes) -> str:
    """Encode as programs do."""
    return base64.b64encode(data).decode()


def answered(response: httpx.Response) -> dict[str, Any]:
    """Take the answer of a request that was answered."""
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_distinct_landmarks(visitor: httpx.Client) -> None:
    """As many as are asked for, best first, each with its picture, name and link."""
    params = {"landmarks": 3, "k": 2}
    answer = answered(visitor.post("/v1/predict", params=params, content=view_bytes(7, 1)))
    first, *others = answer["landmarks"]
    assert (first["landmark_id"], first["name"]) == ("7", "Hôtel de Ville")
    assert first["url"] == answer["url"] == answer["neighbors"][0]["url"] == LINK
    assert first["picture"] == "abc1"
    assert first["similarity"] == pytest.approx(answer["confidence"])
    assert len({one["landmark_id"] for one in answer["landmarks"]}) == 3
    assert [one["url"] for one in others] == [None, None]
    assert "landmarks" not in answered(visitor.post("/v1/predict", content=view_bytes(7, 1)))
    everything = visitor.post("/v1/predict", params={"landmarks": 100}, content=view_bytes(7, 1))
    assert len(answered(everything)["landmarks"]) == 6


def test_only_some_landmarks_may_answer(visitor: httpx.Client) -> None:
    """However near others are."""
    params = {"only": ["landmark-3", "7"], "landmarks": 100}
    answer = answered(visitor.post("/predict", params=params, content=view_bytes(1, 9)))
    assert {one["landmark_id"] for one in answer["landmarks"]} == {"landmark-3", "7"}
    assert answer["landmark_id"] in ("landmark-3", "7")


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("/predict", {"only": ["landmark-1", "nobody"]}, "id-unknown"),
        ("/predict", {"only": ["x"] * 1001}, "bad-parameters"),
        ("/predict", {"landmarks": 0}, "bad-parameters"),
        ("/predict", {"landmarks": 101}, "bad-parameters"),
        ("/predict", {"together": "sum"}, "bad-parameters"),
        ("/verify", {}, "bad-parameters"),
        ("/verify", {"landmark": "nobody"}, "id-unknown"),
        ("/embed", {"picture": PICTURE}, "bad-form"),
        ("/predict", {"picture": PICTURE}, "bad-form"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    visitor: httpx.Client, path: str, params: dict[str, Any], code: str
) -> None:
    """Unknown landmarks, numbers out of range, a picture beside the id of one."""
    problem(visitor.post(path, params=params, content=view_bytes(1, 9)), 422, code)


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("/predict", {"picture": "nobody"}, "id-unknown"),
        ("/embed", {"picture": "../../etc/passwd"}, "id-unknown"),
        ("/verify", {"picture": "", "landmark": "7"}, "id-unknown"),
        ("/predict", {"picture": PICTURE, "together": "max"}, "bad-parameters"),
        ("/verify", {"picture": "abc1", "landmark": "7"}, "nothing-to-search"),
    ],
)
def test_a_picture_of_the_gallery_that_cannot_be_the_query(
    visitor: httpx.Client, path: str, params: dict[str, str], code: str
) -> None:
    """One that is not there, or whose landmark has no other."""
    problem(visitor.post(path, params=params), 422, code)


def test_a_picture_of_the_gallery_is_the_query(visitor: httpx.Client) -> None:
    """It finds the others of its landmark, and not itself."""
    params = {"picture": PICTURE, "k": 100}
    answer = answered(visitor.post("/predict", params=params))
    found = [one["picture"] for one in answer["neighbors"]]
    assert answer["landmark_id"] == "landmark-2"
    assert PICTURE not in found
    assert len(found) == 30


def test_several_pictures_are_one_query(visitor: httpx.Client) -> None:
    """In a form and in JSON; by their mean or by the nearest of them."""
    pictures = [view_bytes(1, 50), view_bytes(2, 50)]
    form = [("file", (f"{n}.jpg", data)) for n, data in enumerate(pictures)]
    texts = {"pictures": [b64(data) for data in pictures]}
    alone = [answered(visitor.post("/predict", content=data)) for data in pictures]
    answers = {}
    for together in ("mean", "max"):
        params = {"together": together, "k": 12}
        answer = answers[together] = answered(visitor.post("/predict", params=params, files=form))
        assert answer == answered(visitor.post("/predict", params=params, json=texts))
    ids = {one["landmark_id"] for one in answers["max"]["neighbors"]}
    assert ids == {"landmark-1", "landmark-2"}
    assert answers["max"]["confidence"] == pytest.approx(max(one["confidence"] for one in alone))
    assert answers["mean"]["confidence"] < answers["max"]["confidence"]
    single = visitor.post("/predict", params={"together": "max"}, content=pictures[0])
    assert answered(single) == alone[0]
    problem(visitor.post("/predict", files=form), 422, "bad-form")
    many = [("file", ("x.jpg", pictures[0]))] * (MOST + 1)
    problem(visitor.post("/predict", params={"together": "mean"}, files=many), 422, "bad-form")


def test_one_of_several_that_is_no_picture_refuses_the_query(visitor: httpx.Client) -> None:
    """An answer from the others would hide it."""
    texts = {"pictures": [b64(view_bytes(1, 50)), b64(b"text")]}
    response = visitor.post("/predict", params={"together": "mean"}, json=texts)
    problem(response, 415, "not-a-picture")


@pytest.mark.parametrize("landmark", range(3))
def test_a_verification(visitor: httpx.Client, landmark: int) -> None:
    """The nearest picture of one landmark; no decision where nothing is calibrated."""
    params = {"landmark": f"landmark-{landmark}"}
    outcome = answered(visitor.post("/v1/verify", params=params, content=view_bytes(1, 50)))
    best = visitor.post("/predict", params={"landmarks": 100}, content=view_bytes(1, 50))
    similarities = {one["landmark_id"]: one["similarity"] for one in answered(best)["landmarks"]}
    assert outcome == {
        "landmark_id": f"landmark-{landmark}",
        "name": f"landmark-{landmark}",
        "url": None,
        "similarity": pytest.approx(similarities[f"landmark-{landmark}"]),
        "probability": None,
        "same": None,
        "threshold": None,
        "gallery": answered(best)["gallery"],
        "embedder": answered(best)["embedder"],
    }


def test_a_vector_as_numbers_and_as_bytes(visitor: httpx.Client, artifacts: Artifacts) -> None:
    """The same, of length 1, and that of the embedder."""
    data = view_bytes(1, 50)
    found = answered(visitor.post("/v1/embed", content=data))
    headers = {"Accept": "application/octet-stream, application/json;q=0.5"}
    response = visitor.post("/v1/embed", content=data, headers=headers)
    assert response.headers["content-type"] == "application/octet-stream"
    assert struct.unpack("<8f", response.content) == tuple(found["vector"])
    with closing(Embedder.load(artifacts.embedder)) as embedder:
        [expected] = embedder.embed([embedder.prepare(data)])
        assert found["embedder"] == embedder.digest
    np.testing.assert_allclose(found["vector"], expected, atol=1e-2)  # bf16 or f32
    assert found["dimension"] == 8
    stored = answered(visitor.post("/embed", params={"picture": PICTURE}))
    assert np.linalg.norm(stored["vector"]) == pytest.approx(1)
    for accept in ("*/*", "application/json", "application/json, application/octet-stream"):
        response = visitor.post("/embed", content=data, headers={"Accept": accept})
        assert response.headers["content-type"] == "application/json"


BASE64 = b64(view_bytes(1, 50))
FORMS = {
    "plain": BASE64,
    "data URL": f"data:image/jpeg;base64,{BASE64}",
    "data URL in capitals": f"DATA:image/jpeg;Base64,{BASE64}",
    "in lines": "\n".join(BASE64[n : n + 76] for n in range(0, len(BASE64), 76)) + "\n",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=list(FORMS))
def test_json_bodies(visitor: httpx.Client, text: str) -> None:
    """A picture in JSON is answered as its bytes are, whichever way its base64 is written."""
    expected = answered(visitor.post("/predict", content=view_bytes(1, 50)))
    assert answered(visitor.post("/predict", json={"picture": text})) == expected
    outcomes = answered(visitor.post("/predict/batch", json={"pictures": [text, b64(b"x")]}))
    first, second = outcomes["outcomes"]
    assert (first["answer"], second["problem"]["code"]) == (expected, "not-a-picture")


MALFORMED = {
    "no JSON": (b"{", 400, "json-malformed"),
    "no text": (b"\xff\xfe", 400, "json-malformed"),
    "deep": (b"[" * 100_000, 400, "json-malformed"),
    "no base64": (b'{"picture": "a*b"}', 400, "json-malformed"),
    "cut base64": (b'{"picture": "abc"}', 400, "json-malformed"),
    "not ASCII": ('{"picture": "é"}'.encode(), 400, "json-malformed"),
    "a URL": (b'{"picture": "https://x.example/a.jpg"}', 400, "json-malformed"),
    "data in percent signs": (b'{"picture": "data:image/png,%89PNG"}', 400, "json-malformed"),
    "empty": (b'{"picture": ""}', 400, "picture-undecodable"),
    "no field": (b"{}", 422, "bad-form"),
    "a list": (b"[]", 422, "bad-form"),
    "a number": (b'{"picture": 3}', 422, "bad-form"),
    "a null": (b'{"picture": null}', 422, "bad-form"),
    "more fields": (b'{"picture": "YWI=", "k": 3}', 422, "bad-form"),
    "both fields": (b'{"picture": "YWI=", "pictures": ["YWI="]}', 422, "bad-form"),
    "two pictures": (b'{"pictures": ["YWI=", "YWI="]}', 422, "bad-form"),
    "no pictures": (b'{"pictures": []}', 422, "bad-form"),
    "a text of pictures": (b'{"pictures": "YWI="}', 422, "bad-form"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_json_that_cannot_be_read_is_refused_in_words(visitor: httpx.Client, name: str) -> None:
    """Each with what is wrong, and never with an error of the program."""
    body, status, code = MALFORMED[name]
    response = visitor.post("/predict", content=body, headers=JSON)
    detail = problem(response, status, code)
    assert re.search({"json-malformed": "JSON|base64", "bad-form": "picture"}.get(code, ""), detail)


def test_the_limit_of_bytes_is_that_of_the_picture(visitor: httpx.Client) -> None:
    """Base64 takes a third more room, which is allowed; a byte too many is not."""
    for size, status, code in (
        (MAX_BYTES, 415, "not-a-picture"),
        (MAX_BYTES + 1, 413, "body-too-large"),
        (3 * MAX_BYTES, 413, "body-too-large"),
    ):
        response = visitor.post("/predict", json={"picture": b64(bytes([9]) * size)})
        problem(response, status, code)


def test_landmarks_are_searched_by_name(visitor: httpx.Client) -> None:
    """Without regard to case and accents; in pages."""
    found = answered(visitor.get("/v1/landmarks", params={"q": "HOTEL DE"}))
    assert (found["total"], found["offset"]) == (1, 0)
    assert found["landmarks"] == [{"landmark_id": "7", "name": "Hôtel de Ville", "url": LINK}]
    page = answered(visitor.get("/landmarks", params={"q": "mark-", "offset": 3, "limit": 1}))
    assert (page["total"], page["offset"]) == (5, 3)
    assert [one["landmark_id"] for one in page["landmarks"]] == ["landmark-3"]
    assert answered(visitor.get("/landmarks", params={"q": "nowhere"}))["total"] == 0
    problem(visitor.get("/landmarks", params={"q": "x" * 201}), 422, "bad-parameters")
    assert answered(visitor.get("/landmarks"))["total"] == 6


def test_all_of_it_needs_a_key_where_keys_are_needed(artifacts: Artifacts, tmp_path: Path) -> None:
    """As the other addresses do; pages of other origins may use it where they may use those."""
    flags = ("--api-keys", digest_of("a key"), "--origins", "https://app.example")
    with (
        serving(artifacts, tmp_path / "log", *flags) as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
    ):
        for path in ("/verify?landmark=landmark-1", "/embed", "/v1/predict?landmarks=2"):
            for key, status in (("", 401), ("a key", 200)):
                headers = {"X-API-Key": key, "Origin": "https://app.example", **JSON}
                body = json.dumps({"picture": BASE64})
                response = client.post(path, content=body, headers=headers)
                assert response.status_code == status, response.text
                assert response.headers["access-control-allow-origin"] == "https://app.example"
