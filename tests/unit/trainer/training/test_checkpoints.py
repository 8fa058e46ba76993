"""Checkpoints are copied, written beside the training, kept twice, and taken back when damaged."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from embedder.errors import (
    ArtifactDamagedError,
    ArtifactMissingError,
    RunInterruptedError,
    TrainingError,
)
from trainer.model import checkpoint, run_folder
from trainer.training.checkpoint_writer import CheckpointWriter
from trainer.training.interruption import Interruption

NAMES = ("a.weight", "b.weight", "b.steps")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[CheckpointWriter]:
    """Write to a folder, and end the thread."""
    with closing(CheckpointWriter(tmp_path)) as made:
        yield made


def state(value: float) -> dict[str, torch.Tensor]:
    """Make tensors, one of them with its channels last."""
    last = torch.full((2, 3, 4, 4), value).to(memory_format=torch.channels_last)
    return dict(zip(NAMES, (torch.full((5,), value), last, torch.tensor(7)), strict=True))


def values(path: Path) -> set[float]:
    """Read the values of a checkpoint."""
    tensors, _ = checkpoint.load(path)
    assert tensors.keys() == set(NAMES)
    return {float(x) for name in NAMES[:2] for x in tensors[name].flatten()}


def test_what_is_written_is_the_state_when_it_was_saved(
    writer: CheckpointWriter, tmp_path: Path
) -> None:
    """The training changes its tensors while the copy is written."""
    tensors = state(1.0)
    writer.save(tensors, {"n": 1})
    for tensor in tensors.values():
        tensor.zero_()
    writer.wait()
    assert values(tmp_path / run_folder.LAST) == {1.0}
    assert checkpoint.load_facts(tmp_path / run_folder.LAST)["n"] == 1


def test_the_checkpoint_before_the_last_is_kept(writer: CheckpointWriter, tmp_path: Path) -> None:
    """Two files and no other, whatever the number of checkpoints and the shapes in them."""
    for value in (1.0, 2.0, 3.0):
        writer.save(state(value), {})
    writer.save({**state(4.0), "b.weight": torch.full((9, 2), 4.0)}, {})
    writer.wait()
    assert values(tmp_path / run_folder.LAST) == {4.0}
    assert values(tmp_path / run_folder.PREVIOUS) == {3.0}
    assert {path.name for path in tmp_path.iterdir()} == {run_folder.LAST, run_folder.PREVIOUS}
    (tmp_path / "new").touch()
    modes = {(tmp_path / name).stat().st_mode for name in ("new", run_folder.LAST)}
    assert len(modes) == 1  # as the umask says


def test_memory_for_the_copy_is_had_before_the_training_stops(writer: CheckpointWriter) -> None:
    """The first time nothing is ready; later it is, unless the last copy is being written."""
    assert not writer.ready(state(1.0))
    writer.wait()
    assert writer.ready(state(1.0))
    assert not writer.ready({"a.weight": torch.ones(3)})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_state_that_is_not_finite_is_told_and_not_kept(
    writer: CheckpointWriter, tmp_path: Path, value: float
) -> None:
    """The thread finds it; the next look at the thread raises it, once."""
    writer.save(state(1.0), {})
    ruined = state(2.0)
    ruined["b.weight"][1, 2, 3, 3] = value
    writer.save(ruined, {})
    with pytest.raises(TrainingError, match="not finite"):
        writer.wait()
    writer.raise_error()
    assert values(tmp_path / run_folder.LAST) == {1.0}


def test_an_error_of_the_disk_reaches_the_next_step(tmp_path: Path) -> None:
    """What the thread could not do, the training is told."""
    (tmp_path / "run").mkdir()
    with closing(CheckpointWriter(tmp_path / "run")) as writer:
        writer.save(state(1.0), {})
        writer.wait()
        shutil.rmtree(tmp_path / "run")
        writer.save(state(2.0), {})
        with pytest.raises(OSError, match=r"last\.safetensors"):
            writer.wait()


def damage(path: Path) -> None:
    """Cut the end off a file."""
    os.truncate(path, path.stat().st_size - 8)


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(
    writer: CheckpointWriter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning; without one before it, and with a damaged one, it is an error."""
    with pytest.raises(ArtifactMissingError):
        run_folder.latest_checkpoint(tmp_path)
    last, before = tmp_path / run_folder.LAST, tmp_path / run_folder.PREVIOUS
    for value in (1.0, 2.0):
        writer.save(state(value), {})
    writer.wait()
    assert run_folder.latest_checkpoint(tmp_path) == last
    damage(last)
    assert run_folder.latest_checkpoint(tmp_path) == before
    assert "the checkpoint before it is taken" in caplog.text
    last.unlink()
    assert run_folder.latest_checkpoint(tmp_path) == before
    damage(before)
    with pytest.raises(ArtifactDamagedError, match=r"previous\.safetensors"):
        run_folder.latest_checkpoint(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_the_step_and_a_second_one_does_not(number: int) -> None:
    """Deferred, the first is noted; elsewhere, and the second time, it raises at once."""
    interruption, handler = Interruption(), signal.getsignal(number)
    with interruption.handled():
        with interruption.deferred():
            signal.raise_signal(number)
            assert interruption.requested
            with pytest.raises(RunInterruptedError):
                signal.raise_signal(number)
        with pytest.raises(RunInterruptedError, match="continue it with --resume"):
            signal.raise_signal(number)
    assert signal.getsignal(number) is handler


def test_a_signal_ends_a_validation_between_steps_at_once() -> None:
    """What is done after a checkpoint is not waited for; later steps are, again."""
    interruption = Interruption()
    with interruption.handled(), interruption.deferred():
        with pytest.raises(RunInterruptedError), interruption.immediate():
            signal.raise_signal(signal.SIGTERM)
        assert not interruption.requested
        signal.raise_signal(signal.SIGTERM)
        assert interruption.requested


def test_signals_are_left_alone_outside_of_the_main_thread() -> None:
    """A program that trains in a thread of its own keeps its handlers."""
    seen = []

    def look() -> None:
        with Interruption().handled():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
