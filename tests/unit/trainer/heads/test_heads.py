"""Every head is its published formula; chunked and sampled heads equal the plain one."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from pytorch_metric_learning.losses import CosFaceLoss
from torch import Tensor
from torch.nn import functional

from embedder.errors import TrainingError
from trainer.heads import Head, cosines, make_head
from trainer.heads.adacos import AdaCos
from trainer.heads.cosface import CosFace
from trainer.heads.cosines import chunked_cosines, nearest_cosines
from trainer.heads.softmax import Softmax
from trainer.heads.subcenter_arcface import SubcenterArcFace
from trainer.recipe import HeadRecipe

N, D, CLASSES = 12, 16, 9
MARGIN = {"kind": "constant", "radians": 0.3}
KINDS: dict[str, dict[str, Any]] = {
    "subcenter_arcface": {"centers": 2, "margin": {"kind": "dynamic"}},
    "arcface": {"margin": MARGIN},
    "cosface": {"margin": 0.35},
    "adacos-fixed": {"variant": "fixed"},
    "adacos-semi": {"variant": "semi"},
    "adacos-dynamic": {"variant": "dynamic"},
    "softmax": {},
}


def make(name: str, classes: int = CLASSES, **changes: Any) -> Head:
    """Make a head by its recipe."""
    content = {"kind": name.partition("-")[0], **KINDS[name], **changes}
    recipe: HeadRecipe = TypeAdapter(HeadRecipe).validate_python(content)
    return make_head(recipe, D, np.arange(1, classes + 1) * 7)


def batch(seed: int = 0, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Draw embeddings and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (N,), generator=generator)
    return torch.randn(N, D, generator=generator), labels


@pytest.mark.parametrize("name", KINDS)
def test_every_head_turns_embeddings_and_labels_into_a_loss(name: str) -> None:
    """One interface: a finite mean loss that reaches embeddings and every weight."""
    torch.manual_seed(0)
    head = make(name)
    embeddings, labels = batch()
    loss = head(embeddings.requires_grad_(), labels)
    gradients = torch.autograd.grad(loss, [embeddings, *head.parameters()])
    assert loss.shape == ()
    assert all(torch.isfinite(g).all() and g.any() for g in gradients)


def test_all_kinds_were_looked_at() -> None:
    """The table above names every kind that a recipe may ask for."""
    kinds = {get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(HeadRecipe)}
    assert kinds == {name.partition("-")[0] for name in KINDS}


def test_cosface_equals_pytorch_metric_learning() -> None:
    """The loss and its gradient are those of CosFaceLoss."""
    torch.manual_seed(1)
    head = CosFace(D, CLASSES, scale=30.0, margin=0.35)
    reference = CosFaceLoss(CLASSES, D, margin=0.35, scale=30)
    with torch.no_grad():
        reference.W.copy_(head.weight.T)
    embeddings, labels = batch()
    ours, theirs = head(embeddings, labels), reference(embeddings, labels)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    mine = torch.autograd.grad(ours, head.weight)[0]
    assert torch.allclose(mine, torch.autograd.grad(theirs, reference.W)[0].T, atol=1e-5)


@pytest.mark.parametrize("relu", [True, False])
def test_softmax_is_a_linear_layer(relu: bool) -> None:  # noqa: FBT001 (parametrized)
    """The loss is the cross-entropy of a linear layer with bias."""
    head = Softmax(D, CLASSES, relu=relu)
    embeddings, labels = batch()
    features = embeddings.relu() if relu else embeddings
    expected = functional.cross_entropy(features @ head.weight.T + head.bias, labels)
    assert head(embeddings, labels).item() == pytest.approx(expected.item(), rel=1e-6)


# AdaCos


def adapted_scale(variant: str, cosines: np.ndarray, labels: np.ndarray, before: float) -> float:
    """Compute the scale from the text of the paper, in float64 and one cosine at a time."""
    n, classes = cosines.shape
    angle = np.median([math.acos(cosines[i, labels[i]]) for i in range(n)])
    total = 0.0
    for i in range(n):
        total += sum(math.exp(before * cosines[i, k]) for k in range(classes) if k != labels[i])
    average = total / n if variant == "dynamic" else classes - 1
    return math.log(average) / math.cos(min(math.pi / 4, angle))


@pytest.mark.parametrize(("classes", "scale"), [(81313, 15.989), (50, 5.504)])
def test_the_fixed_scale_is_the_published_one(classes: int, scale: float) -> None:
    """√2 ln(C - 1), by hand."""
    assert AdaCos(2, classes, variant="fixed").scale.item() == pytest.approx(scale, abs=5e-4)


@pytest.mark.parametrize("turned", [0.0, 0.9, 3.0])
@pytest.mark.parametrize("variant", ["semi", "dynamic"])
def test_the_adaptive_scales_are_the_formula(variant: str, turned: float) -> None:
    """Step after step the scale equals the slow one, for narrow and for wide angles."""
    torch.manual_seed(2)
    head = make(f"adacos-{variant}")
    before = math.sqrt(2) * math.log(CLASSES - 1)
    for seed in range(4):
        noise, labels = batch(seed)
        embeddings = turned * head.weight.detach()[labels] * 5 + noise
        cosines = head.scores(embeddings, None).detach().double().numpy()
        expected = adapted_scale(variant, cosines, labels.numpy(), before)
        loss = head(embeddings, labels)
        assert head.scale.item() == pytest.approx(expected, rel=1e-4)
        logits = torch.from_numpy(expected * cosines)
        assert loss.item() == pytest.approx(
            functional.cross_entropy(logits, labels).item(), rel=1e-4
        )
        before = expected


def test_the_semi_scale_stays_within_its_bounds() -> None:
    """Between ln(C - 1) and √2 ln(C - 1), reached at angles of 0 and from 45° on."""
    head = make("adacos-semi")
    low, high = math.log(CLASSES - 1), math.sqrt(2) * math.log(CLASSES - 1)
    _, labels = batch()
    for factor, bound in ((1.0, low), (-1.0, high)):
        head(factor * head.weight.detach()[labels], labels)
        assert head.scale.item() == pytest.approx(bound, rel=1e-4)


def test_only_the_dynamic_scale_is_state() -> None:
    """A checkpoint carries what the next step depends on, and takes it up again."""
    head = make("adacos-dynamic")
    head(*batch())
    again = make("adacos-dynamic")
    again.load_state_dict(head.state_dict())
    assert again(*batch(1)).item() == head(*batch(1)).item()
    assert "scale" not in make("adacos-semi").state_dict()
    assert "scale" not in make("adacos-fixed").state_dict()


def test_adacos_needs_three_landmarks() -> None:
    """With two, the scale would be 0."""
    with pytest.raises(TrainingError, match="at least 3"):
        make("adacos-fixed", classes=2)


# Class weights, sampling, many landmarks


@pytest.mark.parametrize("name", ["arcface", "softmax"])
def test_rare_landmarks_weigh_more(name: str) -> None:
    """The loss is the mean weighted by 1 / log(1 + n) of each picture's landmark."""
    torch.manual_seed(3)
    head = make(name, class_weights="rarity")
    embeddings, labels = batch()
    each = torch.stack([head(e[None], y[None]) for e, y in zip(embeddings, labels, strict=True)])
    weights = 1 / np.log1p((labels.numpy() + 1) * 7)
    expected = (each.detach().double().numpy() * weights).sum() / weights.sum()
    assert head(embeddings, labels).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["subcenter_arcface", "cosface", "softmax", "adacos-semi"])
def test_a_sample_is_the_softmax_over_the_drawn_landmarks(name: str) -> None:
    """Loss and gradient are those of a full head that knows the drawn landmarks only."""
    torch.manual_seed(4)
    head = make(name, classes=50, sample=0.5, class_weights="rarity")
    embeddings, labels = batch(classes=50)
    drawn = torch.get_rng_state()
    chosen = head.sample_landmarks(labels)
    assert chosen is not None
    assert len(chosen) == 25
    assert set(labels.tolist()) <= set(chosen.tolist())
    torch.set_rng_state(drawn)
    loss = head(embeddings, labels)
    scores = head.scores(embeddings, None)
    everywhere = head.logits(scores, labels, labels)
    away = torch.ones(50, dtype=torch.bool)
    away[chosen] = False
    counts = np.arange(1, 51) * 7
    weights = torch.from_numpy(1 / np.log1p(counts)).float()
    expected = functional.cross_entropy(
        everywhere.masked_fill(away, -math.inf), labels, weight=weights
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    ours = torch.autograd.grad(loss, head.weight)[0]
    assert torch.allclose(ours, torch.autograd.grad(expected, head.weight)[0], atol=1e-6)


def test_a_sample_is_drawn_anew_and_follows_the_generator() -> None:
    """Each step draws others; the same state of the generator draws the same."""
    head = make("arcface", classes=200, sample=0.2)
    labels = torch.tensor([3, 3, 150])
    torch.manual_seed(5)
    first, second = head.sample_landmarks(labels), head.sample_landmarks(labels)
    torch.manual_seed(5)
    assert torch.equal(first, head.sample_landmarks(labels))
    assert not torch.equal(first, second)
    assert make("arcface", classes=200).sample_landmarks(labels) is None


@pytest.mark.parametrize("centers", [1, 3])
@pytest.mark.parametrize("chunk", [4, 64])
def test_chunked_alikehave_the_plain_gradients(
    centers: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cosines, loss and both gradients agree with float64, in chunks that do not divide evenly."""
    monkeypatch.setattr(cosines, "CHUNK", chunk)
    torch.manual_seed(6)
    margins = torch.linspace(0.05, 0.5, 37)
    head = SubcenterArcFace(D, margins, centers=centers, scale=30.0)
    embeddings, labels = batch(classes=37)
    with torch.no_grad():
        head.weight.mul_(torch.rand(37 * centers, 1) * 3 + 0.5)

    def gradients(compare: Any, dtype: torch.dtype) -> list[Tensor]:
        x = embeddings.to(dtype).requires_grad_()
        w = head.weight.detach().to(dtype).requires_grad_()
        cosines = compare(x, w)
        loss = functional.cross_entropy(head.logits(cosines, labels, labels), labels)
        return [cosines, loss, *torch.autograd.grad(loss, (x, w))]

    exact = gradients(lambda x, w: nearest_cosines(x, w, centers), torch.float64)
    chunked = gradients(
        lambda x, w: chunked_cosines(functional.normalize(x), w, centers), torch.float32
    )
    for ours, theirs in zip(chunked, exact, strict=True):
        assert ours.double().sub(theirs).abs().max() < 1e-5


def test_many_landmarks_are_compared_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a size on, the head keeps one cosine per landmark and the loss stays the same."""
    torch.manual_seed(7)
    head, (embeddings, labels) = make("subcenter_arcface"), batch()
    plain = head(embeddings, labels)
    monkeypatch.setattr(cosines, "CHUNKED_FROM", head.weight.numel())
    chunked = head(embeddings, labels)
    assert "Chunked" in str(head.scores(embeddings, None).grad_fn)
    assert chunked.item() == pytest.approx(plain.item(), rel=1e-6)


@pytest.mark.parametrize("name", ["subcenter_arcface", "arcface", "cosface"])
def test_a_scale_that_cannot_train_is_refused_with_its_reason(name: str) -> None:
    """From 1000 up the softmax is all or nothing."""
    with pytest.raises(ValidationError, match=r"scale of 81312 cannot be trained.*all or nothing"):
        make(name, scale=81312)
    assert make(name, scale=999).scale == 999


def test_a_dynamic_scale_needs_all_landmarks() -> None:
    """Sampling and the sum over all landmarks exclude each other."""
    with pytest.raises(ValidationError, match="sample must be 1"):
        make("adacos-dynamic", sample=0.5)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "adacos-dynamic"])
def test_smoothed_labels_are_those_of_torch(name: str) -> None:
    """A part of each label is spread over all landmarks alike."""
    torch.manual_seed(0)
    plain, smooth = make(name), make(name, label_smoothing=0.2)
    smooth.load_state_dict(plain.state_dict())
    embeddings, labels = batch()
    logits = plain.logits(plain.scores(embeddings, None), labels, labels)
    log_probabilities = logits.log_softmax(1)
    true = log_probabilities.gather(1, labels[:, None]).mean()
    expected = -(0.8 * true + 0.2 * log_probabilities.mean())
    found = smooth(embeddings, labels).item()
    assert found == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("landmarks", [32, 81_313])
def test_centers_start_of_one_length(landmarks: int) -> None:
    """Uniform in ±1/√d: 1/√3 long, whatever the number of landmarks."""
    torch.manual_seed(0)
    head = SubcenterArcFace(64, torch.zeros(landmarks), centers=3, scale=30)
    assert float(head.weight.detach().norm(dim=1).mean()) == pytest.approx(3**-0.5, rel=0.02)
    assert float(head.weight.detach().abs().max()) <= 1 / 8


def test_a_step_turns_the_centers_alike_whatever_their_number() -> None:
    """Adam's first step turns the centers of a batch's landmarks by nearly the same angle."""
    turned = [_turned_by_a_step(landmarks) for landmarks in (32, 81_313)]
    assert turned[0] == pytest.approx(turned[1], rel=0.05)  # some gradients are as small as eps
    assert turned[0] > 0.01


def _turned_by_a_step(landmarks: int) -> float:
    """Return the mean angle in radians."""
    torch.manual_seed(0)
    head = SubcenterArcFace(64, torch.full((landmarks,), 0.2), centers=3, scale=30)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    labels = torch.arange(32)
    before = head.weight.detach()[: 3 * len(labels)].clone()
    head(torch.randn(len(labels), 64), labels).backward()
    optimizer.step()
    after = head.weight.detach()[: 3 * len(labels)]
    alike = functional.cosine_similarity(before, after)
    moved = (before != after).any(dim=1)
    return float(alike.clamp(max=1)[moved].acos().mean())
