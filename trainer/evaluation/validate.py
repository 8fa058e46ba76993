"""Embed photographs by torch, and score a network by top1: the nearest picture answers.

That is the rule that galleries have by default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embedder.errors import PictureError
from embedder.manifest import Preprocess
from embedder.preprocess import PictureLimits, decode, read_file, to_array
from index.evaluation.metrics import Prediction, auroc, gap
from index.search.faiss_search import nearest
from photographs import Photograph
from trainer.distributed import processes

GOLDEN_CROPS = 4
"""Photographs whose crops an exported network is checked with, beside drawn pictures."""

_LIMITS = PictureLimits()


@dataclass(frozen=True, slots=True)
class Metrics:
    """How well queries are answered.

    Attributes:
        gap: Global average precision in [0, 1]; -1 where the gallery or the queries are empty.
        auroc: How well confidence separates queries of landmarks from distractors, 0.5 by chance;
            ``None`` without distractors.
    """

    gap: float
    auroc: float | None


def top1_metrics(
    network: nn.Module,
    gallery: Sequence[Photograph],
    queries: Sequence[Photograph],
    preprocess: Preprocess,
    *,
    distractors: Sequence[Photograph] = (),
    bf16: bool,
) -> Metrics:
    """Score answers to queries, each given by the nearest picture of the gallery.

    Args:
        network: In evaluation mode.
        gallery: The pictures that are searched.
        queries: Pictures of the same landmarks, not in the gallery.
        preprocess: How all are prepared.
        distractors: Pictures of no landmark: queries too, to which any answer is wrong.
        bf16: Compute in bfloat16.

    Returns:
        The metrics of all answers together; a picture that cannot be read has none.
    """
    if not queries:
        return Metrics(-1.0, None)
    searched, rows = embed_photographs(network, gallery, preprocess, bf16=bf16)
    known, vectors = embed_photographs(network, queries, preprocess, bf16=bf16)
    if not searched or not known:
        return Metrics(-1.0, None)
    landmarks = [str(photograph.landmark_id) for photograph in searched]
    truths = {query.id: [str(query.landmark_id)] for query in queries}
    answers = _answer([query.id for query in known], landmarks, rows, vectors)
    unknown, vectors = embed_photographs(network, distractors, preprocess, bf16=bf16)
    if not unknown:
        return Metrics(gap(answers, truths), None)
    names = [f"distractor {number}" for number in range(len(unknown))]
    wrong = _answer(names, landmarks, rows, vectors)
    separation = auroc([a.confidence for a in answers], [a.confidence for a in wrong])
    return Metrics(gap([*answers, *wrong], truths | {name: [] for name in names}), separation)


def _answer(
    names: Sequence[str],
    landmarks: Sequence[str],
    rows: NDArray[np.float32],
    vectors: NDArray[np.float32],
) -> list[Prediction]:
    """Answer each named query, ``(n, d)``, by the nearest row of the gallery, ``(m, d)``."""
    found = nearest(rows, vectors, k=1)
    return [
        Prediction(name, landmarks[row], float(similarity))
        for name, row, similarity in zip(
            names, found.rows[:, 0], found.similarities[:, 0], strict=True
        )
    ]


@torch.no_grad()
def embed_photographs(
    network: nn.Module,
    photographs: Sequence[Photograph],
    preprocess: Preprocess,
    *,
    bf16: bool,
    batch_size: int = 32,
) -> tuple[list[Photograph], NDArray[np.float32]]:
    """Embed photographs by torch, as the exported embedder will; processes share the work.

    Args:
        network: ``(b, 3, side, side)`` → ``(b, …)``, in evaluation mode.
        photographs: In any number.
        preprocess: How they are prepared.
        bf16: Compute in bfloat16.
        batch_size: Pictures at once.

    Returns:
        The photographs that could be read, and ``(n, …)``, the network's output for each.
    """
    device = next(network.parameters()).device
    read: list[Photograph] = []
    rows: list[NDArray[np.float32]] = []
    for batch in _batches(processes.share(photographs), preprocess, batch_size):
        pictures = torch.from_numpy(np.stack([array for _, array in batch])).to(
            device, memory_format=torch.channels_last
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            vectors = network(pictures)
        read += [photograph for photograph, _ in batch]
        rows.append(vectors.float().cpu().numpy())
    shares = processes.gather((read, rows))
    parts = [part for _, of_process in shares for part in of_process]
    found = [photograph for of_process, _ in shares for photograph in of_process]
    return found, np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def prepare_crops(
    photographs: Sequence[Photograph], preprocess: Preprocess, number: int
) -> NDArray[np.float32]:
    """Prepare the first readable photographs, to check an exported network with.

    Returns:
        ``(at most number, 3, side, side)``.
    """
    prepared = (_prepare(photograph.path, preprocess) for photograph in photographs)
    arrays = list(islice((array for array in prepared if array is not None), number))
    empty = np.empty((0, 3, preprocess.side, preprocess.side), np.float32)
    return np.stack(arrays) if arrays else empty


def _batches(
    photographs: Sequence[Photograph], preprocess: Preprocess, batch_size: int
) -> Iterator[list[tuple[Photograph, NDArray[np.float32]]]]:
    """Prepare photographs in threads; those that cannot be read are left out."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        for start in range(0, len(photographs), batch_size):
            group = photographs[start : start + batch_size]
            arrays = pool.map(lambda p: _prepare(p.path, preprocess), group)
            pairs = zip(group, arrays, strict=True)
            if read := [(photograph, array) for photograph, array in pairs if array is not None]:
                yield read


def _prepare(path: Path, preprocess: Preprocess) -> NDArray[np.float32] | None:
    try:
        image = decode(read_file(path, _LIMITS), limits=_LIMITS, targets=[preprocess])
    except PictureError:
        return None
    return to_array(image, preprocess)
