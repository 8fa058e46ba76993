"""How many pictures are decoded at once."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from service.lifecycle.running import cores_that_fit
from service.resources.cores import Cores
from service.settings import Settings

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def settings(max_pixels: int) -> Settings:
    """Word settings of a service that may use three cores."""
    return Settings(store=Path("absent"), embedder=Path("absent"), threads=3, max_pixels=max_pixels)


def test_memory_bounds_the_workers_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """With both numbers and what to do; where the memory suffices, the cores decide in silence."""
    with caplog.at_level(logging.WARNING):
        assert cores_that_fit(settings(1_000)) == Cores(3, 3, 1)
        assert caplog.messages == []
        assert cores_that_fit(settings(MACHINE)) == Cores(3, 1, 3)
    [words] = caplog.messages
    assert "decoded at once: 1 rather than 3" in words
    assert "--max-pixels" in words
