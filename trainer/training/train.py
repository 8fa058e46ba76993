"""Train an embedder: the loop, on a page.

A run is a folder: ``recipe.yaml`` as resolved, ``last.safetensors`` from which it can be taken up
again, ``best.safetensors`` with the network that answered best, by top1, on the pictures kept back,
``report.json`` and ``report.html``, ``whitening.safetensors`` and ``tensorboard/`` if the recipe
asks for them, and ``unreadable.txt`` if any picture could not be read.

Several processes started by ``torchrun`` all run this; each takes its share of every batch.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from embedder.artifacts.arrays import write_npz
from embedder.artifacts.files import write_atomic
from embedder.errors import TrainingError
from photographs import Photograph
from photographs.prepare.split import first_of_each
from trainer.data.loading import Batch, VariedPictures, epoch_batches, load_batches
from trainer.distributed import processes
from trainer.distributed.synchronized_norm import synchronize_norms
from trainer.evaluation.validate import GOLDEN_CROPS, Figures, prepare_crops, served_figures
from trainer.heads import make_head, set_class_counts
from trainer.model import checkpoint
from trainer.model.bf16_rounding import with_rounded_weights
from trainer.model.checkpoint import Progress
from trainer.model.depthwise_gradient import use_fast_depthwise_gradient
from trainer.model.network import EmbeddingNetwork
from trainer.recipe import Recipe, StageRecipe, load_recipe
from trainer.training.allocator import enough_memory
from trainer.training.data_wait import Waiting, in_words
from trainer.training.finalize import REPORT, conclude, save_best
from trainer.training.scalars import Scalars
from trainer.training.schedule import rate_factor
from trainer.training.setup import RECIPE, Laboratory, Lesson, one_of_several_learned, set_up
from trainer.training.state import TrainingState

FEW_PICTURES = 5
"""So many pictures of a small set may be unreadable, whatever share of it they are."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Turn:
    """What the processes tell each other before a step.

    Attributes:
        labels: Landmark numbers of the pictures in each process's share of the batch.
        unreadable: Ids of pictures that are missing in it.
        due: Whether a checkpoint is to be written after it.
        seed: Of the chance that they share.
    """

    labels: list[Tensor]
    unreadable: list[str]
    due: bool
    seed: int


def train(
    recipe: Recipe,
    photographs: Sequence[Photograph],
    out: Path,
    *,
    lists: Mapping[str, Sequence[Photograph]] | None = None,
    weights: Path | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train as the recipe says.

    Args:
        recipe: The run.
        photographs: All that may be learned from, each with its landmark.
        out: Folder of the run; new, or with ``resume`` that of a run to go on with.
        lists: Photographs of the lists that stages name, by name.
        weights: Safetensors file of the backbone to start from.
        resume: Go on where ``last.safetensors`` stops; it ends with the weights of a run that
            was never interrupted. A run of this very recipe that has ended is only reported.

    Returns:
        The report, also written to ``report.json``.

    Raises:
        TrainingError: The folder is taken, there is too little to learn from, too many pictures
            are unreadable, or the loss is not finite.
        RecipeError: The network cannot be made.
        DeviceError: bfloat16 was asked for and the processor has none.
    """
    lab = set_up(recipe, photographs, lists or {}, out, weights)
    if resume and (ended := processes.of_first(_ended(lab))):
        return ended
    state = _start(lab, weights, resume=resume)
    with _scalars(lab, state) as scalars:
        while (progress := state.progress).stage < len(recipe.stages):
            stage = recipe.stages[progress.stage]
            started = time.monotonic()
            with enough_memory(progress.stage, stage, lab.last):
                facts = _run_epoch(lab, state, stage, scalars)
                kept = with_rounded_weights(state.averaged)
                figures = _judge(lab, kept)
            best, score = progress.best_score, figures.gap
            keep = score >= best - _standard_error(best, len(lab.kept_back))
            if keep:
                progress.best_score = max(score, best)
                save_best(lab, kept, state)
            facts |= {
                "validation_gap": score,
                "kept": keep,
                "seconds": round(time.monotonic() - started, 1),
            }
            if figures.auroc is not None:
                facts["validation_auroc"] = figures.auroc
            _note_epoch(state, facts, scalars)
            at_end = progress.epoch + 1 == stage.last_epoch
            state.progress = Progress(
                stage=progress.stage + at_end,
                epoch=0 if at_end else progress.epoch + 1,
                best_score=progress.best_score,
            )
            if at_end:
                _change_lesson(lab, state)
            state.save(lab.last, lab.digest)
    return _report(lab, state)


def _run_epoch(
    lab: Laboratory, state: TrainingState, stage: StageRecipe, scalars: Scalars
) -> dict[str, float]:
    """Train one epoch from where ``state`` stands; return its mean loss and its times."""
    progress, lesson = state.progress, lab.lessons[state.progress.stage]
    key = (lab.recipe.seed, progress.stage, progress.epoch)
    target = lab.recipe.embed.model_copy(update={"side": stage.side})
    pictures = VariedPictures(lesson.photographs, lesson.labels, target, lab.recipe.augment, key)
    batches = epoch_batches(len(lesson.photographs), stage.batch_size, key)
    shares = [processes.share(batch) for batch in batches[progress.step :]]
    state.freeze(frozen=progress.epoch < stage.frozen_epochs)
    total = torch.tensor(progress.loss_total, device=lab.device)
    waiting, saved = Waiting(lab.device), time.monotonic()
    bar = tqdm(
        waiting.watch(load_batches(pictures, shares, workers=lab.recipe.data.workers)),
        desc=f"stage {progress.stage + 1} epoch {progress.epoch + 1}/{stage.last_epoch}",
        total=len(batches),
        initial=progress.step,
        unit="batch",
        disable=not processes.is_first(),
    )
    with bar:  # closed before anything is said of a failure
        for batch in bar:
            turn = _take_turn(batch, due=time.monotonic() - saved > lab.recipe.save_seconds)
            _note_unreadable(lab, state, turn.unreadable)
            factor = rate_factor(stage, progress.epoch + progress.step / len(batches))
            state.set_rates(backbone=stage.lr * factor, head=stage.head_lr * factor)
            if sum(map(len, turn.labels)) > 1:
                loss = _step(lab, state, batch.pictures, turn)
                total += loss
                scalars.step(state.updates, loss, rate=stage.lr * factor)
            progress.step += 1
            if turn.due:
                progress.loss_total = _finite(lab, state, total)
                bar.set_postfix(loss=f"{progress.loss_total / progress.step:.3f}")
                state.save(lab.last, lab.digest)
                scalars.flush()
                saved = time.monotonic()
    loss_total = _finite(lab, state, total)
    return {"loss": loss_total / max(progress.step, 1), **waiting.seconds()}


def _step(lab: Laboratory, state: TrainingState, pictures: Tensor, turn: _Turn) -> Tensor:
    """Take one step of the optimizer; return the loss, still on the device."""
    parts = lab.recipe.stages[state.progress.stage].accumulate
    state.optimizer.zero_grad(set_to_none=True)
    loss = state.learner().compute_gradients(pictures, turn.labels, parts=parts, seed=turn.seed)
    if lab.recipe.optimizer.clip_norm:
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), lab.recipe.optimizer.clip_norm)
    state.optimizer.step()
    state.average()
    return loss


def _take_turn(batch: Batch, *, due: bool) -> _Turn:
    """Tell the other processes of this one's share of a batch; hear of theirs."""
    if processes.size() == 1:
        return _Turn([batch.labels], batch.unreadable, due, 0)
    own = (batch.labels.tolist(), batch.unreadable, due, int(torch.randint(1 << 31, ())))
    told = processes.gather(own)
    labels = [torch.tensor(numbers, dtype=torch.int64) for numbers, *_ in told]
    unreadable = [name for _, names, *_ in told for name in names]
    return _Turn(labels, unreadable, *told[0][2:])


def _ended(lab: Laboratory) -> dict[str, Any] | None:
    """Read the report of a run that has ended; None where there is something to do or to report.

    Judging it again takes minutes, and is of use only where the recipe says something new.
    """
    report, recipe = lab.out / REPORT, lab.out / RECIPE
    if not all(path.is_file() for path in (report, recipe, lab.last)):
        return None
    facts = checkpoint.load_facts(lab.last)
    if facts["recipe"] != lab.digest or facts["progress"]["stage"] < len(lab.lessons):
        return None
    if load_recipe(recipe) != lab.recipe:
        return None
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def _holds_several(out: Path) -> bool:
    """Tell whether a folder holds the run of several networks, one of which has learned."""
    path = out / RECIPE
    learned = path.is_file() and one_of_several_learned(out)
    return learned and load_recipe(path).networks > 1


def _start(lab: Laboratory, weights: Path | None, *, resume: bool) -> TrainingState:
    """Make the state of a new run, or take up the one in the folder."""
    exists = processes.of_first(lab.last.exists())
    if exists and not resume:
        raise TrainingError(f"{lab.out} already holds a run; go on with it by --resume")
    if processes.of_first(_holds_several(lab.out)):
        raise TrainingError(f"{lab.out} holds a run of several networks; choose another folder")
    torch.manual_seed(lab.recipe.seed)
    if exists:
        return _take_up(lab, *checkpoint.load(lab.last))
    state = _make_state(lab, EmbeddingNetwork(lab.recipe.network, weights=weights), lab.lessons[0])
    state.draw_apart()
    if processes.is_first():
        lab.out.mkdir(parents=True, exist_ok=True)
        write_atomic(lab.out / RECIPE, lab.recipe.to_yaml().encode())
        crops = prepare_crops(lab.learned, lab.recipe.embed, GOLDEN_CROPS)
        write_npz(lab.out / "crops.npz", crops=crops.astype(np.float16))
    return state


def _take_up(
    lab: Laboratory, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> TrainingState:
    """Make the state that a checkpoint holds.

    Raises:
        TrainingError: It is of another recipe.
    """
    if facts["recipe"] != lab.digest:
        raise TrainingError(
            f"{lab.last} was written with another recipe, pictures or weights; "
            "go on with the same ones or choose another folder"
        )
    stage = min(facts["progress"]["stage"], len(lab.lessons) - 1)
    # Every weight comes from the checkpoint: nothing to download.
    network = lab.recipe.network.model_copy(update={"pretrained": "none"})
    state = _make_state(lab, EmbeddingNetwork(network), lab.lessons[stage])
    state.restore(tensors, facts)
    if processes.is_first():  # what does not decide the outcome may have changed
        write_atomic(lab.out / RECIPE, lab.recipe.to_yaml().encode())
    return state


def _make_state(lab: Laboratory, network: EmbeddingNetwork, lesson: Lesson) -> TrainingState:
    use_fast_depthwise_gradient(network)
    if processes.size() > 1:
        synchronize_norms(network, lab.device)
    return TrainingState(
        network.to(lab.device).to(memory_format=torch.channels_last),
        make_head(lab.recipe.head, network.dimension, lesson.counts).to(lab.device),
        lab.recipe,
        landmarks=lesson.landmarks,
        bf16=lab.bf16,
    )


def _change_lesson(lab: Laboratory, state: TrainingState) -> None:
    """Fit the head to what the next stage learns from: another one for other landmarks."""
    if state.progress.stage == len(lab.lessons):
        return
    lesson, recipe = lab.lessons[state.progress.stage], lab.recipe.head
    if lesson.landmarks == state.landmarks:
        set_class_counts(state.head, recipe, lesson.counts)
        return
    _log.info("%d other landmarks: head and optimizer begin anew", len(lesson.landmarks))
    head = make_head(recipe, state.network.dimension, lesson.counts).to(lab.device)
    state.renew_head(head, lesson.landmarks)


def _scalars(lab: Laboratory, state: TrainingState) -> Scalars:
    """Open the curves, if they are asked for."""
    asked = lab.recipe.log == "tensorboard" and processes.is_first()
    return Scalars(lab.out / "tensorboard" if asked else None, step=state.updates + 1)


def _judge(lab: Laboratory, network: EmbeddingNetwork) -> Figures:
    """Judge a network by top1."""
    gallery = first_of_each(lab.learned, lab.recipe.data.gallery_per_landmark)
    figures = served_figures(
        network,
        gallery,
        lab.kept_back,
        lab.recipe.embed,
        distractors=lab.distractors,
        bf16=lab.bf16,
    )
    return processes.of_first(figures)


def _standard_error(score: float, queries: int) -> float:
    """Return by how much a score of so many queries is uncertain.

    A later network within one standard error of the best one replaces it: by chance alone either
    could have scored higher, and the later one has learned longer (the rule of one standard error
    of Breiman et al., *Classification and Regression Trees*, 1984).

    >>> round(_standard_error(0.9, 100), 4)
    0.03
    """
    return math.sqrt(max(0.0, score * (1 - score)) / max(queries, 1))


def _note_epoch(state: TrainingState, facts: dict[str, float], scalars: Scalars) -> None:
    """Log an epoch, and write it into history and curves."""
    progress = state.progress
    _log.info(
        "loss %.4f, validation GAP %.4f%s, %.0f s; %s",
        facts["loss"],
        facts["validation_gap"],
        f", AUROC {facts['validation_auroc']:.4f}" if "validation_auroc" in facts else "",
        facts["seconds"],
        in_words(facts["seconds_loading"], facts["seconds_computing"]),
    )
    state.history.append({"stage": progress.stage, "epoch": progress.epoch, **facts})
    scalars.epoch(state.updates, facts)


def _note_unreadable(lab: Laboratory, state: TrainingState, ids: list[str]) -> None:
    """Write down pictures that could not be read; stop when they are too many."""
    if not ids or state.unreadable.issuperset(ids):
        return
    state.unreadable.update(ids)
    report = lab.out / "unreadable.txt"
    if processes.is_first():
        write_atomic(report, "".join(f"{name}\n" for name in sorted(state.unreadable)).encode())
    share = lab.recipe.data.max_unreadable
    total = max(len(lesson.photographs) for lesson in lab.lessons)
    if len(state.unreadable) > (max(share * total, FEW_PICTURES) if share else 0):
        raise TrainingError(
            f"{len(state.unreadable)} of {total} pictures cannot be read, more than "
            f"data.max_unreadable allows; {report} names them"
        )


def _finite(lab: Laboratory, state: TrainingState, loss: Tensor) -> float:
    """Return the loss as a number, once it is sure that the state is worth saving.

    Raises:
        TrainingError: The loss, or a weight, is not finite; the last good checkpoint stays.
    """
    value = float(loss)
    if not (np.isfinite(value) and state.is_finite()):
        raise TrainingError(
            f"the loss is not finite; {lab.last} is the last good state, if there is one. "
            "Lower the learning rates, set optimizer.clip_norm, or compute with precision=f32"
        )
    return value


def _report(lab: Laboratory, state: TrainingState) -> dict[str, Any]:
    report = {
        "name": lab.recipe.name,
        "landmarks": len(lab.lessons[0].landmarks),
        "pictures": len(lab.learned),
        "kept_back": len(lab.kept_back),
        "unreadable": len(state.unreadable),
        "device": lab.device.type,
        "precision": "bf16" if lab.bf16 else "f32",
        "stages": [
            {
                "list": stage.list or lab.recipe.data.list,
                "pictures": len(lesson.photographs),
                "landmarks": len(lesson.landmarks),
            }
            for stage, lesson in zip(lab.recipe.stages, lab.lessons, strict=True)
        ],
        "validation_gap": state.progress.best_score,
        "seconds": round(sum(entry["seconds"] for entry in state.history), 1),
        "epochs": state.history,
    }
    if lab.distractors:
        kept = [entry for entry in state.history if entry["kept"]][-1]
        report |= {
            "distractors": len(lab.distractors),
            "validation_auroc": kept.get("validation_auroc"),
        }
    return conclude(lab, report)
