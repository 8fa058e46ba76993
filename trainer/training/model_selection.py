"""Model selection: score the network on validation pictures now and then, keep the best."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.distributed import processes
from trainer.evaluation.validate import top1_metrics
from trainer.model import checkpoint, run_folder
from trainer.model.bf16_rounding import with_rounded_weights
from trainer.model.checkpoint import Progress
from trainer.training.run_setup import RunContext
from trainer.training.state import TrainingState

_log = logging.getLogger(__name__)


def is_due_in_epoch(context: RunContext, progress: Progress) -> bool:
    """Tell whether the network is to be scored before the next step of an epoch."""
    recipe = context.recipe.validation
    return recipe.unit == "steps" and progress.step > 0 and not progress.step % recipe.every


def validate_step(context: RunContext, state: TrainingState, steps: int) -> None:
    """Score the network within an epoch of so many steps; the scores stay in its progress."""
    done = state.progress
    scores = _validate_and_keep_best(context, state)
    _log.info("step %d of %d%s", done.step, steps, describe_scores(scores))
    epochs = round(done.epoch + done.step / steps, 4)
    done.validations.append({"step": done.step, "epochs": epochs, **scores})


def validate_epoch(context: RunContext, state: TrainingState) -> dict[str, Any]:
    """Score the network at the end of an epoch, where it is due.

    Returns:
        What the epoch's history holds: scores, if any; and ``validations`` within the epoch.
    """
    done, recipe = state.progress, context.recipe.validation
    within: dict[str, Any] = {"validations": done.validations} if done.validations else {}
    last = context.recipe.stages[done.stage].last_epoch
    if recipe.unit == "epochs" and done.epoch + 1 < last and (done.epoch + 1) % recipe.every:
        return within
    return within | _validate_and_keep_best(context, state)


def kept_scores(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the scores of the kept network: ``validation_gap``, perhaps ``validation_auroc``."""
    every = (scores for epoch in history for scores in (*epoch.get("validations", ()), epoch))
    kept: Mapping[str, Any] = [scores for scores in every if scores.get("kept")][-1]
    return kept


def _validate_and_keep_best(context: RunContext, state: TrainingState) -> dict[str, Any]:
    """Score the network, and save it if it is the best so far.

    What is scored and saved has its weights rounded for bfloat16, as it will be exported.

    Returns:
        ``validation_gap``; whether the network was ``kept`` as the best; ``seconds_validating``;
        with distractors also ``validation_auroc``.
    """
    started = time.monotonic()
    rounded, progress = with_rounded_weights(state.averaged), state.progress
    pictures, preprocess = context.scored, context.recipe.validation_preprocess(progress.stage)
    metrics = processes.from_first(top1_metrics(rounded, pictures, preprocess, bf16=context.bf16))
    best = progress.best_score
    kept = metrics.gap >= best - _standard_error(best, len(pictures.queries))
    if kept:
        progress.best_score = max(metrics.gap, best)
        if processes.is_first():
            parts = {"network": rounded.state_dict(), "head": state.head.state_dict()}
            facts = {"recipe": context.digest, "landmarks": list(state.landmarks)}
            checkpoint.save(context.out / run_folder.BEST, checkpoint.join_parts(parts), facts)
    scores = {
        "validation_gap": metrics.gap,
        "kept": kept,
        "seconds_validating": round(time.monotonic() - started, 1),
    }
    return scores if metrics.auroc is None else {**scores, "validation_auroc": metrics.auroc}


def _standard_error(score: float, queries: int) -> float:
    """Return the standard error of a score in [0, 1] that was measured with so many queries.

    A later network within one standard error of the best one replaces it: by chance alone either
    could have scored higher, and the later one has trained longer (the one-standard-error rule of
    Breiman et al., *Classification and Regression Trees*, 1984).

    >>> round(_standard_error(0.9, 100), 4)
    0.03
    """
    return math.sqrt(max(0.0, score * (1 - score)) / max(queries, 1))


def describe_scores(scores: Mapping[str, Any]) -> str:
    """Say what was scored, if anything, to stand behind other words.

    >>> describe_scores({"validation_gap": 0.5, "validation_auroc": 0.75})
    ', validation GAP 0.5000, AUROC 0.7500'
    """
    names = (("validation_gap", "validation GAP"), ("validation_auroc", "AUROC"))
    return "".join(f", {name} {scores[key]:.4f}" for key, name in names if key in scores)
