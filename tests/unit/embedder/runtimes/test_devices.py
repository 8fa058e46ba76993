"""Devices: what they can compute in."""

import pytest
import torch

from embedder.runtimes.devices import can_run_bf16


def test_a_gpu_that_only_emulates_bfloat16_does_not_run_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """GPUs before Ampere compute in bfloat16 slower than in float32."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda *, including_emulation: including_emulation
    )
    assert not can_run_bf16("cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert can_run_bf16("cuda")
