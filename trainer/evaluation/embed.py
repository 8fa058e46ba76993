"""Embed photographs by torch, prepared as the exported embedder will prepare them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from embedder.errors import PictureError
from embedder.manifest import Preprocess
from embedder.preprocess import PictureLimits, decode, normalize, read_file, to_square
from photographs import Photograph
from trainer.data.normalize import Normalize
from trainer.distributed import processes

GOLDEN_CROPS = 4
"""Photographs whose crops an exported network is checked with, beside drawn pictures."""

_LIMITS = PictureLimits()


class _Pictured(Protocol):
    @property
    def path(self) -> Path: ...


@torch.no_grad()
def embed_photographs(
    network: nn.Module,
    photographs: Sequence[_Pictured],
    preprocess: Preprocess,
    *,
    bf16: bool,
    batch_size: int = 32,
    progress: str = "",
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Embed photographs or queries, as the exported embedder will; processes share the work.

    Args:
        network: ``(b, 3, side, side)`` → ``(b, …)``, in evaluation mode.
        photographs: In any number.
        preprocess: How they are prepared.
        bf16: Compute in bfloat16.
        batch_size: Pictures at once.
        progress: What the progress bar calls the work; without it there is no bar.

    Returns:
        ``(n,)``, the places of those that could be read, ascending; and ``(n, …)``, the network's
        output for each.
    """
    device = next(network.parameters()).device
    to_input = Normalize(preprocess, device)
    share = processes.share_slice(len(photographs))
    total = share.stop - share.start
    places, rows = [torch.empty(0, dtype=torch.int64)], list[Tensor]()
    hidden = not (total and progress and processes.is_first())
    with tqdm(total=total, desc=progress, unit="picture", leave=False, disable=hidden) as bar:
        for read, pixels in _batches(photographs[share], preprocess, batch_size):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                vectors = network(to_input(pixels))
            places.append(read + share.start)
            rows.append(vectors.float().cpu())
            bar.update(len(read))
    found = processes.gather_tensors(torch.cat(places))
    vectors = processes.gather_tensors(torch.cat(rows) if rows else torch.empty(0, 0))
    return found.numpy(), vectors.numpy()


def prepare_crops(
    photographs: Sequence[Photograph], preprocess: Preprocess, number: int
) -> NDArray[np.float32]:
    """Prepare the first readable photographs: ``(at most number, 3, side, side)``."""
    squares = (_square(photograph.path, preprocess) for photograph in photographs)
    readable = islice((square for square in squares if square is not None), number)
    arrays = [normalize(square, preprocess) for square in readable]
    empty = np.empty((0, 3, preprocess.side, preprocess.side), np.float32)
    return np.stack(arrays) if arrays else empty


def _batches(
    photographs: Sequence[_Pictured], preprocess: Preprocess, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Decode in threads, one batch ahead; what cannot be read is left out.

    Yields:
        ``(b,)``, positions of the pictures, and their pixels, ``(b, side, side, 3)`` uint8.
    """
    with ThreadPoolExecutor(processes.cores()) as pool:

        def begin(start: int) -> list[Future[Image.Image | None]]:
            group = photographs[start : start + batch_size]
            return [pool.submit(_square, one.path, preprocess) for one in group]

        ahead = begin(0)
        for start in range(0, len(photographs), batch_size):
            squares, ahead = [work.result() for work in ahead], begin(start + batch_size)
            pixels = [np.asarray(square) for square in squares if square is not None]
            if pixels:
                read = [n for n, square in enumerate(squares, start) if square is not None]
                yield torch.tensor(read), torch.from_numpy(np.stack(pixels))


def _square(path: Path, preprocess: Preprocess) -> Image.Image | None:
    """Read a picture at its final size, not normalized; None if it is unreadable."""
    try:
        image = decode(read_file(path, _LIMITS), limits=_LIMITS, targets=[preprocess])
    except PictureError:
        return None
    return to_square(image, preprocess)
