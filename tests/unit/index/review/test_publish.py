"""A build is published after it was judged, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from embedder.embedder import Embedder
from embedder.errors import (
    ArtifactDamagedError,
    ArtifactMismatchError,
    ArtifactMissingError,
    CatalogError,
    PublishRefusedError,
)
from index.building.build import build
from index.building.recipe import BuildRecipe
from index.cli import main
from index.gallery.gallery import VECTORS
from index.gallery.store import Store
from index.review.labeled_queries import CURRENT, LabeledQueries
from index.review.publish import PublishCondition, publish
from photographs import open_data
from tests.unit.index.maintenance.test_history import damage


def test_a_worse_build_is_refused_and_the_better_one_taken(
    builds: tuple[Store, str, str], asked: LabeledQueries
) -> None:
    """The reason is one line with both figures; the same condition takes the reverse."""
    store, good, worse = builds
    condition = PublishCondition(asked, unless_worse_than=CURRENT)
    with pytest.raises(PublishRefusedError) as refused:
        publish(store, worse, condition)
    (reason,) = str(refused.value).splitlines()
    assert reason.startswith(f"{worse} is not published: its GAP is 0.")
    assert f"and that of {good} is " in reason
    assert store.current() == good
    assert not store.was_published(worse)
    publish(store, worse)  # without a condition
    taken = publish(store, good, condition)
    assert store.current() == good
    assert (taken.before, taken.compared_with) == (worse, worse)
    assert taken.gap is not None
    assert taken.compared_gap is not None
    assert taken.gap > taken.compared_gap


def test_a_build_has_to_reach_a_stated_gap(
    builds: tuple[Store, str, str], asked: LabeledQueries
) -> None:
    """What is exactly as good is good enough, for either condition."""
    store, good, worse = builds
    gap = asked.gap(store, worse)
    with pytest.raises(PublishRefusedError, match=r"below 0\.99"):
        publish(store, worse, PublishCondition(asked, if_gap_at_least=0.99))
    assert store.current() == good
    published = publish(store, worse, PublishCondition(asked, if_gap_at_least=gap))
    assert (published.build_id, published.gap, published.compared_with) == (worse, gap, None)
    equal = PublishCondition(asked, unless_worse_than=worse)
    assert publish(store, worse, equal).compared_gap == gap


def test_the_first_build_is_worse_than_nothing(
    tmp_path: Path, gldv2: Path, embedder: Embedder, asked: LabeledQueries
) -> None:
    """The same command publishes the first and all later ones."""
    store = Store(tmp_path / "new")
    first = build(store, embedder, open_data(gldv2), BuildRecipe(no_publish=True)).build_id
    assert store.current() is None
    condition = PublishCondition(asked, unless_worse_than=CURRENT)
    assert publish(store, first, condition).before is None
    assert store.current() == first


def test_what_cannot_be_judged_is_not_published(
    builds: tuple[Store, str, str], asked: LabeledQueries, gldv2: Path
) -> None:
    """No such build; no embedder of it; no query that shows a landmark; a damaged file."""
    store, good, worse = builds
    with pytest.raises(ArtifactMissingError, match="nowhere"):
        publish(store, "nowhere")
    blind = PublishCondition(LabeledQueries(asked.data, asked.embedders[1:]), 0.1)
    with pytest.raises(ArtifactMismatchError, match=f"embedder of the build {worse}, tiny"):
        publish(store, worse, blind)
    solution = gldv2 / "recognition_solution_v2.1.csv"
    solution.write_text("id,landmarks,Usage\nddd0,,Public\n")
    with pytest.raises(CatalogError, match="no GAP"):
        publish(store, worse, PublishCondition(asked, 0.1))
    damage(store.directory(worse) / VECTORS)
    with pytest.raises(ArtifactDamagedError):
        publish(store, worse)
    assert store.current() == good


def test_the_commands_judge_before_publishing(  # noqa: PLR0917 (fixtures)
    builds: tuple[Store, str, str],
    asked: LabeledQueries,
    gldv2: Path,
    worse_directory: Path,
    embedder_directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Built and not published, evaluated, predicted, refused with its own exit code, published."""
    store, good, worse = builds

    def ask(*words: object) -> dict[str, Any]:
        assert main([str(word) for word in (*words, "--store", store.path)]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    own = ("--embedder", embedder_directory)
    made = ask("build", *own, "--data", gldv2, "--no-publish")
    assert (made["published"], store.current()) == (False, good)
    rebuilt = ask("rebuild", "--embedder", worse_directory, "--no-publish")
    assert (rebuilt["published"], rebuilt["embedded"], store.current()) == (False, 12, good)
    judged = ask("evaluate", *own, "--data", gldv2, "--build", made["build_id"])
    assert judged["build_id"] == made["build_id"]
    out = tmp_path / "o.csv"
    words = ("--pictures", gldv2 / "test", "--out", out, "--build", worse)
    assert ask("predict", "--embedder", worse_directory, *words)["build_id"] == worse
    listed = ask("list")
    assert [one["published"] for one in listed["builds"]] == [True, False, False, False]
    both = ("--data", gldv2, "--embedder", worse_directory, embedder_directory)
    refused = ("publish", worse, "--unless-worse-than", CURRENT, *both, "--store", store.path)
    assert main([str(word) for word in refused]) == PublishRefusedError.exit_code == 14
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1].startswith(f"cairn-index: {worse} is not published: its GAP")
    assert ask("publish", made["build_id"], "--if-gap-at-least", 0.5, *both)["gap"] > 0.5
    assert store.current() == made["build_id"]
    half = ("publish", worse, "--if-gap-at-least", 0.5, "--store", store.path)
    assert main([str(word) for word in half]) == 6
    assert "--data" in capsys.readouterr().err
