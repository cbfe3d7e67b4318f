"""Caps, sun hats and beanies."""

from __future__ import annotations

from .canvas import Canvas
from .design import Design
from .palette import accent, darker
from .shapes import blob, both, ellipse, mirrored, polygon, smooth, stroke, union


def cap(c: Canvas, d: Design) -> None:
    if d.form == "beanie":
        knit = blob((20, 66), (22, 42), (36, 24), (50, 20), (64, 24), (78, 42), (80, 66), (50, 70))
        c.part(ellipse(50, 17, 9.5), d.other, bevel=3, depth=0.5)
        c.part(knit, d.main, pattern=d.mask, second=d.other, bevel=3, depth=0.5)
        for x in range(22, 80, 5):
            c.glow(
                stroke([(x, 64), (50 + (x - 50) * 0.75, 40), (50 + (x - 50) * 0.3, 24)], 1),
                (0, 0, 0),
                opacity=0.22,
                blur=0.5,
                within=knit,
            )
        brim = blob((17, 62), (50, 66), (83, 62), (84, 74), (82, 79), (50, 83), (18, 79), (16, 74))
        c.shade_under(brim, knit, opacity=0.3, shift=-1)
        c.part(brim, d.other if d.pattern is None else darker(d.main, 0.1), bevel=1.6, depth=0.5)
        for x in range(20, 82, 4):
            c.glow(stroke([(x, 64), (x, 82)], 0.9), (0, 0, 0), opacity=0.25, blur=0.4, within=brim)
        return
    if d.form == "bucket":
        brim = blob((18, 62), (50, 54), (82, 62), (90, 76), (72, 82), (50, 84), (28, 82), (10, 76))
        crown = polygon(smooth(mirrored([(26, 64), (26, 64), (30, 34), (36, 28), (50, 26)])))
        c.part(brim, darker(d.main, 0.05), pattern=d.mask, second=d.other, bevel=1.6, depth=0.5)
        c.shade_under(crown, brim, opacity=0.5, shift=2)
        c.part(
            union(crown, ellipse(50, 64, 24, 5)), d.main, pattern=d.mask, second=d.other, bevel=2, depth=0.4, round=0.2
        )
        c.part(
            both(union(crown, ellipse(50, 64, 24, 5)), stroke([(22, 60), (50, 65), (78, 60)], 4.4)),
            d.other if d.pattern is None else darker(d.main, 0.3),
            bevel=0.6,
        )
        return
    crown = polygon(
        smooth([(18, 66), (18, 66), (19, 46), (30, 30), (46, 25), (62, 31), (72, 46), (74, 66), (74, 66), (46, 70)])
    )
    c.part(crown, d.main, pattern=d.mask, second=d.other, bevel=3, depth=0.5)
    for points in ([(46, 26), (40, 46), (39, 68)], [(46, 26), (60, 44), (66, 68)], [(46, 26), (26, 44), (22, 62)]):
        c.glow(stroke(points, 0.7), (0, 0, 0), opacity=0.4, blur=0.4, within=crown)
    c.part(ellipse(46, 25, 3.2, 1.8), d.other, bevel=0.7, depth=0.7)
    if d.pattern is None:
        c.part(ellipse(55, 51, 7), d.other, bevel=0.6, depth=0.5)
        c.part(polygon([(50.5, 54), (55, 46), (59.5, 54)]), accent(d.other), bevel=0.2)
    brim = polygon(smooth([(38, 66), (38, 66), (60, 61), (80, 62), (94, 72), (94, 76), (76, 74), (54, 75), (40, 71)]))
    c.shade_under(brim, crown, opacity=0.4, shift=-1)
    c.part(brim, d.other if d.pattern is None else darker(d.main, 0.15), bevel=1.4, depth=0.55)
