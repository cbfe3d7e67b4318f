"""Watches, headphones and sunglasses."""

from __future__ import annotations

import math

from .canvas import Canvas
from .design import Design
from .palette import METALS, WHITE, accent, darker, lighter, luminance
from .shapes import Point, blob, both, box, ellipse, minus, polygon, smooth, stroke, union


def _hand(angle: float, length: float, centre: Point = (50, 50)) -> list[Point]:
    """From the centre towards ``angle`` degrees clockwise from twelve o'clock."""
    turn = math.radians(angle)
    return [centre, (centre[0] + length * math.sin(turn), centre[1] - length * math.cos(turn))]


def watch(c: Canvas, d: Design) -> None:
    metal = d.fitting
    for sign in (-1, 1):
        end = 50 + sign * 44
        half = polygon(
            smooth(
                [
                    (40, 50),
                    (40, 50),
                    (40, 50 + sign * 26),
                    (42.5, end),
                    (42.5, end),
                    (50, end + sign * 1.5),
                    (57.5, end),
                    (57.5, end),
                    (60, 50 + sign * 26),
                    (60, 50),
                    (60, 50),
                ]
            )
        )
        c.part(half, d.main, pattern=d.mask, second=d.other, bevel=1.4, depth=0.5, round=0.2)
        if d.pattern is None:
            for x in (42.2, 57.8):
                c.part(both(half, box(x - 0.3, 6, x + 0.3, 94)), accent(d.main), bevel=0.1, opacity=0.6)
    for i in range(4):
        c.part(ellipse(50, 80 + i * 3.6, 0.9), darker(d.main, 0.6), bevel=0.2)
    if d.form == "digital":
        case, glass = box(33, 30, 67, 70, 9), box(36.5, 33.5, 63.5, 66.5, 6)
    elif d.form == "square":
        case, glass = box(33, 32, 67, 68, 4), box(36.5, 35.5, 63.5, 64.5, 2)
    else:
        case, glass = ellipse(50, 50, 20), ellipse(50, 50, 16.6)
    c.part(box(66, 47, 72.5, 53, 1.5), metal, bevel=0.8, depth=0.8)
    c.shade_under(case, box(40, 20, 60, 80), opacity=0.5)
    c.part(case, metal, bevel=1.6, depth=0.8)
    dial = (22, 26, 34) if d.form == "digital" else lighter(d.other, 0.15)
    c.part(glass, dial, bevel=0.9, depth=-0.5, fall=0.08)
    ink = accent(dial)
    if d.form == "digital":
        c.part(minus(ellipse(50, 55, 8), ellipse(50, 55, 6.2)), d.other, bevel=0.2, depth=0)
        c.part(
            minus(ellipse(50, 55, 5), ellipse(50, 55, 3.4)),
            d.main if luminance(d.main) > 70 else WHITE,
            bevel=0.2,
            depth=0,
        )
        for x in (42, 46.5, 51.5, 56):
            c.part(minus(box(x - 1.4, 37, x + 1.6, 44, 0.6), box(x - 0.4, 38, x + 0.6, 43)), WHITE, bevel=0.1, depth=0)
    else:
        for hour in range(12):
            reach = 13.6
            (x0, y0), (x1, y1) = (
                _hand(hour * 30, reach)[1],
                _hand(hour * 30, reach - (2.8 if hour % 3 == 0 else 1.6))[1],
            )
            c.part(stroke([(x0, y0), (x1, y1)], 0.9 if hour % 3 == 0 else 0.6), ink, bevel=0.1, depth=0)
        for angle, length, width in ((305, 8.5, 1.5), (58, 12, 1.1)):
            c.part(stroke(_hand(angle, length), width), ink, bevel=0.3, depth=0.6)
        c.part(stroke(_hand(190, 12.5), 0.5), (214, 60, 50), bevel=0.1)
        c.part(ellipse(50, 50, 1.3), metal, bevel=0.4, depth=0.8)
    c.glow(polygon([(36, 52), (46, 33), (52, 33), (40, 60)]), WHITE, opacity=0.22, blur=0.6, within=glass)


def headphones(c: Canvas, d: Design) -> None:
    slim = d.form == "on"
    reach = 28 if slim else 32
    band = minus(
        ellipse(50, 46, reach, 36),
        ellipse(50, 46, reach - (3 if slim else 5), 36 - (3 if slim else 5.4)),
        box(0, 50, 100, 100),
    )
    c.part(band, d.fitting if slim else d.main, bevel=1.2, depth=0.7)
    if not slim:
        pad = minus(ellipse(50, 46, 27.4, 31.6), ellipse(50, 51, 30, 32.6))
        c.part(pad, darker(d.other, 0.1), bevel=1.2, depth=0.5)
    for sign in (-1, 1):
        x = 50 + sign * (reach - 1.5)
        c.part(stroke([(x, 44), (x + sign * 0.5, 58)], 2.6), METALS["steel"], bevel=0.6, depth=0.9)
        if slim:
            cushion, cup = ellipse(x - sign * 3, 66, 7, 13), ellipse(x + sign * 1.5, 66, 7.5, 12)
        else:
            cushion, cup = (
                box(x - 6.5 - sign * 4.5, 50, x + 6.5 - sign * 4.5, 84, 6.4),
                box(x - 7 + sign * 3, 48, x + 7 + sign * 3, 86, 7),
            )
        c.part(cushion, darker(d.other, 0.35), bevel=2.4, depth=0.6)
        c.part(cup, d.main, pattern=d.mask, second=d.other, bevel=2.6, depth=0.6)
        c.part(
            minus(
                ellipse(x + sign * (1.5 if slim else 3), 66, 4, 7), ellipse(x + sign * (1.5 if slim else 3), 66, 3.2, 6)
            ),
            d.other,
            bevel=0.3,
        )
        c.glow(ellipse(x + sign * 2 - 2, 57, 1.6, 5), WHITE, opacity=0.5, blur=1, within=cup)


def sunglasses(c: Canvas, d: Design) -> None:
    frame, aviator = d.main, d.form == "aviator"
    tint = darker(d.other, 0.45)
    for sign in (-1, 1):
        arm = [(50 + sign * 41, 43), (50 + sign * 40, 36), (50 + sign * 33, 27), (50 + sign * 24, 25)]
        c.part(stroke(arm, 2.4), darker(d.fitting if aviator else frame, 0.25), bevel=0.5, depth=0.6)
    rims = []
    for sign in (-1, 1):
        x = 50 + sign * 23
        if d.form == "round":
            outer, inner = ellipse(x, 52, 18.5), ellipse(x, 52, 15.8)
        elif d.form == "square":
            outer, inner = box(x - 19, 38, x + 19, 66, 6), box(x - 16, 41, x + 16, 63, 4)
        elif d.form == "cat":
            points = [
                (50 + sign * dx, y) for dx, y in ((5, 44), (20, 39), (44, 34), (44, 34), (42, 56), (28, 67), (12, 64))
            ]
            outer = blob(*points)
            inner = blob(
                *[
                    (50 + sign * dx, y)
                    for dx, y in (
                        (8.5, 46.5),
                        (21, 42.5),
                        (38.5, 40.5),
                        (38.5, 40.5),
                        (38.5, 55),
                        (27.5, 63.5),
                        (14, 61),
                    )
                ]
            )
        else:
            outer = blob(
                *[
                    (50 + sign * dx, y)
                    for dx, y in ((5, 43), (22, 39.5), (41, 42), (42, 56), (33, 69), (20, 70), (9, 60))
                ]
            )
            inner = blob(
                *[
                    (50 + sign * dx, y)
                    for dx, y in (
                        (6.6, 44.3),
                        (22, 41.2),
                        (39.4, 43.5),
                        (40.2, 56),
                        (32, 67.4),
                        (20.4, 68.2),
                        (10.4, 59),
                    )
                ]
            )
        rims.append((outer, inner, x))
    for _, inner, _ in rims:
        c.part(inner, tint, fall=-0.3, bevel=0.6, depth=0.2, opacity=0.93)
    bridge = stroke([(42, 47), (50, 43.5), (58, 47)], 2.6)
    whole = union(*(minus(outer, inner) for outer, inner, _ in rims), bridge)
    if aviator:
        whole = union(whole, stroke([(40, 40.5), (60, 40.5)], 1.6))
    c.part(whole, frame, pattern=d.mask, second=d.other, bevel=0.8, depth=0.7)
    for _, inner, x in rims:
        c.glow(
            polygon([(x - 10, 62), (x + 2, 42), (x + 7, 42), (x - 4, 64)]), WHITE, opacity=0.25, blur=0.8, within=inner
        )
