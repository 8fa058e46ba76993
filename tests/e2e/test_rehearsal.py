"""The whole chain on a hundredth of Google Landmarks v2's counts: killed, resumed, and counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from photographs.sample import FullSize
from tests.conftest import ROOT

SET = FullSize(scale=0.01)
PICTURES, QUERIES, ADDED = SET.pictures("train"), SET.pictures("test"), 1_000
LINE = (
    *("ok", "scale", "pictures", "landmarks", "queries", "first_step_s", "validation_share"),
    *("checkpoint_stop_s", "build_of_bound", "build_peak_gb", "resume_repeated_share"),
    *("rebuild_unchanged_share", "evaluate_peak_gb", "second_evaluate_embedded"),
    *("rebuild_embedded", "resume_embedded_again", "ready_s", "service_gb", "landmarks_page_ms"),
)


def rehearse(out: Path) -> subprocess.CompletedProcess[str]:
    """Rehearse at a hundredth, or go on with it."""
    command = [
        sys.executable,
        "benchmarks/rehearsal.py",
        "--scale",
        str(SET.scale),
        "--out",
        str(out),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.serial
def test_nothing_is_done_twice_at_a_hundredth_of_the_real_counts(tmp_path: Path) -> None:
    """Neither a kill, nor a rebuild, nor a second evaluation makes pictures go through again."""
    ended = rehearse(tmp_path)
    assert ended.stdout, ended.stderr[-3000:]
    line = json.loads(ended.stdout)
    assert tuple(line) == LINE
    report = json.loads((tmp_path / "rehearsal.json").read_text(encoding="utf-8"))
    assert {key: report[key] for key in LINE} == line
    broken = [bound for bound in report["bounds"] if bound["held"] == "no"]
    assert line["ok"], broken
    assert ended.returncode == 0
    landmarks = len(SET.sizes("train"))
    assert (line["pictures"], line["landmarks"], line["queries"]) == (PICTURES, landmarks, QUERIES)
    _check_stages(report["stages"])
    page = (tmp_path / "rehearsal.html").read_text(encoding="utf-8")
    assert "rate of the build, share of its bound" in page
    _check_resumption(tmp_path, line)


def _check_stages(stages: dict[str, Any]) -> None:
    """Compare what each stage counted with what there is."""
    assert stages["list"]["pictures"] == PICTURES
    assert stages["list"]["queries"] == QUERIES
    trained = stages["train, resumed"]
    assert 0 < trained["validated"] <= 22_000
    assert trained["repeated"] < trained["steps"] / 2
    killed, resumed = stages["build, killed"], stages["build, resumed"]
    assert killed["embedded"] >= PICTURES // 3
    assert resumed["embedded"] + resumed["known"] == PICTURES
    assert (resumed["rows"], resumed["unreadable"]) == (PICTURES, 0)
    assert resumed["written_gb"] * 1e9 < 30_000 * resumed["embedded"]  # no indexes
    assert stages["rebuild"]["stayed"]
    assert stages["rebuild"]["written_gb"] < 0.25 * resumed["written_gb"]
    assert stages["add"]["rows"] == PICTURES + ADDED
    assert stages["evaluate"]["embedded"] == stages["evaluate"]["queries"] == QUERIES
    assert stages["evaluate"]["unreadable"] == 0
    assert stages["evaluate"]["top1"] > 0.1
    assert stages["calibrate"]["embedded"] == 0
    assert stages["service"]["answered"] == stages["service"]["requests"] == 1_000
    assert stages["service"]["landmarks"] > len(SET.sizes("train")) - 1


def _check_resumption(out: Path, line: dict[str, Any]) -> None:
    """A stage whose record is taken away is done again, and no other."""
    path = out / "stages.json"
    records = json.loads(path.read_text(encoding="utf-8"))
    del records["list"]
    path.write_text(json.dumps(records), encoding="utf-8")
    again = rehearse(out)
    assert again.stderr.count("$ ") == 1, again.stderr
    assert json.loads(again.stdout)["pictures"] == line["pictures"]
