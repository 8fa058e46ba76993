"""Signals of an answer, computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from index.ranking.signals import SIGNALS, Evidence

EVIDENCE = Evidence(
    similarities=np.array([0.9, 0.8, 0.6, 0.5, 0.4, 0.3], np.float32),
    own=np.array([0, 1, 1, 0, 0, 1], np.bool_),
    density=0.7,
    pictures=20,
    center=0.65,
    other_center=0.5,
    row_penalty=0.1,
    query_penalty=0.2,
)


def signals(evidence: Evidence) -> dict[str, float]:
    """Name the signals."""
    return dict(zip(SIGNALS, evidence.signals().tolist(), strict=True))


def test_signals_are_those_of_a_hand_computation() -> None:
    """Of an answer that a vote gave, whose nearest picture is not the nearest of all."""
    assert signals(EVIDENCE) == pytest.approx(
        {
            "cosine": 0.8,
            "margin": -0.1,
            "vote": ((0.8**8 + 0.6**8) / 5) ** (1 / 8),
            "agreement": 3 / 6,
            "density": 0.7,
            "log_pictures": math.log(20),
            "center": 0.65,
            "center_margin": 0.15,
            "row_penalty": 0.1,
            "query_penalty": 0.2,
        },
        abs=1e-6,
    )


def test_a_landmark_that_is_not_among_the_rows_is_no_nearer_than_the_last() -> None:
    """So the margins are the smallest that the rows allow."""
    alone = replace(EVIDENCE, own=np.ones(6, np.bool_), other_center=None)
    found = signals(alone)
    assert found["margin"] == pytest.approx(0.9 - 0.3)
    assert found["center_margin"] == pytest.approx(0.65 - 0.3)
    assert found["agreement"] == 1.0


def test_a_row_far_away_gives_finite_signals() -> None:
    """The only picture of a gallery, on the other side."""
    alone = replace(
        EVIDENCE,
        similarities=np.array([-0.5], np.float32),
        own=np.ones(1, np.bool_),
        pictures=1,
        other_center=None,
    )
    assert np.isfinite(alone.signals()).all()
    assert signals(alone)["vote"] == 0.0
