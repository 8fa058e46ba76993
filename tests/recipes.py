"""The smallest recipe that trains a real network, for tests of the whole trainer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from trainer.recipe import NetworkRecipe

SMALL_BACKBONE = "mobilenetv3_small_050"

TINY = {
    "name": "tiny",
    "precision": "f32",
    "save_seconds": 0,
    "ema": 0.9,
    "data": {"validation": 0.2, "workers": 0},
    "augment": {"crop": 0.6, "brightness": 0.2},
    "network": {
        "backbone": SMALL_BACKBONE,
        "pretrained": "none",
        "pooling": {"kind": "gem"},
        "dropout": 0.2,
        "neck": {"dimension": 16},
    },
    "head": {"kind": "subcenter_arcface", "centers": 2, "margin": {"kind": "dynamic"}},
    "stages": [
        {
            "side": 32,
            "epochs": 2,
            "batch_size": 4,
            "lr": 1e-3,
            "head_lr": 5e-3,
            "frozen_epochs": 1,
            "schedule": {"kind": "one-cycle"},
        },
        {
            "side": 48,
            "epochs": 2,
            "stop_at_epoch": 1,
            "batch_size": 4,
            "lr": 1e-3,
            "head_lr": 5e-3,
            "schedule": {"kind": "cosine"},
        },
    ],
    "embed": {"side": 48},
}


def tiny_recipe(path: Path) -> Path:
    """Write the recipe to ``path``."""
    path.write_text(yaml.safe_dump(TINY))
    return path


def small_network(**changes: object) -> NetworkRecipe:
    """Describe a small network with random weights."""
    content = {
        "backbone": SMALL_BACKBONE,
        "pretrained": "none",
        "pooling": {"kind": "gem"},
        "neck": {"dimension": 16},
    }
    return NetworkRecipe.model_validate({**content, **changes})


def wait_for_second_epoch(process: subprocess.Popen[str]) -> None:
    """Read what a training says on stderr until its progress bar shows the second epoch."""
    assert process.stderr
    said = ""
    while "epoch 2/2" not in said:
        letter = process.stderr.read(1)
        assert letter, said
        said += letter
