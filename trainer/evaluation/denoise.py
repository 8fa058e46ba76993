"""Find training pictures whose label is probably wrong, and write a list without them.

Trained with several sub-centers, a landmark's own pictures gather around one of them and wrongly
labeled ones around the others. So a picture far from the sub-center that most pictures of its
landmark are nearest to is dropped (Deng et al., *Sub-center ArcFace: Boosting Face Recognition by
Large-scale Noisy Web Faces*, ECCV 2020); a second training, on the list that is written here, then
learns from what is left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from tqdm import tqdm

from embedder.artifacts.files import write_atomic
from embedder.errors import ArtifactMismatchError, TrainingError
from embedder.runtimes.devices import can_run_bf16
from photographs import Photograph, landmark_order, write_list
from photographs.prepare.split import labeled
from trainer.evaluation.denoise_page import write_page
from trainer.evaluation.validate import embed_photographs
from trainer.model import checkpoint
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import Recipe, SoftmaxRecipe, SubcenterArcFaceRecipe, load_recipe

MAX_ANGLE_DEGREES = 75.0
"""Pictures farther from their landmark's dominant sub-center are dropped, as published."""

SMALL = 2
"""Landmarks with so few pictures keep them all: nothing tells which of them is dominant."""

BIN_DEGREES = 5
CHUNK = 512


@dataclass(frozen=True)
class Judged:
    """A training picture and how far it lies from its landmark.

    Attributes:
        photograph: With the landmark it is said to show.
        angle_degrees: To the dominant sub-center of that landmark, in [0, 180].
        kept: Whether it stays in the list.
        truth: The landmark it really shows; None where nobody knows.
    """

    photograph: Photograph
    angle_degrees: float
    kept: bool
    truth: str | None

    @property
    def wrong(self) -> bool:
        """Whether it is known to show something else."""
        return self.truth is not None and self.truth != self.photograph.landmark_id


@dataclass(frozen=True)
class _Learned:
    """What a finished run learned.

    Attributes:
        recipe: The run's.
        network: In evaluation mode, on the device it computes on.
        centers: ``(C, K, d)`` unit rows, on the CPU: the sub-centers of each landmark.
        landmarks: Their ids, in the order of ``centers``.
        digest: Of everything that decided the run's outcome.
    """

    recipe: Recipe
    network: EmbeddingNetwork
    centers: NDArray[np.float32]
    landmarks: list[str]
    digest: str


def denoise(
    run: Path,
    photographs: Sequence[Photograph],
    out: Path,
    *,
    max_angle_degrees: float = MAX_ANGLE_DEGREES,
    truths: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Write ``train_denoised.csv``, ``report.json`` and ``report.html``.

    The list has the layout of ``train_clean.csv``, so that ``data.list`` of a recipe and ``--list``
    of the archive take it; landmarks left without a picture are not in it. For a data folder with
    one folder for each landmark, whose ids are paths, it has a line ``id,url,landmark_id`` for
    each picture.

    Args:
        run: Folder of a finished run whose head compares by cosine.
        photographs: What the run learned from, or more pictures of the same landmarks.
        out: Folder to write to; made if need be.
        max_angle_degrees: Pictures farther from their landmark are dropped.
        truths: By picture id, the landmark that is really shown, to judge what was dropped by.

    Returns:
        The report, as written; angles are in degrees.

    Raises:
        RecipeError: The run has no recipe.
        ArtifactMissingError: It has no last state.
        ArtifactDamagedError: That cannot be read.
        ArtifactMismatchError: The photographs show landmarks that the run did not learn.
        TrainingError: The run is not finished, or its head has no sub-centers.
    """
    learned = _open(run)
    known = labeled(photographs, learned.recipe.data.subset, seed=learned.recipe.seed)
    read, labels, cosines = _compare(learned, known)
    angles = dominant_angles(cosines, labels)
    small = np.bincount(labels, minlength=1)[labels] <= SMALL
    judged = [
        Judged(photograph, float(angle), bool(kept), (truths or {}).get(photograph.id))
        for photograph, angle, kept in zip(
            read, angles, (angles <= max_angle_degrees) | small, strict=True
        )
    ]
    report = {
        "run": learned.digest,
        "max_angle": max_angle_degrees,
        "unreadable": len(known) - len(read),
        **_describe(judged),
        "dropped_pictures": [_line(one) for one in judged if not one.kept],
    }
    out.mkdir(parents=True, exist_ok=True)
    kept = [one.photograph for one in judged if one.kept]
    are_paths = any("/" in photograph.id for photograph in kept)  # hold spaces, maybe
    write_list(out / "train_denoised.csv", kept, by_landmark=not are_paths)
    write_page(out / "report.html", report, judged)
    write_atomic(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    return report


def dominant_angles(cosines: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Measure each picture's angle to its landmark's dominant sub-center.

    That is the one which most pictures of the landmark are nearest to; among equals the first.

    Args:
        cosines: ``(n, K)``, of each picture with each sub-center of its own landmark.
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


def _open(run: Path) -> _Learned:
    recipe = load_recipe(run / "recipe.yaml")
    if isinstance(recipe.head, SoftmaxRecipe):
        raise TrainingError(
            f"{run} was trained with softmax, which has no sub-centers; train with "
            "head.kind=subcenter_arcface and head.centers=3"
        )
    tensors, facts = checkpoint.load(run / "last.safetensors")
    if facts["progress"]["stage"] < len(recipe.stages):
        raise TrainingError(f"{run} is not finished; go on with it by cairn-train train --resume")
    network = EmbeddingNetwork(recipe.network.model_copy(update={"pretrained": "none"}))
    averaged = checkpoint.part(tensors, "averaged")
    network.load_state_dict(averaged or checkpoint.part(tensors, "network"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    centers = recipe.head.centers if isinstance(recipe.head, SubcenterArcFaceRecipe) else 1
    rows = functional.normalize(tensors["head.weight"]).numpy()
    return _Learned(
        recipe=recipe,
        network=network.eval().to(device).to(memory_format=torch.channels_last),
        centers=rows.reshape(-1, centers, rows.shape[1]),
        landmarks=facts["landmarks"],
        digest=facts["recipe"],
    )


def _compare(
    learned: _Learned, photographs: Sequence[Photograph]
) -> tuple[list[Photograph], NDArray[np.int64], NDArray[np.float32]]:
    """Embed photographs and compare each with the sub-centers of its own landmark.

    Returns:
        The ``n`` photographs that could be read, their landmark numbers ``(n,)``, and
        cosines ``(n, K)``.
    """
    numbers = {landmark: number for number, landmark in enumerate(learned.landmarks)}
    foreign = {p.landmark_id for p in photographs if p.landmark_id not in numbers}
    if foreign:
        raise ArtifactMismatchError(
            "landmarks of the photographs",
            expected=f"the {len(numbers)} that the run learned",
            found=f"{len(foreign)} others, one of them {min(map(str, foreign))}",
        )
    kind = next(learned.network.parameters()).device.type
    able = can_run_bf16("cuda" if kind == "cuda" else "cpu")
    bf16 = able and learned.recipe.precision != "f32"
    read: list[Photograph] = []
    cosines = [np.empty((0, learned.centers.shape[1]), np.float32)]
    with tqdm(total=len(photographs), desc="compare", unit="picture") as bar:
        for start in range(0, len(photographs), CHUNK):
            chunk = photographs[start : start + CHUNK]
            found, rows = embed_photographs(learned.network, chunk, learned.recipe.embed, bf16=bf16)
            own = learned.centers[[numbers[str(p.landmark_id)] for p in found]]
            if found:
                cosines.append(np.einsum("nd,nkd->nk", rows, own))
            read += found
            bar.update(len(chunk))
    labels = np.array([numbers[str(p.landmark_id)] for p in read], np.int64)
    return read, labels, np.concatenate(cosines)


def _describe(judged: Sequence[Judged]) -> dict[str, Any]:
    """Count what was kept and dropped, and how right that was where the truth is known."""
    before = {str(one.photograph.landmark_id) for one in judged}
    after = {str(one.photograph.landmark_id) for one in judged if one.kept}
    edges = range(0, 180, BIN_DEGREES)
    places = [min(int(one.angle_degrees) // BIN_DEGREES, len(edges) - 1) for one in judged]
    counts = np.bincount(np.array(places, np.int64), minlength=len(edges)).tolist()
    described: dict[str, Any] = {
        "pictures": len(judged),
        "kept": sum(one.kept for one in judged),
        "dropped": sum(not one.kept for one in judged),
        "landmarks": len(before),
        "emptied": sorted(before - after, key=landmark_order),
        "angles": {f"{e}-{e + BIN_DEGREES}": n for e, n in zip(edges, counts, strict=True)},
    }
    if any(one.truth is not None for one in judged):
        described |= _precision_recall(judged)
    return described


def _precision_recall(judged: Sequence[Judged]) -> dict[str, Any]:
    """Judge what was dropped by the truth; a share of nothing is None."""
    known = [one for one in judged if one.truth is not None]
    wrong = sum(one.wrong for one in known)
    dropped = sum(not one.kept for one in known)
    both = sum(one.wrong and not one.kept for one in known)
    return {
        "wrong": wrong,
        "dropped_wrong": both,
        "precision": both / dropped if dropped else None,
        "recall": both / wrong if wrong else None,
    }


def _line(one: Judged) -> dict[str, Any]:
    said = {"id": one.photograph.id, "landmark_id": one.photograph.landmark_id}
    told = {} if one.truth is None else {"truth": one.truth}
    return {**said, "angle": round(one.angle_degrees, 2), **told}
