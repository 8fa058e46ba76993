"""Draw the fronts of buildings that do not exist, each from a seed."""

from colorsys import hsv_to_rgb
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

Color = tuple[int, ...]
Outline = list[tuple[float, float]]
SCALE = 80  # pixels of a front per unit of length; a tower is two or three units high

# Parts from the farthest to the nearest: middle, foot, width, height, roof. What is not in the
# middle comes in pairs; the roof "crown" is another one in every landmark.
PLANS: dict[str, list[tuple[float, float, float, float, str]]] = {
    "Cathedral": [(0, 0, 1.1, 1.3, "gable"), (0.7, 0, 0.45, 1.9, "crown")],
    "Great Dome": [(1.2, 0, 0.2, 2, "onion"), (0, 0.8, 1.2, 0.3, "dome"), (0, 0, 2, 0.8, "ledge")],
    "Castle": [(0, 0, 0.7, 1.6, "crown"), (0, 0, 1.8, 0.8, "ledge"), (0.9, 0, 0.5, 1.1, "cone")],
    "Pagoda": [(0, 0.52 * i, 1.4 - 0.25 * i, 0.38, "eaves") for i in range(4)],
    "Palace": [(0, 0, 3, 0.8, "hip"), (1.4, 0, 0.5, 1, "crown"), (0, 0, 0.9, 0.9, "gable")],
    "Temple": [(0, 0.2, 2, 0.9, "gable"), (0, 0, 2.4, 0.2, "ledge")],
    "Tower": [(0, 1.6, 0.6, 0.8, "crown"), (0, 0.8, 0.7, 0.8, "ledge"), (0, 0, 0.9, 0.8, "ledge")],
    "Gate": [(0.7, 0, 0.6, 1.2, "ledge"), (0, 1.7, 0.8, 0.3, "crown"), (0, 1.2, 2, 0.5, "ledge")],
    "Pyramid": [(0, 0.4 * i, 2.7 - 0.6 * i, 0.4, "crown" if i == 3 else "ledge") for i in range(4)],
    "Rotunda": [(0, 0.7, 1.3, 0.4, "dome"), (0, 0, 1.9, 0.7, "ledge"), (0, 0, 0.8, 0.6, "gable")],
    "Lighthouse": [(0, 2, 0.4, 0.3, "dome"), (0, 0, 0.6, 2, "ledge"), (0.8, 0, 0.9, 0.5, "hip")],
    "Town Hall": [(0, 0, 2, 0.9, "hip"), (0, 0, 0.5, 1.9, "crown")],
}
# Right halves of the outlines of roofs, and of windows of height 1; the whole width is about 2.
_ARC = [(np.cos(turn), np.sin(turn)) for turn in np.linspace(0, np.pi / 2, 9)]
ROOFS: dict[str, Outline] = {
    "gable": [(1.1, 0), (0, 0.9)],
    "hip": [(1.08, 0), (0.8, 0.4)],
    "spire": [(1.04, 0), (0, 3)],
    "eaves": [(1.44, -0.06), (0.8, 0.28)],
    "ledge": [(1.04, 0), (1.04, 0.08)],
    "cone": [(1.2, 0), (0, 2.2)],
    "dome": _ARC,
    "onion": [(0.8, 0), (1.12, 0.4), (1.04, 0.9), (0.4, 1.6), (0, 2.4)],
}
_CROWNS = ("hip", "gable", "spire", "cone", "dome", "onion")
_WINDOWS: list[Outline] = [
    [(1, 0), *((x, 0.6 + 0.4 * y) for x, y in _ARC)],
    [(1, 0), (1, 0.55), (0.6, 0.8), (0, 1)],
    [(1, 0), (1, 1)],
    [*((x, 0.5 - 0.5 * y) for x, y in _ARC[::-1]), *((x, 0.5 + 0.5 * y) for x, y in _ARC)],
]
SYLLABLES = (
    ("Vel", "As", "Or", "Mi", "Sol", "Ka", "Tha", "Brin", "Lu", "Né", "Quo", "Zar", "El", "Du"),
    ("mo", "ka", "ri", "ven", "the", "lu", "da", "sha", "ro", "ni", "ba", "pe"),
    ("ra", "dor", "lin", "mar", "sk", "ven", "tz", "ña", "polis", "gard", "wé", "nor"),
)


class _Style:
    """Colors, windows and proportions of one landmark."""

    def __init__(self, rng: np.random.Generator) -> None:
        hue = rng.choice([0.02, 0.06, 0.1, 0.13, 0.35, 0.55, 0.95])
        self.wall = _color(hue, rng.uniform(0.05, 0.6), rng.uniform(0.65, 0.98))
        self.trim = _color(hue, 0.2, rng.choice([0.4, 0.98]))
        self.glass = _color(rng.uniform(0.5, 0.7), 0.4, rng.uniform(0.15, 0.35))
        self.roof = _color(rng.choice([0.01, 0.05, 0.12, 0.42, 0.6]), rng.uniform(0.3, 0.7), 0.65)
        self.crown, self.window = rng.choice(_CROWNS), _WINDOWS[rng.integers(len(_WINDOWS))]
        self.bay, self.stripe = rng.uniform(14, 26), rng.choice([1, 1, 2])
        self.stretch, self.pitch = rng.uniform(0.85, 1.25, 2), rng.uniform(0.8, 1.3)
        self.opening = rng.uniform((0.2, 0.6), (0.34, 0.85))

    def draw_wall(self, width: int, height: int) -> Image.Image:
        """Draw a wall with windows."""
        wall = textured([(1, 0), (1, 1)], (width / 2, height), self.wall, self.stripe)
        grid = np.maximum(np.round(np.divide(wall.size, self.bay) / (1, 1.3)), 1).astype(int)
        bay = wall.size / grid
        for frame, color in ((2, self.trim), (0, self.glass)):
            pane = textured(self.window, bay * self.opening + (frame, 2 * frame), color)
            for place in np.ndindex(*grid):
                left, top = bay * np.add(place, 0.5) - np.divide(pane.size, 2)
                wall.paste(pane, (int(left), int(top)), pane)
        return wall


@lru_cache(maxsize=64)
def build(seed: int, number: int) -> tuple[str, Image.Image]:
    """Return a landmark's name and front, RGBA; every plan comes once before one comes again."""
    order = np.random.default_rng((seed, 1)).permutation(len(PLANS))
    kind = list(PLANS)[order[number % len(PLANS)]]
    rng = np.random.default_rng((seed, 2, number))
    style, front = _Style(rng), Image.new("RGBA", (5 * SCALE, 5 * SCALE))
    for *measures, roof in PLANS[kind]:
        shape = style.crown if roof == "crown" else roof
        pixels = np.round(np.array(measures) * np.tile(style.stretch, 2) * SCALE)
        aside, foot, width, height = pixels.astype(int).tolist()
        wall, steep = style.draw_wall(width, height), (width / 2, width / 2 * style.pitch)
        top = textured(ROOFS[shape], steep, style.roof, 1)
        upper = front.height - foot - wall.height
        for image, y in ((wall, upper), (top, upper - top.height + 1)):
            for middle in {front.width // 2 + aside, front.width // 2 - aside}:
                front.alpha_composite(image, (middle - image.width // 2, y))
    place = "".join(rng.choice(syllables) for syllables in SYLLABLES)
    return f"{kind} of {place}", front.crop(front.getbbox())


def textured(half: Outline, scale: ArrayLike, color: Color, thickness: int = 0) -> Image.Image:
    """Draw courses of stones or tiles within an outline, of which ``half`` is the right half."""
    outline = np.array([*half, *((-x, y) for x, y in reversed(half))]) * scale * (1, -1)
    outline -= outline.min(axis=0)
    width, height = np.ceil(outline.max(axis=0) + 0.5).astype(int).tolist()
    image, mask = Image.new("RGBA", (width, height), color), Image.new("L", (width, height))
    for y in range(0, height, 6):
        image.paste(tuple(round(0.82 * part) for part in color), (0, y, width, y + thickness))
    shade = Image.linear_gradient("L").rotate(90).resize(image.size)
    image.paste((0, 0, 0), mask=shade.point(lambda depth: depth * 0.25))
    ImageDraw.Draw(mask).polygon([*map(tuple, outline)], 255)
    image.putalpha(mask)
    return image


def _color(hue: float, saturation: float, value: float) -> Color:
    return tuple(round(255 * part) for part in hsv_to_rgb(hue, saturation, value))
