"""Stages train on lists of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from photographs import Photograph, open_data
from tests.factories import photographs
from tests.recipes import tiny_recipe
from trainer.heads import make_head, set_class_counts
from trainer.model import checkpoint
from trainer.recipe import Recipe, load_recipe
from trainer.training.train import train


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Photograph]:
    """Draw photographs of five landmarks."""
    return open_data(photographs(tmp_path_factory.mktemp("data"), landmarks=5, views=6)).gallery()


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Give a recipe of two stages, the first of which learns from a list of its own."""
    first = {"list": "all.csv", "epochs": 1, "frozen_epochs": 0}
    overrides = [f"stages.0.{key}={value}" for key, value in first.items()]
    return load_recipe(tiny_recipe(tmp_path / "tiny.yaml"), ["save_seconds=60", *overrides])


def of(pictures: list[Photograph], *landmarks: int) -> list[Photograph]:
    """Take the pictures of some landmarks."""
    ids = {f"landmark-{landmark}" for landmark in landmarks}
    return [picture for picture in pictures if picture.landmark_id in ids]


def test_another_class_set_begins_with_a_new_head(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """The network and its average go on; head and optimizer begin anew, for the new landmarks."""
    report = train(recipe, of(pictures, 1, 2, 3), tmp_path / "run", lists={"all.csv": pictures})
    assert [(stage["list"], stage["landmarks"]) for stage in report["stages"]] == [
        ("all.csv", 5),
        (None, 3),
    ]
    tensors, facts = checkpoint.load(tmp_path / "run" / "last.safetensors")
    assert facts["landmarks"] == ["landmark-1", "landmark-2", "landmark-3"]
    assert tensors["head.weight"].shape[0] == 3 * 2
    assert facts["updates"] > tensors["optimizer.0.step"].item() > 0


def test_no_stage_trains_on_validation_pictures(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """The pictures that the best network is chosen by are taken out of every list."""
    own = of(pictures, 1, 2, 3)
    report = train(recipe, own, tmp_path / "run", lists={"all.csv": pictures})
    assert report["kept_back"] > 0
    assert report["stages"][0]["pictures"] == len(pictures) - report["kept_back"]


def test_the_same_landmarks_keep_head_and_optimizer(
    pictures: list[Photograph], recipe: Recipe, tmp_path: Path
) -> None:
    """Only the margins follow the new numbers of pictures."""
    fewer = [p for p in pictures if p.landmark_id != "landmark-0" or p.id.endswith(("1", "2"))]
    train(recipe, fewer, tmp_path / "run", lists={"all.csv": pictures})
    tensors, facts = checkpoint.load(tmp_path / "run" / "last.safetensors")
    assert facts["updates"] == tensors["optimizer.0.step"].item()
    margins = tensors["head.margins"]
    assert margins[0] == pytest.approx(0.5)
    assert margins[1:].tolist() == pytest.approx([0.05] * 4)


def test_new_class_counts_leave_the_centers_of_a_head(recipe: Recipe) -> None:
    """Margins and weights are those of the new counts, the centers stay."""
    weighted = recipe.head.model_copy(update={"class_weights": "rarity"})
    head = make_head(weighted, 8, np.array([5, 5, 5]))
    other = make_head(weighted, 8, np.array([1, 10, 100]))
    before = head.state_dict()["weight"].clone()
    set_class_counts(head, weighted, np.array([1, 10, 100]))
    found, expected = head.state_dict(), other.state_dict()
    assert found["weight"].equal(before)
    assert found["margins"].equal(expected["margins"])
    assert found["weights"].equal(expected["weights"])
