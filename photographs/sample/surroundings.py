"""All that is around a landmark: weather, sky, ground, hills, trees, passers-by.

Nothing of it belongs to a landmark: it is drawn anew for every picture, so that a network that
remembers the lawn learns nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from photographs.sample.camera import Camera, Light, shadows
from photographs.sample.skins import Color, noise, shade
from photographs.sample.solids import Solid

_STEP = 3
_SHADOW_STEP = 2


@dataclass(frozen=True, slots=True)
class Weather:
    """The sky of one picture and the light that comes from it.

    Attributes:
        zenith: Color of the sky above.
        horizon: Color of the sky far away.
        clouds: How much of the sky they cover, 0–1.
        shadow: How dark shadows on the ground are, 0–1.
        light: What falls on the solids.
    """

    zenith: Color
    horizon: Color
    clouds: float
    shadow: float
    light: Light


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of weather: colors of the sky, of sun and sky light, cover, shadow, sun's height."""

    zenith: Color
    horizon: Color
    sun: tuple[float, float, float]
    sky: tuple[float, float, float]
    clouds: tuple[float, float]
    shadow: float
    height: tuple[float, float]


_KINDS = (
    _Kind(
        (62, 118, 200),
        (186, 214, 240),
        (0.72, 0.7, 0.64),
        (0.44, 0.46, 0.5),
        (0, 0.35),
        0.5,
        (0.5, 1.2),
    ),
    _Kind(
        (96, 140, 196),
        (214, 222, 230),
        (0.56, 0.55, 0.52),
        (0.52, 0.54, 0.57),
        (0.4, 0.8),
        0.35,
        (0.5, 1.2),
    ),
    _Kind(
        (168, 176, 184),
        (222, 224, 224),
        (0.18, 0.18, 0.18),
        (0.76, 0.77, 0.79),
        (0.7, 1.0),
        0.12,
        (0.7, 1.3),
    ),
    _Kind(
        (84, 96, 160),
        (248, 186, 124),
        (0.82, 0.56, 0.36),
        (0.4, 0.38, 0.44),
        (0.1, 0.6),
        0.42,
        (0.12, 0.35),
    ),
    _Kind(
        (16, 22, 48), (66, 62, 84), (0.72, 0.58, 0.38), (0.3, 0.29, 0.34), (0, 0.5), 0.2, (0.3, 0.9)
    ),
)
_ODDS = (0.4, 0.25, 0.17, 0.12, 0.06)
_GROUNDS: tuple[Color, ...] = (
    (104, 132, 70),
    (128, 140, 84),
    (186, 174, 150),
    (160, 156, 150),
    (206, 186, 146),
    (112, 110, 112),
    (146, 120, 92),
)
_CLOTHES: tuple[Color, ...] = (
    (40, 44, 60),
    (190, 60, 54),
    (226, 222, 214),
    (60, 92, 150),
    (210, 170, 60),
    (70, 110, 80),
    (120, 70, 110),
)


def choose_weather(rng: np.random.Generator) -> Weather:
    """Choose the weather, the time of day and where the sun stands."""
    kind = _KINDS[rng.choice(len(_KINDS), p=_ODDS)]
    height, turn = rng.uniform(*kind.height), rng.uniform(-1.5, 1.5)
    direction = np.array([sin(turn) * cos(height), sin(height), cos(turn) * cos(height)])
    warm = rng.normal(0, 0.05)
    tone = np.array([1 + warm, 1.0, 1 - warm]) * rng.normal(1, 0.05)
    horizon = shade(kind.horizon, float(rng.uniform(0.92, 1.06)))
    light = Light(
        direction=direction,
        sun=np.array(kind.sun) * tone,
        sky=np.array(kind.sky) * tone,
        haze=np.array(horizon, float),
        fade=float(rng.beta(1, 8)),
    )
    zenith = shade(kind.zenith, float(rng.uniform(0.85, 1.15)))
    return Weather(zenith, horizon, float(rng.uniform(*kind.clouds)), kind.shadow, light)


def backdrop(
    camera: Camera,
    weather: Weather,
    rng: np.random.Generator,
    solids: tuple[Solid, ...] = (),
    *,
    relief: float = 1.0,
) -> Image.Image:
    """Draw sky, far hills and houses, and the ground with the shadows that solids cast on it.

    Args:
        camera: Gives the size of the picture.
        weather: Of the picture.
        rng: Of the picture.
        solids: What casts shadows.
        relief: How high the hills are; 0 leaves them and the houses out.
    """
    coarse = camera.coarse(_STEP)
    across, along = coarse.linear(np.array([[0.0, 1.0, 0.0]]))
    rise = across + along.T
    pixels = _sky(rise, weather, rng)
    pixels = _far(pixels, coarse, weather, rng, relief) if relief else pixels
    below = rise < -1e-3
    if below.any():
        pixels[below] = _ground(coarse, rise, below, weather, rng, solids)
    image = Image.fromarray(pixels)
    return image.resize((len(camera.u), len(camera.v)), Image.Resampling.BILINEAR)


def stand(
    draw: ImageDraw.ImageDraw,
    camera: Camera,
    spots: Sequence[tuple[float, float]],
    rng: np.random.Generator,
    light: Light,
    *,
    kind: str,
) -> None:
    """Draw trees, lamps or people standing on the ground.

    Args:
        draw: Onto which picture.
        camera: From where.
        spots: ``x`` and ``z`` of each, in the landmark's unit; the farthest are drawn first.
        rng: Of the picture.
        light: Colors them.
        kind: ``tree``, ``lamp`` or ``person``.
    """
    if not spots:
        return
    feet = np.array([(x, 0.0, z) for x, z in spots])
    size = {"tree": (0.5, 1.3), "lamp": (0.4, 0.6), "person": (0.15, 0.19)}[kind]
    tall = rng.uniform(*size, len(feet))
    u, v, depth = camera.project(feet)
    scale = 1 / (camera.u[1] - camera.u[0])
    for i in np.argsort(-depth):
        if depth[i] < 0.15:
            continue
        x, y = (u[i] - camera.u[0]) * scale, (camera.v[0] - v[i]) * scale
        high = tall[i] / depth[i] * scale
        glow = light.sun * 0.5 + light.sky
        _FIGURES[kind](draw, (float(x), float(y), float(high)), glow, rng)


def overlay(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    """Draw something close to the camera that hides a part: a branch, a railing or a post."""
    width, height = size
    kind = rng.integers(3)
    if kind == 0:
        corner = np.array([width * rng.integers(2), 0.0])
        leaf = np.array([44, 62, 34]) + rng.integers(-16, 17, 3)
        for _ in range(60):
            x, y = (corner + rng.normal(0, 0.16, 2) * width).tolist()
            r = width * rng.uniform(0.01, 0.035)
            draw.ellipse([x - r, y - r, x + r, y + r], _tone(leaf, rng.uniform(0.7, 1.3)))
    elif kind == 1:
        y, gap = height * rng.uniform(0.84, 0.96), width * rng.uniform(0.04, 0.09)
        iron = _tone(np.array([40, 42, 46]), rng.uniform(0.6, 1.6))
        draw.rectangle([0, y, width, y + height * 0.018], iron)
        for x in np.arange(0, width, gap):
            draw.rectangle([x, y, x + gap * 0.22, height], iron)
    else:
        x, wide = width * rng.uniform(0, 1), width * rng.uniform(0.02, 0.06)
        post = _tone(np.array([90, 84, 80]), rng.uniform(0.4, 1.4))
        draw.rectangle([x, height * rng.uniform(0, 0.5), x + wide, height], post)


def _sky(
    rise: NDArray[np.float32], weather: Weather, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Color the sky by its height above the horizon and lay clouds on it."""
    steps = np.linspace(0, 1, 256, dtype=np.float32)[:, None] ** 0.7
    ramp = (1 - steps) * np.array(weather.horizon) + steps * np.array(weather.zenith)
    level = (rise * 300).clip(0, 255).astype(np.uint8)
    sky = ramp.astype(np.float32)[level]
    if weather.clouds > 0.05:
        height, width = rise.shape
        side = max(height, width)
        blots = noise(rng, 4, side) + 0.5 * noise(rng, 9, side) + 0.3 * noise(rng, 21, side)
        cover = ((blots[:height, :width] + weather.clouds * 1.6 - 0.9) * 1.4).clip(0, 0.9)
        white = np.array(weather.horizon, np.float32) * 0.55 + 255 * 0.4 * weather.light.sky.max()
        sky += cover[:, :, None] * (white.clip(0, 255).astype(np.float32) - sky)
    return np.asarray(sky.clip(0, 255), np.uint8)


def _far(
    pixels: NDArray[np.uint8],
    camera: Camera,
    weather: Weather,
    rng: np.random.Generator,
    relief: float,
) -> NDArray[np.uint8]:
    """Draw two ranges of hills or a row of houses on the horizon."""
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    scale = 1 / (camera.u[1] - camera.u[0])
    forward, right, up = camera.frame[:, 1]
    level = -(forward + camera.u * right) / up
    y = (camera.v[0] - level) * scale
    xs = np.arange(len(camera.u))
    far = np.array(weather.horizon, float)
    glow = weather.light.sky + weather.light.sun * 0.5
    for layer in range(rng.integers(0, 3)):
        tone = np.array([70, 96, 74]) + rng.integers(-20, 21, 3)
        color = far * (0.6 - 0.25 * layer) + tone * glow * (0.4 + 0.25 * layer)
        ridge = _ridge(rng, int(rng.integers(3, 9)), len(xs)) + 0.3 * _ridge(rng, 24, len(xs))
        tall = (ridge + 1.1).clip(0.05, 3) * len(xs) * rng.uniform(0.01, 0.05) * relief
        outline = list(zip(xs.tolist(), (y - tall).tolist(), strict=True))
        draw.polygon([*outline, (len(xs), y[-1] + 2), (0, y[0] + 2)], _tone(color))
    for _ in range(rng.integers(0, 14)):
        at = int(rng.integers(len(xs)))
        wide, high = rng.uniform(0.02, 0.1) * len(xs), rng.uniform(0.01, 0.09) * len(xs) * relief
        color = far * 0.5 + (rng.uniform(60, 190) + rng.normal(0, 9, 3)) * glow * 0.45
        draw.rectangle([at - wide / 2, y[at] - high, at + wide / 2, y[at] + 2], _tone(color))
    return np.array(image)


def _ridge(rng: np.random.Generator, peaks: int, count: int) -> NDArray[np.float64]:
    """Make ``(count,)`` of a line between -1 and 1 with some peaks."""
    heights = rng.uniform(-1, 1, peaks + 1)
    return np.interp(np.linspace(0, peaks, count), np.arange(peaks + 1), heights)


def _ground(
    camera: Camera,
    rise: NDArray[np.float32],
    below: NDArray[np.bool_],
    weather: Weather,
    rng: np.random.Generator,
    solids: tuple[Solid, ...],
) -> NDArray[np.uint8]:
    """Color the pixels below the horizon: one or two kinds of ground, shadows, and distance."""
    rows, columns = np.nonzero(below)
    nearness = rise[rows, columns] / np.float32(-camera.position[1])
    x, z = _on_ground(camera, rows, columns, nearness)
    base, other = (
        np.array(_GROUNDS[i], np.float32) * np.float32(rng.uniform(0.8, 1.1))
        for i in rng.integers(len(_GROUNDS), size=2)
    )
    pattern = noise(rng, 16, 64) * 0.1 + noise(rng, 40, 64) * 0.08
    tile = pattern[(x * 12).astype(np.int32) & 63, (z * 12).astype(np.int32) & 63]
    tile *= (nearness * 5).clip(0, 1)
    path = np.abs(x + z * rng.normal(0, 0.3) - rng.normal(0, 0.6)) < rng.uniform(0, 0.7)
    paving = (x * 3).astype(np.int32) + (z * 3).astype(np.int32) & 1 if rng.random() < 0.4 else 0
    color = np.where(path[:, None], other, base) * (1 + tile - 0.08 * paving)[:, None]
    lit = weather.light.sky + weather.light.sun * max(0.0, weather.light.direction[1])
    color *= lit.astype(np.float32)
    if solids and weather.shadow > 0.15:
        shade_map = _shade_map(camera, rise, weather, solids)
        color *= (1 - weather.shadow * shade_map[rows, columns])[:, None]
    away = np.exp(-nearness[:, None] * 30)
    color += away * (np.array(weather.horizon, np.float32) * 0.85 - color)
    return np.asarray(color.clip(0, 255), np.uint8)


def _shade_map(
    camera: Camera, rise: NDArray[np.float32], weather: Weather, solids: tuple[Solid, ...]
) -> NDArray[np.float32]:
    """Give the shadow at every pixel, softened by computing fewer."""
    small = camera.coarse(_SHADOW_STEP)
    part = rise[_SHADOW_STEP // 2 :: _SHADOW_STEP, _SHADOW_STEP // 2 :: _SHADOW_STEP]
    rows, columns = np.nonzero(part < -1e-3)
    nearness = part[rows, columns] / np.float32(-camera.position[1])
    x, z = _on_ground(small, rows, columns, nearness)
    points = np.stack([x, np.full_like(x, 1e-3), z], 1)
    dark = np.zeros(part.shape, np.float32)
    dark[rows, columns] = shadows(solids, points, weather.light.direction)
    image = Image.fromarray((dark * 255).astype(np.uint8))
    image = image.resize((rise.shape[1], rise.shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32) / np.float32(255)


def _on_ground(
    camera: Camera,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    nearness: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give ``x`` and ``z`` where lines of sight meet the ground."""
    across, along = camera.linear(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    x = np.float32(camera.position[0]) + (across[0][columns] + along[0][rows]) / nearness
    z = np.float32(camera.position[2]) + (across[1][columns] + along[1][rows]) / nearness
    return np.asarray(x.clip(-1e4, 1e4), np.float32), np.asarray(z.clip(-1e4, 1e4), np.float32)


_Spot = tuple[float, float, float]


def _tree(
    draw: ImageDraw.ImageDraw, spot: _Spot, glow: NDArray[np.float64], rng: np.random.Generator
) -> None:
    x, y, high = spot
    bark = _tone(np.array([86, 66, 50]) * glow)
    draw.rectangle([x - high * 0.03, y - high * 0.5, x + high * 0.03, y], bark)
    leaf = (np.array([72, 112, 56]) + rng.integers(-26, 27, 3)) * glow
    slim = rng.uniform(0.1, 0.2)
    for lift in np.sort(rng.uniform(0.36, 0.94, 16)):
        taper = 1 - ((lift - 0.6) / 0.45) ** 2
        at, up = x + rng.normal(0, slim * taper) * high, y - lift * high
        r = high * rng.uniform(0.04, 0.1)
        tone = 0.62 + 0.6 * lift + rng.uniform(-0.14, 0.14)
        draw.ellipse([at - r, up - r * 0.8, at + r, up + r * 0.8], _tone(leaf, tone))


def _lamp(
    draw: ImageDraw.ImageDraw, spot: _Spot, glow: NDArray[np.float64], rng: np.random.Generator
) -> None:
    x, y, high = spot
    wide = max(1.0, high * 0.025)
    draw.rectangle([x - wide, y - high, x + wide, y], _tone(np.array([50, 52, 56]) * glow))
    bulb = _tone(np.array([236, 228, 200]), rng.uniform(0.6, 1.05))
    draw.ellipse([x - wide * 3, y - high * 1.08, x + wide * 3, y - high * 0.98], bulb)


def _person(
    draw: ImageDraw.ImageDraw, spot: _Spot, glow: NDArray[np.float64], rng: np.random.Generator
) -> None:
    x, y, high = spot
    coat = np.array(_CLOTHES[rng.integers(len(_CLOTHES))]) * glow
    legs = np.array(_CLOTHES[rng.integers(len(_CLOTHES))]) * glow * 0.6
    skin = np.array([214, 170, 140]) * rng.uniform(0.45, 1.05) * glow
    stride = high * rng.uniform(0.02, 0.08)
    for side in (-1, 1):
        hip, foot = x + side * high * 0.03, x + side * stride
        draw.line([(hip, y - high * 0.48), (foot, y)], _tone(legs), max(1, int(high * 0.08)))
    draw.ellipse([x - high * 0.12, y - high * 0.86, x + high * 0.12, y - high * 0.4], _tone(coat))
    draw.ellipse([x - high * 0.07, y - high, x + high * 0.07, y - high * 0.84], _tone(skin))


_FIGURES = {"tree": _tree, "lamp": _lamp, "person": _person}


def _tone(color: NDArray[np.float64] | NDArray[np.int64], factor: float = 1.0) -> Color:
    return shade(tuple(color.tolist()), factor)
