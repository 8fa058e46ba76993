"""What a run ends with: its best network, judged by its vectors as served, whitening, reports."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np

from embedder.artifacts.files import write_atomic
from photographs.prepare.split import first_of_each
from trainer.distributed import processes
from trainer.evaluation.report import write_report
from trainer.evaluation.rule_ladder import Candidate, judge
from trainer.evaluation.validate import served_figures
from trainer.heads import make_head
from trainer.model import checkpoint
from trainer.model.inference_module import InferenceModule
from trainer.model.network import EmbeddingNetwork
from trainer.model.whitening import WHITENING, save_whitening
from trainer.training.setup import Laboratory
from trainer.training.state import TrainingState

BEST = "best.safetensors"
"""File of a run that holds its best network, and the head of that time."""

REPORT = "report.json"
"""File of a run that is written last of all, once it has ended."""

SMALL_GALLERY = 20_000
"""Up to so many training pictures are all searched when the best network is judged."""


def save_best(lab: Laboratory, network: EmbeddingNetwork, state: TrainingState) -> None:
    """Keep a network, with the head that it was trained with, as the best so far."""
    parts = {"network": network.state_dict(), "head": state.head.state_dict()}
    tensors = {f"{part}.{name}": t for part, named in parts.items() for name, t in named.items()}
    if processes.is_first():
        facts = {"recipe": lab.digest, "landmarks": state.landmarks}
        checkpoint.save(lab.out / BEST, tensors, facts)


def conclude(lab: Laboratory, report: dict[str, Any]) -> dict[str, Any]:
    """Judge the best network; write its whitening and the reports.

    Its vectors are those that will be served. The pictures kept back are answered by every rung
    of :mod:`trainer.evaluation.rule_ladder`, the tested ones by top1 alone, whatever ranking the
    recipe advises.

    Args:
        lab: The run's.
        report: What is known without.

    Returns:
        The whole report.

    Raises:
        TrainingError: The pictures are too few to learn the whitening that the recipe asks for.
    """
    best, recipe = _open_best(lab), lab.recipe
    gallery = lab.learned
    if len(gallery) > SMALL_GALLERY:
        gallery = first_of_each(gallery, recipe.data.gallery_per_landmark)
    judged, whitening = judge(best, gallery, lab.kept_back, lab.distractors)
    if judged:
        report |= {"ladder": judged.ladder, "class_sizes": judged.class_sizes}
    if lab.tested:
        served = InferenceModule(best.network, recipe.embed_views, whitening).to(lab.device).eval()
        figures = served_figures(served, gallery, lab.tested, recipe.embed, bf16=lab.bf16)
        report |= {"tested": len(lab.tested), "test_gap": figures.gap}
    if processes.is_first():
        if whitening:
            save_whitening(lab.out / WHITENING, whitening)
        write_report(lab.out / "report.html", recipe, report, judged)
        write_atomic(lab.out / REPORT, (json.dumps(report, indent=2) + "\n").encode())
    return report


def _open_best(lab: Laboratory) -> Candidate:
    """Take up what :func:`save_best` wrote."""
    processes.of_first(None)  # once this is heard, the file is written
    tensors, facts = checkpoint.load(lab.out / BEST)
    network = EmbeddingNetwork(lab.recipe.network.model_copy(update={"pretrained": "none"}))
    network.load_state_dict(checkpoint.part(tensors, "network"))
    landmarks = facts["landmarks"]
    head = make_head(lab.recipe.head, network.dimension, np.ones(len(landmarks), np.int64))
    head.load_state_dict(checkpoint.part(tensors, "head"))
    return Candidate(
        lab.recipe,
        network.to(lab.device).eval(),
        head.to(lab.device),
        landmarks,
        Counter(str(photograph.landmark_id) for photograph in lab.learned),
        lab.bf16,
    )
