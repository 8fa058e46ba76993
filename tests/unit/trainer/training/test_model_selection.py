"""A network is scored when its recipe says so, and the report tells the figures of the kept one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embedder.errors import CatalogError
from photographs import Photograph
from tests.factories import photographs, view_bytes
from tests.recipes import tiny_recipe
from trainer.model.checkpoint import Progress
from trainer.recipe import Recipe, load_recipe
from trainer.training.model_selection import kept_scores
from trainer.training.resume import finish_epoch, start_or_resume
from trainer.training.run_setup import set_up_run
from trainer.training.train import train


def tiny(tmp_path: Path, *overrides: str) -> Recipe:
    """Give the smallest recipe, changed."""
    return load_recipe(tiny_recipe(tmp_path / "tiny.yaml"), ["save_seconds=60", *overrides])


def test_scores_come_every_so_many_epochs_and_at_the_end_of_a_stage(
    pictures: list[Photograph], tmp_path: Path
) -> None:
    """Of three epochs the second and the last are scored; of one the last."""
    recipe = tiny(tmp_path, "validation.every=2", "stages.0.epochs=3")
    report = train(recipe, pictures, tmp_path / "run")
    scored = [(e["stage"], e["epoch"]) for e in report["epochs"] if "validation_gap" in e]
    assert len(report["epochs"]) == 4
    assert scored == [(0, 1), (0, 2), (1, 0)]


def test_scores_come_within_an_epoch_where_steps_are_counted(
    pictures: list[Photograph], tmp_path: Path
) -> None:
    """Every second step of six is scored, and the end; nothing else of the run changes."""
    found = []
    for name, unit in (("epochs", "epochs"), ("steps", "steps")):
        recipe = tiny(tmp_path, f"validation.unit={unit}", "validation.every=2")
        found.append(train(recipe, pictures, tmp_path / name)["epochs"])
    plain, scored = found
    assert all("validations" not in epoch for epoch in plain)
    for epoch, other in zip(scored, plain, strict=True):
        assert [one["step"] for one in epoch["validations"]] == [2, 4]
        done = [epoch["epoch"] + step / 6 for step in (2, 4)]
        assert [one["epochs"] for one in epoch["validations"]] == pytest.approx(done, abs=1e-4)
        assert {"validation_gap", "kept"} <= epoch.keys() & epoch["validations"][0].keys()
        assert epoch["loss"] == other["loss"]


def test_the_figures_are_those_of_the_kept_network() -> None:
    """A network one standard error below the best replaces it, and its figures are told."""
    best = {"validation_gap": 0.9, "validation_auroc": 0.5, "kept": True}
    later = {"validation_gap": 0.89, "validation_auroc": 0.7, "kept": True}
    worse = {"validation_gap": 0.5, "validation_auroc": 0.9, "kept": False}
    history: list[dict[str, Any]] = [best, {"validations": [later, worse], **worse}, {"loss": 1.0}]
    assert kept_scores(history) == later
    at_the_end = {"validations": [worse], **later}
    assert kept_scores([best, at_the_end]) == at_the_end


def test_each_stage_is_scored_at_its_own_side(tmp_path: Path) -> None:
    """The last side is that of the embedder, whatever the stage's: that is what is served."""
    recipe = tiny(tmp_path, "embed.side=64")
    assert [recipe.validation_preprocess(n).side for n in (0, 1)] == [32, 64]
    assert recipe.validation_preprocess(1) == recipe.embed
    alike = tiny(tmp_path, "embed.side=64", "stages.0.side=48")
    assert [alike.validation_preprocess(n).side for n in (0, 1)] == [64, 64]


@pytest.mark.parametrize(("side", "best_score"), [(32, -1.0), (48, 0.9)])
def test_scores_at_two_sides_are_not_compared(
    pictures: list[Photograph], tmp_path: Path, side: int, best_score: float
) -> None:
    """A stage at another side begins without a best network; one at the same side has it."""
    recipe = tiny(tmp_path, f"stages.0.side={side}", "stages.0.epochs=1")
    context = set_up_run(recipe, pictures, {}, tmp_path / "run", None)
    state = start_or_resume(context, None, resume=False)
    state.progress = Progress(best_score=0.9)
    finish_epoch(context, state, recipe.stages[0])
    assert state.progress == Progress(stage=1, best_score=best_score)


def test_labeled_queries_can_be_the_validation_set(
    pictures: list[Photograph], tmp_path: Path
) -> None:
    """All photographs are trained on; queries beside the landmark folders are of no landmark."""
    queries = photographs(tmp_path / "queries", landmarks=4, views=2)
    (queries / "strange.jpg").write_bytes(view_bytes(200, 0))
    asked = f"data.validation={{kind: queries, data: {queries}}}"
    recipe = tiny(tmp_path, asked, "stages.0.epochs=1", "validation.queries=5")
    report = train(recipe, pictures, tmp_path / "run")
    assert (report["pictures"], report["kept_back"]) == (len(pictures), 9)
    assert report["scored_on"] == {"gallery": len(pictures), "queries": 5, "distractors": 1}
    assert report["measured_on"] == {"gallery": len(pictures), "queries": 8, "distractors": 1}
    assert 0 <= report["validation_auroc"] <= 1
    for path in queries.glob("*/*"):
        path.unlink()
    with pytest.raises(CatalogError, match="no labeled query that shows a landmark"):
        train(recipe, pictures, tmp_path / "other")
