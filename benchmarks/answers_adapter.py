"""What an adapter gains on a frozen network, and what it costs landmarks that it never saw.

A part of ``answers.py``. The adapter is learned twice, by the command as a user types it: from all
photographs, and without every fourth landmark, whose queries then count.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commands import run

from index.evaluation.metrics import Prediction, gap, top1_accuracy
from index.search.faiss_search import nearest
from photographs import open_data, write_list
from trainer.export.source import Source


def measure_adapter(embedder: Path, data: Path, out: Path) -> dict[str, Any]:
    """Answer labeled queries by the nearest picture, with and without adapters.

    Args:
        embedder: A frozen network.
        data: Photographs with labeled queries.
        out: Folder of the adapted embedders.

    Returns:
        ``adapter_gap_gain``, ``adapter_seconds`` of the command, and ``adapter_left_out_top1_gain``
        over the queries of the landmarks that the second adapter never saw.
    """
    photographs = open_data(data).gallery()
    left_out = set(photographs.landmarks[::4])
    out.mkdir(parents=True, exist_ok=True)
    seen = [one for one in photographs if one.landmark_id not in left_out]
    write_list(out / "train_seen.csv", seen, by_landmark=True)
    started = time.monotonic()
    chosen = run("trainer", "adapt", embedder, "--data", data, "--out", out / "all")
    seconds = time.monotonic() - started
    some = ("--list", (out / "train_seen.csv").resolve(), "--out", out / "seen")
    run("trainer", "adapt", embedder, "--data", data, *some)

    truths = {query.id: query.landmark_ids for query in open_data(data).queries()}
    of_left_out = {name: shown for name, shown in truths.items() if left_out & set(shown)}
    before, after = (_answer(folder, data) for folder in (embedder, out / "all"))
    unseen = _answer(out / "seen", data)
    return {
        "adapter": chosen["adapter"],
        "adapter_gap": round(_gap(after, truths), 4),
        "adapter_gap_gain": round(_gap(after, truths) - _gap(before, truths), 4),
        "adapter_seconds": round(seconds, 1),
        "adapter_left_out_top1_gain": round(
            _top1(unseen, of_left_out) - _top1(before, of_left_out), 4
        ),
    }


def _answer(folder: Path, data: Path) -> dict[str, Prediction]:
    """Answer each query by the nearest picture of the data's own gallery."""
    opened, source = open_data(data), Source.open(folder, folder)
    photographs, queries = opened.gallery(), opened.queries()
    places, rows = source.embed(photographs)
    asked, vectors = source.embed(queries)
    found = nearest(rows, vectors, 1)
    landmarks = [photographs[int(place)].landmark_id for place in places[found.rows[:, 0]]]
    answers = zip(asked.tolist(), landmarks, found.similarities[:, 0].tolist(), strict=True)
    named = [Prediction(queries[place].id, str(mark), cosine) for place, mark, cosine in answers]
    return {answer.query_id: answer for answer in named}


def _gap(answers: Mapping[str, Prediction], truths: Mapping[str, tuple[str, ...]]) -> float:
    return gap([answers[name] for name in truths if name in answers], truths)


def _top1(answers: Mapping[str, Prediction], truths: Mapping[str, tuple[str, ...]]) -> float:
    return top1_accuracy([answers[name] for name in truths if name in answers], truths)
