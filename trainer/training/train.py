"""Train an embedder: the loop, on a page.

A run is a folder, whose files :mod:`trainer.model.run_folder` names. Several processes started by
``torchrun`` all run this; each takes its share of every batch.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from photographs import Photograph
from trainer.distributed import processes
from trainer.model import run_folder
from trainer.recipe import Recipe
from trainer.recipe.stage import rate_factor
from trainer.training.allocator import out_of_memory_advice, use_fast_kernels
from trainer.training.batches import EpochLoader, note_unreadable, share_batch
from trainer.training.checkpoints import Checkpoints
from trainer.training.data_wait import DataWait, describe_wait
from trainer.training.finalize import finalize
from trainer.training.model_selection import (
    describe_scores,
    is_due_in_epoch,
    validate_epoch,
    validate_step,
)
from trainer.training.monitor import Monitor
from trainer.training.plan import announce_plan
from trainer.training.resume import finish_epoch, finished_report, start_or_resume
from trainer.training.run_setup import RunContext, set_up_run
from trainer.training.scalars import Scalars
from trainer.training.state import TrainingState

_log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    photographs: Sequence[Photograph],
    out: Path,
    *,
    lists: Mapping[str, Sequence[Photograph]] | None = None,
    weights: Path | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train the network of a recipe.

    Args:
        recipe: The run.
        photographs: All that may be trained on, each with its landmark.
        out: Folder of the run; new, or with ``resume`` that of a run to continue.
        lists: Photographs of the lists that stages name, by name.
        weights: File of the backbone's weights to start from; or folder of another run, whose
            network is taken, and of its head what it knows of the same landmarks.
        resume: Continue from the last checkpoint; the run ends with the same weights as one that
            was never interrupted. Of a finished run of this very recipe the report is returned.

    Returns:
        The report, also written to the run's folder.

    Raises:
        TrainingError: The folder is taken, there are too few pictures, too many of them are
            unreadable, the disk has no room, or the loss is not finite.
        RunInterruptedError: SIGTERM or SIGINT came; a checkpoint was written.
        RecipeError: The network cannot be made.
        DeviceError: bfloat16 was asked for and the processor has none.
    """
    context = set_up_run(recipe, photographs, lists or {}, out, weights)
    if resume and (report := processes.from_first(finished_report(context))):
        return report
    use_fast_kernels(context)
    state = start_or_resume(context, weights, resume=resume)
    announce_plan(context, state)
    with (
        closing(EpochLoader(context)) as loader,
        closing(Monitor(context, state)) as monitor,
        Checkpoints(context, state) as checkpoints,
    ):
        while (number := state.progress.stage) < len(recipe.stages):
            stage, started = recipe.stages[number], time.monotonic()
            with out_of_memory_advice(number, stage, context.last):
                metrics = _train_epoch(context, state, loader, checkpoints, monitor)
                checkpoints.save()  # whatever ends the validation need not cost the epoch
                metrics |= validate_epoch(context, state)
            metrics["seconds"] = round(time.monotonic() - started, 1)
            _record_epoch(state, metrics, monitor.scalars)
            finish_epoch(context, state, stage)
            checkpoints.request()
        checkpoints.save()
        checkpoints.wait()
        report = finalize(context, state)
    if processes.is_first():
        (out / run_folder.PREVIOUS).unlink(missing_ok=True)
    return report


def _train_epoch(
    context: RunContext,
    state: TrainingState,
    loader: EpochLoader,
    checkpoints: Checkpoints,
    monitor: Monitor,
) -> dict[str, Any]:
    """Train one epoch from the step that ``state`` has reached; measure mean loss and seconds."""
    progress, data_wait = state.progress, DataWait(context.device)
    stage = context.recipe.stages[progress.stage]
    batches, steps = loader.load(progress)
    state.freeze_backbone(frozen=progress.epoch < stage.frozen_epochs)
    loss_total = torch.tensor(progress.loss_total, device=context.device)
    with checkpoints.between_steps():
        for batch in monitor.show(data_wait.measure(batches), steps):
            if is_due_in_epoch(context, progress):
                progress.loss_total = state.require_finite(loss_total, context.out, weights=True)
                with data_wait.paused(), checkpoints.saved():
                    validate_step(context, state, steps)
            due, told = checkpoints.due, checkpoints.stop_requested
            shared = share_batch(batch, save_due=due, stop=told)
            note_unreadable(context, state, shared.unreadable)
            factor = rate_factor(stage, progress.epoch + progress.step / steps)
            state.set_learning_rates(backbone=stage.lr * factor, head=stage.head_lr * factor)
            data_wait.add_pictures(shared.size)
            if shared.size > 1:
                loss = state.step(batch.pictures, shared.labels, stage.accumulate, shared.seed)
                loss_total += loss
                monitor.step(loss, shared.size, rate=stage.lr * factor)
            progress.step += 1
            if shared.save_due or shared.stop:
                progress.loss_total = state.require_finite(loss_total, context.out)
                checkpoints.save()
    progress.loss_total = state.require_finite(loss_total, context.out, weights=True)
    return {
        "loss": progress.loss_total / max(progress.step, 1),
        **data_wait.measured(),
        "seconds_stopped": round(checkpoints.longest_stop, 3),
    }


def _record_epoch(state: TrainingState, metrics: dict[str, Any], scalars: Scalars) -> None:
    """Log the metrics of an epoch, and add them to the history and the event files."""
    _log.info(
        "loss %.4f%s, %.0f s, %.0f pictures/s; %s",
        metrics["loss"],
        describe_scores(metrics),
        metrics["seconds"],
        metrics["pictures_per_second"],
        describe_wait(metrics["seconds_loading"], metrics["seconds_computing"]),
    )
    progress = state.progress
    state.history.append({"stage": progress.stage, "epoch": progress.epoch, **metrics})
    numbers = {name: value for name, value in metrics.items() if name != "validations"}
    scalars.epoch(state.updates, numbers)
