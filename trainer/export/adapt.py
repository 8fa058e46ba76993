"""Adapt an existing embedder: the same network, followed by what was learned from its vectors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embedder.errors import TrainingError
from photographs import PhotographList
from photographs.prepare.split import stratified_split
from trainer.export.source import Source
from trainer.training.adapter_selection import (
    UNCHANGED,
    AdapterMetrics,
    LabeledRows,
    choose_adapter,
)

_ASKED = 0.2


def adapt(source: Path, photographs: PhotographList, out: Path) -> dict[str, Any]:
    """Write a copy of an embedder with the adapter that answers validation pictures best.

    Args:
        source: Folder of the embedder, which has one network.
        photographs: What the adapter is learned from and chosen by; those without a landmark and
            unreadable ones are skipped.
        out: New, or an embedder to replace.

    Returns:
        The new embedder's digest, and what was chosen and why.

    Raises:
        ArtifactError: The embedder cannot be used, or has no network for torch.
        TrainingError: It has several networks, there are too few photographs, no adapter
            improves it, or ``out`` holds other files.
    """
    embedder = Source.open(source, out)
    known = photographs.known()
    places, rows = embedder.embed(known)
    readable = known.take(places)
    _, queries = stratified_split(readable, _ASKED, seed=0)
    labels = readable.labels.astype(np.int64)
    choice = choose_adapter(LabeledRows(rows, labels, readable.among(queries.ids)))
    metrics = {name: _describe(one) for name, one in choice.metrics.items()}
    if choice.adapter is None:
        raise TrainingError(_refusal(metrics))
    report: dict[str, Any] = {
        "adapter": choice.name,
        "dimension": choice.adapter.dimension,
        "pictures": len(rows),
        "landmarks": len(np.unique(labels)),
        "validation": metrics,
    }
    provenance = {"adapted": {"embedder": embedder.digest, **report}}
    digest = embedder.publish_adapted(choice.adapter, readable, provenance, out)
    return {"digest": digest, **report}


def _describe(metrics: AdapterMetrics) -> dict[str, float]:
    named = {"gap": metrics.gap, "auroc": metrics.auroc, "left_out_top1": metrics.left_out}
    return {name: round(value, 4) for name, value in named.items()}


def _refusal(metrics: Mapping[str, Mapping[str, float]]) -> str:
    figures = "; ".join(
        f"{name}: GAP {one['gap']}, of landmarks left out right {one['left_out_top1']}"
        for name, one in metrics.items()
    )
    return f"no adapter improves the embedder, which should be used {UNCHANGED} ({figures})"
