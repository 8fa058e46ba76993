"""A network in training is scored by top1, with distractors among the queries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from embedder.manifest import Preprocess
from photographs import Photograph
from tests.factories import view_bytes
from tests.recipes import tiny_recipe
from trainer.evaluation.validate import Metrics, top1_metrics
from trainer.evaluation.validation_set import ValidationSet, as_query
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import load_recipe

LANDMARKS = 4
PREPROCESS = Preprocess(side=48)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingNetwork:
    """Make an untrained network: like pictures still give like vectors."""
    torch.manual_seed(0)
    recipe = load_recipe(tiny_recipe(tmp_path_factory.mktemp("recipe") / "tiny.yaml"))
    return EmbeddingNetwork(recipe.network).eval()


def views(folder: Path, landmarks: Sequence[int], view: int) -> list[Photograph]:
    """Write one view of each landmark."""
    taken = []
    for landmark in landmarks:
        path = folder / f"{landmark}-{view}.jpg"
        path.write_bytes(view_bytes(landmark, view))
        taken.append(Photograph(f"{landmark}-{view}", path, str(landmark)))
    return taken


def measured(
    network: EmbeddingNetwork, folder: Path, distractors: Sequence[Photograph] = ()
) -> Metrics:
    """Ask for second views of the landmarks whose first views are the gallery."""
    gallery, queries = (views(folder, range(LANDMARKS), view) for view in (0, 1))
    pictures = ValidationSet(gallery, *(list(map(as_query, p)) for p in (queries, distractors)))
    return top1_metrics(network, pictures, PREPROCESS, bf16=False)


def test_without_distractors_there_is_only_a_gap(network: EmbeddingNetwork, tmp_path: Path) -> None:
    """Second views are recognized by the first ones."""
    assert measured(network, tmp_path) == Metrics(1.0, None)


def test_distractors_that_resemble_nothing_change_nothing(
    network: EmbeddingNetwork, tmp_path: Path
) -> None:
    """Below every query of a landmark they take nothing from the GAP."""
    strange = views(tmp_path, [50, 51, 52], 0)
    assert measured(network, tmp_path, strange) == Metrics(1.0, 1.0)


def test_distractors_above_the_queries_cost_what_the_formula_says(
    network: EmbeddingNetwork, tmp_path: Path
) -> None:
    """Two wrong answers before n right ones: GAP is the mean of i / (i + 2), AUROC is 0."""
    twins = views(tmp_path, [0, 1], 0)
    metrics = measured(network, tmp_path, twins)
    expected = sum(i / (i + 2) for i in range(1, LANDMARKS + 1)) / LANDMARKS
    assert metrics.gap == pytest.approx(expected)
    assert metrics.auroc == 0.0


def test_distractors_that_cannot_be_read_are_none(
    network: EmbeddingNetwork, tmp_path: Path
) -> None:
    """As a query that cannot be read has no answer."""
    missing = [Photograph("none", tmp_path / "none.jpg", None)]
    assert measured(network, tmp_path, missing) == Metrics(1.0, None)


def test_nothing_to_ask_has_no_gap(network: EmbeddingNetwork, tmp_path: Path) -> None:
    """A run that keeps nothing back goes on without a score."""
    gallery = views(tmp_path, range(2), 0)
    pictures = ValidationSet(gallery, [])
    assert top1_metrics(network, pictures, PREPROCESS, bf16=False) == Metrics(-1.0, None)
