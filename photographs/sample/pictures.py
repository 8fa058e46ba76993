"""Take photographs of drawn landmarks, and of places that are none.

A picture's viewpoint, weather, crop, crowd and camera faults come from a generator of its own:
``(seed, landmark, picture)``. Nothing is shared between pictures but the landmark itself.
"""

from collections.abc import Callable
from functools import lru_cache
from math import atan, tan

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from photographs.sample.architecture import Landmark, build
from photographs.sample.camera import Camera, Canvas, View, look, paint
from photographs.sample.skins import Palette, draw_skin
from photographs.sample.solids import Place, block, drum
from photographs.sample.surroundings import (
    Weather,
    backdrop,
    choose_weather,
    overlay,
    stand,
)

_FINE = 1.25
_ASPECTS = (1.0, 4 / 3, 3 / 4, 3 / 2, 2 / 3)
_UNKNOWN = 1 << 40

_remembered = lru_cache(maxsize=256)(build)


def draw_landmark(seed: int, landmark: int, picture: int, side: int = 256) -> Image.Image:
    """Draw one photograph of one landmark.

    Args:
        seed: Of the whole sample set, not negative.
        landmark: Which landmark, from 0.
        picture: Which photograph of it, from 0.
        side: Length of the longer side in pixels.

    Returns:
        An RGB picture, upright or across; the same for the same arguments.
    """
    rng = np.random.default_rng((seed, 3, landmark, picture))
    return _photograph(_remembered(seed, landmark), rng, side)


def draw_scene(seed: int, picture: int, side: int = 256) -> Image.Image:
    """Draw one photograph of no landmark: a street, hills, a room, or a building seen only once.

    Args:
        seed: Of the whole sample set, not negative.
        picture: Which photograph, from 0.
        side: Length of the longer side in pixels.

    Returns:
        An RGB picture, upright or across; the same for the same arguments.
    """
    rng = np.random.default_rng((seed, 4, picture))
    kind = picture % 4
    if kind == 3:
        return _photograph(build(seed, _UNKNOWN + picture), rng, side)
    return _SCENES[kind](rng, side)


def landmark_name(seed: int, landmark: int) -> str:
    """Give the name of a landmark, as a traveler would say it."""
    return _remembered(seed, landmark).name


def _photograph(landmark: Landmark, rng: np.random.Generator, side: int) -> Image.Image:
    size = _size(rng, side)
    view = _viewpoint(landmark, rng, size)
    camera, weather = look(view, *size), choose_weather(rng)
    image = backdrop(camera, weather, rng, landmark.solids)
    around = _spots(rng, int(rng.integers(0, 7)), (-4, 4), (-5, -landmark.reach - 0.5))
    stand(ImageDraw.Draw(image), camera, around, rng, weather.light, kind="tree")
    image = _build_into(image, camera, weather, landmark)
    _crowd(image, camera, weather, rng, landmark.reach)
    return _develop(image, rng, side)


def _viewpoint(landmark: Landmark, rng: np.random.Generator, size: tuple[int, int]) -> View:
    """Stand mostly before the landmark, mostly on the ground, and mostly get it all in."""
    azimuth = rng.normal(0, 0.6) if rng.random() < 0.9 else rng.uniform(-3, 3)
    elevation = rng.uniform(-0.02, 0.2) if rng.random() < 0.7 else rng.uniform(0.2, 0.65)
    field = rng.uniform(0.32, 0.6)
    longer = max(size)
    high = landmark.height / 2 / tan(_part(field, size[1] / longer))
    wide = landmark.reach / tan(_part(field, size[0] / longer))
    distance = max(max(high, wide) * rng.uniform(0.72, 1.5), landmark.reach + 0.5)
    slack = 0.22 * landmark.height
    target = (
        rng.normal(0, 0.22) * landmark.reach,
        landmark.height * 0.5 + rng.uniform(-slack, slack),
        0.0,
    )
    return View(azimuth, elevation, distance, target, field, rng.normal(0, 0.035))


def _build_into(
    image: Image.Image, camera: Camera, weather: Weather, landmark: Landmark
) -> Image.Image:
    canvas = Canvas(image)
    for solid in landmark.solids:
        paint(solid, landmark.skins[solid.skin], camera, weather.light, canvas)
    return canvas.image()


def _crowd(
    image: Image.Image, camera: Camera, weather: Weather, rng: np.random.Generator, reach: float
) -> None:
    """Put people, trees and lamps before the landmark, and at times something before the lens."""
    draw = ImageDraw.Draw(image)
    ahead = camera.position[[0, 2]] / np.linalg.norm(camera.position[[0, 2]])
    aside = np.array([ahead[1], -ahead[0]])
    far = float(np.linalg.norm(camera.position[[0, 2]]))
    for kind, most, spread in (("person", 12, 0.5), ("lamp", 2, 0.9), ("tree", 3, 1.0)):
        count = int(rng.integers(0, most + 1))
        depth = rng.uniform(min(reach, far * 0.8), far * 0.95, count)
        shift = rng.normal(0, spread * reach, count)
        spots = [
            (float(x), float(z))
            for x, z in depth[:, None] * ahead + (shift * (1.2 - depth / far))[:, None] * aside
        ]
        stand(draw, camera, spots, rng, weather.light, kind=kind)
    if rng.random() < 0.25:
        overlay(draw, image.size, rng)


def _develop(image: Image.Image, rng: np.random.Generator, side: int) -> Image.Image:
    """Scale the drawing to its size, with exposure, tint, contrast, blur and noise."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BILINEAR)
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.1)) * side / 256))
    warm, green = rng.normal(0, 0.05), rng.normal(0, 0.015)
    tint = np.array([1 + warm, 1 + green, 1 - warm])
    contrast, gamma = rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.25)
    curve = (((np.arange(256) / 255) ** gamma - 0.5) * contrast + 0.5) * 255
    table = (curve * tint[:, None]).clip(0, 255).astype(np.uint8)
    grain = rng.standard_normal((image.height, image.width), np.float32)
    grain *= np.float32(rng.uniform(1, 6))
    noise = Image.fromarray((grain + 128).clip(0, 255).astype(np.uint8))
    image = image.point(table.ravel().tolist())
    return ImageChops.add(image, Image.merge("RGB", (noise, noise, noise)), 1, -128)


def _street(rng: np.random.Generator, side: int) -> Image.Image:
    """Look down a street between ordinary houses."""
    palettes = [Palette.of(rng) for _ in range(4)]
    kinds = ("windows", "windows", "glass", "arcade")
    skins = [
        draw_skin(kind, palette, rng, bays=(int(rng.integers(3, 6)), int(rng.integers(3, 7))))
        for kind, palette in zip(kinds, palettes, strict=True)
    ]
    solids = []
    for edge in (-1, 1):
        z = 2.0
        while z > -14:
            length, height = rng.uniform(0.8, 1.8), rng.uniform(0.7, 2.4)
            place = Place(edge * (1.2 + rng.uniform(0, 0.2)), 0, z - length / 2)
            solids.append(block(place, (1.0, height, length), int(rng.integers(4))))
            z -= length + (rng.uniform(0, 0.6) if rng.random() < 0.3 else 0)
    street = Landmark("", tuple(solids), tuple(skins), 2.0, 2.0)
    size, weather = _size(rng, side), choose_weather(rng)
    view = View(rng.normal(0, 0.15), 0.0, 3.0, (0, rng.uniform(0.2, 0.7), 0), 0.6)
    camera = look(view, *size)
    image = backdrop(camera, weather, rng, street.solids)
    image = _build_into(image, camera, weather, street)
    draw = ImageDraw.Draw(image)
    walkers = _spots(rng, int(rng.integers(2, 16)), (-0.6, 0.6), (-5, 2))
    stand(draw, camera, walkers, rng, weather.light, kind="person")
    trees = _spots(rng, int(rng.integers(0, 5)), (-0.7, 0.7), (-5, 1))
    stand(draw, camera, trees, rng, weather.light, kind="tree")
    return _develop(image, rng, side)


def _hills(rng: np.random.Generator, side: int) -> Image.Image:
    """Look over open country."""
    size, weather = _size(rng, side), choose_weather(rng)
    view = View(0, rng.uniform(0, 0.15), 4.0, (0, rng.uniform(0.2, 1.2), 0), 0.5)
    camera = look(view, *size)
    image = backdrop(camera, weather, rng, relief=float(rng.uniform(1, 6)))
    draw = ImageDraw.Draw(image)
    trees = _spots(rng, int(rng.integers(0, 40)), (-5, 5), (-9, 3))
    stand(draw, camera, trees, rng, weather.light, kind="tree")
    walkers = _spots(rng, int(rng.integers(0, 6)), (-1.5, 1.5), (0, 3))
    stand(draw, camera, walkers, rng, weather.light, kind="person")
    return _develop(image, rng, side)


def _room(rng: np.random.Generator, side: int) -> Image.Image:
    """Look into a room with things standing in it."""
    palettes = [Palette.of(rng) for _ in range(3)]
    kinds = rng.choice(["courses", "bands", "steps", "windows", "lattice", "tiles"], 3)
    skins = [draw_skin(str(k), p, rng, bays=(3, 2)) for k, p in zip(kinds, palettes, strict=True)]
    solids = [
        block(Place(0, 0, -2.5), (8, 3, 0.2), 0),
        block(Place(-2.2, 0, 0), (0.2, 3, 8), 1),
        block(Place(2.2, 0, 0), (0.2, 3, 8), 1),
    ]
    for _ in range(rng.integers(3, 9)):
        place = Place(rng.uniform(-1.6, 1.6), 0, rng.uniform(-2, 0.8), rng.uniform(0, 3))
        wide, high, skin = rng.uniform(0.2, 0.9), rng.uniform(0.2, 1.0), int(rng.integers(3))
        if rng.random() < 0.35:
            solids.append(drum(place, (wide, high), skin))
        else:
            solids.append(block(place, (wide, high, rng.uniform(0.2, 0.9)), skin))
    room = Landmark("", tuple(solids), tuple(skins), 2.0, 2.0)
    size, weather = _size(rng, side), choose_weather(rng)
    view = View(rng.normal(0, 0.3), rng.uniform(0.05, 0.4), 3.0, (0, 0.6, 0), 0.55)
    camera = look(view, *size)
    image = backdrop(camera, weather, rng, relief=0)
    return _develop(_build_into(image, camera, weather, room), rng, side)


_SCENES: tuple[Callable[[np.random.Generator, int], Image.Image], ...] = (_street, _hills, _room)


def _spots(
    rng: np.random.Generator, count: int, x: tuple[float, float], z: tuple[float, float]
) -> list[tuple[float, float]]:
    return [(float(rng.uniform(*x)), float(rng.uniform(min(z), max(z)))) for _ in range(count)]


def _size(rng: np.random.Generator, side: int) -> tuple[int, int]:
    """Choose upright, square or across, in the finer pixels that are drawn."""
    aspect = _ASPECTS[rng.integers(len(_ASPECTS))]
    longer = round(side * _FINE)
    if aspect >= 1:
        return longer, round(longer / aspect)
    return round(longer * aspect), longer


def _part(field: float, share: float) -> float:
    """Give the half angle seen along a side that is ``share`` of the longer one."""
    return atan(tan(field) * share)
