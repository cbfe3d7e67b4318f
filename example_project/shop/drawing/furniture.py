"""Chairs, sofas and lamps."""

from __future__ import annotations

from .canvas import Canvas
from .design import Design
from .palette import WHITE, darker, lighter
from .shapes import blob, both, box, ellipse, minus, mirrored, polygon, smooth, stroke, union


def chair(c: Canvas, d: Design) -> None:
    wood = d.fitting
    dark = darker(wood, 0.35)
    if d.form == "stool":
        for leg, shade in (
            ([(42, 44), (38, 88)], dark),
            ([(58, 44), (62, 88)], dark),
            ([(34, 46), (26, 92)], wood),
            ([(66, 46), (74, 92)], wood),
        ):
            c.part(stroke(leg, 3.2), shade, bevel=0.8, depth=0.6)
        c.part(stroke([(30, 72), (70, 72)], 2), wood, bevel=0.5, depth=0.6)
        c.part(ellipse(50, 42, 26, 9.5), darker(d.main, 0.3), bevel=1)
        c.part(ellipse(50, 38.5, 26, 9.5), d.main, pattern=d.mask, second=d.other, bevel=1.6, depth=0.4)
        return
    for leg in ([(36, 60), (35, 84)], [(64, 60), (65, 84)]):
        c.part(stroke(leg, 2.8), dark, bevel=0.7, depth=0.6)
    if d.form == "slatted":
        for x in (30, 70):
            c.part(stroke([(x, 60), (x + (1.5 if x < 50 else -1.5), 10)], 3.2), wood, bevel=0.8, depth=0.7)
        for y in (14, 24, 34):
            c.part(
                polygon(
                    smooth(
                        [
                            (31, y),
                            (31, y),
                            (50, y - 2.5),
                            (69, y),
                            (69, y),
                            (69, y + 5),
                            (69, y + 5),
                            (50, y + 3),
                            (31, y + 5),
                            (31, y + 5),
                        ]
                    )
                ),
                wood,
                bevel=0.8,
                depth=0.5,
            )
    elif d.form == "shell":
        back = blob((26, 16), (50, 8), (74, 16), (78, 40), (72, 60), (50, 64), (28, 60), (22, 40))
        c.part(back, d.main, pattern=d.mask, second=d.other, bevel=3.5, depth=0.55)
        c.glow(
            blob((36, 24), (50, 20), (64, 24), (64, 46), (50, 52), (36, 46)),
            (0, 0, 0),
            opacity=0.14,
            blur=3,
            within=back,
        )
    else:
        back = polygon(smooth(mirrored([(29, 56), (29, 56), (28, 30), (32, 13), (42, 10)]), steps=10))
        c.part(back, d.main, pattern=d.mask, second=d.other, bevel=2.4, depth=0.5)
        for x, y in ((42, 22), (58, 22), (50, 31), (42, 40), (58, 40)):
            if d.pattern is None:
                c.part(ellipse(x, y, 1), darker(d.main, 0.3), bevel=0.3, depth=0.8)
    seat = polygon(smooth([(27, 55), (27, 55), (73, 55), (73, 55), (79, 66), (76, 70), (50, 72), (24, 70), (21, 66)]))
    for leg in ([(28, 66), (24, 94)], [(72, 66), (76, 94)]):
        c.part(stroke(leg, 3.4), wood, bevel=0.9, depth=0.7)
    c.part(box(24, 66, 76, 72, 2), dark, bevel=0.6)
    c.part(seat, d.main, pattern=d.mask, second=d.other, bevel=2, depth=0.4)
    if d.form == "slatted":
        c.part(stroke([(27, 83), (73, 83)], 1.8), wood, bevel=0.5, depth=0.6)


def sofa(c: Canvas, d: Design) -> None:
    curved = d.form == "curved"
    seats = {"armchair": 1, "loveseat": 2, "curved": 1}.get(d.form, 3)
    l, r = (26, 74) if seats == 1 and not curved else (14, 86) if seats == 2 else (8, 92)  # noqa: E741
    for x in (l + 6, r - 6):
        c.part(polygon([(x - 2, 74), (x + 2, 74), (x + 1, 84), (x - 1, 84)]), d.fitting, round=0.4)
    low = darker(d.main, 0.12)
    back = (
        blob((l + 2, 60), (l + 3, 42), (l + 14, 33), (50, 31), (r - 14, 33), (r - 3, 42), (r - 2, 60), (50, 66))
        if curved
        else box(l + 4, 32, r - 4, 68, 5)
    )
    c.part(back, low, pattern=d.mask, second=d.other, bevel=2.6, depth=0.5)
    inner = (r - l - 16) / seats
    for i in range(seats):
        x0 = l + 8 + i * inner
        if not curved:
            cushion = box(x0 + 0.4, 36, x0 + inner - 0.4, 60, 4)
            c.shade_under(cushion, back, opacity=0.35)
            c.part(cushion, d.main, pattern=d.mask, second=d.other, bevel=2.6, depth=0.5)
    base = box(l + 3, 66, r - 3, 77, 3)
    c.part(base, darker(d.main, 0.25), pattern=d.mask, second=darker(d.other, 0.25), bevel=1.2)
    for i in range(seats):
        x0 = l + 8 + i * inner
        cushion = box(x0 + 0.3, 57, x0 + inner - 0.3, 69, 3.5)
        c.shade_under(cushion, base, opacity=0.5, shift=1)
        c.part(cushion, lighter(d.main, 0.06), pattern=d.mask, second=lighter(d.other, 0.06), bevel=2, depth=0.5)
    for side in (l, r):
        x0, x1 = (side, side + 10) if side == l else (side - 10, side)
        arm = box(x0, 44, x1, 77, 4.5)
        c.shade_under(arm, base, opacity=0.4)
        c.part(arm, d.main, pattern=d.mask, second=d.other, bevel=2.2, depth=0.55, round=0.12)
    if d.pattern is None:
        pillow = blob(
            (l + 12, 43),
            (l + 12, 43),
            (l + 19, 44),
            (l + 27, 42),
            (l + 27, 42),
            (l + 26, 50),
            (l + 27, 57),
            (l + 27, 57),
            (l + 19, 56),
            (l + 12, 58),
            (l + 12, 58),
            (l + 13, 50),
        )
        c.part(pillow, d.other, bevel=2, depth=0.6)


def lamp(c: Canvas, d: Design) -> None:
    metal = d.fitting
    warm = (255, 232, 176)
    if d.form == "arc":
        c.part(ellipse(68, 90, 16, 3.6), metal, bevel=0.8, depth=0.6)
        c.part(stroke([(70, 89), (71, 50), (60, 20), (38, 24), (33, 34)], 1.9), metal, bevel=0.5, depth=0.8)
        shade = minus(ellipse(33, 50, 20, 18), box(0, 51, 100, 100))
        c.glow(ellipse(33, 52, 18, 5), warm, opacity=0.95, blur=2)
        c.part(shade, d.main, pattern=d.mask, second=d.other, bevel=2.4, depth=0.5, round=0.3)
        c.part(ellipse(33, 51, 20, 3), warm, bevel=0.6, depth=0.2)
        return
    if d.form == "globe":
        c.part(ellipse(50, 88, 17, 4.6), metal, bevel=1, depth=0.6)
        c.part(stroke([(50, 86), (50, 56)], 3), metal, round=0.5)
        globe = ellipse(50, 36, 23)
        c.part(
            globe, lighter(d.main, 0.25), pattern=d.mask, second=lighter(d.other, 0.2), bevel=6, depth=0.45, round=0.15
        )
        c.glow(ellipse(47, 34, 13), WHITE, opacity=0.6, blur=5, within=globe)
        c.part(box(43, 56, 57, 61, 2), metal, round=0.5)
        return
    if d.form == "ceramic":
        foot = polygon(smooth(mirrored([(44, 56), (38, 64), (33, 76), (38, 87), (43, 90)])))
        c.part(foot, d.other, pattern=d.mask, second=lighter(d.main, 0.1), round=0.4, bevel=2)
        c.glow(ellipse(42, 74, 2.4, 8), WHITE, opacity=0.5, blur=1, within=foot)
    else:
        c.part(ellipse(50, 89, 18, 4.4), metal, bevel=1, depth=0.6)
        c.part(stroke([(50, 87), (50, 50)], 2.6), metal, round=0.5)
    c.part(box(47.5, 48, 52.5, 58, 1), metal, round=0.5)
    slope = {"drum": 3, "ceramic": 8}.get(d.form, 13)
    shade = polygon(
        smooth(
            [
                (24, 52),
                (24, 52),
                (50, 55),
                (76, 52),
                (76, 52),
                (76 - slope, 14),
                (76 - slope, 14),
                (50, 12),
                (24 + slope, 14),
                (24 + slope, 14),
            ]
        )
    )
    c.part(shade, d.main, pattern=None if d.form == "ceramic" else d.mask, second=d.other, round=0.35, bevel=0.8)
    c.glow(both(shade, ellipse(50, 42, 18, 14)), warm, opacity=0.5, blur=6, within=shade)
    c.part(
        both(
            shade,
            union(
                stroke([(24, 51), (50, 54), (76, 51)], 1.4), stroke([(24 + slope, 15), (50, 13), (76 - slope, 15)], 1.2)
            ),
        ),
        lighter(d.main, 0.35),
        bevel=0.2,
    )
