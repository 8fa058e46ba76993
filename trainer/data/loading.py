"""Batches of training pictures, in an order and with variations that a resumed run repeats.

The order of an epoch is a permutation drawn from (seed, stage, epoch), the augmentation of a
picture is drawn from (seed, stage, epoch, picture): a run resumed at step *n* sees the same batches
as one that was never interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from embedder.errors import PictureError
from embedder.manifest import Preprocess
from embedder.preprocess import PictureLimits, decode, normalize, read_file
from photographs import Photograph
from trainer.data.augment import augment
from trainer.recipe import AugmentRecipe

_LIMITS = PictureLimits()


@dataclass(frozen=True)
class Batch:
    """A batch of training pictures.

    Attributes:
        pictures: ``(n, 3, side, side)`` float32, normalized.
        labels: ``(n,)`` int64, landmark numbers.
        unreadable: Ids of pictures that could not be read and are not in the batch.
    """

    pictures: Tensor
    labels: Tensor
    unreadable: list[str]

    def pin_memory(self) -> Batch:
        """Pin both tensors for the transfer to an NVIDIA device; the loader calls this."""
        return Batch(self.pictures.pin_memory(), self.labels.pin_memory(), self.unreadable)


@dataclass(frozen=True)
class AugmentedPictures(Dataset[tuple[np.ndarray | None, int]]):
    """The training pictures of one epoch, each augmented by a generator of its own.

    Attributes:
        photographs: The training photographs.
        labels: Landmark number of each.
        preprocess: What the network expects.
        recipe: The augmentation.
        key: (seed, stage, epoch).
    """

    photographs: Sequence[Photograph]
    labels: Sequence[int] | NDArray[np.int64]
    preprocess: Preprocess
    recipe: AugmentRecipe
    key: tuple[int, int, int]

    @cached_property
    def _decoded(self) -> Preprocess:
        """A crop is enlarged again: decode as many pixels as the smallest of them needs."""
        enlarged = min(4096, math.ceil(self.preprocess.side / math.sqrt(self.recipe.crop)))
        return self.preprocess.model_copy(update={"side": enlarged})

    def __getitem__(self, position: int) -> tuple[np.ndarray | None, int]:
        """Return an augmented picture and its label; None and its position if unreadable."""
        try:
            data = read_file(self.photographs[position].path, _LIMITS)
            image = decode(data, limits=_LIMITS, targets=[self._decoded])
        except PictureError:
            return None, position
        rng = np.random.default_rng((*self.key, position))
        square = augment(image, self.recipe, self.preprocess, rng)
        return normalize(square, self.preprocess), int(self.labels[position])

    def collate(self, items: Sequence[tuple[np.ndarray | None, int]]) -> Batch:
        """Stack the readable pictures and name the others."""
        read = [(array, label) for array, label in items if array is not None]
        lost = [self.photographs[position].id for array, position in items if array is None]
        side = self.preprocess.side
        stacked = (
            np.stack([a for a, _ in read]) if read else np.empty((0, 3, side, side), np.float32)
        )
        return Batch(
            torch.from_numpy(stacked),
            torch.tensor([label for _, label in read], dtype=torch.int64),
            lost,
        )


def epoch_batches(total: int, batch_size: int, key: tuple[int, int, int]) -> list[list[int]]:
    """Shuffle ``total`` positions into batches; a smaller last one is left out.

    With fewer positions than ``batch_size`` they all form one batch.

    >>> [len(batch) for batch in epoch_batches(10, 4, (0, 0, 0))]
    [4, 4]
    """
    order = np.random.default_rng(key).permutation(total).tolist()
    whole = max(1, total // batch_size)
    return [order[number * batch_size : (number + 1) * batch_size] for number in range(whole)]


def load_batches(
    pictures: AugmentedPictures, batches: Sequence[Sequence[int]], *, workers: int
) -> Iterator[Batch]:
    """Yield the batches in order, loaded ahead by ``workers`` processes.

    An empty batch is yielded as one.
    """
    loader = DataLoader(
        pictures,
        batch_sampler=batches,  # type: ignore[arg-type]  # torch takes any iterable of lists
        collate_fn=pictures.collate,
        num_workers=min(workers, len(batches)),
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its own: the loader draws nothing from the run's generator
    )
    return iter(loader)
