"""Pictures are retrieved in the official form, and scored by the official rule."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from index.building.build import build
from index.evaluation.evaluate import evaluate
from index.evaluation.retrieve import RetrievalRecipe, read_solution, retrieve
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from index.maintenance.remove import remove
from photographs import list_pictures, open_data
from tests.factories import photographs, view_bytes


@pytest.fixture
def gallery(embedder: Embedder, gldv2: Path, tmp_path: Path) -> Gallery:
    """Build and open the gallery of the data folder."""
    build(Store(tmp_path / "s"), embedder, open_data(gldv2))
    return Gallery.open(tmp_path / "s", embedder_digest=embedder.digest)


def rows_of(path: Path) -> dict[str, list[str]]:
    """Read a submission."""
    with path.open(newline="") as file:
        reader = csv.reader(file)
        assert next(reader) == ["id", "images"]
        return {query: images.split() for query, images in reader}


def official_score(found: dict[str, list[str]], solution: dict[str, list[str]]) -> float:
    """Compute mAP@100 as it is published: a loop over places, duplicates passed over."""
    total = 0.0
    for query, images in found.items():
        if query not in solution:
            continue
        seen, right, precisions = set[str](), 0, 0.0
        for place, image in enumerate(images[:100], start=1):
            if image not in seen and image in solution[query]:
                right += 1
                precisions += right / place
            seen.add(image)
        total += precisions / min(len(solution[query]), 100)
    return total / len(solution)


def solution_of(path: Path, gldv2: Path) -> dict[str, list[str]]:
    """Write the pictures of each query's landmarks as a solution, and return it."""
    train = (line.split(",") for line in (gldv2 / "train.csv").read_text().splitlines()[1:])
    pictures: dict[str, list[str]] = {}
    for picture, _, landmark in train:
        pictures.setdefault(landmark, []).append(picture)
    queries = open_data(gldv2).queries()
    shown = {q.id: [p for x in q.landmark_ids for p in pictures[x]] for q in queries}
    lines = [
        f"{query},{' '.join(images) or 'None'},{'Public' if images else 'Ignored'}"
        for query, images in shown.items()
    ]
    path.write_text("\n".join(["id,images,Usage", *lines]) + "\n")
    return {query: images for query, images in shown.items() if images}


def test_the_nearest_pictures_are_written_and_scored(
    gallery: Gallery, embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """In the order of the search; the score is that of evaluate and of the published loop."""
    solution = solution_of(tmp_path / "solution.csv", gldv2)
    out = tmp_path / "new" / "submission.csv"
    recipe = RetrievalRecipe(solution=tmp_path / "solution.csv")
    queries = list_pictures(gldv2 / "test.csv")
    written, map100 = retrieve(gallery, embedder, queries, out, recipe)
    found = rows_of(out)
    assert list(found) == ["aaa0", "bbb0", "ccc0", "ddd0"]
    assert {len(images) for images in found.values()} == {12}  # all that there are
    for query in queries:
        vector = embedder.embed([embedder.prepare(query.path.read_bytes())])
        rows = gallery.search(vector, 100).rows[0].tolist()
        assert found[query.id] == [gallery.catalog.picture_id(row) for row in rows]
    metrics, _ = evaluate(gallery, embedder, open_data(gldv2))
    assert map100 == pytest.approx(official_score(found, solution), abs=1e-12)
    assert map100 == pytest.approx(metrics.map100, abs=1e-12)
    assert (written.queries, written.unreadable, written.report.is_file()) == (4, 0, True)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_few_pictures_score_what_they_are_worth(
    k: int, gallery: Gallery, embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """A picture that the gallery lacks, an unreadable query and one not asked count as missed."""
    solution = solution_of(tmp_path / "solution.csv", gldv2)
    solution["aaa0"].append("absent")
    solution["zzz0"] = ["000abc"]
    lines = [f"{query},{' '.join(images)}" for query, images in solution.items()]
    (tmp_path / "solution.csv").write_text("\n".join(["id,images", *lines]) + "\n")
    (gldv2 / "test/b/b/b/bbb0.jpg").write_bytes(b"text")
    out = tmp_path / "submission.csv"
    recipe = RetrievalRecipe(k, tmp_path / "solution.csv")
    written, map100 = retrieve(gallery, embedder, list_pictures(gldv2 / "test.csv"), out, recipe)
    found = rows_of(out)
    assert [len(images) for images in found.values()] == [k, 0, k, k]
    assert map100 == pytest.approx(official_score(found, solution), abs=1e-12)
    assert 0 < (map100 or 0) < 1
    assert written.unreadable == 1


def test_removed_pictures_are_not_retrieved(
    gallery: Gallery, embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """A submission names what a search finds, and nothing else."""
    store = Store(tmp_path / "s")
    remove(store, landmarks=["9"])
    shrunk = Gallery.open(store.path, embedder_digest=embedder.digest)
    out = tmp_path / "o.csv"
    retrieve(shrunk, embedder, list_pictures(gldv2 / "test.csv"), out)
    named = {image for images in rows_of(out).values() for image in images}
    assert named == {f"{number}{view}0abc" for number in (1, 2) for view in range(4)}


def test_ids_with_spaces_stay_one_id(embedder: Embedder, tmp_path: Path) -> None:
    """They are encoded in the submission, and found again by the solution."""
    data = photographs(tmp_path / "data", landmarks=1, views=2)
    (data / "landmark-0").rename(data / "Hawa Mahal")
    build(Store(tmp_path / "s"), embedder, open_data(data))
    query = tmp_path / "q" / "query.jpg"
    query.parent.mkdir()
    query.write_bytes(view_bytes(0, 0))
    (tmp_path / "solution.csv").write_text("id,images\nquery,Hawa%20Mahal/picture-0-0\n")
    gallery = Gallery.open(tmp_path / "s", embedder_digest=embedder.digest)
    recipe = RetrievalRecipe(solution=tmp_path / "solution.csv")
    written, map100 = retrieve(gallery, embedder, list_pictures(query), tmp_path / "o.csv", recipe)
    assert rows_of(written.path) == {
        "query": ["Hawa%20Mahal/picture-0-0", "Hawa%20Mahal/picture-0-1"]
    }
    assert map100 == 1.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id,images\na,x\na,y\n", "line 3: query a is listed twice"),
        ("id,images,Usage\na,None,Ignored\n", "no query with pictures"),
        ("id,pictures\na,x\n", "no column images"),
        ("id,images\nother,x\n", "about none of the queries"),
    ],
)
def test_a_faulty_solution_is_refused_before_embedding(
    text: str, reason: str, gallery: Gallery, gldv2: Path, tmp_path: Path
) -> None:
    """Its fault is named, and nothing is written."""
    (tmp_path / "solution.csv").write_text(text)
    recipe = RetrievalRecipe(solution=tmp_path / "solution.csv")
    queries = list_pictures(gldv2 / "test.csv")
    nothing: Embedder = None  # type: ignore[assignment]  # never asked
    with pytest.raises(CatalogError, match=reason):
        retrieve(gallery, nothing, queries, tmp_path / "o.csv", recipe)
    assert not (tmp_path / "o.csv").exists()


def test_ignored_queries_are_not_scored(tmp_path: Path) -> None:
    """The official file marks them so."""
    path = tmp_path / "solution.csv"
    path.write_text("id,images,Usage\na,x y,Public\nb,None,Ignored\nc,z,Private\n")
    assert read_solution(path) == {"a": ["x", "y"], "c": ["z"]}
