"""What a rehearsal found: the bounds, each held or not, one line of JSON, and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal_stages import ADDED, Figures, Rehearsal

from embedder.artifacts.files import write_atomic
from embedder.reports.page import page, table, text

USAGE = ("seconds", "cpu_s", "peak_gb", "read_gb", "written_gb")

LOST = 1024
"""Pictures that a killed build may have in its hands: batches and shards that are not whole."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure must be.

    Attributes:
        what: The figure in words.
        least: It must not be less.
        most: It must not be more.
    """

    what: str
    least: float = float("-inf")
    most: float = float("inf")

    def holds(self, value: float) -> bool:
        """Tell whether the figure is within its bounds."""
        return self.least <= value <= self.most

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.most:g}"
        return f"at least {self.least:g}" if self.most == float("inf") else f"at most {self.most:g}"


SHARES = {
    "list_s": Bound("reading the list, seconds", most=30),
    "list_gb": Bound("reading the list, GB", most=1),
    "first_step_s": Bound("training: first step, seconds after the start", most=90),
    "validation_share": Bound("a validation, share of a whole epoch", most=0.05),
    "checkpoint_stop_s": Bound("a checkpoint stops training for seconds", most=0.5),
    "build_of_bound": Bound("rate of the build, share of its bound", least=0.85),
    "build_peak_gb": Bound("build, GB", most=4),
    "resume_repeated_share": Bound("work repeated after a kill, share", most=0.01),
    "rebuild_unchanged_share": Bound("unchanged rebuild, share of a build's CPU time", most=0.03),
    "evaluate_peak_gb": Bound("evaluation, GB", most=4),
    "second_evaluate_beside_search": Bound(
        "second evaluation but for its searches, share of them", most=0.1
    ),
    "ready_s": Bound("service ready, seconds", most=3),
    "service_gb": Bound("memory of the service itself, GB", most=0.5),
    "landmarks_page_ms": Bound("slowest page of landmarks, ms", most=100),
}
"""Times, memory and shares are judged at the full size, where starting is no large part of them."""

COUNTS = {
    "second_evaluate_embedded": Bound("queries embedded by a second evaluation", most=0),
    "rebuild_embedded": Bound("pictures embedded by an unchanged rebuild", most=0),
    "resume_embedded_again": Bound("pictures embedded again after a kill", most=LOST),
    "added_embedded": Bound("pictures embedded by adding some", ADDED, ADDED),
    "unanswered": Bound("requests that were not answered", most=0),
    "dropped": Bound("requests that failed while a gallery was published", most=0),
    "left_behind": Bound("processes that kills left behind", most=0),
}
"""Counts hold at any scale."""

KEYS = (
    *("first_step_s", "validation_share", "checkpoint_stop_s", "build_of_bound", "build_peak_gb"),
    *("resume_repeated_share", "rebuild_unchanged_share", "evaluate_peak_gb"),
    *("second_evaluate_embedded", "rebuild_embedded", "resume_embedded_again"),
    *("ready_s", "service_gb", "landmarks_page_ms"),
)
"""The figures of the line of JSON, in its order."""


def figures(records: Mapping[str, Figures], pictures: int) -> dict[str, float]:
    """Compute what is bounded from the records of the stages and the number of pictures."""
    killed, resumed = records["train, killed"], records["train, resumed"]
    built = first, second = records["build, killed"], records["build, resumed"]
    rate = pictures / sum(record["seconds"] for record in built)
    again = records["evaluate again"]
    rebuilt, served, listed = records["rebuild"], records["service"], records["list"]
    repeated = second["repeated"]
    return {
        "list_s": listed["list_s"],
        "list_gb": listed["peak_gb"],
        "first_step_s": killed["first_step_s"],
        "validation_share": resumed["validation_share"],
        "checkpoint_stop_s": resumed["checkpoint_stop_s"],
        "build_of_bound": rate / records["bound of a build"]["bound_per_s"],
        "build_peak_gb": max(record["peak_gb"] for record in built),
        "resume_repeated_share": max(resumed["repeated_share"], repeated / pictures),
        "rebuild_unchanged_share": rebuilt["cpu_s"] / sum(record["cpu_s"] for record in built),
        "evaluate_peak_gb": records["evaluate"]["peak_gb"],
        "second_evaluate_embedded": again["embedded"],
        "second_evaluate_beside_search": again["seconds"] / again["search_s"] - 1,
        "rebuild_embedded": rebuilt["embedded"],
        "resume_embedded_again": repeated,
        "added_embedded": records["add"]["embedded"],
        "unanswered": served["requests"] - served["answered"],
        "dropped": served["dropped"],
        "left_behind": killed["left_behind"] + first["left_behind"],
        "ready_s": served["ready_s"],
        "service_gb": served["service_gb"],
        "landmarks_page_ms": served["landmarks_page_ms"],
    }


def write(rehearsal: Rehearsal) -> dict[str, Any]:
    """Write ``rehearsal.json`` and ``rehearsal.html``; return the line of JSON."""
    drawn, scale = rehearsal.records["draw"], rehearsal.plan.scale
    found = figures(rehearsal.records, drawn["train"])
    judged = {**COUNTS, **(SHARES if scale == 1 else {})}
    line = {
        "ok": all(bound.holds(found[key]) for key, bound in judged.items()),
        "scale": scale,
        "pictures": drawn["train"],
        "landmarks": drawn["landmarks"],
        "queries": drawn["test"],
        **{key: round(found[key], 4) for key in KEYS},
    }
    bounds = [
        {
            "bound": bound.what,
            "value": round(found[key], 4),
            "must be": str(bound),
            "held": "yes" if bound.holds(found[key]) else "no",
        }
        for key, bound in {**SHARES, **COUNTS}.items()
    ]
    content = {**line, "bounds": bounds, "stages": rehearsal.records}
    write_atomic(rehearsal.out / "rehearsal.json", json.dumps(content, indent=1).encode())
    write_atomic(rehearsal.out / "rehearsal.html", _page(rehearsal, bounds))
    return line


def _page(rehearsal: Rehearsal, bounds: Sequence[Mapping[str, object]]) -> bytes:
    plan, records = rehearsal.plan, rehearsal.records
    usage = [
        {"stage": name, **{key: record.get(key) for key in USAGE}}
        for name, record in records.items()
    ]
    others = [
        {"stage": name, "figure": key, "value": value}
        for name, record in records.items()
        for key, value in record.items()
        if key not in USAGE
    ]
    shown = f"{plan.pictures('train')} pictures, {plan.pictures('test')} queries"
    body = [f"<p>{text(shown)}</p>", "<h2>Bounds</h2>", table(bounds), "<h2>Stages</h2>"]
    body += [table(usage), "<h2>Figures</h2>", table(others)]
    return page(f"Rehearsal at {plan.scale:g} of Google Landmarks v2", body)


def read_records(path: Path) -> dict[str, Figures]:
    """Read the records of the stages that are done."""
    if not path.is_file():
        return {}
    found: dict[str, Figures] = json.loads(path.read_text(encoding="utf-8"))
    return found
