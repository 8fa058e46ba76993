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
from photographs.sample.facades import PLANS, ROOFS, SCALE, build, textured
from photographs.sample.pictures import Thing, photograph, place, stand
from photographs.sample.sample_set import landmark_categories


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """Return a picture's pixels as an array."""
    return np.asarray(image)


def seen(thing: Thing, *, turn: float = 0.0, distance: float = 5.0) -> NDArray[np.bool_]:
    """Look at a white drawing with a field of 45 degrees; return which of 96 x 96 pixels it has."""
    image, frame, _ = thing
    focal = 48 / np.tan(pi / 8)
    right, down = np.array([np.cos(turn), 0, -np.sin(turn), 0]), np.array([0, -1, 0, 1.0])
    ahead = np.array([-np.sin(turn), 0, -np.cos(turn), distance])
    camera = np.array([focal * right + 48 * ahead, focal * down + 48 * ahead, ahead])
    picture = Image.new("L", (96, 96))
    place(picture, image, camera @ frame)
    return np.asarray(picture) > 127


def card(width: int, height: int, at: tuple[float, float] = (0.0, 0.0)) -> Thing:
    """Stand a white drawing of a size in hundredths on the ground."""
    return stand(Image.new("RGBA", (width, height), "white"), np.array(at), height / 100)


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
    """The look of a landmark comes from the seed too, not only its turn among the plans."""
    fronts = {seed: {build(seed, n)[1].tobytes() for n in range(12)} for seed in (0, 1)}
    assert len(fronts[0]) == 12
    assert not fronts[0] & fronts[1]


def test_no_two_landmarks_of_a_set_have_one_name() -> None:
    """Among some hundreds, places are called alike; their categories are not."""
    addresses = [address for _, address in landmark_categories(0, 400)]
    names = Counter(address.split("_the_Younger")[0] for address in addresses)
    assert max(names.values()) > 1
    assert len(set(addresses)) == 400


def test_a_drawn_landmark_has_a_name_and_no_link(tmp_path: Path) -> None:
    """There is no page about it anywhere."""
    write_sample_set(tmp_path, landmarks=2, pictures=1, queries=1, scenes=1, side=32)
    data = open_data(tmp_path)
    assert [name.count(" of ") for name in data.names().values()] == [1, 1]
    assert data.links() == {}


def test_every_plan_and_kind_of_scene_can_be_drawn() -> None:
    """No landmark and no scene of the first hundred fails; all have the longer side asked for."""
    images = [draw_landmark(1, number, number, 64) for number in range(100)]
    images += [draw_scene(1, number, 64) for number in range(100)]
    assert {max(image.size) for image in images} == {64}
    assert {image.mode for image in images} == {"RGB"}
    assert min(float(pixels_of(image).std()) for image in images) > 4


def test_every_front_is_drawn_whole_and_stands_on_the_ground() -> None:
    """No part is cut off at the edge of the drawing; one reaches the foot of it."""
    for number in range(4 * len(PLANS)):
        name, front = build(0, number)
        assert max(front.size) < 5 * SCALE, name
        assert min(front.size) > SCALE / 2, name
        assert pixels_of(front)[-2, :, 3].any(), name


def test_all_plans_come_before_one_comes_again() -> None:
    """Twelve landmarks are twelve kinds of building, whatever the seed."""
    for seed in range(3):
        kinds = [build(seed, number)[0].split(" of ")[0] for number in range(len(PLANS))]
        assert sorted(kinds) == sorted(PLANS)
    assert len(PLANS) == 12


def test_two_landmarks_of_one_plan_look_different() -> None:
    """Where a plan comes again, colors, windows, roofs or proportions are others."""
    for number in range(len(PLANS)):
        (_, first), (_, second) = build(0, number), build(0, number + len(PLANS))
        again = pixels_of(second.resize(first.size)).astype(float)
        assert np.abs(again - pixels_of(first)).mean() > 8


def test_every_front_has_some_structure() -> None:
    """No surface is a plain color."""
    for number in range(len(PLANS)):
        pixels = pixels_of(build(0, number)[1])
        assert pixels[pixels[..., 3] > 0][:, :3].std(axis=0).min() > 8


def test_a_front_covers_what_perspective_says() -> None:
    """A front of 1 x 1 at a distance of 4.5 is 1 / 4.5 wide in the plane at distance 1."""
    covered = seen(card(100, 100, at=(0.0, 0.5)))
    assert covered[60].sum() / 96 * 2 * np.tan(pi / 8) == pytest.approx(1 / 4.5, abs=2 / 96)
    assert covered[:, 48].sum() / 96 * 2 * np.tan(pi / 8) == pytest.approx(1 / 4.5, abs=2 / 96)


def test_the_nearer_end_of_a_front_seen_from_the_side_is_higher() -> None:
    """A camera to the right of a front sees its right end larger, and all of it narrower."""
    covered = seen(card(200, 100), turn=0.7)
    columns = np.flatnonzero(covered.any(axis=0))
    heights = covered.sum(axis=0)
    focal = 48 / np.tan(pi / 8)
    for end, side in ((columns[2], -1), (columns[-3], 1)):
        away = 5 - side * np.sin(0.7)
        assert heights[end] == pytest.approx(focal / away, abs=2)
    assert len(columns) < seen(card(200, 100)).any(axis=0).sum()


def test_what_is_behind_the_camera_or_beside_the_picture_is_not_drawn() -> None:
    """Neither has a place in the picture."""
    assert seen(card(100, 100)).any()
    assert not seen(card(100, 100), distance=-5.0).any()
    assert not seen(card(100, 100, at=(9.0, 0.0))).any()


def test_the_nearer_thing_hides_the_farther_in_either_order() -> None:
    """The order of the list does not matter."""
    red, blue = (Image.new("RGBA", (100, 100), color) for color in ("red", "blue"))
    far, near = stand(red, np.array([0.0, -0.1]), 1.0), stand(blue, np.zeros(2), 1.0)
    one, other = (
        pixels_of(photograph(things, np.random.default_rng(1), 96)).astype(float)
        for things in ([far, near], [near, far])
    )
    assert np.abs(one - other).max() <= 3
    blues, reds = (one[..., 2] - one[..., 0] > 90).sum(), (one[..., 0] - one[..., 2] > 90).sum()
    assert blues > 10 * reds


def test_a_dome_is_half_a_disc_and_an_outline_is_symmetric() -> None:
    """A dome's drawing has the area that geometry says, and both halves alike."""
    covered = pixels_of(textured(ROOFS["dome"], (50.0, 50.0), (200, 100, 50)))[..., 3] > 0
    assert covered.sum() == pytest.approx(pi / 2 * 50**2, rel=0.04)
    assert np.mean(covered == covered[:, ::-1]) > 0.97


def test_one_sees_through_a_gate() -> None:
    """Between the piers of a gate is nothing; above it is the lintel."""
    number = next(n for n in range(12) if build(0, n)[0].startswith("Gate"))
    alpha = pixels_of(build(0, number)[1])[..., 3]
    height, width = alpha.shape
    assert alpha[-5, width // 2] == 0
    assert alpha[-5, [width // 6, -width // 6]].all()
    assert alpha[height // 2 : -5, width // 2].any()


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
    files = [taken.path for taken in gallery] + [query.path for query in queries]
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
