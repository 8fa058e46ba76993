"""Train an embedder: the loop, on a page.

A run is a folder: ``recipe.yaml`` as resolved, ``last.safetensors`` from which it can be taken up
again, ``best.safetensors`` with the network that answered best on the pictures kept back,
``report.json``, and ``unreadable.txt`` if any picture could not be read.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from embedder.arrays import write_npz
from embedder.digest import sha256_bytes, sha256_file, write_atomic
from embedder.errors import DeviceError, TrainingError
from embedder.photographs import Photograph
from embedder.runtimes import can_run_bf16
from trainer import checkpoint
from trainer.checkpoint import Progress
from trainer.data.loading import VariedPictures, epoch_batches, load_batches
from trainer.data.split import (
    balanced_subset,
    counts_split,
    first_of_each,
    folds_split,
    stratified_split,
)
from trainer.evaluate import prepare_crops, served_gap
from trainer.heads import make_head
from trainer.network import EmbeddingNetwork
from trainer.recipe import CountsRecipe, FoldsRecipe, Recipe, StageRecipe
from trainer.schedule import rate_factor
from trainer.settle import settled
from trainer.state import TrainingState
from trainer.strided import speed_up

GOLDEN_CROPS = 4
FEW_PICTURES = 5
"""So many pictures of a small set may be unreadable, whatever share of it they are."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Laboratory:
    """What a run works with and does not change.

    Attributes:
        recipe: What was asked for.
        learned: Photographs that are learned from.
        kept_back: Photographs to choose the best network by.
        tested: Photographs that are looked at once, when the run ends.
        landmarks: Landmark ids in the order of their numbers.
        labels: Landmark number of each learned photograph.
        out: The run's folder.
        device: Where the network is.
        bf16: Whether it computes in bfloat16.
        digest: Of everything that decides the outcome: recipe, pictures, first weights.
    """

    recipe: Recipe
    learned: list[Photograph]
    kept_back: list[Photograph]
    tested: list[Photograph]
    landmarks: list[str]
    labels: list[int]
    out: Path
    device: torch.device
    bf16: bool
    digest: str


def train(
    recipe: Recipe,
    photographs: Sequence[Photograph],
    out: Path,
    *,
    weights: Path | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train as the recipe says.

    Args:
        recipe: The run.
        photographs: All that may be learned from, each with its landmark.
        out: Folder of the run; new, or with ``resume`` that of a run to go on with.
        weights: Safetensors file of the backbone to start from.
        resume: Go on where ``last.safetensors`` stops; it ends with the weights of a run that
            was never interrupted.

    Returns:
        The report, also written to ``report.json``.

    Raises:
        TrainingError: The folder is taken, there is too little to learn from, too many pictures
            are unreadable, or the loss is not finite.
        RecipeError: The network cannot be made.
        DeviceError: bfloat16 was asked for and the processor has none.
    """
    lab = _set_up(recipe, photographs, out, weights)
    state = _start(lab, weights, resume=resume)
    while (progress := state.progress).stage < len(recipe.stages):
        stage = recipe.stages[progress.stage]
        started = time.monotonic()
        loss = _run_epoch(lab, state, stage)
        kept = settled(state.averaged)
        score = _score(lab, kept, lab.kept_back)
        if score >= progress.best_score - _standard_error(progress.best_score, len(lab.kept_back)):
            progress.best_score = max(score, progress.best_score)
            tensors = {f"network.{name}": t for name, t in kept.state_dict().items()}
            checkpoint.save(out / "best.safetensors", tensors, {"recipe": lab.digest})
        _note_epoch(state, loss, score, time.monotonic() - started)
        at_end = progress.epoch + 1 == stage.last_epoch
        state.progress = Progress(
            stage=progress.stage + at_end,
            epoch=0 if at_end else progress.epoch + 1,
            best_score=progress.best_score,
        )
        state.save(out / "last.safetensors", lab.digest)
    return _report(lab, state)


def _run_epoch(lab: Laboratory, state: TrainingState, stage: StageRecipe) -> float:
    """Train one epoch from where ``state`` stands; return the mean loss of its steps."""
    progress = state.progress
    key = (lab.recipe.seed, progress.stage, progress.epoch)
    target = lab.recipe.embed.model_copy(update={"side": stage.side})
    pictures = VariedPictures(lab.learned, lab.labels, target, lab.recipe.augment, key)
    batches = epoch_batches(len(lab.learned), stage.batch_size, key)
    frozen = progress.epoch < stage.frozen_epochs
    state.network.train()
    state.network.backbone.requires_grad_(not frozen).train(not frozen)
    total = torch.tensor(progress.loss_total, device=lab.device)
    saved = time.monotonic()
    bar = tqdm(
        load_batches(pictures, batches[progress.step :], workers=lab.recipe.data.workers),
        desc=f"stage {progress.stage + 1} epoch {progress.epoch + 1}/{stage.last_epoch}",
        total=len(batches),
        initial=progress.step,
        unit="batch",
    )
    for batch in bar:
        _note_unreadable(lab, state, batch.unreadable)
        factor = rate_factor(stage, progress.epoch + progress.step / len(batches))
        state.set_rates(backbone=stage.lr * factor, head=stage.head_lr * factor)
        if len(batch.labels) > 1:
            total += _step(lab, state, batch.pictures, batch.labels)
        progress.step += 1
        if time.monotonic() - saved > lab.recipe.save_seconds:
            progress.loss_total = _finite(lab, total)
            bar.set_postfix(loss=f"{progress.loss_total / progress.step:.3f}")
            state.save(lab.out / "last.safetensors", lab.digest)
            saved = time.monotonic()
    return _finite(lab, total) / max(progress.step, 1)


def _step(lab: Laboratory, state: TrainingState, pictures: Tensor, labels: Tensor) -> Tensor:
    """Take one step of the optimizer; return the loss, still on the device."""
    pictures = pictures.to(lab.device, non_blocking=True, memory_format=torch.channels_last)
    labels = labels.to(lab.device, non_blocking=True)
    with torch.autocast(lab.device.type, torch.bfloat16, enabled=lab.bf16):
        embeddings = state.network.embed_unscaled(pictures)
    loss: Tensor = state.head(embeddings, labels)
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if lab.recipe.optimizer.clip_norm:
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), lab.recipe.optimizer.clip_norm)
    state.optimizer.step()
    state.average()
    return loss.detach()


def _set_up(
    recipe: Recipe, photographs: Sequence[Photograph], out: Path, weights: Path | None
) -> Laboratory:
    """Split the photographs and settle where and in what to compute."""
    known = [photograph for photograph in photographs if photograph.landmark_id is not None]
    if recipe.data.subset:
        known = balanced_subset(known, recipe.data.subset, seed=recipe.seed)
    landmarks = sorted({str(photograph.landmark_id) for photograph in known})
    learned, kept_back, tested = _split(known, recipe)
    if len(landmarks) < 2 or len(learned) < 2:
        raise TrainingError(
            f"{len(known)} photographs of {len(landmarks)} landmarks are too few to learn from"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    able = can_run_bf16("cuda" if device.type == "cuda" else "cpu")
    if recipe.precision == "bf16" and not able:
        raise DeviceError("this processor has no bfloat16; set precision=auto or precision=f32")
    bf16 = able and recipe.precision != "f32"
    number = {landmark: n for n, landmark in enumerate(landmarks)}
    decisive = [recipe.to_yaml(), sha256_file(weights) if weights and weights.is_file() else ""]
    decisive += [f"{photograph.id} {photograph.landmark_id}" for photograph in known]
    _log.info(
        "%d pictures of %d landmarks to learn from, %d kept back; %s in %s",
        len(learned),
        len(landmarks),
        len(kept_back),
        device.type,
        "bf16" if bf16 else "f32",
    )
    return Laboratory(
        recipe=recipe,
        learned=learned,
        kept_back=kept_back,
        tested=tested,
        landmarks=landmarks,
        labels=[number[str(photograph.landmark_id)] for photograph in learned],
        out=out,
        device=device,
        bf16=bf16,
        digest=sha256_bytes("\n".join(decisive).encode()),
    )


def _split(
    known: list[Photograph], recipe: Recipe
) -> tuple[list[Photograph], list[Photograph], list[Photograph]]:
    """Split into pictures to learn from, to choose by, and to look at once."""
    validation, seed = recipe.data.validation, recipe.seed
    if isinstance(validation, CountsRecipe):
        return counts_split(known, validation, seed=seed)
    if isinstance(validation, FoldsRecipe):
        return *folds_split(known, validation, seed=seed), []
    return *stratified_split(known, validation, seed=seed), []


def _start(lab: Laboratory, weights: Path | None, *, resume: bool) -> TrainingState:
    """Make the state of a new run, or take up the one in the folder."""
    last = lab.out / "last.safetensors"
    if last.exists() and not resume:
        raise TrainingError(f"{lab.out} already holds a run; go on with it by --resume")
    lab.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(lab.recipe.seed)
    counts = np.bincount(lab.labels, minlength=len(lab.landmarks)).astype(np.int64)
    going_on = resume and last.exists()
    recipe = lab.recipe.network
    if going_on:  # every weight comes from the checkpoint: nothing to download
        recipe = recipe.model_copy(update={"pretrained": "none"})
    network = EmbeddingNetwork(recipe, weights=None if going_on else weights)
    speed_up(network)
    head = make_head(lab.recipe.head, network.dimension, counts)
    state = TrainingState(
        network.to(lab.device).to(memory_format=torch.channels_last),
        head.to(lab.device),
        lab.recipe.optimizer,
        ema=lab.recipe.ema,
    )
    if going_on:
        state.restore(last, lab.digest)
        return state
    write_atomic(lab.out / "recipe.yaml", lab.recipe.to_yaml().encode())
    crops = prepare_crops(lab.learned, lab.recipe.embed, GOLDEN_CROPS)
    write_npz(lab.out / "crops.npz", crops=crops.astype(np.float16))
    return state


def _score(lab: Laboratory, network: EmbeddingNetwork, queries: list[Photograph]) -> float:
    """Score a network by the served rule."""
    gallery = first_of_each(lab.learned, lab.recipe.data.gallery_per_landmark)
    return served_gap(network, gallery, queries, lab.recipe.embed, bf16=lab.bf16)


def _test(lab: Laboratory, state: TrainingState) -> dict[str, Any]:
    """Score the best network on the pictures that nothing was chosen by."""
    best = copy.deepcopy(state.averaged).eval()
    tensors, _ = checkpoint.load(lab.out / "best.safetensors")
    best.load_state_dict(checkpoint.part(tensors, "network"))
    return {"tested": len(lab.tested), "test_gap": _score(lab, best, lab.tested)}


def _standard_error(score: float, queries: int) -> float:
    """Return by how much a score of so many queries is uncertain.

    A later network within one standard error of the best one replaces it: by chance alone either
    could have scored higher, and the later one has learned longer (the rule of one standard error
    of Breiman et al., *Classification and Regression Trees*, 1984).

    >>> round(_standard_error(0.9, 100), 4)
    0.03
    """
    return math.sqrt(max(0.0, score * (1 - score)) / max(queries, 1))


def _note_epoch(state: TrainingState, loss: float, score: float, seconds: float) -> None:
    progress = state.progress
    _log.info("loss %.4f, validation GAP %.4f, %.0f s", loss, score, seconds)
    state.history.append(
        {
            "stage": progress.stage,
            "epoch": progress.epoch,
            "loss": loss,
            "validation_gap": score,
            "seconds": round(seconds, 1),
        }
    )


def _note_unreadable(lab: Laboratory, state: TrainingState, ids: list[str]) -> None:
    """Write down pictures that could not be read; stop when they are too many."""
    if not ids or state.unreadable.issuperset(ids):
        return
    state.unreadable.update(ids)
    report = lab.out / "unreadable.txt"
    write_atomic(report, "".join(f"{name}\n" for name in sorted(state.unreadable)).encode())
    share = lab.recipe.data.max_unreadable
    if len(state.unreadable) > (max(share * len(lab.learned), FEW_PICTURES) if share else 0):
        raise TrainingError(
            f"{len(state.unreadable)} of {len(lab.learned)} pictures cannot be read, more than "
            f"data.max_unreadable allows; {report} names them"
        )


def _finite(lab: Laboratory, loss: Tensor) -> float:
    """Return the loss as a number.

    Raises:
        TrainingError: It is none; the last good checkpoint stays.
    """
    value = float(loss)
    if not np.isfinite(value):
        raise TrainingError(
            f"the loss is not finite; {lab.out / 'last.safetensors'} is the last good state. "
            "Lower the learning rates, set optimizer.clip_norm, or compute with precision=f32"
        )
    return value


def _report(lab: Laboratory, state: TrainingState) -> dict[str, Any]:
    report = {
        "name": lab.recipe.name,
        "landmarks": len(lab.landmarks),
        "pictures": len(lab.learned),
        "kept_back": len(lab.kept_back),
        "unreadable": len(state.unreadable),
        "device": lab.device.type,
        "precision": "bf16" if lab.bf16 else "f32",
        "validation_gap": state.progress.best_score,
        "seconds": round(sum(entry["seconds"] for entry in state.history), 1),
        "epochs": state.history,
    }
    if lab.tested:
        report |= _test(lab, state)
    write_atomic(lab.out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    return report
