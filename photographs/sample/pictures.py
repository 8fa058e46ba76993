"""Take photographs of drawn landmarks, and of places that are none."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from photographs.sample.facades import SCALE, Color, build

Rng = np.random.Generator
Size = tuple[int, int]
Matrix = NDArray[np.float64]
Thing = tuple[Image.Image, Matrix, float]
"""A drawing, RGBA; the matrix from its pixels to space (x right, y up, z near); its depth."""

_UNKNOWN = 1 << 40  # number of the first building that is no landmark
# Zenith, horizon and light of a clear noon, a hazy day, an overcast one, sunset and dusk.
_WEATHERS = (
    ((70, 120, 200), (190, 215, 240), (1.05, 1.03, 0.98)),
    ((110, 150, 200), (225, 225, 220), (1.0, 1.0, 1.0)),
    ((165, 172, 180), (215, 218, 220), (0.85, 0.86, 0.88)),
    ((100, 110, 160), (250, 190, 130), (1.05, 0.87, 0.72)),
    ((60, 65, 120), (220, 150, 160), (0.7, 0.66, 0.8)),
)


def draw_landmark(seed: int, landmark: int, picture: int, side: int = 256) -> Image.Image:
    """Draw one photograph of one landmark, RGB; the same for the same arguments.

    Args:
        seed: Of the whole sample set, not negative.
        landmark: Which landmark, from 0.
        picture: Which photograph of it, from 0.
        side: Length of the longer side in pixels.
    """
    rng, (_, front) = np.random.default_rng((seed, 3, landmark, picture)), build(seed, landmark)
    return photograph([stand(front, np.zeros(2), depth=0.5)], rng, side)


def draw_scene(seed: int, picture: int, side: int = 256) -> Image.Image:
    """Draw one photograph of no landmark: open country, a street, or a building seen only once."""
    rng, count = np.random.default_rng((seed, 4, picture)), (0, 4, 1)[picture % 3]
    fronts = [build(seed, _UNKNOWN + 4 * picture + i)[1] for i in range(count)]
    spread = np.array((2, 1)) * (count > 1)
    return photograph([stand(f, rng.normal(0, spread), depth=0.5) for f in fronts], rng, side)


def photograph(things: list[Thing], rng: Rng, side: int) -> Image.Image:
    """Look at things on the ground, with trees and people added."""
    camera, horizon, size = _look(things, rng, side)
    zenith, haze, light = _WEATHERS[rng.integers(len(_WEATHERS))]
    picture = _backdrop(size, horizon, (zenith, haze), rng)
    things += [_bystander(rng) for _ in range(rng.integers(14 if things else 50))]
    onto_ground = np.eye(4)
    onto_ground[:3, 1] = rng.uniform((-1, 0, -0.8), (1, 0, -0.2))
    for image, frame, _ in things:
        shadow = Image.new("RGBA", image.size)
        shadow.putalpha(image.getchannel("A").point(lambda alpha: alpha * 0.35))
        place(picture, shadow, camera @ onto_ground @ frame)
    for image, frame, depth in sorted(things, key=lambda thing: thing[1][2, 2]):
        dark = ImageEnhance.Brightness(image).enhance(0.55)
        for behind in np.linspace(depth, 0, 8, endpoint=False) if depth else ():
            place(picture, dark, camera @ (frame - np.outer((0, 0, behind, 0), (0, 0, 1))))
        place(picture, image, camera @ frame)
    return _develop(picture, rng, light)


def stand(image: Image.Image, at: Matrix, height: float = 0, depth: float = 0) -> Thing:
    """Put a drawing upright on the ground, at ``(x, z)``."""
    pixel = height / image.height if height else 1 / SCALE
    frame = np.diag((pixel, -pixel, 0, 1))[:, (0, 1, 3)]
    frame[:3, 2] = at[0] - pixel * image.width / 2, pixel * image.height, at[1]
    return image, frame, depth


def _look(things: list[Thing], rng: Rng, side: int) -> tuple[Matrix, int, Size]:
    """Choose the ``(3, 4)`` camera, the horizon and the size of a picture, to see most things."""
    aspect = rng.choice([1, 4 / 3, 3 / 4, 3 / 2, 2 / 3])
    width, height = (round(side * min(1, share)) for share in (aspect, 1 / aspect))
    corners = [frame @ (image.width, 0, 1) for image, frame, _ in things] or [np.array([1.5, 2])]
    reach, high, *_ = np.max(corners, axis=0).tolist()
    focal, eye, turn = rng.uniform((0.9, 0.15, -0.7), (1.5, 1.2, 0.7)) * (side, 1, 1)
    distance = focal * max(2 * reach / width, high / height) * rng.uniform(0.9, 1.7) + 0.5
    horizon = height / 2 + (high * rng.uniform(0.3, 0.65) - eye) * focal / distance
    right, down = np.array([np.cos(turn), 0, -np.sin(turn), 0]), np.array([0, -1, 0, eye])
    ahead = np.array([-np.sin(turn), 0, -np.cos(turn), distance])
    camera = np.array([focal * right + width / 2 * ahead, focal * down + horizon * ahead, ahead])
    return camera, round(horizon), (width, height)


def _backdrop(size: Size, horizon: int, sky: tuple[Color, Color], rng: Rng) -> Image.Image:
    """Draw sky, clouds, hills and ground."""
    image = ImageOps.colorize(Image.linear_gradient("L"), sky[0], sky[1]).resize(size)
    noise = [rng.integers(0, 256, grid, np.uint8) for grid in ((9, 5), (24, 12))]
    clouds, earth = (Image.fromarray(pixels).resize(size) for pixels in noise)
    image.paste((250, 250, 250), mask=clouds.point(lambda thickness: thickness**2 // 350))
    (width, height), draw = size, ImageDraw.Draw(image)
    x = np.linspace(0, width, 40)
    for color in ((140, 160, 175), (100, 125, 110)):
        waves = [np.sin(x / width * rng.uniform(2, 25) + rng.uniform(0, 6)) for _ in range(3)]
        ridge = horizon - height * (0.06 + 0.02 * np.sum(waves, axis=0))
        draw.polygon([(0, 3 * height), *zip(x, ridge, strict=True), (width, 3 * height)], color)
    soil = np.array((110, 145, 80)) + rng.random() * np.array((90, 35, 80))
    dark, light = (tuple((soil * share).astype(int).tolist()) for share in (0.8, 1.1))
    image.paste(ImageOps.colorize(earth, dark, light), (0, horizon))
    return image


def _bystander(rng: Rng) -> Thing:
    """Draw a tree anywhere, or a person before the buildings."""
    image = Image.new("RGBA", (70, 100))
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.7:
        for box in ((28, 55, 42, 105), (23, 20, 47, 68)):
            draw.ellipse(box, tuple(rng.integers(30, 220, 3).tolist()))
        draw.ellipse((28, 0, 42, 20), (200, 160, 130))
        return stand(image, rng.uniform((-1.5, 0.5), (1.5, 3)), 0.22)
    draw.rectangle((32, 50, 38, 100), (90, 65, 45))
    leaves = rng.uniform((50, 95, 50), (110, 140, 60)) * np.linspace(0.6, 1.1, 40)[:, None]
    for color in leaves.astype(int).tolist():
        draw.circle(rng.normal((35, 35), (10, 12)).tolist(), 9, tuple(color))
    return stand(image, rng.uniform((-2.5, -3), (2.5, 2.5)), rng.uniform(0.5, 1.2))


def place(picture: Image.Image, image: Image.Image, onto: Matrix) -> None:
    """Put a drawing into the picture by the ``(3, 3)`` matrix between their homogeneous pixels."""
    width, height = image.size
    x, y, away = onto @ [(0, width, width, 0), (0, 0, height, height), (1, 1, 1, 1)]
    left, top = max(0, int((x / away).min())), max(0, int((y / away).min()))
    right, foot = (x / away).max() + 1, (y / away).max() + 1
    size = int(min(right, picture.width)) - left, int(min(foot, picture.height)) - top
    if away.min() > 0.3 and min(size) > 0:
        back = np.linalg.inv(onto - np.outer((left, top, 0), onto[2]))
        method, numbers = Image.Transform.PERSPECTIVE, (back / back[2, 2]).ravel()[:8].tolist()
        image = image.transform(size, method, numbers, Image.Resampling.BILINEAR)
        picture.paste(image, (left, top), image)


def _develop(image: Image.Image, rng: Rng, light: tuple[float, float, float]) -> Image.Image:
    """Expose a picture, with blur, tint, contrast and noise."""
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.001, 0.004) * image.width))
    pixels = np.asarray(image, np.float32) / 255
    pixels = pixels ** rng.uniform(0.8, 1.25) * rng.normal(light, 0.04) * rng.uniform(0.85, 1.15)
    pixels += rng.normal(0, rng.uniform(0.002, 0.015), (*pixels.shape[:2], 1))
    return Image.fromarray((pixels * 255).clip(0, 255).astype(np.uint8))
