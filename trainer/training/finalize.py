"""What a run ends with: the best network is measured as it will be served, and reported."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from photographs import Photograph, PhotographList, Query
from trainer.distributed import processes
from trainer.evaluation.report import write_report
from trainer.evaluation.rule_ladder import Candidate, measure_rules
from trainer.evaluation.validate import top1_metrics
from trainer.evaluation.validation_set import Bounds, ValidationSet, choose_validation_set
from trainer.heads import make_head
from trainer.model import run_folder
from trainer.model.adapter import save_whitening
from trainer.model.inference_module import InferenceModule
from trainer.training.model_selection import kept_scores
from trainer.training.run_setup import RunContext
from trainer.training.state import TrainingState

SMALL_GALLERY = 20_000
"""Up to so many training pictures all become the gallery that the best network is measured on."""

MOST_SEARCHED, MOST_ASKED = 100_000, 20_000
"""The largest gallery, and the most queries: a few times what is scored while it is trained."""

_log = logging.getLogger(__name__)


def finalize(context: RunContext, state: TrainingState) -> dict[str, Any]:
    """Measure the best network; write its whitening and the reports, and return the report.

    The validation pictures are answered by every rule of :mod:`trainer.evaluation.rule_ladder`,
    the test pictures by top1 alone, whatever ranking the recipe advises.

    Raises:
        TrainingError: The pictures are too few for the whitening that the recipe asks for.
    """
    best, recipe, report = _load_best(context), context.recipe, _describe(context, state)
    measured = _choose(context, context.validation, context.distractors)
    report["measured_on"] = measured.sizes
    _log.info(
        "measuring the best network: %(queries)d queries and %(distractors)d of no landmark, in a "
        "gallery of %(gallery)d",
        measured.sizes,
    )
    ladder, whitening = measure_rules(best, measured)
    if ladder:
        report |= {"ladder": ladder.rungs, "class_sizes": ladder.class_sizes}
    if context.test:
        module = InferenceModule(best.network, recipe.embed_views, whitening)
        module = module.to(context.device).eval()
        tested = _choose(context, context.test, ())
        metrics = top1_metrics(module, tested, recipe.embed, bf16=context.bf16)
        report |= {"tested": len(tested.queries), "test_gap": metrics.gap}
    if processes.is_first():
        if whitening:
            save_whitening(context.out / run_folder.WHITENING, whitening)
        write_report(context.out / run_folder.REPORT_PAGE, recipe, report, ladder)
        run_folder.write_report(context.out, report)
    return report


def _choose(
    context: RunContext,
    queries: PhotographList | Sequence[Query],
    distractors: Sequence[Photograph],
) -> ValidationSet:
    """Choose what the best network is measured on: all pictures, up to a bound."""
    few = len(context.train) <= SMALL_GALLERY
    per_landmark = SMALL_GALLERY if few else context.recipe.data.gallery_per_landmark
    bounds = Bounds(per_landmark, MOST_SEARCHED, MOST_ASKED)
    seed = context.recipe.seed
    return choose_validation_set(context.train, queries, distractors, bounds, seed=seed)


def _load_best(context: RunContext) -> Candidate:
    processes.from_first(None)  # wait until the first process has written the file
    best = run_folder.load_trained(context.out)
    counts = np.ones(len(best.landmarks), np.int64)
    head = make_head(context.recipe.head, best.network.dimension, counts)
    head.load_state_dict(best.head)
    return Candidate(
        context.recipe,
        best.network.to(context.device),
        head.to(context.device),
        best.landmarks,
        dict(zip(context.train.landmarks, context.train.counts().tolist(), strict=True)),
        context.bf16,
    )


def _describe(context: RunContext, state: TrainingState) -> dict[str, Any]:
    """Report the run up to its last epoch; the keys are those of earlier versions."""
    recipe = context.recipe
    report = {
        "schema_version": run_folder.REPORT_VERSION,
        "name": recipe.name,
        "landmarks": len(context.training_sets[0].landmarks),
        "pictures": len(context.train),
        "kept_back": len(context.validation),
        "unreadable": len(state.unreadable),
        "device": context.device.type,
        "precision": context.precision,
        "weights": context.weights or recipe.network.pretrained,
        "stages": [
            {
                "list": stage.list or recipe.data.list,
                "pictures": len(training_set.photographs),
                "landmarks": len(training_set.landmarks),
            }
            for stage, training_set in zip(recipe.stages, context.training_sets, strict=True)
        ],
        "validation_gap": kept_scores(state.history)["validation_gap"],
        "scored_on": context.scored.sizes,
        "seconds": round(sum(epoch["seconds"] for epoch in state.history), 1),
        "epochs": state.history,
    }
    if context.scored.distractors:
        report |= {
            "distractors": len(context.scored.distractors),
            "validation_auroc": kept_scores(state.history).get("validation_auroc"),
        }
    return report
