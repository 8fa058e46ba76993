"""The other addresses: versions, several pictures at once, landmarks, and their description."""

from __future__ import annotations

import httpx
import pytest

from tests.api.test_requests import problem
from tests.factories import view_bytes


def test_the_short_name_and_the_versioned_one_give_the_same_answer(client: httpx.Client) -> None:
    """``/predict`` is ``/v1/predict``."""
    data = view_bytes(2, 99)
    answers = [client.post(path, content=data).json() for path in ("/predict", "/v1/predict")]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("path", ["/predict/batch", "/v1/predict/batch"])
def test_several_pictures_are_answered_in_their_order(client: httpx.Client, path: str) -> None:
    """Each as if it had come alone, and one that is none leaves the others be."""
    pictures = {f"{n}.jpg": view_bytes(n % 5, 70 + n) for n in range(7)} | {"8.txt": b"text"}
    files = [("file", item) for item in pictures.items()]
    answer = client.post(path, params={"k": 1}, files=files)
    assert answer.status_code == 200, answer.text
    outcomes = answer.json()["outcomes"]
    assert [outcome["name"] for outcome in outcomes] == list(pictures)
    for outcome, data in zip(outcomes[:-1], list(pictures.values())[:-1], strict=True):
        alone = client.post("/predict", params={"k": 1}, content=data).json()
        assert outcome["problem"] is None
        assert outcome["answer"]["landmark_id"] == alone["landmark_id"]
        assert outcome["answer"]["confidence"] == pytest.approx(alone["confidence"], abs=1e-6)
    assert outcomes[-1]["answer"] is None
    assert outcomes[-1]["problem"]["code"] == "not-a-picture"
    assert outcomes[-1]["problem"]["request_id"] == answer.headers["x-request-id"]


def test_too_many_pictures_at_once_are_refused(client: httpx.Client) -> None:
    """With the number that is taken."""
    files = [("file", ("a.jpg", view_bytes(1, 0))) for _ in range(17)]
    answer = client.post("/predict/batch", files=files)
    assert "16" in problem(answer, 422, "bad-form")


def test_several_pictures_need_a_form(client: httpx.Client) -> None:
    """A raw body holds one picture only."""
    problem(client.post("/predict/batch", content=view_bytes(1, 0)), 400, "multipart-malformed")


def test_landmarks_come_in_pages(client: httpx.Client) -> None:
    """Together they are all landmarks of the gallery, each once."""
    pages = [
        client.get("/v1/landmarks", params={"offset": offset, "limit": 2}).json()
        for offset in (0, 2, 4, 6)
    ]
    assert {page["total"] for page in pages} == {5}
    told = [landmark for page in pages for landmark in page["landmarks"]]
    names = [f"landmark-{n}" for n in range(5)]
    assert told == [{"landmark_id": name, "name": name, "url": None} for name in names]
    problem(client.get("/landmarks", params={"limit": 0}), 422, "bad-parameters")


def test_openapi_describes_every_address_its_errors_and_the_key(client: httpx.Client) -> None:
    """Every failure is a problem document, described in words."""
    openapi = client.get("/openapi.json").json()
    paths = openapi["paths"]
    assert paths.keys() >= {
        *(
            "/predict",
            "/v1/predict",
            "/v1/predict/batch",
            "/v1/landmarks",
            "/v1/pictures/{picture}",
        ),
        *("/healthz", "/readyz", "/metrics", "/admin/reload"),
    }
    assert "X-API-Key" in str(openapi["components"]["securitySchemes"])
    failures = 0
    for path in paths.values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if status >= "400":
                    assert list(response["content"]) == ["application/problem+json"]
                    assert response["description"].endswith(".")
                    failures += 1
    assert failures > 30
    predict = paths["/v1/predict"]["post"]["responses"]
    assert predict.keys() >= {"401", "408", "413", "429", "503", "504"}


def test_answers_tell_browsers_to_do_nothing_more_with_them(client: httpx.Client) -> None:
    """On answers and on problems."""
    for path in ("/healthz", "/no/such/page"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
    assert (
        "access-control-allow-origin"
        not in client.get("/healthz", headers={"origin": "https://elsewhere.example"}).headers
    )
