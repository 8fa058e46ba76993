"""A finished run is measured as it will be served, and its report shows the mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from embedder.embedder import Embedder
from embedder.reports.chart import line_chart
from index.evaluation.metrics import Prediction, auroc, gap
from index.ranking.ranking import Ranking, rank
from index.search.faiss_search import nearest
from index.search.neighbors import Neighbors
from photographs import Photograph, Query, open_data
from photographs.prepare.split import stratified_split
from tests.factories import photographs, picture, view_bytes
from tests.recipes import tiny_recipe
from trainer.evaluation.embed import embed_photographs
from trainer.evaluation.report import write_report
from trainer.evaluation.rule_ladder import Candidate, RuleLadder, measure_rules
from trainer.evaluation.validation_set import ValidationSet, as_query
from trainer.export.export import export
from trainer.heads import make_head
from trainer.model import checkpoint
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import Recipe, load_recipe
from trainer.training.train import train


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Photograph]:
    """Draw photographs of four landmarks, three of them hard to recognize."""
    folder = photographs(tmp_path_factory.mktemp("data"), landmarks=4, views=9)
    for view in range(0, 9, 2):
        (folder / "landmark-0" / f"picture-0-{view}.jpg").write_bytes(view_bytes(1, 50 + view))
    return open_data(folder).gallery()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Give the smallest recipe with everything that is learned when a run ends."""
    path = tiny_recipe(tmp_path_factory.mktemp("recipe") / "tiny.yaml")
    content = yaml.safe_load(path.read_text())
    content["stages"] = [{**content["stages"][1], "epochs": 2, "stop_at_epoch": 2}]
    content["embed_views"] = ["plain", "mirrored"]
    content["embed_whiten"] = {"dimension": 6, "shrink": 0.3}
    content["data"]["validation"] = 0.3
    path.write_text(yaml.safe_dump(content))
    return load_recipe(path)


@pytest.fixture(scope="module")
def run(
    pictures: list[Photograph], recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Train once."""
    folder = tmp_path_factory.mktemp("run") / "run"
    train(recipe, pictures, folder)
    return folder


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export once."""
    folder = tmp_path_factory.mktemp("embedder") / "embedder"
    export(run, folder)
    return folder


def embed(directory: Path, photographs: list[Photograph]) -> NDArray[np.float32]:
    """Embed photographs by an exported embedder."""
    embedder = Embedder.load(directory, device="cpu", precision="f32")
    return embedder.embed([embedder.prepare(p.path.read_bytes()) for p in photographs])


def test_views_and_whitening_of_a_recipe_travel_in_the_embedder(
    exported: Path, pictures: list[Photograph]
) -> None:
    """The artifact gives few numbers, the same for a picture and its mirror image."""
    embedder = Embedder.load(exported, device="cpu", precision="f32")
    assert embedder.dimension == 6
    plain = [embedder.prepare(p.path.read_bytes()) for p in pictures[:3]]
    mirrored = [(np.ascontiguousarray(array[:, :, ::-1]),) for (array,) in plain]
    rows = embedder.embed(plain)
    assert np.abs(rows - embedder.embed(mirrored)).max() < 1e-4
    assert rows @ rows.T == pytest.approx(embedder.embed(mirrored) @ rows.T, abs=1e-4)


def test_the_ladder_measures_what_is_served(
    run: Path, exported: Path, pictures: list[Photograph], recipe: Recipe
) -> None:
    """The rung of the nearest picture is what the exported embedder gives."""
    train_part, validation_part = stratified_split(pictures, 0.3, seed=recipe.seed)
    cosines = embed(exported, validation_part) @ embed(exported, train_part).T
    nearest = cosines.argmax(axis=1)
    answers = [
        Prediction(query.id, str(train_part[row].landmark_id), float(cosines[place, row]))
        for place, (query, row) in enumerate(zip(validation_part, nearest, strict=True))
    ]
    expected = gap(answers, {query.id: [str(query.landmark_id)] for query in validation_part})
    report = json.loads((run / "report.json").read_text())
    rungs = {rung["ranking"]: rung for rung in report["ladder"]}
    assert list(rungs) == ["head", "top1, one view, not whitened", "top1", "vote"]
    assert rungs["top1"]["gap"] == pytest.approx(expected, abs=1e-6)
    assert sum(group["queries"] for group in report["class_sizes"]) == len(validation_part)


def test_the_head_answers_by_its_nearest_sub_center(
    run: Path, pictures: list[Photograph], recipe: Recipe
) -> None:
    """The rung of the head is what a plain product with its centers gives."""
    _, validation_part = stratified_split(pictures, 0.3, seed=recipe.seed)
    tensors, facts = checkpoint.load(run / "best.safetensors")
    network = EmbeddingNetwork(recipe.network).eval()
    network.load_state_dict(checkpoint.part(tensors, "network"))
    places, rows = embed_photographs(network, validation_part, recipe.embed, bf16=False)
    asked = [validation_part[place] for place in places]
    centers = torch.nn.functional.normalize(tensors["head.weight"]).numpy()
    best = (rows @ centers.T).argmax(axis=1) // 2
    right = [facts["landmarks"][n] == p.landmark_id for n, p in zip(best, asked, strict=True)]
    report = json.loads((run / "report.json").read_text())
    assert report["ladder"][0]["top1"] == pytest.approx(np.mean(right))


class Coarse(nn.Module):
    """Colors on a coarse grid, turned: tells drawn pictures apart without training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.turn = nn.Linear(48, 16)

    def embed_unnormalized(self, pictures: Tensor) -> Tensor:
        """Compute embeddings of any length."""
        return self.turn(nn.functional.adaptive_avg_pool2d(pictures, 4).flatten(1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute unit rows."""
        return nn.functional.normalize(self.embed_unnormalized(pictures))


def mixtures(folder: Path, first: int, number: int) -> list[Photograph]:
    """Write pictures of three landmarks, each well mixed with a pattern of its own."""
    folder.mkdir()
    found = []
    for n in range(first, first + number):
        path = folder / f"{n}.png"
        Image.blend(picture(n % 3), picture(500 + n), 0.3 + 0.05 * (n % 7)).save(path)
        found.append(Photograph(path.stem, path, f"landmark-{n % 3}"))
    return found


def test_distractors_are_queries_and_penalties(tmp_path: Path) -> None:
    """Every second one is a query without an answer; the others measure both penalties."""
    recipe = load_recipe(tiny_recipe(tmp_path / "tiny.yaml"))
    network = Coarse().eval()
    landmarks = [f"landmark-{n}" for n in range(3)]
    head = make_head(recipe.head, 16, np.ones(len(landmarks), np.int64))
    gallery = mixtures(tmp_path / "gallery", 0, 20)
    queries = mixtures(tmp_path / "queries", 20, 18)
    strange = mixtures(tmp_path / "strange", 40, 8)
    sizes = dict.fromkeys(landmarks, 6)
    candidate = Candidate(recipe, network, head, landmarks, sizes, bf16=False)
    unknown_pictures = [Query(p.id, p.path, ()) for p in strange]
    asked_pictures = ValidationSet(gallery, list(map(as_query, queries)), unknown_pictures)
    ladder, whitening = measure_rules(candidate, asked_pictures)
    assert whitening is None
    assert ladder is not None
    assert len(ladder.queries) == len(queries) + 4
    assert [(g["pictures"], g["queries"]) for g in ladder.class_sizes] == [(5, len(queries))]

    def rows(asked: list[Photograph]) -> NDArray[np.float32]:
        return embed_photographs(network, asked, recipe.embed, bf16=False)[1]

    reference, asked = rows(strange[::2]), rows([*queries, *strange[1::2]])
    b = [np.sort(reference @ row)[-5:].mean() for row in rows(gallery)]
    c = [np.sort(reference @ row)[-10:].mean() for row in asked]
    answers = []
    for place, row in enumerate(asked):
        scores = rows(gallery) @ row - b
        best = int(scores.argmax())
        score = float(scores[best] - c[place])
        answers.append(Prediction(f"{place}", str(gallery[best].landmark_id), score))
    truths = {f"{n}": [str(p.landmark_id)] for n, p in enumerate(queries)}
    truths |= {f"{len(queries) + n}": [] for n in range(4)}
    rungs = {rung["ranking"]: rung for rung in ladder.rungs}
    assert list(rungs) == ["head", "top1", "vote", "top1 - B", "top1 - C", "top1 - B+C"]
    assert rungs["top1 - B+C"]["gap"] == pytest.approx(gap(answers, truths))
    known, unknown = answers[: len(queries)], answers[len(queries) :]
    assert rungs["top1 - B+C"]["auroc"] == pytest.approx(
        auroc([a.confidence for a in known], [a.confidence for a in unknown])
    )


def test_the_rung_of_the_vote_is_the_vote_of_the_recipe(tmp_path: Path) -> None:
    """Where the recipe asks for a vote, its neighbors and power count, whatever their number."""
    path = tiny_recipe(tmp_path / "tiny.yaml")
    landmarks = [f"landmark-{n}" for n in range(3)]
    gallery = mixtures(tmp_path / "gallery", 0, 20)
    queries = mixtures(tmp_path / "queries", 20, 18)
    network, sizes = Coarse().eval(), dict.fromkeys(landmarks, 6)
    for ranking in (Ranking(rule="vote", neighbors=20, power=0.01), Ranking(neighbors=20)):
        recipe = load_recipe(path).model_copy(update={"ranking": ranking})
        head = make_head(recipe.head, 16, np.ones(len(landmarks), np.int64))
        candidate = Candidate(recipe, network, head, landmarks, sizes, bf16=False)
        pictures = ValidationSet(gallery, list(map(as_query, queries)))
        ladder, _ = measure_rules(candidate, pictures)
        assert ladder is not None
        told = ranking if ranking.rule == "vote" else Ranking(rule="vote")
        _, rows = embed_photographs(network, gallery, recipe.embed, bf16=False)
        _, asked = embed_photographs(network, queries, recipe.embed, bf16=False)
        found = nearest(rows, asked, told.neighbors)
        codes = np.array([landmarks.index(str(p.landmark_id)) for p in gallery])[found.rows]
        pairs = zip(queries, codes, found.similarities, strict=True)
        best = [(query, rank(row, cosines, told)) for query, row, cosines in pairs]
        answers = [Prediction(q.id, landmarks[r.landmark], r.score) for q, r in best]
        truths = {query.id: [str(query.landmark_id)] for query in queries}
        rungs = {rung["ranking"]: rung for rung in ladder.rungs}
        assert rungs["vote"]["gap"] == pytest.approx(gap(answers, truths))
        assert (rungs["vote"]["gap"] < 0.9) == (ranking.rule == "vote")
        assert len(ladder.neighbors.rows[0]) >= 5


def test_the_report_is_one_file_without_times(run: Path, exported: Path) -> None:
    """Curves and pictures are inside; the embedder holds the same page."""
    page = (run / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "http" not in page.replace("http-equiv", "")
    assert "seconds" not in page
    assert (exported / "report.html").read_text() == page
    assert "seconds" not in (exported / "report.json").read_text()


def mistaken(folder: Path) -> RuleLadder:
    """Give a wrong answer about a picture whose names hold markup."""
    paths = [folder / f"{number}.jpg" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(view_bytes(number, 0))
    known = [Photograph(f"<i>{n}", path, f"<b>{n}") for n, path in enumerate(paths)]
    asked = [known[0], Photograph("<i>9", paths[1], None)]
    neighbors = Neighbors(np.array([[2, 1], [1, 0]]), np.full((2, 2), 0.5, np.float32))
    answers = [Prediction(known[0].id, "<b>2", 0.75), Prediction("9", "<b>1", 0.5)]
    return RuleLadder(known, list(map(as_query, asked)), neighbors, answers, [{"<b>rule": 0.5}], [])


def test_mistakes_are_shown_with_their_pictures(tmp_path: Path, recipe: Recipe) -> None:
    """A wrong answer stands beside its neighbors, counted; all names are escaped."""
    report: dict[str, Any] = {
        "pictures": 3, "landmarks": 3, "kept_back": 1, "unreadable": 0, "device": "cpu",
        "precision": "f32", "epochs": [],
    }  # fmt: skip
    write_report(tmp_path / "report.html", recipe, report, mistaken(tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 6
    assert page.index("Pictures of no landmark") < page.index("no landmark</b>")
    assert re.search(r"&lt;b&gt;0</b><br>answer: &lt;b&gt;2, 0\.750", page)
    assert "1 of 1 queries" in page
    assert "<i>0" not in page
    assert "<b>rule" not in page
    write_report(tmp_path / "report.html", recipe, report, None)
    assert "There are no validation pictures" in (tmp_path / "report.html").read_text()


def test_a_chart_leaves_out_what_is_no_number() -> None:
    """A line needs finite points; without any there is no chart."""
    assert line_chart("a", [(0, float("nan"))]) == ""
    chart = line_chart("a<b", [(1, 2.0), (2, float("inf")), (3, 4.0)], breaks=[2])
    assert "a&lt;b" in chart
    assert len(re.search(r'polyline points="([^"]*)"', chart)[1].split()) == 2  # type: ignore[index] # it is there
    assert "nan" not in chart
    assert "inf" not in chart
