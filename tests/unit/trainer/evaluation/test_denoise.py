"""Denoising drops what lies far from its landmark's dominant sub-center, and tells how well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from embedder.errors import ArtifactMismatchError, TrainingError
from photographs import Photograph, open_data
from tests.factories import photographs
from tests.recipes import tiny_recipe
from trainer.cli import main
from trainer.evaluation.denoise import denoise, dominant_angles
from trainer.evaluation.embed import embed_photographs
from trainer.model import checkpoint
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import load_recipe
from trainer.training.train import train

ONE_EPOCH = ["save_seconds=60", "stages.0.epochs=1", "stages.1.epochs=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw photographs of three landmarks, and two of a fourth."""
    folder = photographs(tmp_path_factory.mktemp("data"), landmarks=3, views=6)
    for view in (2, 3, 4, 5):
        (folder / f"landmark-2/picture-2-{view}.jpg").rename(folder / f"landmark-1/{view}.jpg")
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train once, a little."""
    folder = tmp_path_factory.mktemp("run")
    recipe = load_recipe(tiny_recipe(folder / "tiny.yaml"), ONE_EPOCH)
    train(recipe, open_data(data).gallery(), folder / "run")
    return folder / "run"


def vectors(run: Path, pictures: list[Photograph]) -> dict[str, np.ndarray]:
    """Embed pictures by the run's averaged network."""
    recipe = load_recipe(run / "recipe.yaml")
    network = EmbeddingNetwork(recipe.network)
    tensors, _ = checkpoint.load(run / "last.safetensors")
    network.load_state_dict(checkpoint.part(tensors, "averaged"))
    read, rows = embed_photographs(network.eval(), pictures, recipe.embed, bf16=False)
    return {picture.id: row for picture, row in zip([pictures[n] for n in read], rows, strict=True)}


@pytest.fixture
def placed(run: Path, data: Path, tmp_path: Path) -> tuple[Path, dict[str, float], float]:
    """Copy the run, with sub-centers put where pictures are.

    Landmark 0: its picture 0, and far away. Landmark 1: far away, and its own first picture.
    Landmark 2, of two pictures: both far away.

    Returns:
        The run, the angles of the pictures of the first two landmarks, and one that parts them.
    """
    folder = tmp_path / "run"
    folder.mkdir()
    for path in run.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    rows = vectors(run, open_data(data).gallery())
    near = [rows["landmark-0/picture-0-0"], rows["landmark-1/picture-1-0"]]
    away = -sum(rows.values())
    tensors, facts = checkpoint.load(folder / "last.safetensors")
    centers = np.stack([near[0], away, away, near[1], away, 2 * away])
    tensors["head.weight"] = torch.from_numpy(3 * centers.astype(np.float32))
    checkpoint.save(folder / "last.safetensors", tensors, facts)
    own = dict(zip(("landmark-0", "landmark-1"), near, strict=True))
    angles = {
        name: float(np.degrees(np.arccos(min(1.0, row @ own[name.split("/")[0]]))))
        for name, row in rows.items()
        if name.split("/")[0] in own
    }
    return folder, angles, _widest_gap(sorted(angles.values())[4:12])


def _widest_gap(ordered: list[float]) -> float:
    """Return the middle of the widest gap: processors differ in the last digits of the others."""
    place = int(np.argmax(np.diff(ordered)))
    return (ordered[place] + ordered[place + 1]) / 2


def test_a_landmarks_pictures_decide_which_sub_center_is_dominant() -> None:
    """Angles equal those of a slow loop; a vote that ends even goes to the first sub-center."""
    rng = np.random.default_rng(0)
    cosines = rng.uniform(-1, 1, (40, 3)).astype(np.float32)
    labels = rng.integers(0, 6, 40) * 2
    expected = []
    for row, label in zip(cosines, labels, strict=True):
        nearest = [
            int(np.argmax(c)) for c, other in zip(cosines, labels, strict=True) if other == label
        ]
        votes = [nearest.count(center) for center in range(3)]
        expected.append(np.degrees(np.arccos(float(row[votes.index(max(votes))]))))
    assert dominant_angles(cosines, labels) == pytest.approx(np.array(expected), abs=1e-4)


def test_pictures_far_from_the_dominant_sub_center_are_dropped(
    placed: tuple[Path, dict[str, float], float], data: Path, tmp_path: Path
) -> None:
    """Angles are those of the vectors; a landmark of two pictures keeps both, however far."""
    run, angles, limit = placed
    pictures = open_data(data).gallery()
    report = denoise(run, pictures, tmp_path / "out", max_angle_degrees=limit)
    far = {name: angle for name, angle in angles.items() if angle > limit}
    kept = open_data(data).gallery(str(tmp_path / "out" / "train_denoised.csv"))
    assert 5 <= len(far) <= 11
    assert {p.id for p in kept} == {p.id for p in pictures} - far.keys()
    dropped = {line["id"]: line["angle"] for line in report["dropped_pictures"]}
    assert dropped == pytest.approx(far, abs=0.02)
    assert report["emptied"] == []
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report


def test_precision_and_recall_are_those_of_the_truth(
    placed: tuple[Path, dict[str, float], float],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command compares what it dropped with a list of right labels; the page shows it."""
    run, angles, limit = placed
    ordered = sorted(angles, key=lambda name: angles[name])
    wrong = {ordered[2], *ordered[-2:]}  # one of those that are kept, two that are dropped
    far = sum(angle > limit for angle in angles.values())
    truth = tmp_path / "truth.csv"
    told = [f"{name},{'elsewhere' if name in wrong else name.split('/')[0]}" for name in ordered]
    truth.write_text("\n".join(["id,landmark_id", *told]))
    arguments = ["denoise", str(run), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--angle", str(limit), "--truth", str(truth)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["wrong"], report["dropped_wrong"]) == (3, 2)
    assert (report["precision"], report["recall"]) == (pytest.approx(2 / far), pytest.approx(2 / 3))
    page = (tmp_path / "out" / "report.html").read_text()
    shown = {name.split("/")[0] for name, angle in angles.items() if angle > limit}
    assert page.count("<figure") == far + len(shown)  # with the best one of each landmark
    assert page.count("truly elsewhere") == 2
    assert "://" not in page


def softmax(run: Path) -> None:
    """Give the run a head without sub-centers."""
    text = (run / "recipe.yaml").read_text()
    recipe = load_recipe(run / "recipe.yaml", ["head={kind: softmax}"])
    assert recipe.to_yaml() != text
    (run / "recipe.yaml").write_text(recipe.to_yaml())


def longer(run: Path) -> None:
    """Give the run one more stage."""
    recipe = load_recipe(run / "recipe.yaml")
    more = recipe.model_copy(update={"stages": (*recipe.stages, recipe.stages[0])})
    (run / "recipe.yaml").write_text(more.to_yaml())


@pytest.mark.parametrize(
    ("change", "reason"), [(softmax, "softmax, which has no sub-centers"), (longer, "not finished")]
)
def test_a_run_without_finished_sub_centers_is_refused(
    change: Callable[[Path], None],
    reason: str,
    placed: tuple[Path, dict[str, float], float],
    data: Path,
    tmp_path: Path,
) -> None:
    """A head that does not compare by cosine has none; one in training has not yet."""
    change(placed[0])
    with pytest.raises(TrainingError, match=reason):
        denoise(placed[0], open_data(data).gallery(), tmp_path / "out")


def test_photographs_of_other_landmarks_are_refused(run: Path, data: Path, tmp_path: Path) -> None:
    """Landmarks that the run was not trained on have no sub-centers."""
    first, *others = open_data(data).gallery()
    stranger = Photograph(first.id, first.path, "elsewhere")
    with pytest.raises(ArtifactMismatchError, match="1 others, one of them elsewhere"):
        denoise(run, [stranger, *others], tmp_path / "out")


def test_a_landmark_without_a_picture_left_is_not_in_the_list(
    run: Path, data: Path, tmp_path: Path
) -> None:
    """By an angle of zero only the small landmark stays; the report names the others."""
    report = denoise(run, open_data(data).gallery(), tmp_path / "out", max_angle_degrees=0)
    kept = open_data(data).gallery(str(tmp_path / "out" / "train_denoised.csv"))
    assert {p.landmark_id for p in kept} == {"landmark-2"}
    assert report["emptied"] == ["landmark-0", "landmark-1"]
    assert (report["kept"], report["dropped"]) == (2, 16)
