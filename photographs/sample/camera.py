"""Look at solids: which pixels they cover, how near, and in what light.

A line of sight is ``position + t * (forward + u * right + v * up)`` with ``(u, v)`` the pixel. What
is computed for a pixel is its *nearness* ``1 / t``, because that of a plane is linear in ``u``
and ``v``: one row plus one column. The nearness of entering a convex solid is the least among the
planes the camera stands outside of, that of leaving it the greatest among the others.
"""

from dataclasses import dataclass, replace
from math import cos, sin, tan

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from photographs.sample.skins import Skin
from photographs.sample.solids import ROUND, Ellipsoid, Passage, Solid

Floats = NDArray[np.float32]
Numbers = NDArray[np.intp]
Vectors = NDArray[np.float64]
_TINY = 1e-6
_PARTS, _LEVELS = 96, 32
_GRIME = 0.18


@dataclass(frozen=True, slots=True)
class View:
    """From where the camera looks.

    Attributes:
        azimuth: Around the landmark, 0 in front of it, in radians.
        elevation: Angle above the point looked at, in radians.
        distance: From the point looked at.
        target: The point in the middle of the picture.
        field: Half of the angle seen along the longer side, in radians.
        roll: Tilt of the camera, in radians.
    """

    azimuth: float
    elevation: float
    distance: float
    target: tuple[float, float, float]
    field: float
    roll: float = 0.0


@dataclass(frozen=True, slots=True)
class Camera:
    """Where it is, how it is turned, and its grid of pixels.

    Attributes:
        position: ``(3,)``.
        frame: ``(3, 3)`` unit rows forward, right and up.
        u: ``(width,)`` of every column, to the right.
        v: ``(height,)`` of every row, the uppermost first and greatest.
    """

    position: Vectors
    frame: Vectors
    u: Floats
    v: Floats

    def coarse(self, step: int) -> "Camera":
        """Give the same camera with every ``step``-th pixel."""
        u, v = self.u[step // 2 :: step], self.v[step // 2 :: step]
        return Camera(self.position, self.frame, u, v)

    def linear(self, vectors: Vectors) -> tuple[Floats, Floats]:
        """Give the dot products of ``(n, 3)`` vectors with every line of sight.

        Returns:
            ``(n, width)`` and ``(n, height)``, to be added to each other.
        """
        parts = (vectors @ self.frame.T).astype(np.float32)
        return parts[:, :1] + parts[:, 1:2] * self.u, parts[:, 2:] * self.v

    def project(self, points: Vectors) -> tuple[Vectors, ...]:
        """Give ``u``, ``v`` and depth of ``(n, 3)`` points; depth is negative behind the camera."""
        depth, right, up = self.frame @ (points - self.position).T
        safe = np.where(depth > _TINY, depth, _TINY)
        return right / safe, up / safe, depth


@dataclass(frozen=True, slots=True)
class Light:
    """What falls on the solids: sun from one side, sky from above, and haze before them.

    Attributes:
        direction: Unit vector towards the sun.
        sun: Color of the sunlight, 1 is full.
        sky: Color of the light from everywhere.
        haze: Color that distance fades to, 0–255.
        fade: Share of that color at the landmark's distance.
    """

    direction: Vectors
    sun: Vectors
    sky: Vectors
    haze: Vectors
    fade: float


class Canvas:
    """What has been drawn so far: planes of red, green and blue, and how near it is."""

    def __init__(self, image: Image.Image) -> None:
        self.size = image.size
        self.colors = [np.array(band).ravel() for band in image.split()]
        self.nearness: Floats = np.zeros((image.height, image.width), np.float32)

    def image(self) -> Image.Image:
        """Give it as a picture."""
        bands = [band.reshape(self.nearness.shape) for band in self.colors]
        return Image.merge("RGB", [Image.fromarray(band) for band in bands])


@dataclass(frozen=True, slots=True)
class _Patch:
    """The pixels that a solid has won, all ``(n,)``: numbers on the canvas, and points seen there.

    The points are in the solid's own space, whose origin is the middle of its base.
    """

    pixels: NDArray[np.intp]
    nearness: Floats
    x: Floats
    y: Floats
    z: Floats

    def only(self, kept: NDArray[np.bool_]) -> "_Patch":
        """Leave the others out."""
        x, y, z = self.x[kept], self.y[kept], self.z[kept]
        return _Patch(self.pixels[kept], self.nearness[kept], x, y, z)


def look(view: View, width: int, height: int) -> Camera:
    """Set up a camera of ``width`` × ``height`` pixels; it stays above the ground."""
    position = np.array(view.target) + view.distance * np.array(
        [
            sin(view.azimuth) * cos(view.elevation),
            sin(view.elevation),
            cos(view.azimuth) * cos(view.elevation),
        ]
    )
    position[1] = max(position[1], 0.12)
    forward = np.array(view.target) - position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    right, up = (
        cos(view.roll) * right + sin(view.roll) * up,
        cos(view.roll) * up - sin(view.roll) * right,
    )
    scale = tan(view.field) / max(width, height)
    u = (np.arange(width) * 2 + 1 - width) * scale
    v = -(np.arange(height) * 2 + 1 - height) * scale
    frame = np.stack([forward, right, up])
    return Camera(position, frame, u.astype(np.float32), v.astype(np.float32))


def paint(solid: Solid, skin: Skin, camera: Camera, light: Light, canvas: Canvas) -> None:
    """Draw one solid where nothing nearer is on the canvas yet."""
    window = _window(solid, camera)
    if window is None:
        return
    rows, columns = window
    part = replace(camera, u=camera.u[columns], v=camera.v[rows])
    enter, leave = _span(solid, part)
    seen = (enter > leave) & (enter > canvas.nearness[rows, columns])
    patch = _patch(solid, part, enter, seen)
    first, skip = rows.start * len(camera.u) + columns.start, len(camera.u) - len(part.u)
    patch.pixels[:] += first + patch.pixels // len(part.u) * skip
    height = np.float32(solid.size[1])
    if solid.passage is not None:
        patch, walls, inward = _open(solid, solid.passage, camera, patch)
        colors = skin.colors(walls.z / height + np.float32(0.5), walls.y / height)
        _put(canvas, walls, colors * _glow(solid, inward, light) * np.float32(0.8), light)
    face, normals, across = (_round_faces if solid.sides else _flat_faces)(solid, patch)
    colors = skin.colors(across, patch.y / height)
    end, is_top = _end(solid, camera)
    if end is not None:
        level = np.abs(patch.y - np.float32(end)) < height * np.float32(1e-3)
        face[level] = len(normals)
        normals = np.concatenate([normals, [(0, 1 if is_top else -1, 0)]])
        colors[:, level] = np.array(skin.top, np.float32)[:, None]
    colors *= _glow(solid, normals, light)[:, face]
    if solid.place.y < _GRIME:
        colors *= np.minimum(patch.y * np.float32(0.45 / _GRIME) + np.float32(0.55), 1)
    _put(canvas, patch, colors, light)


def shadows(solids: tuple[Solid, ...], points: Floats, direction: Vectors) -> Floats:
    """Tell which points of the ground the sun does not reach.

    Args:
        solids: What may stand before the sun.
        points: ``(..., 3)`` points of the ground.
        direction: Unit vector towards the sun.

    Returns:
        ``(...)``, 1 in the shadow and 0 in the sun.
    """
    dark = np.zeros(points.shape[:-1], bool)
    for solid in solids:
        speeds = solid.planes[:, :3] @ direction
        enter = np.zeros(dark.shape, np.float32)
        leave = np.full(dark.shape, np.inf, np.float32)
        for plane, speed in zip(solid.planes.astype(np.float32), speeds, strict=True):
            room = plane[3] - points @ plane[:3]
            if abs(speed) < _TINY:
                leave[room < 0] = -1
            elif speed < 0:
                np.maximum(enter, room / np.float32(speed), out=enter)
            else:
                np.minimum(leave, room / np.float32(speed), out=leave)
        if solid.ellipsoid is not None:
            weights = solid.ellipsoid.weights.astype(np.float32)
            away = points - solid.ellipsoid.center.astype(np.float32)
            a = float(solid.ellipsoid.weights @ direction**2)
            b = away @ (weights * direction.astype(np.float32))
            c = (away**2) @ weights - 1
            leave[b * b < a * c] = -1
        dark |= enter < leave
    return dark.astype(np.float32)


def _window(solid: Solid, camera: Camera) -> tuple[slice, slice] | None:
    """Give the rows and columns that a solid can cover; ``None`` when it is out of sight."""
    u, v, depth = camera.project(solid.corners())
    if depth.max() <= _TINY:
        return None
    if depth.min() <= _TINY:
        return slice(0, len(camera.v)), slice(0, len(camera.u))
    left, right = np.searchsorted(camera.u, [u.min(), u.max()])
    top, bottom = np.searchsorted(-camera.v, [-v.max(), -v.min()])
    if left == right or top == bottom:
        return None
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def _span(solid: Solid, camera: Camera) -> tuple[Floats, Floats]:
    """Give the nearness at which every line of sight enters and leaves a solid."""
    room = solid.planes[:, 3] - solid.planes[:, :3] @ camera.position
    room = np.where(np.abs(room) < _TINY, _TINY, room)
    across, along = camera.linear(solid.planes[:, :3] / room[:, None])
    shape = (len(camera.v), len(camera.u))
    enter = np.full(shape, np.inf, np.float32)
    leave = np.zeros(shape, np.float32)
    buffer = np.empty(shape, np.float32)
    for row, column, inside in zip(across, along[:, :, None], room > 0, strict=True):
        np.add(row, column, out=buffer)
        if inside:
            np.maximum(leave, buffer, out=leave)
        else:
            np.minimum(enter, buffer, out=enter)
    if solid.ellipsoid is not None:
        _cut(solid.ellipsoid, camera, enter, leave)
    return enter, leave


def _cut(ellipsoid: Ellipsoid, camera: Camera, enter: Floats, leave: Floats) -> None:
    """Narrow spans to an ellipsoid: the roots of ``c s² + 2 b s + a = 0`` in the nearness s."""
    away = camera.position - ellipsoid.center
    c = np.float32(ellipsoid.weights @ away**2 - 1)
    row, column = camera.linear((ellipsoid.weights * away)[None])
    b = row + column.T
    root = b * b - _squared(camera, ellipsoid.weights) * c
    missed = (root < 0) | (c <= 0)
    root[missed] = 0
    np.sqrt(root, out=root)
    enter_too = (root - b) / c
    enter_too[missed] = -1
    np.minimum(enter, enter_too, out=enter)
    np.maximum(leave, (-root - b) / c, out=leave)


def _squared(camera: Camera, weights: Vectors) -> Floats:
    """Give ``sum(weights * direction ** 2)`` of every line of sight."""
    f, r, up = camera.frame
    u, v = camera.u, camera.v
    row = weights @ (f * f) + (2 * weights @ (f * r)) * u + (weights @ (r * r)) * u * u
    column = (2 * weights @ (f * up)) * v + (weights @ (up * up)) * v * v
    mixed = np.multiply.outer((2 * weights @ (r * up)) * v, u)
    mixed += row
    mixed += column[:, None]
    return np.asarray(mixed, np.float32)


def _patch(solid: Solid, camera: Camera, enter: Floats, seen: NDArray[np.bool_]) -> _Patch:
    """Give the seen pixels, numbered within the window, and the points there."""
    pixels = np.flatnonzero(seen)
    nearness = enter.ravel()[pixels]
    rows = pixels // len(camera.u)
    columns = pixels - rows * len(camera.u)
    across, along = camera.linear(solid.axes)
    start = (solid.axes @ (camera.position - solid.base)).astype(np.float32)
    far = 1 / nearness
    x, y, z = (start[i] + (across[i][columns] + along[i][rows]) * far for i in range(3))
    return _Patch(pixels, nearness, x, y, z)


def _put(canvas: Canvas, patch: _Patch, colors: Floats, light: Light) -> None:
    """Set a patch's pixels to ``(3, n)`` colors, seen through the haze."""
    np.minimum(colors, 255, out=colors)
    for band, channel, haze in zip(canvas.colors, colors, light.haze, strict=True):
        band[patch.pixels] = channel * np.float32(1 - light.fade) + np.float32(haze * light.fade)
    canvas.nearness.ravel()[patch.pixels] = patch.nearness


def _flat_faces(solid: Solid, patch: _Patch) -> tuple[Numbers, Vectors, Floats]:
    """Tell which wall of a block each point lies on.

    Returns:
        ``(n,)`` the number of the wall; ``(walls, 3)`` normals in the solid's own space, not yet
        of unit length; ``(n,)`` the place across the wall, 0–1.
    """
    (width, height, depth), (top_x, top_z) = solid.size, solid.top
    lean_x, lean_z = (1 - top_x) * width / 2 / height, (1 - top_z) * depth / 2 / height
    room_x = np.float32(width / 2) - np.float32(lean_x) * patch.y - np.abs(patch.x)
    room_z = np.float32(depth / 2) - np.float32(lean_z) * patch.y - np.abs(patch.z)
    front = room_z < room_x
    face = np.where(front, 2 + (patch.z > 0), patch.x > 0)
    across = np.where(front, patch.x * np.float32(1 / width), patch.z * np.float32(1 / depth))
    normals = np.array([(-1, lean_x, 0), (1, lean_x, 0), (0, lean_z, -1), (0, lean_z, 1)])
    return face, normals, across + np.float32(0.5)


def _round_faces(solid: Solid, patch: _Patch) -> tuple[Numbers, Vectors, Floats]:
    """Tell which side of a drum, or which small piece of a dome, each point lies on.

    See :func:`_flat_faces`.
    """
    width, height, _ = solid.size
    turn = np.arctan2(patch.x, patch.z) * np.float32(0.5 / np.pi)
    turn += turn < 0
    parts = solid.sides if solid.sides < ROUND else _PARTS
    face = (turn * np.float32(parts)).astype(np.intp).clip(0, parts - 1)
    angle = 2 * np.pi * (np.arange(parts) + 0.5) / parts
    if solid.ellipsoid is None:
        lean = np.full(parts, (1 - solid.top[0]) * width / 2 / height)
        return face, np.stack([np.sin(angle), lean, np.cos(angle)], 1), turn + np.float32(0.5)
    level = (patch.y * np.float32(_LEVELS / height)).astype(np.intp).clip(0, _LEVELS - 1)
    middle = solid.ellipsoid.center[1] - solid.place.y
    rise = height * (np.arange(_LEVELS) + 0.5) / _LEVELS - middle
    ring = np.sqrt(np.maximum(1 - (rise / (height - middle)) ** 2, 0)) * 2 / width
    up = np.tile(rise / (height - middle) ** 2, (parts, 1))
    around = np.sin(angle)[:, None] * ring, up, np.cos(angle)[:, None] * ring
    return face * _LEVELS + level, np.stack(around, 2).reshape(-1, 3), turn + np.float32(0.5)


def _end(solid: Solid, camera: Camera) -> tuple[float | None, bool]:
    """Give the height above its base of the end that can be seen, and whether it is the top."""
    if camera.position[1] < solid.place.y:
        return 0.0, False
    if solid.ellipsoid is None and camera.position[1] > solid.place.y + solid.size[1]:
        return solid.size[1], True
    return None, False


def _glow(solid: Solid, normals: Vectors, light: Light) -> Floats:
    """Give the ``(3, n)`` light on surfaces of normals in the solid's own space."""
    world = normals @ solid.axes
    world /= np.maximum(np.linalg.norm(world, axis=1, keepdims=True), _TINY)
    sun = np.maximum(world @ light.direction, 0)
    glow = np.outer(light.sun, sun) + np.outer(light.sky, 0.8 + 0.2 * world[:, 1])
    return glow.astype(np.float32)


def _open(
    solid: Solid, passage: Passage, camera: Camera, patch: _Patch
) -> tuple[_Patch, _Patch, Vectors]:
    """Open the passage of a block.

    Returns:
        The patch without the passage; the pixels in which its walls are seen; their normals.
    """
    room = np.float32(solid.size[2] / 2) - np.abs(patch.z)
    vault = patch.x**2 + np.maximum(patch.y - passage.spring, 0) ** 2 < passage.half_width**2
    inside = vault & (room < 1e-4 * solid.size[2])
    mouth = patch.only(inside)
    eye = solid.axes @ (camera.position - solid.base)
    sight = [
        axis - np.float32(part) for axis, part in zip((mouth.x, mouth.y, mouth.z), eye, strict=True)
    ]
    reach, normals = _to_wall(passage, mouth, sight)
    depth = np.float32(solid.size[2]) / np.maximum(np.abs(sight[2]), _TINY)
    drop = np.where(sight[1] < 0, mouth.y / np.maximum(-sight[1], _TINY), np.inf)
    stays = reach < np.minimum(depth, drop)
    x, y, z = (
        axis + step * reach for axis, step in zip((mouth.x, mouth.y, mouth.z), sight, strict=True)
    )
    walls = _Patch(mouth.pixels, mouth.nearness / (1 + reach), x, y, z)
    return patch.only(~inside), walls.only(stays), normals[stays]


def _to_wall(passage: Passage, mouth: _Patch, sight: list[Floats]) -> tuple[Floats, Vectors]:
    """Follow lines of sight from the mouth of a passage to its wall or vault.

    Returns:
        ``(n,)`` how far, in units of ``sight``, and ``(n, 3)`` the normals there.
    """
    x, y, (dx, dy, _) = mouth.x, mouth.y - passage.spring, sight
    wall = (np.sign(dx) * passage.half_width - x) / np.where(np.abs(dx) < _TINY, _TINY, dx)
    a = np.maximum(dx * dx + dy * dy, _TINY)
    b = x * dx + y * dy
    c = x * x + y * y - passage.half_width**2
    vault = (-b + np.sqrt(np.maximum(b * b - a * c, 0))) / a
    above = y + dy * vault > 0
    reach = np.where(above, vault, np.abs(wall)).astype(np.float32)
    zeros = np.zeros_like(x)
    vaulted = np.stack([-(x + dx * reach), -(y + dy * reach), zeros], 1)
    upright = np.stack([-np.sign(dx), zeros, zeros], 1)
    return reach, np.where(above[:, None], vaulted, upright).astype(float)
