"""Batches of training pictures, in an order and with variations that a resumed run repeats.

The order of an epoch is a permutation drawn from (seed, stage, epoch), the augmentation of a
picture is drawn from (seed, stage, epoch, picture): a run resumed at step *n* sees the same batches
as one that was never interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from embedder.errors import PictureError
from embedder.manifest import Preprocess
from embedder.preprocess import PictureLimits, decode, read_file
from photographs import Photograph
from trainer.data.augment import augment
from trainer.data.shared_array import SharedArray
from trainer.data.worker_signals import outlive_the_run, signals_held_back
from trainer.recipe import AugmentRecipe

_LIMITS = PictureLimits()


@dataclass(frozen=True)
class Batch:
    """A batch of training pictures.

    Attributes:
        pictures: ``(n, side, side, 3)`` uint8, as :class:`trainer.data.normalize.Normalize` takes
            them.
        labels: ``(n,)`` int64, landmark numbers.
        unreadable: Ids of pictures that could not be read and are not in the batch.
        memory: Of the pictures and perhaps more; of pinned ones there is none.
    """

    pictures: Tensor
    labels: Tensor
    unreadable: list[str]
    memory: SharedArray | None = None

    @classmethod
    def of(cls, memory: SharedArray, labels: Sequence[int], unreadable: list[str]) -> Batch:
        """Take as many pictures from the beginning of ``memory`` as there are labels."""
        pictures = torch.from_numpy(memory.array[: len(labels)])
        return cls(pictures, torch.tensor(labels, dtype=torch.int64), unreadable, memory)

    def __reduce__(self) -> tuple[Callable[..., Batch], tuple[object, ...]]:
        """Hand the memory over to the training process; torch's own way needs ``/dev/shm``."""
        return Batch.of, (self.memory, self.labels.tolist(), self.unreadable)

    def pin_memory(self) -> Batch:
        """Pin both tensors for the transfer to an NVIDIA device; the loader calls this."""
        return Batch(self.pictures.pin_memory(), self.labels.pin_memory(), self.unreadable)


@dataclass(frozen=True)
class AugmentedPictures:
    """The training pictures of a stage, each augmented by a generator of its own.

    Attributes:
        photographs: The training photographs.
        labels: ``(n,)``, landmark number of each.
        preprocess: What the network expects.
        recipe: The augmentation.
        key: (seed, stage).
    """

    photographs: Sequence[Photograph]
    labels: NDArray[np.integer]
    preprocess: Preprocess
    recipe: AugmentRecipe
    key: tuple[int, int]

    @cached_property
    def _decoded(self) -> Preprocess:
        """A crop is enlarged again: decode as many pixels as the smallest of them needs."""
        enlarged = min(4096, math.ceil(self.preprocess.side / math.sqrt(self.recipe.crop)))
        return self.preprocess.model_copy(update={"side": enlarged})

    def load(self, epoch: int, positions: NDArray[np.int64]) -> Batch:
        """Load the readable pictures of these positions, and name the others."""
        side = self.preprocess.side
        memory = SharedArray.allocate((len(positions), side, side, 3))
        labels: list[int] = []
        lost: list[str] = []
        for position in positions.tolist():
            try:
                memory.array[len(labels)] = self._augmented(epoch, position)
            except PictureError:
                lost.append(self.photographs[position].id)
            else:
                labels.append(int(self.labels[position]))
        return Batch.of(memory, labels, lost)

    def batches(self, epoch: int, batch_size: int) -> NDArray[np.int64]:
        """Shuffle the positions of an epoch into batches; see :func:`epoch_batches`."""
        return epoch_batches(len(self.photographs), batch_size, (*self.key, epoch))

    def _augmented(self, epoch: int, position: int) -> NDArray[np.uint8]:
        data = read_file(self.photographs[position].path, _LIMITS)
        image = decode(data, limits=_LIMITS, targets=[self._decoded])
        rng = np.random.default_rng((*self.key, epoch, position))
        return np.asarray(augment(image, self.recipe, self.preprocess, rng))


def epoch_batches(total: int, batch_size: int, key: tuple[int, int, int]) -> NDArray[np.int64]:
    """Shuffle ``total`` positions into batches, ``(steps, batch_size)``; a smaller last one is out.

    With fewer positions than ``batch_size`` they all form one batch.

    >>> epoch_batches(10, 4, (0, 0, 0)).shape
    (2, 4)
    """
    order = np.random.default_rng(key).permutation(total)
    whole = max(1, total // batch_size)
    return order[: whole * batch_size].reshape(whole, -1)


class _Request(NamedTuple):
    """What is asked of a worker: a batch of a stage and an epoch."""

    stage: int
    epoch: int
    positions: NDArray[np.int64]


@dataclass(frozen=True)
class _Batches(Dataset[Batch]):
    """Loads any batch of any stage: workers hold nothing that belongs to one epoch."""

    stages: Sequence[AugmentedPictures]

    def __getitem__(self, request: _Request) -> Batch:
        return self.stages[request.stage].load(request.epoch, request.positions)


class BatchLoader:
    """Loads batches ahead, by processes that live as long as it does, over epochs and stages.

    Args:
        stages: The pictures of each stage.
        workers: Number of processes; 0 loads in this one.
    """

    def __init__(self, stages: Sequence[AugmentedPictures], *, workers: int) -> None:
        self._requests: list[_Request] = []
        self._loader = DataLoader(
            _Batches(stages),
            sampler=self._requests,  # read anew whenever an iteration begins
            batch_size=None,  # of torch: a request is a whole batch
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=outlive_the_run,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # its own: the loader draws nothing from the run's
        )

    def load(self, stage: int, epoch: int, batches: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield batches in order; what an earlier iteration left is dropped.

        Args:
            stage: Number of the stage.
            epoch: Number of the epoch in it.
            batches: ``(steps, n)``, positions of pictures; n may be 0.
        """
        self._requests[:] = [_Request(stage, epoch, positions) for positions in batches]
        with signals_held_back():
            return iter(self._loader)

    def close(self) -> None:
        """End the processes."""
        del self._loader
