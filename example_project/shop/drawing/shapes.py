"""Anti-aliased masks. Coordinates run from 0 to 100 over the picture, x to the right and y down."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageChops, ImageDraw

SIZE = 600
"""Side of a drawing in pixels."""
OVERSAMPLING = 3
SCALE = SIZE * OVERSAMPLING / 100

Point = tuple[float, float]
Mask = Image.Image


def polygon(points: Sequence[Point]) -> Mask:
    return _drawn(points, lambda draw, outline: draw.polygon(outline, fill=255))


def ellipse(x: float, y: float, rx: float, ry: float | None = None) -> Mask:
    """Return an ellipse around ``(x, y)``; a circle without ``ry``."""
    ry = rx if ry is None else ry
    corners = [(x - rx, y - ry), (x + rx, y + ry)]
    return _drawn(corners, lambda draw, c: draw.ellipse([*c[0], *c[1]], fill=255))


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0) -> Mask:
    corners = [(x0, y0), (x1, y1)]
    return _drawn(corners, lambda draw, c: draw.rounded_rectangle([*c[0], *c[1]], radius * SCALE, fill=255))


def smooth(points: Sequence[Point], *, closed: bool = True, steps: int = 14) -> list[Point]:
    """Return the Catmull-Rom curve through ``points``; a point given twice in a row makes a corner."""
    curve: list[Point] = []
    n = len(points)
    weights = _spline_weights(steps)
    for i in range(n if closed else n - 1):
        at = [(i + k) % n if closed else min(max(i + k, 0), n - 1) for k in (-1, 0, 1, 2)]
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = (points[j] for j in at)
        for p, q, r, s in weights[:1] if (bx, by) == (cx, cy) else weights:
            curve.append((p * ax + q * bx + r * cx + s * dx, p * ay + q * by + r * cy + s * dy))
    return curve if closed else [*curve, points[-1]]


@functools.cache
def _spline_weights(steps: int) -> list[tuple[float, float, float, float]]:
    """Return how much each of four points counts at each step between the second and the third."""
    return [
        (
            -0.5 * t + t * t - 0.5 * t**3,
            1 - 2.5 * t * t + 1.5 * t**3,
            0.5 * t + 2 * t * t - 1.5 * t**3,
            -0.5 * t * t + 0.5 * t**3,
        )
        for t in (step / steps for step in range(steps))
    ]


def blob(*points: Point) -> Mask:
    """Return a smooth closed shape through the points."""
    return polygon(smooth(points))


def stroke(points: Sequence[Point], width: float, *, curved: bool = True) -> Mask:
    """Return a line with round ends."""
    radius = width * SCALE / 2

    def line(draw: ImageDraw.ImageDraw, path: list[Point]) -> None:
        draw.line(path, fill=255, width=round(2 * radius), joint="curve")
        for x, y in (path[0], path[-1]):
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)

    return _drawn(smooth(points, closed=False) if curved else points, line, margin=radius)


def _drawn(points: Sequence[Point], do: Callable[[ImageDraw.ImageDraw, list[Point]], None], margin: float = 0) -> Mask:
    """Let ``do`` draw a shape, given its points, enlarged ``OVERSAMPLING`` times, and return it as a mask.

    Only the part of the picture within ``margin`` of the points is enlarged, which halves the time of a cut-out.
    """
    scaled = [(x * SCALE, y * SCALE) for x, y in points]
    edges = []
    for values in zip(*scaled, strict=True):
        low, high = (min(values) - margin) // OVERSAMPLING - 1, (max(values) + margin) // OVERSAMPLING + 2
        edges.append((min(max(int(low), 0), SIZE - 1), min(max(int(high), 1), SIZE)))
    (left, right), (top, bottom) = edges
    drawn = Image.new("L", ((right - left) * OVERSAMPLING, (bottom - top) * OVERSAMPLING))
    do(ImageDraw.Draw(drawn), [(x - left * OVERSAMPLING, y - top * OVERSAMPLING) for x, y in scaled])
    mask = Image.new("L", (SIZE, SIZE))
    mask.paste(drawn.reduce(OVERSAMPLING), (left, top))
    return mask


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


def around(mask: Mask, margin: int) -> tuple[int, int, int, int] | None:
    """Return the corners, in pixels, of what the mask shows and ``margin`` pixels more; None if it is empty."""
    if (bounds := mask.getbbox()) is None:
        return None
    x0, y0, x1, y1 = bounds
    return max(0, x0 - margin), max(0, y0 - margin), min(SIZE, x1 + margin), min(SIZE, y1 + margin)


def mirrored(points: Sequence[Point], axis: float = 50) -> list[Point]:
    """Return ``points`` and their mirror images in reverse order: a closed outline from one of its sides."""
    return [*points, *((2 * axis - x, y) for x, y in reversed(points))]


def turned(points: Sequence[Point], degrees: float, centre: Point = (50, 50)) -> list[Point]:
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    cx, cy = centre
    return [(cx + (x - cx) * cosine - (y - cy) * sine, cy + (x - cx) * sine + (y - cy) * cosine) for x, y in points]
