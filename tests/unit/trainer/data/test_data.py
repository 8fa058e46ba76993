"""Splits, order and variation of training pictures are functions of seed and epoch."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from embedder.manifest import Preprocess
from embedder.preprocess import normalize
from photographs import Photograph, open_data
from tests.factories import photographs, picture, write_tar
from trainer.data.augment import augment
from trainer.data.loading import AugmentedPictures, BatchLoader, epoch_batches
from trainer.data.normalize import Normalize
from trainer.recipe import AugmentRecipe

LIVELY = AugmentRecipe(
    crop=0.4,
    aspect=1.4,
    turn=0.5,
    turn_degrees=20,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    cutout=0.5,
)


def test_an_epoch_sees_every_picture_at_most_once() -> None:
    """Batches are whole, disjoint and differ between epochs."""
    batches = epoch_batches(103, 10, (0, 0, 0)).tolist()
    seen = [position for batch in batches for position in batch]
    assert len(batches) == 10
    assert len(set(seen)) == len(seen) == 100
    assert epoch_batches(103, 10, (0, 0, 1)).tolist() != batches
    assert [sorted(batch) for batch in epoch_batches(3, 10, (0, 0, 0))] == [[0, 1, 2]]


@pytest.mark.parametrize("recipe", [LIVELY, AugmentRecipe(flip=0)])
def test_a_variation_follows_its_generator(recipe: AugmentRecipe) -> None:
    """The same generator gives the same picture; the result has the size of the network's input."""
    target = Preprocess(side=48)
    images = [
        augment(picture(1, side=90), recipe, target, np.random.default_rng(seed))
        for seed in (7, 7, 8)
    ]
    assert images[0].size == (48, 48)
    assert np.array_equal(*(np.asarray(image) for image in images[:2]))
    varies = recipe is LIVELY
    assert np.array_equal(np.asarray(images[0]), np.asarray(images[2])) is not varies


def test_each_part_of_the_variation_does_something() -> None:
    """Every knob, alone at full strength, changes the picture."""
    still = AugmentRecipe(flip=0)
    knobs = {
        "flip": {"flip": 1.0},
        "crop": {"crop": 0.2},
        "aspect": {"aspect": 3.0},
        "turn": {"turn": 1.0, "turn_degrees": 30},
        "shift": {"turn": 1.0, "shift": 0.2},
        "zoom": {"turn": 1.0, "zoom": 0.2},
        "brightness": {"brightness": 0.5},
        "contrast": {"contrast": 0.5},
        "saturation": {"saturation": 0.9},
        "cutout": {"cutout": 1.0},
    }
    assert {*knobs, "turn_degrees", "cutout_side", "cutout_fill"} == set(AugmentRecipe.model_fields)
    target = Preprocess(side=48)
    plain = np.asarray(augment(picture(1), still, target, np.random.default_rng(0)))
    for name, change in knobs.items():
        varied = augment(
            picture(1), still.model_copy(update=change), target, np.random.default_rng(0)
        )
        assert not np.array_equal(np.asarray(varied), plain), name


@pytest.fixture
def stages(tmp_path: Path) -> list[AugmentedPictures]:
    """Give two stages of the same photographs, at two sides."""
    everything = open_data(photographs(tmp_path)).gallery()
    labels = np.arange(len(everything))
    return [
        AugmentedPictures(everything, labels, Preprocess(side=side), LIVELY, (0, number))
        for number, side in enumerate((16, 24))
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_batches_are_the_same_whoever_makes_them(
    stages: list[AugmentedPictures], workers: int
) -> None:
    """Worker processes and the training process make equal batches, from any start."""
    loader = BatchLoader(stages, workers=workers)
    seen = []
    for stage, epoch in ((0, 0), (0, 1), (1, 0)):
        order = stages[stage].batches(epoch, 8)
        expected = [stages[stage].load(epoch, batch) for batch in order]
        made = list(loader.load(stage, epoch, order[1:]))
        assert len(made) == len(order) - 1 > 0
        for ours, theirs in zip(made, expected[1:], strict=True):
            assert torch.equal(ours.pictures, theirs.pictures)
            assert torch.equal(ours.labels, theirs.labels)
        seen.append(expected[0].pictures)
    assert not torch.equal(seen[0], seen[1])
    loader.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_live_over_epochs_that_are_left_early(stages: list[AugmentedPictures]) -> None:
    """The same processes make the next epoch; nothing of the epoch before it is left over."""
    loader = BatchLoader(stages, workers=2)
    order = stages[0].batches(0, 2)
    first = next(loader.load(0, 0, order))
    workers = {child.pid for child in multiprocessing.active_children()}
    assert torch.equal(first.pictures, stages[0].load(0, order[0]).pictures)
    (batch,) = loader.load(1, 0, order[:1])
    assert torch.equal(batch.pictures, stages[1].load(0, order[0]).pictures)
    assert {child.pid for child in multiprocessing.active_children()} == workers
    assert len(workers) == 2
    loader.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(side=40),
        Preprocess(side=40, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        Preprocess(side=40, mean=(0.1, 0.7, 0.3), std=(0.123, 0.9, 0.31)),
    ],
)
def test_pictures_are_normalized_as_an_embedder_does(preprocess: Preprocess) -> None:
    """Every value that a pixel can have becomes the same number, to the bit."""
    pixels = np.random.default_rng(0).permutation(np.arange(2 * 40 * 40 * 3) % 256)
    pixels = pixels.reshape(2, 40, 40, 3).astype(np.uint8)
    found = Normalize(preprocess, torch.device("cpu"))(torch.from_numpy(pixels))
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = np.stack([normalize(Image.fromarray(square), preprocess) for square in pixels])
    assert np.array_equal(found.numpy(), expected)


def test_batches_are_the_same_from_files_and_from_shards(tmp_path: Path) -> None:
    """Pictures need not be unpacked to be trained on."""
    files = open_data(photographs(tmp_path / "files")).gallery()
    members: dict[str, bytes] = {}
    for photograph in files:
        members[f"{photograph.id}.jpg"] = photograph.path.read_bytes()
        members[f"{photograph.id}.cls"] = str(photograph.landmark_id).encode()
    write_tar(tmp_path / "shards" / "part-0.tar", members)
    shards = open_data(tmp_path / "shards").gallery()
    assert list(shards.labeled_ids()) == list(files.labeled_ids())
    order = epoch_batches(len(files), 8, (0, 0, 0))
    stages = [
        AugmentedPictures(listed, listed.labels, Preprocess(side=16), LIVELY, (0, 0))
        for listed in (files, shards)
    ]
    loader = BatchLoader(stages, workers=0)
    (ours, theirs) = (list(loader.load(stage, 0, order)) for stage in (0, 1))
    assert len(ours) == len(theirs) == len(order)
    for one, other in zip(ours, theirs, strict=True):
        assert len(one.labels) == 8
        assert torch.equal(one.pictures, other.pictures)
        assert torch.equal(one.labels, other.labels)


def test_unreadable_pictures_are_named_and_left_out(tmp_path: Path) -> None:
    """A damaged and a missing file cost their places in the batch and nothing else."""
    everything = open_data(photographs(tmp_path, landmarks=2, views=3)).gallery()
    everything[1].path.write_bytes(b"not a picture")
    everything[4].path.unlink()
    zeros = np.zeros(6, np.int64)
    pictures = AugmentedPictures(everything, zeros, Preprocess(side=16), LIVELY, (0, 0))
    batch = pictures.load(0, np.arange(6))
    assert batch.unreadable == [everything[1].id, everything[4].id]
    assert batch.pictures.shape == (4, 16, 16, 3)
    assert torch.equal(batch.pictures[1], pictures.load(0, np.array([2])).pictures[0])


def test_a_batch_without_readable_pictures_is_empty(tmp_path: Path) -> None:
    """Nothing readable gives an empty batch of the right shape."""
    lost = [Photograph("a", tmp_path / "none.jpg", "1")]
    zeros = np.zeros(1, np.int64)
    pictures = AugmentedPictures(lost, zeros, Preprocess(side=16), LIVELY, (0, 0))
    assert pictures.load(0, np.arange(1)).pictures.shape == (0, 16, 16, 3)
    assert pictures.load(0, np.arange(0)).pictures.shape == (0, 16, 16, 3)


@pytest.mark.parametrize(("fill", "color"), [("mean", (124, 116, 104)), ("black", (0, 0, 0))])
def test_cutout_blanks_its_share(fill: Literal["mean", "black"], color: tuple[int, ...]) -> None:
    """A square of 40 % of the side becomes one color."""
    recipe = AugmentRecipe(flip=0, cutout=1, cutout_side=0.4, cutout_fill=fill)
    white = Image.new("RGB", (50, 50), "white")
    varied = np.asarray(augment(white, recipe, Preprocess(side=50), np.random.default_rng(0)))
    assert (varied != 255).all(axis=2).sum() == 20 * 20
    assert (varied == color).all(axis=2).sum() == 20 * 20


def test_a_picture_is_turned_before_it_is_squashed() -> None:
    """A quarter turn of a wide picture pushes its ends out, and fills black above and below."""
    recipe = AugmentRecipe(flip=0, turn=1, turn_degrees=90, zoom=1e-9)
    wide = Image.new("RGB", (96, 48), "white")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        [rng.random() for _ in range(2)]
        if abs(abs(rng.uniform(-90, 90)) - 90) < 15:
            break
    varied = np.asarray(augment(wide, recipe, Preprocess(side=48), np.random.default_rng(seed)))
    assert (varied[:, :6] == 0).all()
    assert (varied[:, 42:] == 0).all()
    assert varied[24, 24].min() == 255


def test_a_move_without_a_turn_is_a_shift() -> None:
    """Moved by whole pixels, the inside is the same picture and the border is black."""
    recipe = AugmentRecipe(flip=0, turn=1, shift=0.2)
    image = picture(3, side=50)
    varied = np.asarray(augment(image, recipe, Preprocess(side=50), np.random.default_rng(4)))
    assert (varied.sum(axis=2) == 0).any()
    rng = np.random.default_rng(4)
    [rng.random() for _ in range(2)]
    rng.uniform(-0.0, 0.0), rng.uniform(-0.0, 0.0)
    right, down = rng.uniform(-0.2, 0.2, 2) * 50
    x, y = (round(25 + right), round(25 + down))
    original = np.asarray(image)[25, 25].astype(int)
    assert np.abs(varied[y, x].astype(int) - original).max() < 25
