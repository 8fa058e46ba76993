"""Tasks: what is asked of a recognizer together is answered as if each came alone."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from embedder.embedder import Embedder, Prepared
from embedder.errors import PictureFormatError
from embedder.formats.source import Check
from index.building.build import build
from index.building.extras import Extras
from index.building.recipe import BuildRecipe
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from index.maintenance.remove import remove
from photographs import open_data
from service.contract.schemas import Answer, Embedding, Landmarks, Verification
from service.inference.browser import GalleryBrowser
from service.inference.errors import IdUnknownError, NothingToSearchError
from service.inference.pipeline import Pipeline
from service.inference.recognizer import Recognizer, Result
from service.inference.tasks import Options, Task
from tests.factories import calibration, photographs, tiny_embedder, view_bytes

REMOVED = "landmark-3/picture-3-0"
VIEW = view_bytes(1, 50)
CALIBRATION = calibration(slope=9.0, intercept=-4.0, threshold=0.9)


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recognizer]:
    """Make a calibrated gallery of five landmarks with six pictures each, less one picture."""
    directory = tmp_path_factory.mktemp("recognizer")
    store, data = Store(directory / "store"), photographs(directory / "data")
    with closing(Embedder.load(tiny_embedder(directory / "embedder"), threads=1)) as embedder:
        build(store, embedder, open_data(data), BuildRecipe(extras=Extras(calibration=CALIBRATION)))
        remove(store, pictures=[REMOVED], landmarks=["landmark-4"])
        with closing(Gallery.open(store.path, embedder_digest=embedder.digest)) as gallery:
            yield Recognizer(embedder, gallery)


def ask(recognizer: Recognizer, *pictures: bytes, **options: object) -> Answer:
    """Ask one question that has an answer."""
    [answer] = perform(recognizer, [Task(pictures, Options(**options))])  # type: ignore[arg-type]  # its fields
    assert isinstance(answer, Answer), answer
    return answer


def go_on() -> None:
    """Let a task go on."""


def perform(
    recognizer: Recognizer, tasks: Sequence[Task], checks: Sequence[Check] = ()
) -> list[Result | Exception]:
    """Perform tasks as one batch."""
    return Pipeline(recognizer).perform(tasks, checks or [go_on] * len(tasks))[0]


def result(recognizer: Recognizer, task: Task) -> Result | Exception:
    """Perform one task."""
    [outcome] = perform(recognizer, [task])
    return outcome


def vector(recognizer: Recognizer, data: bytes) -> np.ndarray:
    """Embed a picture by itself."""
    return recognizer.embed([recognizer.embedder.prepare(data)])[0]


TASKS = {
    "plain": Task((VIEW,)),
    "neighbors": Task((VIEW,), Options(k=3)),
    "damaged": Task((b"text",)),
    "landmarks": Task((view_bytes(2, 50),), Options(landmarks=3)),
    "only": Task((VIEW,), Options(k=1, only=("landmark-0", "landmark-2"))),
    "unknown": Task((VIEW,), Options(only=("landmark-0", "nowhere"))),
    "picture": Task((), Options(k=2, picture="landmark-1/picture-1-0")),
    "verify": Task((VIEW,), Options(only=("landmark-1",)), "verification"),
    "vector": Task((VIEW,), wants="vector"),
    "mean": Task((VIEW, view_bytes(0, 50)), Options(k=4)),
    "max": Task((VIEW, view_bytes(0, 50)), Options(k=4, together="max")),
    "other plain": Task((view_bytes(0, 50),)),
}


def same(one: object, other: object) -> bool:
    """Compare results; errors by what they say."""
    if isinstance(one, Exception):
        return type(one) is type(other) and str(one) == str(other)
    return one == other


def test_tasks_together_are_answered_as_each_alone(recognizer: Recognizer) -> None:
    """Whatever goes wrong with some of them; and all of it can be sent to another process."""
    together = perform(recognizer, list(TASKS.values()))
    alone = [result(recognizer, task) for task in TASKS.values()]
    assert all(map(same, together, alone))
    faulty = {name for name, one in zip(TASKS, together, strict=True) if isinstance(one, Exception)}
    assert faulty == {"damaged", "unknown"}
    for sent in (TASKS, together):
        received = pickle.loads(pickle.dumps(sent))  # noqa: S301 (our own bytes)
        assert all(map(same, received, sent))
    assert perform(recognizer, []) == []


def test_pictures_of_all_tasks_are_one_batch(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that fails, each task is answered by itself."""
    sizes = []
    embed = Recognizer.embed

    def fragile(self: Recognizer, prepared: list[Prepared]) -> np.ndarray:
        sizes.append(len(prepared))
        rows = embed(self, prepared)
        return rows * np.nan if len(prepared) == 2 else rows

    monkeypatch.setattr(Recognizer, "embed", fragile)
    tasks = [
        Task((VIEW,)),
        Task((view_bytes(0, 50), VIEW)),
        Task((view_bytes(2, 50),), wants="vector"),
    ]
    first, second, third = perform(recognizer, tasks)
    assert sizes == [4]
    assert (type(first), type(second), type(third)) == (Answer, Answer, Embedding)
    sizes.clear()
    first, second = perform(recognizer, [Task((VIEW,)), Task((VIEW,))])
    assert sizes == [2, 1, 1]
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)


def test_one_query_that_is_not_finite_fails_alone(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although all were searched for together."""
    embed, poison = Embedder.embed, view_bytes(0, 50)
    poisoned_input = recognizer.embedder.prepare(poison)[0]

    def poisoned(self: Embedder, prepared: list[Prepared]) -> np.ndarray:
        rows = embed(self, prepared)
        for row, one in zip(rows, prepared, strict=True):
            row[:] = np.nan if np.array_equal(one[0], poisoned_input) else row
        return rows

    monkeypatch.setattr(Embedder, "embed", poisoned)
    first, second, third = perform(recognizer, [Task((VIEW,)), Task((poison,)), Task((VIEW,))])
    assert isinstance(first, Answer)
    assert first == third
    assert isinstance(second, ValueError)


def test_what_a_check_raises_ends_its_own_task(recognizer: Recognizer) -> None:
    """A client that left, say, while others wait."""

    def gone() -> None:
        raise ConnectionError("gone")

    first, second = perform(recognizer, [Task((VIEW,)), Task((VIEW,))], [gone, go_on])
    assert isinstance(first, ConnectionError)
    assert isinstance(second, Answer)


def test_landmarks_are_distinct_and_begin_with_the_answer(recognizer: Recognizer) -> None:
    """Each with its best picture; a removed landmark is none of them."""
    answer = ask(recognizer, VIEW, landmarks=10, k=1)
    assert answer.landmarks is not None
    ids = [one.landmark_id for one in answer.landmarks]
    assert ids[0] == answer.landmark_id == "landmark-1"
    assert sorted(ids) == [f"landmark-{number}" for number in range(4)]
    similarities = [one.similarity for one in answer.landmarks]
    assert similarities == sorted(similarities, reverse=True)
    assert answer.landmarks[0] == (answer.neighbors or ())[0]
    assert ask(recognizer, VIEW).landmarks is None


def test_only_those_allowed_answer(recognizer: Recognizer) -> None:
    """With their own neighbors and confidence."""
    answer = ask(recognizer, VIEW, only=("landmark-0", "landmark-2"), k=100)
    assert {one.landmark_id for one in answer.neighbors or ()} == {"landmark-0", "landmark-2"}
    assert len(answer.neighbors or ()) == 12
    assert answer.confidence < ask(recognizer, VIEW).confidence
    assert ask(recognizer, VIEW, only=("landmark-1",)) == ask(recognizer, VIEW)


def test_a_picture_of_the_gallery_finds_others(recognizer: Recognizer) -> None:
    """Its own landmark's, and never itself; its vector is the one that is stored."""
    picture = "landmark-1/picture-1-2"
    answer = ask(recognizer, picture=picture, k=100)
    found = [one.picture for one in answer.neighbors or ()]
    assert answer.landmark_id == "landmark-1"
    assert picture not in found
    assert len(found) == 6 * 4 - 2
    stored = result(recognizer, Task((), Options(picture=picture), "vector"))
    assert isinstance(stored, Embedding)
    assert np.dot(stored.vector, vector(recognizer, view_bytes(1, 2))) == pytest.approx(1, abs=1e-3)
    own = ask(recognizer, view_bytes(1, 2), k=100)
    assert {one.picture for one in own.neighbors or ()} == {picture, *found}


@pytest.mark.parametrize(
    "options",
    [
        Options(picture="nobody"),
        Options(picture=REMOVED),
        Options(picture=""),
        Options(only=("landmark-1", "nowhere")),
    ],
)
def test_an_unknown_id_is_refused(recognizer: Recognizer, options: Options) -> None:
    """Of a picture, removed ones among them, or of a landmark."""
    pictures = () if options.picture is not None else (VIEW,)
    assert isinstance(result(recognizer, Task(pictures, options)), IdUnknownError)


def test_nothing_to_compare_with_is_said(recognizer: Recognizer) -> None:
    """All pictures of the only landmark that may answer were removed."""
    outcome = result(recognizer, Task((VIEW,), Options(only=("landmark-4",))))
    assert isinstance(outcome, NothingToSearchError)


def test_several_pictures_are_one_query(recognizer: Recognizer) -> None:
    """By the direction of their mean, or by the largest similarity of each row."""
    pictures = (VIEW, view_bytes(0, 50), view_bytes(0, 51))
    queries = np.stack([vector(recognizer, data) for data in pictures])
    gallery = recognizer.gallery
    rows = gallery.vectors(np.arange(gallery.manifest.rows))
    mean = queries.mean(axis=0) / np.linalg.norm(queries.mean(axis=0))
    expected = {"mean": rows @ mean, "max": (rows @ queries.T).max(axis=1)}
    for together, cosines in expected.items():
        cosines[gallery.tombstones.rows] = -1
        answer = ask(recognizer, *pictures, together=together, k=9)
        nearest = np.argsort(-cosines, kind="stable")[:9].tolist()
        ids = [gallery.catalog.picture_id(row) for row in nearest]
        assert [one.picture for one in answer.neighbors or ()] == ids
        assert answer.confidence == pytest.approx(min(1, cosines.max()), abs=1e-5)


@pytest.mark.parametrize("landmark", range(4))
def test_a_verification_compares_with_every_picture_of_the_landmark(
    recognizer: Recognizer, landmark: int
) -> None:
    """Its cosine is the largest; probability and decision are the calibration's."""
    only = (f"landmark-{landmark}",)
    outcome = result(recognizer, Task((VIEW,), Options(only=only), "verification"))
    assert isinstance(outcome, Verification)
    gallery = recognizer.gallery
    [code] = gallery.catalog.landmarks_of_ids(only).values()
    rows = np.setdiff1d(np.flatnonzero(gallery.catalog.landmarks == code), gallery.tombstones.rows)
    best = float((gallery.vectors(rows) @ vector(recognizer, VIEW)).max().clip(-1, 1))
    assert outcome.similarity == pytest.approx(best, abs=1e-5)
    chance = 1 / (1 + math.exp(-(CALIBRATION.slope * best + CALIBRATION.intercept)))
    assert outcome.probability == pytest.approx(chance, abs=1e-4)
    assert outcome.same == (landmark == 1) == (best >= CALIBRATION.threshold)
    assert outcome.threshold == CALIBRATION.threshold
    assert (outcome.landmark_id, outcome.name) == (only[0], only[0])


def test_without_a_calibration_nothing_is_verified_but_the_similarity(
    recognizer: Recognizer,
) -> None:
    """Neither a probability nor a decision is made up."""
    manifest = recognizer.gallery.manifest
    recognizer.gallery.manifest = manifest.model_copy(update={"calibration": None})
    task = Task((VIEW,), Options(only=("landmark-1",)), "verification")
    try:
        outcome = result(recognizer, task)
    finally:
        recognizer.gallery.manifest = manifest
    assert isinstance(outcome, Verification)
    assert (outcome.probability, outcome.same, outcome.threshold) == (None, None, None)
    assert outcome.similarity > 0.9


def test_a_vector_is_what_the_network_gives(recognizer: Recognizer) -> None:
    """To the last digit, of length 1."""
    outcome = result(recognizer, Task((VIEW,), wants="vector"))
    assert isinstance(outcome, Embedding)
    assert outcome.vector == tuple(vector(recognizer, VIEW).tolist())
    assert outcome.dimension == len(outcome.vector) == 8
    assert np.linalg.norm(outcome.vector) == pytest.approx(1)


def test_landmarks_are_listed_and_searched_for(recognizer: Recognizer) -> None:
    """In pages, without those that were removed."""

    def listed(offset: int, limit: int, text: str | None = None) -> Landmarks:
        page = GalleryBrowser(recognizer.gallery).landmarks(offset, limit, text)
        return Landmarks.model_validate_json(page)

    page = listed(1, 2)
    assert (page.total, page.offset) == (4, 1)
    assert [one.landmark_id for one in page.landmarks] == ["landmark-1", "landmark-2"]
    assert listed(0, 9, "MARK-3").landmarks[0].name == "landmark-3"
    assert listed(0, 9, "-4").total == 0
    found = listed(3, 9, "landmark")
    assert (found.total, [one.name for one in found.landmarks]) == (4, ["landmark-3"])


def test_a_picture_that_is_none_is_refused_by_its_own_reason(recognizer: Recognizer) -> None:
    """As a picture always is."""
    assert isinstance(result(recognizer, Task((b"text",))), PictureFormatError)


def test_no_options_is_what_was_asked_before(recognizer: Recognizer) -> None:
    """An answer without options is that of the batch search."""
    vectors = recognizer.embed([recognizer.embedder.prepare(VIEW)])
    assert recognizer.search(vectors, [3]) == [ask(recognizer, VIEW, k=3)]
    one = replace(TASKS["neighbors"], options=Options(k=3, together="max"))
    assert result(recognizer, one) == ask(recognizer, VIEW, k=3)
