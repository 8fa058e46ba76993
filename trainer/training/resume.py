"""Start a run or resume it, and lead it from epoch to epoch and from stage to stage."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embedder.artifacts.arrays import write_npz
from embedder.errors import ArtifactMismatchError, TrainingError
from trainer.distributed import processes
from trainer.distributed.synchronized_norm import synchronize_norms
from trainer.evaluation.embed import GOLDEN_CROPS, prepare_crops
from trainer.heads import make_head, set_class_counts, take_known_landmarks
from trainer.model import checkpoint, run_folder
from trainer.model.checkpoint import Progress
from trainer.model.network import EmbeddingNetwork
from trainer.model.strided_convolutions import use_cpu_gradients
from trainer.recipe import StageRecipe
from trainer.training.run_setup import RunContext, TrainingSet
from trainer.training.state import TrainingState

_log = logging.getLogger(__name__)


def finished_report(context: RunContext) -> dict[str, Any] | None:
    """Read the report of a run that has ended; None where anything is left to do.

    Measuring it again would take minutes, and pays only where the recipe asks for something new.
    """
    out, files = context.out, (run_folder.REPORT, run_folder.RECIPE)
    unchanged = (
        all((out / name).is_file() for name in files)
        and run_folder.holds_checkpoint(out)
        and checkpoint.load_facts(run_folder.latest_checkpoint(out))["recipe"] == context.digest
        and run_folder.read_recipe(out) == context.recipe
    )
    return run_folder.read_report(out) if unchanged and run_folder.is_finished(out) else None


def start_or_resume(context: RunContext, weights: Path | None, *, resume: bool) -> TrainingState:
    """Make the state of a new run, or with ``resume`` restore that of a run in the folder.

    Raises:
        TrainingError: The folder holds a run that is not to be resumed, or cannot be.
    """
    if processes.from_first(run_folder.holds_multi_seed_run(context.out)):
        raise TrainingError(f"{context.out} holds a multi-seed run; choose another folder")
    exists = processes.from_first(run_folder.holds_checkpoint(context.out))
    if exists and not resume:
        raise TrainingError(f"{context.out} already holds a run; continue it with --resume")
    torch.manual_seed(context.recipe.seed)
    state = _restore(context) if exists else _start(context, weights)
    if processes.is_first():  # when resumed, what does not decide the outcome may have changed
        run_folder.write_recipe(context.out, context.recipe)
    return state


def finish_epoch(context: RunContext, state: TrainingState, stage: StageRecipe) -> None:
    """Go on to the next epoch; at the end of a stage, to the training set of the next one."""
    done = state.progress
    number, epoch = done.stage, done.epoch + 1
    if epoch < stage.last_epoch:
        state.progress = Progress(number, epoch, best_score=done.best_score)
        return
    state.progress = Progress(number + 1, best_score=done.best_score)
    if number + 1 < len(context.training_sets):
        scored, following = (context.recipe.validation_preprocess(n) for n in (number, number + 1))
        if scored != following:  # scores at two sides cannot be compared: the later network wins
            state.progress.best_score = Progress.best_score
        _adapt_head(context, state, context.training_sets[number + 1])


def _start(context: RunContext, weights: Path | None) -> TrainingState:
    """Make the state of a new run, and the files that it begins with."""
    if weights and weights.is_dir():
        state = _start_from_run(context, weights)
    else:
        network = EmbeddingNetwork(
            context.recipe.network, weights=weights, sides=context.recipe.sides
        )
        state = _make_state(context, network, context.training_sets[0])
    state.seed_process()
    if processes.is_first():
        context.out.mkdir(parents=True, exist_ok=True)
        crops = prepare_crops(context.train, context.recipe.embed, GOLDEN_CROPS)
        write_npz(context.out / run_folder.CROPS, crops=crops.astype(np.float16))
    return state


def _start_from_run(context: RunContext, run: Path) -> TrainingState:
    """Make the state of a new run with the network of another one, and its head where it fits.

    Raises:
        ArtifactMismatchError: Its network is another one than the recipe's.
    """
    former = run_folder.load_trained(run, run_folder.start_file(run).name)
    network = run_folder.make_unloaded_network(context.recipe)
    try:
        network.load_state_dict(former.network.state_dict())
    except RuntimeError as error:
        raise ArtifactMismatchError(
            f"network of {run}", expected="that of the recipe", found="another one"
        ) from error
    state = _make_state(context, network, context.training_sets[0])
    taken = 0
    if former.recipe.head.kind == context.recipe.head.kind:
        taken = take_known_landmarks(state.head, state.landmarks, former.head, former.landmarks)
    _log.info(
        "started from %s: its network, and of its head %d of %d landmarks",
        run,
        taken,
        len(state.landmarks),
    )
    return state


def _restore(context: RunContext) -> TrainingState:
    """Make the state that the last checkpoint holds."""
    path = run_folder.latest_checkpoint(context.out)
    tensors, facts = checkpoint.load(path)
    if facts["schema_version"] < checkpoint.VERSION:
        raise TrainingError(
            f"{path} was written by an earlier version of this program, which alone can "
            "resume it; start anew in another folder. A finished run can still be exported"
        )
    if facts["recipe"] != context.digest:
        raise TrainingError(
            f"{path} was written with another recipe, pictures or weights; "
            "resume it with the same ones or choose another folder"
        )
    stage = min(facts["progress"]["stage"], len(context.training_sets) - 1)
    network = run_folder.make_unloaded_network(context.recipe)
    state = _make_state(context, network, context.training_sets[stage])
    state.restore(tensors, facts)
    return state


def _make_state(
    context: RunContext, network: EmbeddingNetwork, training_set: TrainingSet
) -> TrainingState:
    use_cpu_gradients(network)
    if processes.size() > 1:
        synchronize_norms(network, context.device)
    head = make_head(context.recipe.head, network.dimension, training_set.counts)
    return TrainingState(
        network.to(context.device).to(memory_format=torch.channels_last),
        head.to(context.device),
        context.recipe,
        landmarks=training_set.landmarks,
        precision=context.precision,
    )


def _adapt_head(context: RunContext, state: TrainingState, training_set: TrainingSet) -> None:
    """Fit the head to a training set: a new head if the landmarks are others."""
    recipe = context.recipe.head
    if training_set.landmarks == state.landmarks:
        set_class_counts(state.head, recipe, training_set.counts)
        return
    _log.info("%d other landmarks: new head, new optimizer", len(training_set.landmarks))
    head = make_head(recipe, state.network.dimension, training_set.counts)
    state.replace_head(head.to(context.device), training_set.landmarks)
