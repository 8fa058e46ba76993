"""A gallery of real photographs is published only if it is not worse than the published one."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import index.cli
import trainer.cli
from embedder.errors import PublishRefusedError
from photographs import open_data
from tests.conftest import ROOT

WEIGHTS = ROOT.parent / "shared" / "weights" / "mobilenetv2_100.safetensors"
LANDMARKS, PICTURES, QUERIES, OTHERS = 8, 8, 5, 12

pytestmark = [pytest.mark.slow, pytest.mark.photographs]


@pytest.fixture
def data(gldv2_mini: Path, tmp_path: Path) -> Path:
    """List a few pictures of some landmarks, and queries of these and of none."""
    root, whole = tmp_path / "data", open_data(gldv2_mini)
    root.mkdir()
    for split in ("train", "test"):
        (root / split).symlink_to(gldv2_mini / split)
    gallery = whole.gallery("train.csv")
    places = gallery.by_landmark()[:LANDMARKS]
    shown = {gallery[int(own[0])].landmark_id: own[:PICTURES] for own in places}
    pictures = [[gallery[int(n)].id, "", mark] for mark, own in shown.items() for n in own]
    left = {(mark,): QUERIES for mark in shown} | {(): OTHERS}
    queries = []
    for query in whole.queries():
        if left.get(query.landmark_ids, 0):
            left[query.landmark_ids] -= 1
            queries.append([query.id, " ".join(query.landmark_ids), "Public"])
    for name, header, rows in (
        ("train.csv", ["id", "url", "landmark_id"], pictures),
        ("recognition_solution_v2.1.csv", ["id", "landmarks", "Usage"], queries),
    ):
        with (root / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    return root


def export(out: Path, side: int) -> Path:
    """Export the pretrained network as an embedder of pictures of this side."""
    backbone = ["--backbone", "mobilenetv2_100", "--weights", str(WEIGHTS)]
    assert trainer.cli.main(["export", *backbone, "--side", str(side), "--out", str(out)]) == 0
    return out


def test_a_worse_network_is_refused_and_the_better_one_taken(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same network sees less in pictures of 64 pixels: its gallery does not replace the other.

    Both were built from the same photographs; the figures are those of evaluate.
    """
    if not WEIGHTS.is_file():
        pytest.skip("the pretrained weights are not beside this checkout")
    good, bad = (export(tmp_path / f"side{side}", side) for side in (224, 64))
    where = ["--store", str(tmp_path / "store")]
    asked = ["--data", str(data), "--embedder", str(bad), str(good)]
    condition = [*where, "--unless-worse-than", "CURRENT", *asked]

    def run(*words: str) -> Mapping[str, Any]:
        capsys.readouterr()
        assert index.cli.main([*words]) == 0
        answer: Mapping[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    made = ["--data", str(data), "--precision", "f32", *where]
    better = run("build", "--embedder", str(good), *made)["build_id"]
    worse = run("build", "--embedder", str(bad), *made, "--no-publish")["build_id"]
    assert index.cli.main(["publish", worse, *condition]) == PublishRefusedError.exit_code
    reason = capsys.readouterr().err.splitlines()[-1]
    assert reason.startswith(f"cairn-index: {worse} is not published: its GAP is 0.")
    assert run("list", *where)["current"] == better
    run("publish", worse, *where)
    taken = run("publish", better, *condition)
    assert run("list", *where)["current"] == better
    judged = [
        run("evaluate", "--embedder", str(made_by), "--data", str(data), *where, "--build", one)
        for made_by, one in ((good, better), (bad, worse))
    ]
    assert [one["gap"] for one in judged] == [taken["gap"], taken["compared_gap"]]
    assert taken["gap"] > taken["compared_gap"] + 0.05
