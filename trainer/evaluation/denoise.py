"""Find training pictures whose label is probably wrong, and write a list without them.

In training with several sub-centers, a landmark's own pictures gather around one of them and
wrongly labeled ones around the others. So pictures are dropped that lie far from the dominant
sub-center, the one that most pictures of the landmark are nearest to (Deng et al., *Sub-center
ArcFace: Boosting Face Recognition by Large-scale Noisy Web Faces*, ECCV 2020). A second training
on the list that is written here uses the others.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch.nn import functional
from tqdm import tqdm

from embedder.artifacts.documents import write_document
from embedder.errors import ArtifactMismatchError, TrainingError
from embedder.runtimes.devices import can_run_bf16
from photographs import Photograph, PhotographList, write_list
from photographs.prepare.split import labeled
from trainer.evaluation.defaults import MAX_ANGLE_DEGREES
from trainer.evaluation.denoise_page import CheckedPictures, write_page
from trainer.evaluation.embed import embed_photographs
from trainer.model import run_folder
from trainer.model.run_folder import TrainedNetwork
from trainer.recipe.head import SoftmaxRecipe

SMALL = 2
"""Landmarks with so few pictures keep them all: a majority of them decides nothing."""

BIN_DEGREES = 5
CHUNK = 512
REPORT_VERSION = 1


def denoise(
    run: Path,
    photographs: Sequence[Photograph],
    out: Path,
    *,
    max_angle_degrees: float = MAX_ANGLE_DEGREES,
    truths: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Write ``train_denoised.csv``, ``report.json`` and ``report.html``.

    The list has the layout of ``train_clean.csv``, so that ``data.list`` of a recipe and
    ``cairn-index build --list`` take it; landmarks without a picture left are not in it. For a data
    folder with one folder for each landmark, whose ids are paths, it has a line
    ``id,url,landmark_id`` for each picture.

    Args:
        run: Folder of a finished run whose head compares by cosine.
        photographs: Those of its last training set, or more pictures of the same landmarks.
        out: Folder to write to; made if it does not exist.
        max_angle_degrees: Pictures farther from the dominant sub-center are dropped.
        truths: By picture id, the landmark that it really shows, to measure precision and recall.

    Returns:
        The report, as written; angles are in degrees.

    Raises:
        ArtifactMissingError: The run has no recipe or no checkpoint.
        ArtifactDamagedError: The checkpoint cannot be read.
        ArtifactMismatchError: The photographs show landmarks that were not trained.
        TrainingError: The run is not finished, or its head has no sub-centers.
    """
    trained = _load_finished(run)
    columns = PhotographList.of(photographs)
    known = labeled(columns, trained.recipe.data.subset, seed=trained.recipe.seed)
    read, labels, cosines = _compare(trained, known)
    angles = dominant_angles(cosines, labels)
    kept = (angles <= max_angle_degrees) | (np.bincount(labels, minlength=1)[labels] <= SMALL)
    checked = CheckedPictures(read, angles, kept, truths or {})
    report = {
        "schema_version": REPORT_VERSION,
        "run": trained.digest,
        "max_angle": max_angle_degrees,
        "unreadable": len(known) - len(read),
        **_describe(checked),
        "dropped_pictures": [_entry(checked, place) for place in np.flatnonzero(~kept).tolist()],
    }
    out.mkdir(parents=True, exist_ok=True)
    listed = read.where(kept)
    ids_are_paths = pc.any(pc.match_substring(listed.ids, "/")).as_py()  # may hold spaces
    write_list(out / "train_denoised.csv", listed, by_landmark=not ids_are_paths)
    write_page(out / "report.html", report, checked)
    write_document(out / "report.json", report)
    return report


def dominant_angles(cosines: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the angle between each picture and the dominant sub-center of its landmark.

    That is the sub-center that most pictures of the landmark are nearest to, of equals the first.

    Args:
        cosines: ``(n, K)``, of each picture and each sub-center of its own landmark.
        labels: ``(n,)``, landmark numbers.

    Returns:
        ``(n,)`` degrees in [0, 180].

    >>> cosines = np.array([[1, 0], [0.5, 0], [-1, 0.5]], np.float32)
    >>> dominant_angles(cosines, np.array([0, 0, 0])).round().tolist()
    [0.0, 60.0, 180.0]
    """
    if not len(labels):
        return np.empty(0)
    votes = np.zeros((int(labels.max()) + 1, cosines.shape[1]), np.int64)
    np.add.at(votes, (labels, cosines.argmax(axis=1)), 1)
    dominant = votes.argmax(axis=1)[labels]
    own = cosines[np.arange(len(labels)), dominant].astype(np.float64)
    angles: NDArray[np.float64] = np.degrees(np.arccos(own.clip(-1, 1)))
    return angles


def _load_finished(run: Path) -> TrainedNetwork:
    recipe = run_folder.read_recipe(run)
    if isinstance(recipe.head, SoftmaxRecipe):
        raise TrainingError(
            f"{run} was trained with softmax, which has no sub-centers; train with "
            "head.kind=subcenter_arcface and head.centers=3"
        )
    if not run_folder.is_finished(run):
        raise TrainingError(f"{run} is not finished; continue it with cairn-train train --resume")
    return run_folder.load_trained(run, run_folder.LAST)


def _compare(
    trained: TrainedNetwork, photographs: PhotographList
) -> tuple[PhotographList, NDArray[np.int64], NDArray[np.float32]]:
    """Compare photographs with the sub-centers of their landmarks.

    Returns:
        The ``n`` readable photographs, their landmark numbers ``(n,)``, and cosines ``(n, K)``.
    """
    recipe, numbers = trained.recipe, {name: n for n, name in enumerate(trained.landmarks)}
    if unknown := set(photographs.landmarks) - numbers.keys():
        raise ArtifactMismatchError(
            "landmarks of the photographs",
            expected=f"the {len(numbers)} that the run was trained on",
            found=f"{len(unknown)} others, one of them {min(unknown)}",
        )
    labels = np.array([numbers[name] for name in photographs.landmarks])[photographs.labels]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = trained.network.to(device).to(memory_format=torch.channels_last)
    bf16 = recipe.precision != "f32" and can_run_bf16("cuda" if device.type == "cuda" else "cpu")
    weight = functional.normalize(trained.head["weight"]).numpy()
    centers = weight.reshape(len(numbers), -1, weight.shape[1])
    read, cosines = [np.empty(0, np.int64)], [np.empty((0, centers.shape[1]), np.float32)]
    with tqdm(total=len(photographs), desc="compare", unit="picture") as bar:
        for start in range(0, len(photographs), CHUNK):
            chunk = photographs[start : start + CHUNK]
            found, rows = embed_photographs(network, chunk, recipe.embed, bf16=bf16)
            read.append(start + found)
            if found.size:
                cosines.append(np.einsum("nd,nkd->nk", rows, centers[labels[read[-1]]]))
            bar.update(len(chunk))
    places = np.concatenate(read)
    return photographs.take(places), labels[places], np.concatenate(cosines)


def _describe(checked: CheckedPictures) -> dict[str, Any]:
    """Count the kept and dropped pictures; with precision and recall if truths are known."""
    photographs, kept = checked.photographs, checked.kept
    before = np.unique(photographs.labels)
    emptied = np.setdiff1d(before, photographs.labels[kept]).tolist()
    edges = range(0, 180 + BIN_DEGREES, BIN_DEGREES)
    counts, _ = np.histogram(checked.angles, edges)
    described: dict[str, Any] = {
        "pictures": len(photographs),
        "kept": int(np.count_nonzero(kept)),
        "dropped": int(np.count_nonzero(~kept)),
        "landmarks": len(before),
        "emptied": [photographs.landmarks[label] for label in emptied],
        "angles": {f"{a}-{b}": int(n) for (a, b), n in zip(pairwise(edges), counts, strict=True)},
    }
    known, wrong = checked.judged() if checked.truths else (np.zeros(0, bool),) * 2
    if known.any():
        both, dropped = (int(np.count_nonzero(~kept & mask)) for mask in (wrong, known))
        described |= {
            "wrong": int(np.count_nonzero(wrong)),
            "dropped_wrong": both,
            "precision": both / dropped if dropped else None,
            "recall": both / wrong.sum() if wrong.any() else None,
        }
    return described


def _entry(checked: CheckedPictures, place: int) -> dict[str, Any]:
    photograph, truth = checked.photographs[place], checked.truth(place)
    label = {"id": photograph.id, "landmark_id": photograph.landmark_id}
    told = {} if truth is None else {"truth": truth}
    return {**label, "angle": round(float(checked.angles[place]), 2), **told}
