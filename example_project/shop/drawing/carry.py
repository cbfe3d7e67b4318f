"""Backpacks and handbags."""

from __future__ import annotations

from .canvas import Canvas
from .design import Design
from .palette import METALS, accent, darker, lighter
from .shapes import blob, both, box, ellipse, minus, mirrored, polygon, smooth, stroke, union

LEATHER = (134, 84, 50)


def backpack(c: Canvas, d: Design) -> None:
    trim = LEATHER if d.form == "flap" else d.other
    for flip in (1, -1):
        strap = [(50 + flip * 14, 20), (50 + flip * 33, 34), (50 + flip * 36, 60), (50 + flip * 27, 82)]
        c.part(stroke(strap, 4.6), darker(trim, 0.25), bevel=1, depth=0.5)
    c.part(minus(ellipse(50, 13, 8, 7), ellipse(50, 13, 5.4, 4.4)), trim, bevel=0.7, depth=0.6)
    if d.form == "roll":
        body = polygon(smooth(mirrored([(30, 24), (30, 24), (28, 40), (24, 62), (25, 84), (30, 90), (40, 91)])))
        c.part(body, d.main, pattern=d.mask, second=d.other, bevel=3, depth=0.5)
        roll = box(27, 14, 73, 28, 6)
        c.shade_under(roll, body, opacity=0.45, shift=2)
        c.part(roll, d.main, pattern=d.mask, second=d.other, bevel=3, depth=0.6)
        for x in (36, 64):
            c.part(box(x - 1.6, 12, x + 1.6, 46, 0.8), trim, bevel=0.5, depth=0.5)
            c.part(box(x - 2.6, 40, x + 2.6, 46, 1), d.fitting, bevel=0.5, depth=0.7)
    else:
        body = polygon(smooth(mirrored([(44, 14), (34, 17), (27, 30), (24, 60), (25, 82), (30, 90), (42, 91)])))
        c.part(body, d.main, pattern=d.mask, second=d.other, bevel=3.4, depth=0.5)
    c.glow(both(body, stroke([(33, 34), (30, 60), (32, 86)], 2)), (0, 0, 0), opacity=0.12, blur=1.4, within=body)
    if d.form == "flap":
        flap = polygon(smooth(mirrored([(44, 13), (33, 16), (25, 30), (24, 48), (26, 54), (38, 57)])))
        c.shade_under(flap, body, opacity=0.5, shift=2)
        c.part(flap, d.other, bevel=2, depth=0.5)
        for x in (38, 62):
            c.part(box(x - 2, 44, x + 2, 72, 1), trim, bevel=0.6, depth=0.5)
            c.part(
                minus(box(x - 3, 62, x + 3, 68, 1), box(x - 1.8, 63.3, x + 1.8, 66.7)),
                METALS["brass"],
                bevel=0.4,
                depth=0.8,
            )
        pocket = box(32, 64, 68, 86, 4)
        c.part(pocket, darker(d.main, 0.12), bevel=1.4, depth=0.5)
        for x in (38, 62):
            c.part(box(x - 2, 58, x + 2, 74, 1), trim, bevel=0.6, depth=0.5)
        return
    if d.form == "school":
        zipper = both(
            body,
            minus(
                blob((50, 20), (30, 32), (28, 50), (72, 50), (70, 32)),
                blob((50, 21.4), (31.4, 33), (29.4, 60), (70.6, 60), (68.6, 33)),
            ),
        )
        c.part(minus(zipper, box(0, 46, 100, 100)), accent(d.main), bevel=0.2, depth=0.3)
    pocket = box(31, 55, 69, 85, 6)
    c.shade_under(pocket, body, opacity=0.35)
    c.part(pocket, d.other if d.pattern is None else darker(d.main, 0.1), bevel=2, depth=0.5)
    c.part(stroke([(35, 61), (50, 59.5), (65, 61)], 1), accent(d.other if d.pattern is None else d.main), bevel=0.2)
    c.part(box(61, 60.5, 63, 66, 0.8), METALS["brass"], bevel=0.4, depth=0.8)
    label = box(43, 68, 57, 75, 1)
    c.part(label, LEATHER if d.form == "roll" else lighter(d.main, 0.55), bevel=0.5)


def handbag(c: Canvas, d: Design) -> None:
    metal = METALS["brass"]
    if d.form == "tote":
        for inset, shade in ((2, darker(d.other, 0.3)), (0, d.other)):
            c.part(
                stroke([(36 + inset, 42), (37 + inset, 22), (50, 11 + inset), (63 - inset, 22), (64 - inset, 42)], 2.6),
                shade,
                bevel=0.7,
                depth=0.6,
            )
        body = polygon(smooth(mirrored([(22, 34), (22, 34), (25, 62), (27, 86), (27, 86), (32, 89), (44, 89.5)])))
        c.part(body, d.main, pattern=d.mask, second=d.other, bevel=1.8, depth=0.45)
        for x in (36, 64):
            c.part(box(x - 2, 36, x + 2, 46, 0.6), d.other, bevel=0.5, depth=0.5)
        if d.pattern is None:
            c.part(both(body, box(0, 72, 100, 100)), d.other, bevel=0.8)
        return
    if d.form == "satchel":
        c.part(
            minus(stroke([(33, 44), (36, 22), (50, 16), (64, 22), (67, 44)], 3.4)),
            darker(d.main, 0.2),
            bevel=0.9,
            depth=0.6,
        )
        body = box(18, 36, 82, 84, 7)
        c.part(body, d.main, pattern=d.mask, second=d.other, bevel=2.4, depth=0.45)
        flap = polygon(
            smooth(
                [
                    (18, 42),
                    (22, 35),
                    (30, 34),
                    (70, 34),
                    (78, 35),
                    (82, 42),
                    (82, 56),
                    (70, 64),
                    (50, 66),
                    (30, 64),
                    (18, 56),
                ]
            )
        )
        c.shade_under(flap, body, opacity=0.5, shift=2)
        c.part(flap, d.other if d.pattern is None else d.main, bevel=1.8, depth=0.5)
        c.part(box(45, 58, 55, 69, 1.6), metal, bevel=0.9, depth=0.8)
        c.part(box(48, 62, 52, 65, 0.8), darker(metal, 0.5), bevel=0.3)
        for x in (33, 67):
            c.part(ellipse(x, 42, 2.6), metal, bevel=0.7, depth=0.9)
        return
    if d.form == "clutch":
        chain = stroke([(22, 44), (28, 20), (50, 13), (72, 20), (78, 44)], 1.4)
        c.part(chain, metal, bevel=0.3, depth=0.9)
        body = polygon(smooth([(14, 42), (14, 42), (86, 42), (86, 42), (84, 72), (78, 78), (22, 78), (16, 72)]))
        c.part(body, d.main, pattern=d.mask, second=d.other, bevel=2, depth=0.45)
        flap = polygon([(14, 41), (86, 41), (50, 66)])
        c.shade_under(flap, body, opacity=0.5, shift=1.5)
        c.part(flap, d.other if d.pattern is None else darker(d.main, 0.15), bevel=0.9, depth=0.5)
        c.part(ellipse(50, 63, 3), metal, bevel=1, depth=0.9)
        return
    c.part(
        minus(ellipse(50, 36, 22, 25), ellipse(50, 36, 19, 22), box(0, 44, 100, 100)),
        darker(d.other, 0.1),
        bevel=0.8,
        depth=0.6,
    )
    body = polygon(smooth(mirrored([(29, 38), (29, 38), (24, 58), (22, 80), (28, 88), (42, 89)])))
    c.part(
        union(body, ellipse(50, 39, 21, 5)), d.main, pattern=d.mask, second=d.other, bevel=2.6, depth=0.45, round=0.15
    )
    c.part(ellipse(50, 38.5, 20, 4.2), darker(d.main, 0.45), bevel=0.6)
    cord = stroke([(27.5, 48), (50, 53), (72.5, 48)], 1.6)
    c.part(cord, d.other, bevel=0.4, depth=0.6)
    for x in (44, 56):
        c.part(stroke([(50, 53), (x, 66)], 1.4), d.other, bevel=0.4, depth=0.6)
        c.part(ellipse(x, 67, 2), metal, bevel=0.5, depth=0.8)
