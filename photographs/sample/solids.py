"""The solid shapes that drawn landmarks are built of.

Every solid is convex: the points inside a few planes and, for domes, inside an ellipsoid too. A
line of sight enters and leaves such a solid once, which makes drawing it a handful of additions
a pixel (:mod:`.camera`). Lengths are in the landmark's own unit, roughly ten meters; y points up
and the ground is ``y = 0``. Shapes only: what they look like is :mod:`.skins`.
"""

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

ROUND = 12
Vectors = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a solid stands.

    Attributes:
        x: To the right of the landmark's middle, seen from its front.
        y: Height of its base above the ground.
        z: Towards the front.
        yaw: Turn about its own vertical axis, in radians.
    """

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    yaw: float = 0.0


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """The points with ``sum(weights * (point - center) ** 2) <= 1``."""

    center: Vectors
    weights: Vectors


@dataclass(frozen=True, slots=True)
class Passage:
    """A way through a block from front to back: upright walls under a half-round vault.

    Attributes:
        half_width: Also the radius of the vault.
        spring: Height above the block's base at which the vault begins.
    """

    half_width: float
    spring: float


@dataclass(frozen=True, slots=True)
class Solid:
    """A convex shape with what is needed to draw it.

    Attributes:
        planes: ``(p, 4)`` rows ``(normal, offset)``; inside is ``normal @ point <= offset``.
        place: The middle of its base.
        size: Width, height and depth of the box around it, before its turn.
        skin: Number of its surface among the landmark's skins.
        top: Width and depth of its upper end as parts of those of its base.
        sides: Of a drum or a dome, whose walls are one band around it; 0 for a block.
        ellipsoid: Cuts it further, where given.
        passage: A way through it, where given.
    """

    planes: Vectors
    place: Place
    size: tuple[float, float, float]
    skin: int
    top: tuple[float, float] = (1.0, 1.0)
    sides: int = 0
    ellipsoid: Ellipsoid | None = None
    passage: Passage | None = None

    @property
    def base(self) -> Vectors:
        """The middle of its base, ``(3,)``."""
        return np.array([self.place.x, self.place.y, self.place.z])

    @property
    def axes(self) -> Vectors:
        """The directions of its width, height and depth, as the rows of a ``(3, 3)`` turn."""
        turn, slope = cos(self.place.yaw), sin(self.place.yaw)
        return np.array([(turn, 0, -slope), (0, 1, 0), (slope, 0, turn)])

    def corners(self) -> Vectors:
        """Give the ``(8, 3)`` corners of the box around it."""
        width, height, depth = self.size
        return (_SIGNS * (width / 2, height, depth / 2)) @ self.axes + self.base


def block(
    place: Place,
    size: tuple[float, float, float],
    skin: int,
    *,
    top: tuple[float, float] = (1.0, 1.0),
    passage: Passage | None = None,
) -> Solid:
    """Make a box, or what becomes of one when its top is smaller: pyramid, gable, ramp.

    Args:
        place: The middle of its base, and its turn.
        size: Width, height, depth.
        skin: Number of its surface.
        top: The top's width and depth as parts of the base's; ``(1, 0)`` is a gable roof.
        passage: A way through it.
    """
    width, height, depth = size
    lean_x = (1 - top[0]) * width / 2 / height
    lean_z = (1 - top[1]) * depth / 2 / height
    planes = np.array(
        [
            (1, lean_x, 0, width / 2),
            (-1, lean_x, 0, width / 2),
            (0, lean_z, 1, depth / 2),
            (0, lean_z, -1, depth / 2),
            (0, 1, 0, height),
            (0, -1, 0, 0),
        ],
        float,
    )
    return Solid(_placed(planes, place), place, size, skin, top=top, passage=passage)


def drum(
    place: Place,
    size: tuple[float, float],
    skin: int,
    *,
    top: float = 1.0,
    sides: int = 20,
) -> Solid:
    """Make a round or many-sided tower, or a cone.

    Args:
        place: The middle of its base, and its turn.
        size: Diameter of the base, height.
        skin: Number of its surface.
        top: The top's diameter as a part of the base's; 0 is a cone.
        sides: How many; from ``ROUND`` on it is shaded as round.
    """
    diameter, height = size
    lean = (1 - top) * diameter / 2 / height
    turns = 2 * pi * (np.arange(sides) + 0.5) / sides
    inner = diameter / 2 * (1.0 if sides >= ROUND else cos(pi / sides))
    walls = [(sin(turn), lean, cos(turn), inner) for turn in turns]
    planes = np.array([*walls, (0, 1, 0, height), (0, -1, 0, 0)], float)
    size_around = (diameter, height, diameter)
    placed = _placed(planes, place)
    return Solid(placed, place, size_around, skin, top=(top, top), sides=sides)


def dome(place: Place, size: tuple[float, float], skin: int, *, bulge: float = 0.0) -> Solid:
    """Make the upper part of an ellipsoid.

    Args:
        place: The middle of its base.
        size: Largest diameter, height.
        skin: Number of its surface.
        bulge: How far up its widest part lies, as a part of the height; 0 is a half dome.
    """
    diameter, height = size
    radius = (1 - bulge) * height
    center = np.array([place.x, place.y + bulge * height, place.z])
    weights = 1 / np.array([diameter / 2, radius, diameter / 2]) ** 2
    planes = _placed(np.array([(0, -1, 0, 0)], float), place)
    return Solid(
        planes,
        place,
        (diameter, height, diameter),
        skin,
        sides=ROUND,
        ellipsoid=Ellipsoid(center, weights),
    )


_SIGNS = np.array([(x, y, z) for x in (-1, 1) for y in (0, 1) for z in (-1, 1)], float)


def _placed(planes: Vectors, place: Place) -> Vectors:
    """Move planes from a solid's own space to where it stands."""
    turn, slope = cos(place.yaw), sin(place.yaw)
    normals = planes[:, :3] @ np.array([(turn, 0, -slope), (0, 1, 0), (slope, 0, turn)])
    return np.column_stack([normals, planes[:, 3] + normals @ (place.x, place.y, place.z)])
