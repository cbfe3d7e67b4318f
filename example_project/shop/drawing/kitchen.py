"""Mugs, bottles and teapots."""

from __future__ import annotations

from .canvas import Canvas
from .design import Design
from .palette import METALS, WHITE, darker, lighter, luminance
from .shapes import blob, both, box, ellipse, minus, mirrored, polygon, smooth, stroke, union


def mug(c: Canvas, d: Design) -> None:
    top, bottom, left, right = 24, 80, 22, 66
    if d.form == "espresso":
        top, left, right = 36, 27, 64
    waist, foot = {"tapered": (5, 8), "round": (-3, 9), "enamel": (0.5, 1)}.get(d.form, (0.5, 2))
    middle = (left + right) / 2
    side = [
        (left, top),
        (left, top),
        (left + waist, 54),
        (left + foot * 0.7, bottom - 5),
        (left + foot, bottom),
        (left + foot, bottom),
    ]
    base = ellipse(middle, bottom - 0.5, middle - left - foot, 4.2)
    body = union(polygon(smooth(mirrored(side, middle))), base)
    handle = minus(ellipse(right + 2, 51, 14, 17), ellipse(right + 2, 51, 8.5, 11.5), body)
    if d.form == "espresso":
        handle = minus(ellipse(right, 54, 11, 12), ellipse(right, 54, 6.5, 7.5), body)
    rim_colour = d.fitting if d.form == "enamel" else d.main
    c.part(handle, rim_colour if d.form == "enamel" else d.main, bevel=1.4, depth=0.7)
    c.part(body, d.main, pattern=d.mask, second=d.other, round=0.45, bevel=1.5, depth=0.3)
    if d.pattern is None and d.form in ("straight", "tapered"):
        dip = both(body, box(0, bottom - 16, 100, 100))  # glazed in two colours
        c.part(dip, d.other, round=0.45, bevel=0.6, depth=0.2)
    rx = (right - left) / 2
    c.part(ellipse(middle, top, rx, 5), lighter(rim_colour, 0.3), bevel=0.5, depth=0.4)
    inside = ellipse(middle, top + 0.5, rx - 1.4, 4)
    c.part(inside, darker((236, 230, 220), 0.25), fall=-0.25, bevel=0.5, depth=-0.5)
    c.part(both(inside, ellipse(middle, top + 4.2, rx - 3, 3)), (70, 40, 26), bevel=0.3)
    c.glow(box(left + 7, top + 10, left + 10, bottom - 14, 1.5), WHITE, opacity=0.5, blur=1.2, within=body)


def bottle(c: Canvas, d: Design) -> None:
    wide = {"slim": 11, "flask": 16, "sport": 14}[d.form]
    l, r = 50 - wide, 50 + wide  # noqa: E741
    steel = METALS["steel"]
    if d.form == "flask":
        body = union(
            box(l, 42, r, 91, 5),
            polygon(smooth(mirrored([(40, 20), (40, 20), (39.5, 24), (l + 2, 30), (l, 37), (l, 46), (l, 46)]))),
        )
        c.part(minus(ellipse(50, 11, 9, 7), ellipse(50, 11, 6, 4.4)), d.fitting, bevel=0.8, depth=0.7)
        cap = box(39, 11, 61, 21, 2)
    elif d.form == "sport":
        body = union(
            polygon(
                smooth(mirrored([(l, 30), (l, 30), (l + 0.5, 50), (l + 3.5, 58), (l + 0.5, 66), (l, 88), (l, 88)]))
            ),
            box(l, 84, r, 92, 4),
            ellipse(50, 30, wide, 7),
        )
        c.part(box(45, 7, 55, 20, 3), lighter(d.other, 0.25), round=0.4)
        cap = union(box(l + 1, 19, r - 1, 28, 3), box(42, 14, 58, 22, 2))
    else:
        body = union(
            box(l, 48, r, 92, 4),
            polygon(smooth(mirrored([(44, 18), (44, 18), (44, 27), (l + 1.5, 36), (l, 43), (l, 50), (l, 50)]))),
        )
        cap = box(43, 9, 57, 20, 2)
    c.part(body, d.main, pattern=d.mask, second=d.other, round=0.55, bevel=1.5)
    if d.pattern is None:
        c.part(both(body, box(0, 82, 100, 100)), d.other if d.form == "sport" else steel, round=0.55, bevel=0.8)
        c.part(polygon(smooth([(50, 54), (54, 60), (50, 67), (46, 60)])), lighter(d.main, 0.6), bevel=0.3, opacity=0.9)
    c.part(cap, d.other if d.form == "sport" else d.fitting, round=0.5, bevel=1)
    for y in (13, 15.5, 18):
        if d.form != "sport":
            c.glow(both(box(38, y, 62, y + 0.7), cap), (0, 0, 0), opacity=0.35, blur=0.2)
    c.glow(box(l + 4, 38, l + 7, 82, 1.5), WHITE, opacity=0.55, blur=1.1, within=body)


def teapot(c: Canvas, d: Design) -> None:
    if d.form == "tall":
        body = blob(
            (34, 36), (27, 58), (31, 76), (38, 84), (38, 84), (62, 84), (62, 84), (69, 76), (73, 58), (66, 36), (50, 32)
        )
        lid_y, lid = 34, blob((34, 36), (38, 29), (50, 26), (62, 29), (66, 36), (50, 39))
    else:
        body = blob(
            (32, 42), (20, 59), (29, 77), (37, 84), (37, 84), (63, 84), (63, 84), (71, 77), (80, 59), (68, 42), (50, 37)
        )
        lid_y, lid = 40, blob((31, 43), (37, 35), (50, 31), (63, 35), (69, 43), (50, 46))
    spout = blob((30, 70), (24, 64), (14, 52), (9, 40), (9, 40), (14, 39), (14, 39), (20, 48), (30, 54))
    if d.form == "bamboo":
        handle = minus(ellipse(50, 38, 28, 28), ellipse(50, 38, 24.5, 24.5), box(0, 56, 100, 100))
        c.part(handle, d.fitting, bevel=1, depth=0.7)
    else:
        handle = minus(ellipse(76, 58, 17, 18), ellipse(76, 58, 12, 13), box(0, 0, 66, 100))
        c.part(handle, d.main, bevel=1.2, depth=0.6)
    c.part(spout, d.main, bevel=1.5, depth=0.6)
    c.part(body, d.main, pattern=d.mask, second=d.other, round=0.3, bevel=4, depth=0.5)
    c.shade_under(lid, body, opacity=0.35)
    c.part(lid, d.main if d.pattern else d.other, bevel=1.6, depth=0.5)
    knob = d.fitting if luminance(d.main) > 60 else lighter(d.fitting, 0.3)
    c.part(ellipse(50, lid_y - 11, 4, 3.6), knob, bevel=1.2, depth=0.8)
    c.glow(ellipse(38, 55, 5, 9), WHITE, opacity=0.42, blur=2.2, within=body)
    if d.pattern is None:
        c.part(both(body, stroke([(20, 66), (50, 70), (80, 66)], 1.6)), d.other, bevel=0.3)
