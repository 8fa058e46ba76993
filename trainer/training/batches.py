"""The batches of an epoch: their order, the share of each process, and pictures that are lost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from embedder.artifacts.files import write_atomic
from embedder.errors import TrainingError
from trainer.data.loading import AugmentedPictures, Batch, BatchLoader
from trainer.distributed import processes
from trainer.model import run_folder
from trainer.model.checkpoint import Progress
from trainer.training.run_setup import RunContext
from trainer.training.state import TrainingState

ALLOWED_UNREADABLE = 5
"""So many pictures of a small set may be unreadable, whatever share of it they are."""


@dataclass(frozen=True)
class SharedBatch:
    """What every process knows of a batch before its step.

    Attributes:
        labels: Landmark numbers of each process's pictures.
        unreadable: Ids of pictures that are missing from the batch.
        save_due: Whether a checkpoint is to be written after the step.
        stop: Whether the run is to end after the step.
        seed: Of the random numbers that the processes share in the step.
    """

    labels: list[Tensor]
    unreadable: list[str]
    save_due: bool
    stop: bool
    seed: int

    @property
    def size(self) -> int:
        """Pictures of all processes together."""
        return sum(map(len, self.labels))


class EpochLoader:
    """Loads this process's share of the batches of a run, one epoch after another."""

    def __init__(self, context: RunContext) -> None:
        recipe = context.recipe
        self._stages = [
            AugmentedPictures(
                training_set.photographs,
                training_set.labels,
                recipe.embed.model_copy(update={"side": stage.side}),
                recipe.augment,
                (recipe.seed, number),
            )
            for number, (stage, training_set) in enumerate(
                zip(recipe.stages, context.training_sets, strict=True)
            )
        ]
        self._recipes = recipe.stages
        self._loader = BatchLoader(self._stages, workers=recipe.data.workers)

    def load(self, progress: Progress) -> tuple[Iterator[Batch], int]:
        """Load the batches of an epoch that are still to come; also count its steps."""
        number, epoch = progress.stage, progress.epoch
        stage = self._recipes[number]
        batches = self._stages[number].batches(epoch, stage.batch_size)[: stage.steps]
        shares = batches[progress.step :, processes.share_slice(batches.shape[1])]
        return self._loader.load(number, epoch, shares), len(batches)

    def close(self) -> None:
        """End the worker processes."""
        self._loader.close()


def share_batch(batch: Batch, *, save_due: bool, stop: bool) -> SharedBatch:
    """Exchange labels and lost pictures of a batch.

    The first process decides about saving; each of them can have all of them stop.
    """
    if processes.size() == 1:
        return SharedBatch([batch.labels], batch.unreadable, save_due, stop, 0)
    seed = int(torch.randint(1 << 31, ()))
    gathered = processes.gather((batch.labels.tolist(), batch.unreadable, stop, save_due, seed))
    labels = [torch.tensor(numbers, dtype=torch.int64) for numbers, *_ in gathered]
    unreadable = [name for _, names, *_ in gathered for name in names]
    stop = any(told for _, _, told, *_ in gathered)
    _, _, _, save_due, seed = gathered[0]
    return SharedBatch(labels, unreadable, save_due, stop, seed)


def note_unreadable(context: RunContext, state: TrainingState, ids: Sequence[str]) -> None:
    """Record pictures that could not be read.

    Raises:
        TrainingError: They are more than the recipe allows.
    """
    if state.unreadable.issuperset(ids):
        return
    state.unreadable.update(ids)
    path = context.out / run_folder.UNREADABLE
    if processes.is_first():
        write_atomic(path, "".join(f"{name}\n" for name in sorted(state.unreadable)).encode())
    share = context.recipe.data.max_unreadable
    total = max(len(training_set.photographs) for training_set in context.training_sets)
    if len(state.unreadable) > (max(share * total, ALLOWED_UNREADABLE) if share else 0):
        raise TrainingError(
            f"{len(state.unreadable)} of {total} pictures cannot be read, more than "
            f"data.max_unreadable allows; {path} names them"
        )
