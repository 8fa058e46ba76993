"""Model selection: score the network of each epoch on validation pictures, keep the best."""

import math
from typing import Any

from photographs.prepare.split import first_of_each
from trainer.distributed import processes
from trainer.evaluation.validate import top1_metrics
from trainer.model import checkpoint, run_folder
from trainer.model.bf16_rounding import with_rounded_weights
from trainer.training.run_setup import RunContext
from trainer.training.state import TrainingState


def validate_and_keep_best(context: RunContext, state: TrainingState) -> dict[str, Any]:
    """Score the network of an epoch, and save it if it is the best so far.

    What is scored and saved has its weights rounded for bfloat16, as it will be exported.

    Returns:
        ``validation_gap``; whether the network was ``kept`` as the best; with distractors also
        ``validation_auroc``.
    """
    rounded, progress = with_rounded_weights(state.averaged), state.progress
    metrics = processes.from_first(
        top1_metrics(
            rounded,
            first_of_each(context.train, context.recipe.data.gallery_per_landmark),
            context.validation,
            context.recipe.embed,
            distractors=context.distractors,
            bf16=context.bf16,
        )
    )
    best = progress.best_score
    kept = metrics.gap >= best - _standard_error(best, len(context.validation))
    if kept:
        progress.best_score = max(metrics.gap, best)
        if processes.is_first():
            parts = {"network": rounded.state_dict(), "head": state.head.state_dict()}
            facts = {"recipe": context.digest, "landmarks": list(state.landmarks)}
            checkpoint.save(context.out / run_folder.BEST, checkpoint.join_parts(parts), facts)
    auroc = {} if metrics.auroc is None else {"validation_auroc": metrics.auroc}
    return {"validation_gap": metrics.gap, "kept": kept, **auroc}


def _standard_error(score: float, queries: int) -> float:
    """Return the standard error of a score in [0, 1] that was measured with so many queries.

    A later network within one standard error of the best one replaces it: by chance alone either
    could have scored higher, and the later one has trained longer (the one-standard-error rule of
    Breiman et al., *Classification and Regression Trees*, 1984).

    >>> round(_standard_error(0.9, 100), 4)
    0.03
    """
    return math.sqrt(max(0.0, score * (1 - score)) / max(queries, 1))
