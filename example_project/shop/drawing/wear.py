"""Sneakers and T-shirts."""

from __future__ import annotations

from .canvas import Canvas
from .design import Design
from .palette import accent, darker, lighter
from .shapes import Mask, blob, both, box, ellipse, minus, mirrored, polygon, smooth, stroke, union


def sneaker(c: Canvas, d: Design) -> None:
    high, runner = d.form == "high", d.form == "runner"
    pale = (244, 242, 236)
    ankle = 24 if high else 42
    upper = polygon(
        smooth(
            [
                (9, 74),
                (9, 74),
                (8, 58),
                (10, ankle + 4),
                (13, ankle),
                (13, ankle),
                (24, ankle + 3),
                (33, ankle - 1),
                (33, ankle - 1),
            ]
            + ([(37, 40)] if high else [])
            + [(46, 51), (60, 57), (78, 60), (90, 66), (92, 74), (92, 74)]
        )
    )
    tongue = blob((30, ankle + 8), (32, ankle - 7), (38, ankle - 8), (44, ankle + 8), (52, 54), (44, 58))
    c.part(tongue, lighter(d.main, 0.2), bevel=1.2, depth=0.5)
    c.part(upper, d.main, pattern=d.mask, second=d.other, bevel=2.6, depth=0.5)
    c.glow(both(upper, ellipse(23, ankle + 1, 9, 4)), (0, 0, 0), opacity=0.45, blur=0.8, within=upper)
    toe = both(upper, union(ellipse(88, 75, 17, 14)))
    if not runner:
        c.part(toe, pale if d.form == "low" else lighter(d.main, 0.35), bevel=1.4, depth=0.35)
    heel = both(upper, blob((4, 76), (4, ankle + 10), (14, ankle + 14), (20, 62), (22, 76)))
    c.part(heel, d.other, bevel=1, depth=0.4)
    if runner:
        sweep = both(upper, union(*(stroke([(34 + x, 72), (46 + x, 63), (62 + x, 60)], 2.2) for x in (0, 7, 14))))
        c.part(sweep, d.other, bevel=0.5, depth=0.5)
    elif d.pattern is None:
        panel = both(upper, blob((28, 74), (30, 60), (46, 64), (66, 67), (60, 74)))
        c.part(panel, d.other, bevel=0.7, depth=0.4)
    eyelets = both(
        upper, stroke([(36, ankle + 3), (40, 45), (49, 54), (62, 59)] if high else [(36, 45), (46, 53), (62, 59)], 5)
    )
    c.part(eyelets, darker(d.main, 0.12), bevel=0.6, depth=0.4)
    laces = [(35 + i * 5.2, 45 + i * 3.1) for i in range(5)]
    if high:
        laces = [(33.5, 31), (35.5, 38), *laces[1:]]
    for x, y in laces:
        c.part(stroke([(x - 2.2, y + 2.4), (x + 4.4, y - 1.4)], 1.5), pale, bevel=0.4, depth=0.6)
    thick = 11 if runner else 8
    lift = [
        (6, 71),
        (6, 71),
        (30, 73),
        (60, 73),
        (92, 70),
        (92, 70),
        (95, 74),
        (93, 69 + thick),
        (87, 71.5 + thick),
        (87, 71.5 + thick),
        (50, 72 + thick),
        (12, 71.5 + thick),
        (12, 71.5 + thick),
        (7, 69 + thick),
        (5.5, 75),
    ]
    sole = polygon(smooth(lift))
    c.part(sole, pale, bevel=1.4, depth=0.5, fall=0.05)
    stripe = both(
        sole, box(0, 68 + thick, 100, 100) if runner else stroke([(4, 76), (30, 77), (60, 77), (97, 74)], 1.2)
    )
    c.part(stripe, d.other, bevel=0.3)


def tshirt(c: Canvas, d: Design) -> None:
    if d.form == "long":
        side = [
            (39, 15),
            (39, 15),
            (27, 19),
            (18, 30),
            (11, 58),
            (7, 82),
            (7, 82),
            (18, 85),
            (18, 85),
            (23, 64),
            (28, 47),
            (28, 47),
            (28, 66),
            (27, 89),
            (27, 89),
        ]
    else:
        side = [
            (39, 15),
            (39, 15),
            (27, 19),
            (19, 25),
            (7, 42),
            (7, 42),
            (20, 52),
            (20, 52),
            (27, 44),
            (27, 44),
            (28, 64),
            (27, 88),
            (27, 88),
        ]
    shirt = polygon(smooth([*mirrored(side)]))
    neck = (
        polygon(smooth([(39, 13), (39, 13), (50, 34), (50, 34), (61, 13), (61, 13)]))
        if d.form == "v"
        else ellipse(50, 13, 11.5, 10)
    )
    back = both(neck, shirt)
    c.part(back, darker(d.main, 0.35), bevel=0.6)
    body = minus(shirt, neck)
    c.part(body, d.main, pattern=d.mask, second=d.other, bevel=2.2, depth=0.4, fall=0.06)
    for points in ([(32, 40), (34, 60), (33, 84)], [(66, 48), (64, 66), (67, 86)], [(45, 62), (42, 76), (44, 87)]):
        c.glow(stroke(points, 2.2), (0, 0, 0), opacity=0.15, blur=1.3, within=body)
    for side_x in (-1, 1):
        c.glow(
            stroke([(50 + side_x * 24, 24), (50 + side_x * 22.5, 46)], 0.8),
            (0, 0, 0),
            opacity=0.4,
            blur=0.4,
            within=body,
        )
    rib = both(
        body,
        minus(
            ellipse(50, 13, 14, 12.5)
            if d.form != "v"
            else polygon(smooth([(36, 12), (36, 12), (50, 38), (50, 38), (64, 12), (64, 12)])),
            neck,
        ),
    )
    trim = d.other if d.pattern is None else darker(d.main, 0.15)
    c.part(rib, trim, bevel=0.5, depth=0.5)
    if d.form == "long":
        for flip in (0, 1):
            cuff = [(5, 77), (20, 80), (20, 90), (4, 90)]
            c.part(both(shirt, polygon([(100 - x, y) for x, y in cuff] if flip else cuff)), trim, bevel=0.5)
    if d.pattern is None:
        _print(c, d, both(body, box(27, 0, 73, 100)))


def _print(c: Canvas, d: Design, trunk: Mask) -> None:
    """Draw a motif on the chest; ``trunk``: the body between the sleeves."""
    ink = accent(d.main)
    motif = d.rng.choice(["sun", "peaks", "bars", "pocket", "ring"])
    if motif == "sun":
        c.part(ellipse(50, 50, 10), d.other, bevel=0.3)
        c.part(
            both(ellipse(50, 50, 10), union(*(box(38, y, 62, y + 1.4) for y in (50, 53.4, 56.8)))), d.main, bevel=0.1
        )
    elif motif == "peaks":
        c.part(polygon([(36, 60), (46, 43), (52, 52), (56, 46), (65, 60)]), ink, bevel=0.3)
        c.part(ellipse(60, 41, 3), d.other, bevel=0.3)
    elif motif == "bars":
        for i in range(3):
            c.part(both(trunk, box(0, 45 + i * 7, 100, 49 + i * 7)), d.other if i % 2 == 0 else ink, bevel=0.2)
    elif motif == "pocket":
        pocket = polygon([(56, 38), (67, 38), (67, 49), (61.5, 52), (56, 49)])
        c.shade_under(pocket, trunk, opacity=0.3, blur=0.6, shift=0.6)
        c.part(pocket, d.other, bevel=0.5)
    else:
        c.part(minus(ellipse(50, 50, 11), ellipse(50, 50, 8)), ink, bevel=0.3)
        c.part(ellipse(50, 50, 4), d.other, bevel=0.3)
