"""The surfaces of drawn landmarks: masonry, windows, arcades, domes' ribs, weathered.

A skin is a small picture laid around a solid's walls. All randomness comes from the generator
that is passed in, so a skin belongs to its landmark.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Color = tuple[int, int, int]

SIDE = 128
_WALLS: tuple[Color, ...] = (
    (214, 188, 146),
    (203, 164, 118),
    (186, 112, 84),
    (168, 88, 70),
    (226, 222, 212),
    (208, 204, 196),
    (150, 146, 140),
    (122, 118, 116),
    (196, 150, 128),
    (224, 196, 168),
    (232, 206, 128),
    (150, 160, 132),
    (132, 150, 168),
    (216, 170, 160),
)
_ROOFS: tuple[Color, ...] = (
    (158, 78, 58),
    (112, 66, 54),
    (92, 96, 104),
    (118, 156, 138),
    (64, 96, 118),
    (196, 158, 70),
    (236, 232, 224),
    (84, 110, 84),
    (60, 62, 70),
    (172, 104, 60),
)


@dataclass(frozen=True, slots=True)
class Skin:
    """A surface.

    Attributes:
        planes: ``(3, side * side)`` red, green and blue of the wall seen from outside, its top
            row first.
        repeats: How often it is laid around a wall.
        top: Color of what can be seen from above.
    """

    planes: NDArray[np.float32]
    repeats: int
    top: Color

    def colors(self, across: NDArray[np.float32], up: NDArray[np.float32]) -> NDArray[np.float32]:
        """Look up the ``(3, n)`` colors at places across and up a wall, 0–1."""
        column = (across * np.float32(SIDE * self.repeats)).astype(np.intp) & (SIDE - 1)
        row = ((1 - up) * np.float32(SIDE)).astype(np.intp).clip(0, SIDE - 1)
        found: NDArray[np.float32] = self.planes.take(row * SIDE + column, axis=1)
        return found


@dataclass(frozen=True, slots=True)
class Palette:
    """The materials of one landmark."""

    wall: Color
    trim: Color
    roof: Color
    dark: Color

    @classmethod
    def of(cls, rng: np.random.Generator) -> "Palette":
        """Choose materials that may stand beside each other."""
        wall = _varied(_WALLS[rng.integers(len(_WALLS))], rng, 14)
        roof = _varied(_ROOFS[rng.integers(len(_ROOFS))], rng, 14)
        trim = shade(wall, 1.22) if rng.random() < 0.6 else shade(wall, 0.68)
        dark = _varied((52, 48, 50), rng, 14)
        return cls(wall, trim, roof, dark)


def draw_skin(
    kind: str,
    palette: Palette,
    rng: np.random.Generator,
    *,
    bays: tuple[int, int] = (4, 3),
    repeats: int = 1,
) -> Skin:
    """Draw a surface.

    Args:
        kind: A key of ``KINDS``.
        palette: The landmark's materials.
        rng: Of the landmark.
        bays: Windows, columns or ribs across, and how many rows of them up.
        repeats: How often it is laid around a wall; about four for round ones.
    """
    image = Image.new("RGB", (SIDE, SIDE), palette.wall)
    KINDS[kind](ImageDraw.Draw(image), palette, bays)
    worn = (np.asarray(image, np.float32) * _weather(rng)[:, :, None]).clip(0, 255)
    top = palette.roof if kind in {"tiles", "ribs"} else shade(palette.wall, 0.92)
    planes = np.ascontiguousarray(worn.reshape(-1, 3).T, np.float32)
    return Skin(planes, repeats, top)


def noise(rng: np.random.Generator, cells: int, side: int) -> NDArray[np.float32]:
    """Make ``(side, side)`` of soft noise from -1 to 1 with ``cells`` blots across."""
    coarse = rng.random((cells + 1, cells + 1), np.float32) * 255
    image = Image.fromarray(coarse.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32) / 127.5 - 1


def shade(color: tuple[float, ...], factor: float) -> Color:
    """Darken or lighten a color."""
    red, green, blue = (min(255, max(0, round(part * factor))) for part in color)
    return red, green, blue


def _varied(color: Color, rng: np.random.Generator, spread: int) -> Color:
    red, green, blue = (np.array(color) + rng.integers(-spread, spread + 1, 3)).clip(20, 250)
    return int(red), int(green), int(blue)


def _weather(rng: np.random.Generator) -> NDArray[np.float32]:
    """Stain a wall: blots, streaks down from the top, fine grain; 1 on average."""
    blots = noise(rng, 5, SIDE) * 0.07
    streaks = np.repeat(noise(rng, 24, SIDE)[:1] * 0.05, SIDE, 0)
    grain = rng.random((SIDE, SIDE), np.float32) * 0.1 - 0.05
    return (
        1 + blots + streaks * np.linspace(1, 0.2, SIDE, dtype=np.float32)[:, None] + grain
    ).astype(np.float32)


Bays = tuple[int, int]


def _courses(draw: ImageDraw.ImageDraw, palette: Palette, bays: Bays) -> None:
    """Lay visible stones, ``bays`` of them across and twice as many rows as asked."""
    columns, rows = max(4, bays[0]), max(6, bays[1] * 3)
    line = shade(palette.wall, 0.82)
    for row in range(rows):
        y = row * SIDE / rows
        draw.line([(0, y), (SIDE, y)], line)
        for column in range(columns):
            x = (column + row % 2 / 2) * SIDE / columns
            draw.line([(x, y), (x, y + SIDE / rows)], line)


def _windows(draw: ImageDraw.ImageDraw, palette: Palette, bays: Bays) -> None:
    _frame(draw, palette)
    for left, top, width, height in _cells(bays):
        draw.rectangle(_box(left, top, width, height, 0.24, 0.2), palette.trim)
        draw.rectangle(_box(left, top, width, height, 0.3, 0.26), palette.dark)


def _arcade(draw: ImageDraw.ImageDraw, palette: Palette, bays: Bays) -> None:
    _frame(draw, palette)
    for left, top, width, height in _cells(bays):
        for margin, color in ((0.16, palette.trim), (0.24, palette.dark)):
            x0, y0, x1, y1 = _box(left, top, width, height, margin, margin * 0.8)
            arch = min((x1 - x0) / 2, (y1 - y0) / 2)
            draw.ellipse([x0, y0, x1, y0 + 2 * arch], color)
            draw.rectangle([x0, y0 + arch, x1, y1 + height * 0.1], color)


def _gothic(draw: ImageDraw.ImageDraw, palette: Palette, bays: Bays) -> None:
    _courses(draw, palette, bays)
    for left, top, width, height in _cells(bays):
        for margin, color in ((0.26, palette.trim), (0.34, palette.dark)):
            x0, y0, x1, y1 = _box(left, top, width, height, margin, margin * 0.5)
            knee = y0 + (y1 - y0) * 0.3
            draw.polygon([(x0, y1), (x0, knee), ((x0 + x1) / 2, y0), (x1, knee), (x1, y1)], color)


def _columns(draw: ImageDraw.ImageDraw, palette: Palette, bays: Bays) -> None:
    draw.rectangle([0, 0, SIDE, SIDE], shade(palette.wall, 0.45))
    count = bays[0] + 2
    for column in range(count):
        center = (column + 0.5) * SIDE / count
        half = SIDE / count * 0.28
        draw.rectangle([center - half, 14, center + half, SIDE - 8], shade(palette.wall, 0.86))
        draw.rectangle([center - half * 0.5, 14, center + half * 0.2, SIDE - 8], palette.wall)
        draw.rectangle([center - half * 1.5, 10, center + half * 1.5, 17], palette.trim)
    draw.rectangle([0, 0, SIDE, 10], palette.wall)
    draw.rectangle([0, 4, SIDE, 6], palette.trim)
    draw.rectangle([0, SIDE - 8, SIDE, SIDE], palette.wall)


def _bands(draw: ImageDraw.ImageDraw, palette: Palette, bays: Bays) -> None:
    rows = bays[1] * 2 + 3
    for row in range(0, rows, 2):
        draw.rectangle([0, row * SIDE / rows, SIDE, (row + 1) * SIDE / rows - 1], palette.roof)
    for left, top, width, height in _cells((bays[0], max(1, bays[1] - 1))):
        draw.rectangle(_box(left, top, width, height, 0.38, 0.3), palette.dark)


def _lattice(draw: ImageDraw.ImageDraw, palette: Palette, bays: Bays) -> None:
    step = SIDE / (bays[0] + 1)
    for turn in np.arange(-SIDE, 2 * SIDE, step):
        draw.line([(turn, 0), (turn + SIDE, SIDE)], palette.dark, 3)
        draw.line([(turn + SIDE, 0), (turn, SIDE)], palette.trim, 3)
    _frame(draw, palette)


def _glass(draw: ImageDraw.ImageDraw, palette: Palette, bays: Bays) -> None:
    draw.rectangle([0, 0, SIDE, SIDE], shade(palette.roof, 1.1))
    columns, rows = bays[0] * 2 + 2, bays[1] * 3 + 3
    for row in range(rows):
        for column in range(columns):
            tone = 0.7 + 0.5 * ((row * 7 + column * 13) % 5) / 5
            x, y = column * SIDE / columns, row * SIDE / rows
            box = [x + 1, y + 1, x + SIDE / columns - 1, y + SIDE / rows - 1]
            draw.rectangle(box, shade(palette.roof, tone))


def _tiles(draw: ImageDraw.ImageDraw, palette: Palette, bays: Bays) -> None:
    draw.rectangle([0, 0, SIDE, SIDE], palette.roof)
    rows = 6 + bays[1] * 2
    for row in range(rows):
        y = row * SIDE / rows
        draw.line([(0, y), (SIDE, y)], shade(palette.roof, 0.7), 2)
        for column in range(10):
            x = (column + row % 2 / 2) * SIDE / 10
            draw.line([(x, y), (x, y + SIDE / rows)], shade(palette.roof, 0.84))


def _ribs(draw: ImageDraw.ImageDraw, palette: Palette, bays: Bays) -> None:
    draw.rectangle([0, 0, SIDE, SIDE], palette.roof)
    count = bays[0] + 1
    for rib in range(count):
        x = rib * SIDE / count
        draw.rectangle([x, 0, x + SIDE / count * 0.22, SIDE], shade(palette.roof, 1.2))
        draw.rectangle(
            [x + SIDE / count * 0.22, 0, x + SIDE / count * 0.4, SIDE], shade(palette.roof, 0.75)
        )
    draw.rectangle([0, SIDE - 12, SIDE, SIDE], palette.trim)


def _steps(draw: ImageDraw.ImageDraw, palette: Palette, bays: Bays) -> None:
    rows = bays[1] * 4 + 4
    for row in range(rows):
        y = row * SIDE / rows
        draw.rectangle([0, y, SIDE, y + SIDE / rows * 0.4], shade(palette.wall, 0.72))


def _portal(draw: ImageDraw.ImageDraw, palette: Palette, bays: Bays) -> None:
    """Draw one great door between rows of windows."""
    _windows(draw, palette, bays)
    for margin, color in ((0, palette.trim), (6, shade(palette.wall, 0.8)), (11, palette.dark)):
        x0, x1, y0 = 34 + margin, 94 - margin, 30 + margin
        draw.rectangle([x0, y0 + 20, x1, SIDE], color)
        draw.pieslice([x0, y0, x1, y0 + 2 * (30 - margin) + 10], 180, 360, color)


def _frame(draw: ImageDraw.ImageDraw, palette: Palette) -> None:
    for y in (0, SIDE // 2, SIDE - 5):
        draw.rectangle([0, y, SIDE, y + 4], palette.trim)


def _cells(bays: Bays) -> list[tuple[float, float, float, float]]:
    """Give left, top, width and height of a wall's bays."""
    width, height = SIDE / bays[0], SIDE / bays[1]
    return [(x * width, y * height, width, height) for y in range(bays[1]) for x in range(bays[0])]


def _box(
    left: float, top: float, width: float, height: float, side: float, end: float
) -> tuple[float, float, float, float]:
    """Shrink a bay by parts of its width and its height."""
    return (
        left + side * width,
        top + end * height,
        left + (1 - side) * width,
        top + (1 - end) * height,
    )


KINDS: dict[str, Callable[[ImageDraw.ImageDraw, Palette, Bays], None]] = {
    "arcade": _arcade,
    "bands": _bands,
    "columns": _columns,
    "courses": _courses,
    "glass": _glass,
    "gothic": _gothic,
    "lattice": _lattice,
    "portal": _portal,
    "ribs": _ribs,
    "steps": _steps,
    "tiles": _tiles,
    "windows": _windows,
}
