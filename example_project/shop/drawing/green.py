"""Plants in pots, and vases."""

from __future__ import annotations

import functools
import math

from .canvas import Canvas
from .design import Design
from .palette import WHITE, Colour, darker, lighter, mix
from .shapes import Mask, Point, blob, both, box, ellipse, minus, mirrored, polygon, smooth, stroke, turned, union

LEAF: Colour = (62, 122, 66)


def _leaf(foot: Point, angle: float, length: float, width: float) -> list[Point]:
    """Draw a pointed leaf that grows from ``foot``, ``angle`` degrees from upright."""
    x, y = foot
    upright = [
        (x, y),
        (x, y),
        (x - width, y - length * 0.42),
        (x - width * 0.6, y - length * 0.78),
        (x, y - length),
        (x, y - length),
    ]
    upright += [(x + width * 0.6, y - length * 0.78), (x + width, y - length * 0.42)]
    return turned(smooth(upright), angle, foot)


def plant(c: Canvas, d: Design) -> None:
    rng = d.rng
    green = mix(LEAF, d.other, 0.12)
    if d.form == "monstera":
        for angle in (-62, 58, -36, 34, -10, 14):
            reach = rng.uniform(27, 36)
            tip = turned([(50, 68 - reach)], angle, (50, 68))[0]
            c.part(
                stroke([(50, 70), ((50 + tip[0]) / 2, (70 + tip[1]) / 2 - 2), tip], 1.4), darker(green, 0.25), bevel=0.3
            )
            size = rng.uniform(10.5, 13)
            points = [(tip[0], tip[1] + size * 0.5)] * 2 + [
                (tip[0] - size, tip[1] + size * 0.3),
                (tip[0] - size * 0.8, tip[1] - size * 0.6),
            ]
            points += [(tip[0], tip[1] - size * 1.15)] * 2 + [
                (tip[0] + size * 0.8, tip[1] - size * 0.6),
                (tip[0] + size, tip[1] + size * 0.3),
            ]
            leaf = polygon(turned(smooth(points), angle, tip))
            for side in (-1, 1):
                for cut in (-0.5, -0.2, 0.1):
                    notch = [
                        (tip[0] + side * size * 1.3, tip[1] + size * (cut - 0.12)),
                        (tip[0] + side * size * 0.45, tip[1] + size * cut),
                    ]
                    leaf = minus(leaf, stroke(turned(notch, angle, tip), size * 0.13))
            c.part(leaf, lighter(green, rng.uniform(0, 0.18)), bevel=1.2, depth=0.5)
            c.part(
                stroke(turned([(tip[0], tip[1] + size * 0.45), (tip[0], tip[1] - size)], angle, tip), 0.6),
                lighter(green, 0.4),
                bevel=0.1,
            )
    elif d.form == "snake":
        for angle in (-24, 20, -13, 12, -4, 5):
            length = rng.uniform(42, 58)
            leaf = polygon(_leaf((50 + angle * 0.25, 72), angle, length, 4.4))
            c.part(leaf, (206, 196, 104), bevel=0.6)
            inner = polygon(_leaf((50 + angle * 0.25, 72), angle, length - 2, 3.2))
            c.part(inner, green, pattern=both(inner, _bands()), second=lighter(green, 0.3), bevel=0.8, depth=0.5)
    elif d.form == "cactus":
        for x, y, rx, ry in ((33, 50, 5.5, 11), (67, 44, 5.5, 12), (50, 48, 13, 25)):  # the arms are behind
            if x != 50:
                c.part(stroke([(x, y + 5), (50, y + 13)], 6.5), green, bevel=1.6, depth=0.6)
            stem = ellipse(x, y, rx, ry)
            c.part(stem, green, bevel=2.6, depth=0.5)
            for rib in (-0.66, -0.33, 0, 0.33, 0.66):
                c.glow(
                    minus(
                        ellipse(x, y, max(0.6, abs(rib) * rx) + 0.35, ry),
                        ellipse(x, y, max(0.1, abs(rib) * rx - 0.35), ry),
                    ),
                    (0, 0, 0),
                    opacity=0.12,
                    blur=0.4,
                    within=stem,
                )
            for _ in range(int(rx * 2.2)):
                px, py = x + rng.uniform(-0.8, 0.8) * rx, y + rng.uniform(-0.85, 0.85) * ry
                c.part(both(stem, stroke([(px - 0.7, py), (px + 0.7, py - 0.5)], 0.35)), WHITE, bevel=0.1, opacity=0.8)
        for dx, dy in ((-3, 0), (3, 0), (0, -2.4)):
            c.part(ellipse(50 + dx, 23 + dy, 3), d.other, bevel=0.9, depth=0.5)
    elif d.form == "fern":
        for angle in (-78, 74, -58, 54, -40, 38, -22, 20, -6, 8):
            length = rng.uniform(36, 50)
            bend = turned(
                [
                    (50, 70),
                    (50 + angle * 0.06, 70 - length * 0.6),
                    (50 + angle * 0.24, 70 - length * (1 - abs(angle) / 200)),
                ],
                angle * 0.55,
                (50, 70),
            )
            shade = lighter(green, rng.uniform(0, 0.25))
            fronds = [stroke(bend, 0.9)]
            path = smooth(bend, closed=False, steps=9)
            for i in range(3, len(path)):
                leaflet = path[i]
                spread = 5.2 * (1 - i / (len(path) + 3))
                heading = math.atan2(path[i][1] - path[i - 1][1], path[i][0] - path[i - 1][0])
                for side in (-1, 1):
                    turn = heading + side * 1.05
                    tip = (leaflet[0] + spread * math.cos(turn), leaflet[1] + spread * math.sin(turn))
                    fronds.append(stroke([leaflet, tip], 1.3))
            c.part(union(*fronds), shade, bevel=0.5, depth=0.4)
    else:
        c.part(stroke([(50, 74), (49, 50), (51, 16)], 1.8), (110, 84, 56), bevel=0.5, depth=0.6)
        for i, level in enumerate((66, 60, 53, 46, 39, 32, 25, 20)):
            angle = (-1) ** i * rng.uniform(38, 66)
            leaf = polygon(_leaf((50, level), angle, rng.uniform(19, 25), 6))
            c.part(leaf, mix(lighter(green, rng.uniform(0, 0.2)), d.other, 0.15), bevel=1.4, depth=0.5)
            c.part(
                stroke(turned([(50, level - 2), (50, level - 18)], angle, (50, level)), 0.5),
                lighter(green, 0.4),
                bevel=0.1,
            )
        c.part(polygon(_leaf((51, 18), 4, 12, 3)), lighter(green, 0.2), bevel=0.8)
    pot = polygon(smooth(mirrored([(31, 70), (31, 70), (33, 82), (36, 94), (36, 94)])))
    c.part(ellipse(50, 70.5, 18, 4), (62, 46, 36), bevel=0.8)
    pot = minus(pot, ellipse(50, 69.4, 18, 3.4))
    c.part(pot, d.main, pattern=d.mask, second=d.other, round=0.4, bevel=1.2, depth=0.4)
    if d.pattern is None:
        c.part(both(pot, box(0, 70, 100, 78)), lighter(d.main, 0.15), round=0.4, bevel=0.8)
    c.glow(box(37, 77, 39.6, 90, 1), WHITE, opacity=0.4, blur=0.9, within=pot)


@functools.cache
def _bands() -> Mask:
    return union(*(stroke([(20, y), (40, y + 2), (60, y - 1), (80, y + 2)], 1.6) for y in range(8, 80, 5)))


def vase(c: Canvas, d: Design) -> None:
    sides: dict[str, list[Point]] = {
        "bud": [(45, 22), (45, 22), (45.5, 40), (38, 54), (31, 70), (35, 85), (42, 89), (42, 89)],
        "amphora": [(40, 20), (40, 20), (42, 28), (30, 38), (27, 52), (35, 74), (40, 89), (40, 89)],
        "cylinder": [(34, 26), (34, 26), (33, 50), (33, 74), (35, 88), (40, 89), (40, 89)],
        "jug": [(38, 18), (38, 18), (41, 32), (31, 48), (28, 66), (33, 84), (40, 89), (40, 89)],
    }
    side = sides[d.form]
    half = 50 - side[0][0]
    body = polygon(smooth(mirrored(side)))
    if d.form == "amphora":
        for axis in (30, 70):
            c.part(minus(ellipse(axis, 34, 8.5, 10), ellipse(axis, 34, 5.5, 7), body), d.main, bevel=0.9, depth=0.6)
    if d.form == "jug":
        c.part(minus(ellipse(67, 40, 13, 18), ellipse(67, 40, 9, 14), body), d.main, bevel=1.1, depth=0.6)
    c.part(body, d.main, pattern=d.mask, second=d.other, round=0.5, bevel=2, depth=0.4)
    if d.pattern is None:
        c.part(
            both(body, blob((20, 62), (40, 58), (60, 66), (80, 60), (80, 96), (20, 96))),
            d.other,
            round=0.5,
            bevel=0.5,
            depth=0.2,
        )
    mouth = ellipse(50, side[0][1], half, 2)
    c.part(mouth, darker(d.main, 0.45), bevel=0.5, depth=-0.5)
    _twigs(c, d, union(mouth, box(0, 0, 100, side[0][1])), (50, side[0][1] + 1.5), half)
    c.glow(ellipse(41, 64, 2.6, 11), WHITE, opacity=0.5, blur=1.2, within=body)


def _twigs(c: Canvas, d: Design, above: Mask, foot: Point, half: float) -> None:
    """Put none, one or three twigs of eucalyptus into a vase; ``above``: its mouth and what is above it."""
    rng = d.rng
    count = rng.choice([0, 0, 1, 3])
    leaf = mix(LEAF, (176, 190, 150), 0.5)
    for i in range(count):
        lean = (i - (count - 1) / 2) * 17 + rng.uniform(-3, 3)
        x, y = foot[0] + (i - (count - 1) / 2) * half * 0.5, foot[1]
        length = y - rng.uniform(7, 9)
        stem = turned([(x, y), (x + 0.6, y - length / 2), (x, y - length + 5)], lean, (x, y))
        c.part(both(stroke(stem, 0.9), above), darker(LEAF, 0.1), bevel=0.2)
        path = smooth(stem, closed=False)
        for step in (0.45, 0.62, 0.8):
            at = path[int((len(path) - 1) * step)]
            for angle in (-58, 58):
                c.part(
                    polygon(_leaf(at, lean + angle, 5.2 - 2 * step, 1.2)), lighter(leaf, rng.uniform(0, 0.2)), bevel=0.3
                )
        c.part(polygon(_leaf(path[-1], lean, 4.5, 1.2)), leaf, bevel=0.3)
