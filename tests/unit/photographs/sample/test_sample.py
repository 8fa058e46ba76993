"""The drawn sample set: the same in every run, each picture alone, learnable, and in the layout."""

import subprocess
import sys
from collections import Counter
from hashlib import sha256
from math import pi
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from photographs import open_data
from photographs.sample import draw_landmark, draw_scene, write_sample_set
from photographs.sample.architecture import PLANS, build
from photographs.sample.camera import Canvas, Light, View, look, paint
from photographs.sample.sample_set import landmark_categories
from photographs.sample.skins import KINDS, Palette, draw_skin
from photographs.sample.solids import Passage, Place, Solid, block, dome, drum

WHITE = Light(np.array([0.0, 1.0, 0.0]), np.zeros(3), np.ones(3), np.zeros(3), 0.0)
FRONT = View(0.0, 0.0, 5.0, (0.0, 1.0, 0.0), pi / 8)


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """Give a picture's bytes as an array."""
    return np.asarray(image)


def coverage(*solids: Solid, view: View = FRONT) -> NDArray[np.float32]:
    """Draw solids and give the nearness of every pixel, 0 where nothing is."""
    rng = np.random.default_rng(0)
    skin = draw_skin("courses", Palette.of(rng), rng)
    canvas = Canvas(Image.new("RGB", (96, 96)))
    camera = look(view, 96, 96)
    for solid in solids:
        paint(solid, skin, camera, WHITE, canvas)
    return canvas.nearness


def test_a_picture_is_the_same_in_another_process() -> None:
    """The bytes of a picture depend on its numbers alone, not on what was drawn before."""
    script = (
        "from hashlib import sha256; from photographs.sample import draw_landmark as d; "
        "print(sha256(d(3, 5, 7, 96).tobytes()).hexdigest())"
    )
    draw_landmark(3, 5, 6, 96)
    here = sha256(draw_landmark(3, 5, 7, 96).tobytes()).hexdigest()
    there = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == here


@pytest.mark.parametrize("other", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_seed_landmark_and_picture_each_matter(other: tuple[int, int, int]) -> None:
    """Changing any of the three numbers gives another picture."""
    assert draw_landmark(*other, 64).tobytes() != draw_landmark(0, 0, 0, 64).tobytes()


def test_another_seed_has_other_landmarks() -> None:
    """The materials of a landmark come from the seed too, not only its turn among the plans."""
    materials = {seed: {build(seed, n).skins[0].top for n in range(12)} for seed in (0, 1)}
    assert len(materials[0] & materials[1]) < 3


def test_no_two_landmarks_of_a_set_have_one_name() -> None:
    """Among some hundreds, places are called alike; their categories are not."""
    names = Counter(build(0, number).name for number in range(400))
    assert max(names.values()) > 1
    addresses = [address for _, address in landmark_categories(0, 400)]
    assert len(set(addresses)) == 400


def test_every_plan_and_kind_of_scene_can_be_drawn() -> None:
    """No landmark and no scene of the first hundred fails; all have the longer side asked for."""
    images = [draw_landmark(1, number, number, 64) for number in range(100)]
    images += [draw_scene(1, number, 64) for number in range(100)]
    assert {max(image.size) for image in images} == {64}
    assert {image.mode for image in images} == {"RGB"}
    assert min(float(pixels_of(image).std()) for image in images) > 4


def test_every_landmark_can_be_seen_whole() -> None:
    """Its height and reach are those of its solids: a camera set by them cuts nothing off."""
    for number in range(2 * len(PLANS)):
        landmark = build(0, number)
        away = 2.2 * max(landmark.reach, landmark.height / 2) + landmark.reach
        view = View(0.3, 0.1, away, (0, landmark.height / 2, 0), pi / 6)
        seen = coverage(*landmark.solids, view=view) > 0
        edge = seen[0].any() or seen[-1].any() or seen[:, 0].any() or seen[:, -1].any()
        assert not edge, landmark.name
        assert seen.mean() > 0.01, landmark.name


def test_all_plans_come_before_one_comes_again() -> None:
    """Twelve landmarks are twelve kinds of building, whatever the seed."""
    for seed in range(3):
        kinds = [build(seed, number).name.split(" of ")[0] for number in range(len(PLANS))]
        assert sorted(kinds) == sorted(PLANS)
    assert len(PLANS) == 12


def test_every_skin_is_drawn_with_some_structure() -> None:
    """No surface is a plain color."""
    rng = np.random.default_rng(0)
    spreads = {kind: draw_skin(kind, Palette.of(rng), rng).planes.std() for kind in KINDS}
    assert len(spreads) == 12
    assert min(spreads.values()) > 2


def test_a_block_covers_what_perspective_says() -> None:
    """A front of 1 x 1 at a distance of 4.5 is 1 / 4.5 wide in the plane at distance 1."""
    seen = coverage(block(Place(y=0.5), (1, 1, 1), 0))
    width = (seen[48] > 0).sum() / 96 * 2 * np.tan(pi / 8)
    assert width == pytest.approx(1 / 4.5, abs=2 / 96)
    assert seen.max() == pytest.approx(1 / 4.5, rel=1e-4)


def test_the_nearer_solid_hides_the_farther_in_either_order() -> None:
    """Drawing order does not matter."""
    near, far = block(Place(z=1), (0.5, 2, 0.5), 0), block(Place(z=-1), (2, 2, 0.5), 0)
    assert np.array_equal(coverage(near, far), coverage(far, near))
    assert coverage(near, far)[48, 48] == pytest.approx(1 / 3.75, rel=1e-4)


def test_a_dome_is_round_and_a_drum_of_many_sides_nearly() -> None:
    """A globe's outline is a disc of the area that perspective gives, a drum as wide as it says."""
    globe = coverage(dome(Place(), (2, 2), 0, bulge=0.5)) > 0
    radius = np.tan(np.arcsin(1 / 5)) / (2 * np.tan(pi / 8)) * 96
    assert globe.sum() == pytest.approx(pi * radius**2, rel=0.03)
    pillar = coverage(drum(Place(), (1, 2), 0, sides=40)) > 0
    width = np.tan(np.arcsin(0.5 / 5)) / np.tan(pi / 8) * 96
    assert pillar[48].sum() == pytest.approx(width, abs=2)


def test_one_sees_through_a_passage_but_not_through_its_walls() -> None:
    """From the front the middle is open; from the side the passage's wall is seen, within it."""
    gate = block(Place(), (2, 2, 1), 0, passage=Passage(0.4, 0.9))
    front = coverage(gate)
    assert front[52, 48] == 0
    assert front[52, 12:40].max() > 0
    aslant = coverage(gate, view=View(0.7, 0.0, 5.0, (0.0, 0.6, 0.0), pi / 8))
    solid = coverage(block(Place(), (2, 2, 1), 0), view=View(0.7, 0, 5, (0, 0.6, 0), pi / 8))
    within = (aslant > 0) & (aslant < solid * 0.995)
    assert within.sum() > 50
    assert (aslant <= solid + 1e-6).all()


def test_the_sample_set_is_a_gldv2_folder(tmp_path: Path) -> None:
    """Every list is there, agrees with the files, and has the sizes that were asked for."""
    write_sample_set(tmp_path, landmarks=3, pictures=4, queries=2, scenes=5, seed=1, side=48)
    data = open_data(tmp_path)
    gallery, queries = data.gallery(), data.queries()
    assert data.layout == "gldv2"
    assert list(Counter(picture.landmark_id for picture in gallery).values()) == [4, 4, 4]
    assert gallery == data.gallery("train.csv")
    assert Counter(len(query.landmark_ids) for query in queries) == {1: 6, 0: 5}
    assert set(data.names()) == {picture.landmark_id for picture in gallery}
    assert len(set(data.names().values())) == 3
    files = [picture.path for picture in [*gallery, *queries]]
    assert sorted(files) == sorted(tmp_path.rglob("*.jpg"))
    for path in files:
        with Image.open(path) as image:
            assert max(image.size) == 48


def test_the_sample_set_is_the_same_again_and_grows_without_changing(tmp_path: Path) -> None:
    """A larger set holds the pictures of the smaller one, byte for byte."""
    write_sample_set(tmp_path / "a", landmarks=2, pictures=2, queries=1, scenes=2, side=48)
    write_sample_set(tmp_path / "b", landmarks=3, pictures=2, queries=1, scenes=3, side=48)
    small = {p.name: p.read_bytes() for p in (tmp_path / "a").rglob("*.jpg")}
    large = {p.name: p.read_bytes() for p in (tmp_path / "b").rglob("*.jpg")}
    assert len(small) == 8
    assert small.items() <= large.items()


def test_drawing_needs_no_torch() -> None:
    """The drawn set can be made where only numpy and Pillow are."""
    script = "import sys, photographs.sample; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
