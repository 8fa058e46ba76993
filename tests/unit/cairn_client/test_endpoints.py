"""What each question sends, and how several pictures are asked about until all are answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cairn_client import GalleryPicture, ServiceBusyError, ServiceFailedError
from service.contract.schemas import Embedding, Outcome, Outcomes, Problem, Verification
from service.http import openapi_examples as examples
from tests.clients import KINDS, ask, holds
from tests.scripted_server import Act, playing, refuses, says

VERIFICATION = Verification(
    landmark_id="7",
    name="Hawa Mahal",
    similarity=0.5,
    probability=None,
    same=None,
    threshold=None,
    gallery="g",
    embedder="e",
)
EMBEDDING = Embedding(vector=(0.6, -0.8), dimension=2, embedder="e")
ASKED = [
    (
        lambda client: client.predict(b"it", 3, landmarks=5, only=["a b", "c"]),
        "POST /v1/predict?k=3&landmarks=5&only=a+b&only=c",
        examples.ANSWER,
    ),
    (
        lambda client: client.predict(GalleryPicture("a/b"), 2, only=["c"]),
        "POST /v1/predict?k=2&only=c&picture=a%2Fb",
        examples.ANSWER,
    ),
    (
        lambda client: client.predict_together([b"it", b"its back"], by="max", landmarks=2),
        "POST /v1/predict?k=1&landmarks=2&together=max",
        examples.ANSWER,
    ),
    (lambda client: client.verify(b"it", "a/7"), "POST /v1/verify?landmark=a%2F7", VERIFICATION),
    (
        lambda client: client.verify(GalleryPicture("5"), "7"),
        "POST /v1/verify?landmark=7&picture=5",
        VERIFICATION,
    ),
    (
        lambda client: client.verify_together([b"it", b"its back"], "7", by="max"),
        "POST /v1/verify?landmark=7&together=max",
        VERIFICATION,
    ),
    (lambda client: client.embed(b"it"), "POST /v1/embed", EMBEDDING),
    (
        lambda client: client.embed(GalleryPicture("5")),
        "POST /v1/embed?picture=5",
        EMBEDDING,
    ),
    (
        lambda client: client.landmarks(10, 5, name="château"),
        "GET /v1/landmarks?offset=10&limit=5&q=ch%C3%A2teau",
        examples.LANDMARKS,
    ),
    (lambda client: client.ready(), "GET /readyz", examples.READY),
    (lambda client: client.alive(), "GET /healthz", examples.ALIVE),
    (lambda client: client.reload(), "POST /admin/reload", examples.READY),
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give each kind of client in turn; no proxy of this machine stands between."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    chosen: str = request.param
    return chosen


@pytest.mark.parametrize(("question", "request_line", "answer"), ASKED)
def test_a_question_is_sent_as_the_service_takes_it(
    kind: str, question: Callable[[Any], Any], request_line: str, answer: Any
) -> None:
    """And its answer has every value that was sent."""
    with playing(says(200, answer.model_dump_json().encode())) as script:
        assert holds(ask(kind, script.url, question), answer)
        [asked] = script.asked
    assert f"{asked.method} {asked.path}" == request_line


def test_pictures_of_one_query_go_in_one_form(kind: str) -> None:
    """All of them, in their order; a query of the gallery has no body."""
    with playing(says(200, examples.ANSWER.model_dump_json().encode())) as script:
        ask(kind, script.url, lambda client: client.predict_together([b"front", b"back"]))
        ask(kind, script.url, lambda client: client.predict(GalleryPicture("7")))
        form, empty = script.asked
    assert form.path == "/v1/predict?k=1&together=mean"
    assert form.body.index(b"front") < form.body.index(b"back")
    assert empty.body == b""


def test_metrics_and_pictures_of_a_build_are_asked_for(kind: str) -> None:
    """The metrics as text; a picture only while that build serves."""
    with playing(says(200, b"cairn_rows 1\n", "text/plain")) as script:
        assert ask(kind, script.url, lambda client: client.metrics()) == "cairn_rows 1\n"
    with playing(says(200, b"a jpeg", "image/jpeg")) as script:
        ask(kind, script.url, lambda client: client.picture("7", gallery="a build"))
        assert script.asked[0].path == "/v1/pictures/7?gallery=a+build"


def outcomes(**found: str | tuple[int, int | None]) -> Act:
    """Answer a form: by picture, the name of its landmark, or a status and the time to wait."""
    every = []
    for name, what in found.items():
        if isinstance(what, str):
            answer = examples.ANSWER.model_copy(update={"landmark_id": what})
            every.append(Outcome(name=name, answer=answer))
            continue
        status, wait = what
        words = {"title": "", "code": "c", "detail": "", "request_id": ""}
        problem = Problem(status=status, retry_after=wait, **words)
        every.append(Outcome(name=name, problem=problem))
    return says(200, Outcomes(outcomes=tuple(every)).model_dump_json().encode())


PICTURES = [Path("a.jpg"), Path("b.jpg"), Path("c.jpg")]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Write three files to ask about."""
    paths = [tmp_path / path.name for path in PICTURES]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def batch(pictures: list[Path]) -> Callable[[Any], Any]:
    """Ask about three files together."""
    return lambda client: client.predict_batch(pictures)


def landmarks(found: Any) -> list[str | None]:
    """Tell what was found, picture by picture."""
    return [outcome.answer and outcome.answer.landmark_id for outcome in found.outcomes]


def test_pictures_without_room_are_sent_again_and_no_others(
    kind: str, pictures: list[Path]
) -> None:
    """After the longest of their times; each outcome keeps its place."""
    first = outcomes(a=(503, 1), b="B", c=(429, 0))
    with playing(first, outcomes(a="A", c=(503, 0)), outcomes(c="C")) as script:
        found = ask(kind, script.url, batch(pictures))
        sent = [
            [name in asked.body for name in (b"a.jpg", b"b.jpg", b"c.jpg")]
            for asked in script.asked
        ]
        assert script.asked[1].at - script.asked[0].at >= 1
    assert sent == [[True] * 3, [True, False, True], [False, False, True]]
    assert landmarks(found) == ["A", "B", "C"]


@pytest.mark.parametrize("status", [400, 413, 415, 500, 504])
def test_a_picture_that_is_refused_or_failed_is_not_sent_again(
    kind: str, pictures: list[Path], status: int
) -> None:
    """Its problem is its outcome."""
    with playing(outcomes(a="A", b=(status, 5), c="C")) as script:
        found = ask(kind, script.url, batch(pictures))
        assert len(script.asked) == 1
    assert found.outcomes[1].problem.status == status


def test_attempts_for_pictures_are_counted(kind: str, pictures: list[Path]) -> None:
    """After the last, a picture's problem is its outcome."""
    with playing(outcomes(a=(503, 0), b="B", c="C"), outcomes(a=(503, 0))) as script:
        found = ask(kind, script.url, batch(pictures), retries=2)
        assert len(script.asked) == 3
    assert landmarks(found) == [None, "B", "C"]
    assert found.outcomes[0].problem.status == 503


def test_a_wait_longer_than_the_timeout_leaves_the_problem(kind: str, pictures: list[Path]) -> None:
    """At once, and with the time to wait."""
    with playing(outcomes(a=(503, 60), b="B", c="C")) as script:
        found = ask(kind, script.url, batch(pictures), timeout_seconds=20)
        assert len(script.asked) == 1
    assert found.outcomes[0].problem.retry_after == 60


def test_answers_are_kept_when_a_later_attempt_fails(kind: str, pictures: list[Path]) -> None:
    """Only a failure of the first attempt is an error."""
    with playing(outcomes(a=(503, 0), b="B", c="C"), refuses(500)) as script:
        found = ask(kind, script.url, batch(pictures))
        assert len(script.asked) == 2
    assert landmarks(found) == [None, "B", "C"]
    with playing(refuses(503, retry_after="0")) as script, pytest.raises(ServiceBusyError):
        ask(kind, script.url, batch(pictures), retries=0)


def test_outcomes_of_other_pictures_are_no_answer(kind: str, pictures: list[Path]) -> None:
    """Their number says so."""
    with (
        playing(outcomes(a="A", b="B")) as script,
        pytest.raises(ServiceFailedError, match="no Cairn service"),
    ):
        ask(kind, script.url, batch(pictures))


@pytest.mark.parametrize(
    "wrong",
    [
        {"vector": [1, "x"]},
        {"vector": 1},
        {"dimension": 2.5},
        {"dimension": True},
        {"embedder": None},
        {"vector": None},
        {"vector": [10**400]},
    ],
)
def test_a_value_of_another_type_is_no_answer(kind: str, wrong: dict[str, Any]) -> None:
    """It is told apart before anybody computes with it."""
    body = json.dumps(EMBEDDING.model_dump(mode="json") | wrong).encode()
    with (
        playing(says(200, body)) as script,
        pytest.raises(ServiceFailedError, match="no Cairn service"),
    ):
        ask(kind, script.url, lambda client: client.embed(b"it"))


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"vector": [NaN], "dimension": 1, "embedder": ""}']
)
def test_hostile_json_is_no_answer(kind: str, body: bytes) -> None:
    """However deep, and whatever Python reads beyond the standard."""
    with (
        playing(says(200, body)) as script,
        pytest.raises(ServiceFailedError, match="no Cairn service"),
    ):
        ask(kind, script.url, lambda client: client.embed(b"it"))
