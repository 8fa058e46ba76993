"""Judge a network in training by the rule that is served: the nearest picture gives the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embedder.errors import PictureError
from embedder.manifest import Preprocess
from embedder.photographs import Photograph
from embedder.preprocess import PictureLimits, decode, read_file, to_array
from index.gallery import nearest
from index.metrics import Prediction, gap
from trainer import distributed
from trainer.network import EmbeddingNetwork

_LIMITS = PictureLimits()


def served_gap(
    network: EmbeddingNetwork,
    gallery: Sequence[Photograph],
    queries: Sequence[Photograph],
    preprocess: Preprocess,
    *,
    bf16: bool,
) -> float:
    """Return the GAP of the queries, each answered by its nearest gallery picture.

    Args:
        network: In evaluation mode.
        gallery: What is searched.
        queries: Pictures of the same landmarks, not in the gallery.
        preprocess: How both are prepared.
        bf16: Compute in bfloat16.

    Returns:
        In [0, 1]; -1 when there is nothing to search or to ask.
    """
    if not queries:
        return -1.0
    searched, rows = embed_photographs(network, gallery, preprocess, bf16=bf16)
    asked, vectors = embed_photographs(network, queries, preprocess, bf16=bf16)
    if not searched or not asked:
        return -1.0
    found = nearest(rows, vectors, k=1)
    predictions = [
        Prediction(query.id, str(searched[row].landmark_id), float(similarity))
        for query, row, similarity in zip(
            asked, found.rows[:, 0], found.similarities[:, 0], strict=True
        )
    ]
    truths = {query.id: [str(query.landmark_id)] for query in queries}
    return gap(predictions, truths)


@torch.no_grad()
def embed_photographs(
    network: EmbeddingNetwork,
    photographs: Sequence[Photograph],
    preprocess: Preprocess,
    *,
    bf16: bool,
    batch_size: int = 32,
) -> tuple[list[Photograph], NDArray[np.float32]]:
    """Embed photographs by torch, as the served embedder will; processes share the work.

    Returns:
        The photographs that could be read, and ``(n, d)`` unit rows.
    """
    device = next(network.parameters()).device
    read: list[Photograph] = []
    rows: list[NDArray[np.float32]] = []
    for batch in _batches(distributed.share(photographs), preprocess, batch_size):
        pictures = torch.from_numpy(np.stack([array for _, array in batch])).to(
            device, memory_format=torch.channels_last
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            vectors = network(pictures)
        read += [photograph for photograph, _ in batch]
        rows.append(vectors.float().cpu().numpy())
    shares = distributed.gather((read, rows))
    parts = [part for _, of_process in shares for part in of_process]
    found = [photograph for of_process, _ in shares for photograph in of_process]
    return found, np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def prepare_crops(
    photographs: Sequence[Photograph], preprocess: Preprocess, number: int
) -> NDArray[np.float32]:
    """Prepare the first readable photographs, to prove an export with.

    Returns:
        ``(at most number, 3, side, side)``.
    """
    arrays: list[NDArray[np.float32]] = []
    for photograph in photographs:
        if len(arrays) == number:
            break
        array = _prepare(photograph.path, preprocess)
        if array is not None:
            arrays.append(array)
    empty = np.empty((0, 3, preprocess.side, preprocess.side), np.float32)
    return np.stack(arrays) if arrays else empty


def _batches(
    photographs: Sequence[Photograph], preprocess: Preprocess, batch_size: int
) -> Iterator[list[tuple[Photograph, NDArray[np.float32]]]]:
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
