"""The head is the published formula, to the last digit, and never gives NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import ArcFaceLoss, SubCenterArcFaceLoss
from torch import Tensor

from trainer.heads import make_head
from trainer.heads.subcenter_arcface import SubcenterArcFace, add_angular_margins, dynamic_margins
from trainer.recipe.head import SubcenterArcFaceRecipe

N, D, CLASSES = 12, 16, 7


def slow_loss(
    embeddings: Tensor, weight: Tensor, labels: Tensor, margins: Tensor, k: int
) -> Tensor:
    """Compute the loss one logit at a time in float64, from the text of the papers."""
    scale, total = 30.0, embeddings.new_zeros((), dtype=torch.float64)
    for row, label in zip(embeddings.double(), labels.tolist(), strict=True):
        x = row / row.norm()
        logits = []
        for c in range(len(margins)):
            centers = [weight[c * k + j].double() for j in range(k)]
            cosine = torch.stack([x @ (w / w.norm()) for w in centers]).max()
            if c == label:
                m = float(margins[c])
                theta = torch.acos(cosine)
                turned = float(cosine.detach()) > math.cos(math.pi - m)
                cosine = torch.cos(theta + m) if turned else cosine - m * math.sin(math.pi - m)
            logits.append(scale * cosine)
        total = total + torch.logsumexp(torch.stack(logits), 0) - logits[label]
    return total / len(labels)


def make_case(k: int, seed: int = 0) -> tuple[SubcenterArcFace, Tensor, Tensor]:
    """Draw a head, embeddings and labels in float64; some embeddings lie opposite their class."""
    torch.manual_seed(seed)
    margins = torch.linspace(0.05, 0.5, CLASSES, dtype=torch.float64)
    head = SubcenterArcFace(D, margins, centers=k, scale=30.0).double()
    embeddings = torch.randn(N, D, dtype=torch.float64)
    labels = torch.arange(N) % CLASSES
    with torch.no_grad():
        embeddings[0] = -head.weight[labels[0] * k] + 0.01 * embeddings[0]
        head.weight[labels[0] * k : labels[0] * k + k] = head.weight[labels[0] * k]
    return head, embeddings.requires_grad_(), labels


@pytest.mark.parametrize("k", [1, 3])
def test_the_loss_and_its_gradients_equal_a_slow_loop(k: int) -> None:
    """Loss and both gradients agree to 1e-6, where the margin passes π too."""
    head, embeddings, labels = make_case(k)
    expected = slow_loss(embeddings, head.weight, labels, head.margins, k)
    theirs = torch.autograd.grad(expected, (embeddings, head.weight))
    loss = head(embeddings, labels)
    ours = torch.autograd.grad(loss, (embeddings, head.weight))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    for mine, reference in zip(ours, theirs, strict=True):
        assert (mine - reference).abs().max() < 1e-6


@pytest.mark.parametrize("margin_degrees", [5.0, 28.6])
def test_constant_margins_equal_pytorch_metric_learning(margin_degrees: float) -> None:
    """With one margin for all, the loss is that of SubCenterArcFaceLoss."""
    torch.manual_seed(1)
    margins = torch.full((CLASSES,), math.radians(margin_degrees))
    head = SubcenterArcFace(D, margins, centers=3, scale=64.0)
    reference = SubCenterArcFaceLoss(
        num_classes=CLASSES, embedding_size=D, margin=margin_degrees, scale=64, sub_centers=3
    )
    with torch.no_grad():
        reference.W.copy_(head.weight.T)
    embeddings, labels = torch.randn(N, D), torch.arange(N) % CLASSES
    expected = reference(embeddings, labels).item()
    assert head(embeddings, labels).item() == pytest.approx(expected, rel=1e-5)


def test_one_center_is_plain_arcface() -> None:
    """K = 1 gives the loss of ArcFace."""
    torch.manual_seed(2)
    head = SubcenterArcFace(D, torch.full((CLASSES,), 0.4), centers=1, scale=20.0)
    reference = ArcFaceLoss(CLASSES, D, margin=math.degrees(0.4), scale=20)
    with torch.no_grad():
        reference.W.copy_(head.weight.T)
    embeddings, labels = torch.randn(N, D), torch.arange(N) % CLASSES
    expected = reference(embeddings, labels).item()
    assert head(embeddings, labels).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_parallel_vectors_give_finite_gradients(sign: float) -> None:
    """Cosines of exactly ±1, where a sine is 0, give neither NaN nor infinity."""
    head = SubcenterArcFace(D, torch.full((CLASSES,), 0.5), centers=1, scale=30.0)
    labels = torch.arange(CLASSES)
    embeddings = (sign * head.weight.detach().clone()).requires_grad_()
    loss = head(embeddings, labels)
    gradients = torch.autograd.grad(loss, (embeddings, head.weight))
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_the_widened_angle_never_makes_a_picture_fit_better() -> None:
    """The true logit only falls by the margin, and falls with the angle over the whole circle."""
    cosines = torch.linspace(1, -1, 2001, dtype=torch.float64)[:, None]
    labels = torch.zeros(2001, dtype=torch.int64)
    widened = add_angular_margins(cosines, labels, torch.full((2001,), 0.5, dtype=torch.float64))[
        :, 0
    ]
    assert (widened <= cosines[:, 0]).all()
    assert (widened.diff() < 1e-12).all()


def test_the_nearest_center_counts() -> None:
    """The cosine with a landmark is that of its nearest sub-center."""
    head = SubcenterArcFace(2, torch.zeros(2), centers=2, scale=1.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]))
    cosines = head.scores(torch.tensor([[0.0, 3.0]]), None)
    assert cosines.tolist() == [[1.0, 0.0]]


def test_dynamic_margins_are_the_formula() -> None:
    """The margin is 0.45 (t - t_min) / (t_max - t_min) + 0.05 with t = n^(-1/4)."""
    counts = np.array([2, 5, 40, 300, 5000])
    t = counts**-0.25
    expected = 0.45 * (t - t.min()) / (t.max() - t.min()) + 0.05
    assert dynamic_margins(counts) == pytest.approx(expected, abs=1e-12)


def test_a_recipe_makes_the_head_it_describes() -> None:
    """Centers, scale and margins of the recipe reach the head."""
    recipe = SubcenterArcFaceRecipe.model_validate(
        {
            "kind": "subcenter_arcface",
            "centers": 2,
            "scale": 17,
            "margin": {"kind": "dynamic", "smallest": 0.1, "largest": 0.4},
        }
    )
    head = make_head(recipe, D, np.array([10, 20, 30]))
    assert isinstance(head, SubcenterArcFace)
    assert head.weight.shape == (6, D)
    assert head.scale == 17
    assert head.margins.numpy() == pytest.approx(
        dynamic_margins(np.array([10, 20, 30]), smallest=0.1, largest=0.4), abs=1e-6
    )
