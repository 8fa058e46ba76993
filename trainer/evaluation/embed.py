"""Embed photographs by torch, prepared as the exported embedder will prepare them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embedder.errors import PictureError
from embedder.manifest import Preprocess
from embedder.preprocess import PictureLimits, decode, read_file, to_array
from photographs import Photograph
from trainer.distributed import processes

GOLDEN_CROPS = 4
"""Photographs whose crops an exported network is checked with, beside drawn pictures."""

_LIMITS = PictureLimits()


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
    for batch, arrays in _batches(processes.share(photographs), preprocess, batch_size):
        pictures = torch.from_numpy(arrays).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            vectors = network(pictures)
        read += batch
        rows.append(vectors.float().cpu().numpy())
    shares = processes.gather((read, rows))
    parts = [part for _, of_process in shares for part in of_process]
    found = [photograph for of_process, _ in shares for photograph in of_process]
    return found, np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def prepare_crops(
    photographs: Sequence[Photograph], preprocess: Preprocess, number: int
) -> NDArray[np.float32]:
    """Prepare the first readable photographs: ``(at most number, 3, side, side)``."""
    prepared = (_prepare(photograph.path, preprocess) for photograph in photographs)
    arrays = list(islice((array for array in prepared if array is not None), number))
    empty = np.empty((0, 3, preprocess.side, preprocess.side), np.float32)
    return np.stack(arrays) if arrays else empty


def _batches(
    photographs: Sequence[Photograph], preprocess: Preprocess, batch_size: int
) -> Iterator[tuple[list[Photograph], NDArray[np.float32]]]:
    """Prepare photographs in threads; those that cannot be read are left out."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        for start in range(0, len(photographs), batch_size):
            group = photographs[start : start + batch_size]
            arrays = list(pool.map(lambda p: _prepare(p.path, preprocess), group))
            if read := [array for array in arrays if array is not None]:
                yield (
                    [p for p, a in zip(group, arrays, strict=True) if a is not None],
                    np.stack(read),
                )


def _prepare(path: Path, preprocess: Preprocess) -> NDArray[np.float32] | None:
    try:
        image = decode(read_file(path, _LIMITS), limits=_LIMITS, targets=[preprocess])
    except PictureError:
        return None
    return to_array(image, preprocess)
