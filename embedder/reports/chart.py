"""Small line charts as SVG, for pages that need nothing else; plain in light and in dark."""

import math
from collections.abc import Sequence

from embedder.reports.page import text

Point = tuple[float, float]

_WIDTH, _HEIGHT = 460, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 30, 24
_TICKS = 8


def line_chart(
    title: str, points: Sequence[Point], *, breaks: Sequence[float] = (), from_zero: bool = False
) -> str:
    """Draw one line.

    Args:
        title: Plain text above it.
        points: ``(epoch, value)``, epochs rising; values that are not finite are left out.
        breaks: Epochs at which a new stage begins.
        from_zero: Let the axis begin at 0.

    Returns:
        SVG; nothing without points.
    """
    points = [point for point in points if math.isfinite(point[1])]
    if not points:
        return ""
    last = max(points[-1][0], 1.0)
    values = [value for _, value in points] + [0.0] * from_zero
    marks = _marks(min(values), max(values))
    low, high = marks[0], marks[-1]

    def place(point: Point) -> str:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * point[0] / last
        down = _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - point[1]) / (high - low)
        return f"{across:.1f},{down:.1f}"

    floor = _HEIGHT - _BOTTOM
    parts = [f'<text x="0" y="14" class="name">{text(title)}</text>']
    for value in marks:
        _, y = place((0, value)).split(",")
        parts.append(f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y}" dy=".35em" class="left">{value:.3g}</text>')
    for epoch in breaks:
        x, _ = place((epoch, low)).split(",")
        parts.append(f'<path d="M{x} {_TOP}V{floor}" class="grid" stroke-dasharray="3 3"/>')
    for epoch in range(0, int(last) + 1, max(1, math.ceil(last / _TICKS))):
        x, _ = place((epoch, low)).split(",")
        parts.append(f'<text x="{x}" y="{_HEIGHT - 6}" class="below">{epoch}</text>')
    parts.append(f'<polyline points="{" ".join(map(place, points))}" class="line"/>')
    if len(points) == 1:
        x, y = place(points[0]).split(",")
        parts.append(f'<circle cx="{x}" cy="{y}" r="3" class="dot"/>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'


def _marks(low: float, high: float) -> list[float]:
    """Choose round numbers for an axis, the outermost ones around both values.

    >>> _marks(0.76, 0.97), _marks(2, 2)
    ([0.7, 0.8, 0.9, 1.0], [1.5, 2.0, 2.5])
    """
    spread = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(spread))
    step = next(part * power for part in (0.2, 0.5, 1, 2, 5) if spread <= 4 * part * power)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        first, last = first - 1, last + 1
    return [float(f"{number * step:.6g}") for number in range(first, last + 1)]
