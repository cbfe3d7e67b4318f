"""Anti-aliased masks. Coordinates run from 0 to 100 over the picture, x to the right and y down."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageChops, ImageDraw

SIZE = 600
"""Side of a drawing in pixels."""
OVERSAMPLING = 3
SCALE = SIZE * OVERSAMPLING / 100

Point = tuple[float, float]
Mask = Image.Image


def _draw(do: Callable[[ImageDraw.ImageDraw], None]) -> Mask:
    mask = Image.new("L", (SIZE * OVERSAMPLING, SIZE * OVERSAMPLING))
    do(ImageDraw.Draw(mask))
    return mask.reduce(OVERSAMPLING)


def _scaled(points: Sequence[Point]) -> list[Point]:
    return [(x * SCALE, y * SCALE) for x, y in points]


def polygon(points: Sequence[Point]) -> Mask:
    return _draw(lambda draw: draw.polygon(_scaled(points), fill=255))


def ellipse(x: float, y: float, rx: float, ry: float | None = None) -> Mask:
    """Around the centre ``(x, y)``."""
    ry = rx if ry is None else ry
    box = _scaled([(x - rx, y - ry), (x + rx, y + ry)])
    return _draw(lambda draw: draw.ellipse([*box[0], *box[1]], fill=255))


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0) -> Mask:
    corners = _scaled([(x0, y0), (x1, y1)])
    return _draw(lambda draw: draw.rounded_rectangle([*corners[0], *corners[1]], radius * SCALE, fill=255))


def smooth(points: Sequence[Point], *, closed: bool = True, steps: int = 14) -> list[Point]:
    """The Catmull-Rom curve through ``points``; a point given twice in a row makes a corner."""
    curve: list[Point] = []
    n = len(points)
    for i in range(n if closed else n - 1):
        at = [(i + k) % n if closed else min(max(i + k, 0), n - 1) for k in (-1, 0, 1, 2)]
        a, b, c, d = (points[j] for j in at)
        for step in range(1 if b == c else steps):
            t = step / steps
            weights = (
                -0.5 * t + t * t - 0.5 * t**3,
                1 - 2.5 * t * t + 1.5 * t**3,
                0.5 * t + 2 * t * t - 1.5 * t**3,
                -0.5 * t * t + 0.5 * t**3,
            )
            x, y = (sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True)) for axis in (0, 1))
            curve.append((x, y))
    return curve if closed else [*curve, points[-1]]


def blob(*points: Point) -> Mask:
    """A smooth closed shape through the points."""
    return polygon(smooth(points))


def stroke(points: Sequence[Point], width: float, *, curved: bool = True) -> Mask:
    """A line with round ends."""
    path = smooth(points, closed=False) if curved else list(points)

    def do(draw: ImageDraw.ImageDraw) -> None:
        scaled, radius = _scaled(path), width * SCALE / 2
        draw.line(scaled, fill=255, width=round(2 * radius), joint="curve")
        for x, y in (scaled[0], scaled[-1]):
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)

    return _draw(do)


def union(*masks: Mask) -> Mask:
    result = masks[0]
    for mask in masks[1:]:
        result = ImageChops.lighter(result, mask)
    return result


def minus(mask: Mask, *others: Mask) -> Mask:
    for other in others:
        mask = ImageChops.multiply(mask, ImageChops.invert(other))
    return mask


def both(mask: Mask, other: Mask) -> Mask:
    return ImageChops.multiply(mask, other)


def mirrored(points: Sequence[Point], axis: float = 50) -> list[Point]:
    """``points``, and their mirror images in reverse order: a closed outline from one of its sides."""
    return [*points, *((2 * axis - x, y) for x, y in reversed(points))]


def turned(points: Sequence[Point], degrees: float, centre: Point = (50, 50)) -> list[Point]:
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    cx, cy = centre
    return [(cx + (x - cx) * cosine - (y - cy) * sine, cy + (x - cx) * sine + (y - cy) * cosine) for x, y in points]
