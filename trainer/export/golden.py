"""Golden vectors: what torch computes in float32 for given pictures.

Every runtime is compared with them before it is used.
"""

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import nn

from embedder.artifacts.arrays import write_npz
from embedder.errors import TrainingError
from embedder.manifest import Preprocess
from embedder.preprocess import PictureLimits, decode, to_array

# Width and height of the golden pictures: none of them suits every preprocessing.
_SIZES = ((256, 256), (320, 240), (200, 360), (512, 192))


def write_golden(
    path: Path, network: nn.Module, preprocess: Preprocess, crops: NDArray[np.float16]
) -> int:
    """Write what a network computes for the golden pictures and for normalized crops.

    Returns:
        The dimension of its vectors.

    Raises:
        TrainingError: A vector is not finite.
    """
    pictures = golden_pictures()
    images = [decode(data, limits=PictureLimits(), targets=[preprocess]) for data in pictures]
    vectors = _run(network, np.stack([to_array(image, preprocess) for image in images]))
    crop_vectors = _run(network, crops.astype(np.float32)) if len(crops) else vectors[:0]
    if not (np.isfinite(vectors).all() and np.isfinite(crop_vectors).all()):
        raise TrainingError("the network gives vectors that are not finite; it is not exported")
    named = {f"picture_{i}": np.frombuffer(data, np.uint8) for i, data in enumerate(pictures)}
    write_npz(path, vectors=vectors, crops_0=crops, crop_vectors_0=crop_vectors, **named)
    return int(vectors.shape[1])


def golden_pictures() -> list[bytes]:
    """Draw color gradients with ellipses and noise, as JPEG; always the same.

    All new embedders are given the same pictures, since only then can they be joined.
    """
    rng = np.random.default_rng(2020)
    pictures = []
    for width, height in _SIZES:
        colors = Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8))
        image = colors.resize((width, height), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(image)
        for x, y in rng.uniform(0, 0.7, (6, 2)):
            box = (x * width, y * height, (x + 0.3) * width, (y + 0.3) * height)
            draw.ellipse(box, fill=tuple(rng.integers(0, 256, 3).tolist()))
        noisy = np.asarray(image) + rng.normal(0, 8, (height, width, 3))
        buffer = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        pictures.append(buffer.getvalue())
    return pictures


@torch.no_grad()
def _run(network: nn.Module, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = network(torch.from_numpy(inputs)).numpy()
    return vectors
