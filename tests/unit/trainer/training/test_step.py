"""The gradient of a batch is the same however it is divided."""

from __future__ import annotations

import numpy as np
import pytest

from embedder.artifacts.arrays import read_npz
from tests.gradients import HEADS, WITH_NORMS, WITHOUT_NORMS, gradients
from tests.torchrun import run, two_processes


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Compute the gradients of all heads in two processes."""
    file = tmp_path_factory.mktemp("two") / "gradients.npz"
    done = run(two_processes("tests.gradients", str(file)))
    assert done.returncode == 0, done.stderr
    return read_npz(file)


def assert_equal_up_to_rounding(
    found: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> None:
    """Compare tensor by tensor; small ones are as uncertain as the whole gradient is."""
    assert found.keys() == expected.keys()
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    whole = np.sqrt(sum(float(np.square(array).sum()) for array in expected.values()))
    for name, array in expected.items():
        error = float(np.linalg.norm(found[name] - array))
        assert error < 1e-3 * float(np.linalg.norm(array)) + 5e-5 * whole, name


@pytest.mark.parametrize("kind", HEADS)
def test_two_processes_compute_the_gradient_of_one(
    kind: str, of_two: dict[str, np.ndarray]
) -> None:
    """Three and four pictures here and there give what seven give: norms, weights, scales."""
    of_one = gradients(WITH_NORMS, HEADS[kind])
    assert len(of_one) > 100
    prefix = f"{kind}/"
    found = {n.removeprefix(prefix): a for n, a in of_two.items() if n.startswith(prefix)}
    assert_equal_up_to_rounding(found, of_one)


@pytest.mark.parametrize("parts", [2, 3, 50])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(parts: int) -> None:
    """Without norms over the batch, accumulated gradients are equal; weighted means too."""
    head = HEADS["subcenter_arcface"]
    whole = gradients(WITHOUT_NORMS, head)
    assert len(whole) > 10
    assert_equal_up_to_rounding(gradients(WITHOUT_NORMS, head, parts=parts), whole)
