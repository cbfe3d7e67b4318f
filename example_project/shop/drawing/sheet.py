"""A contact sheet: pictures side by side, with captions, as one picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

INK, FAINT, PAPER = (34, 34, 40), (120, 120, 128), (255, 255, 255)


def contact_sheet(
    rows: Sequence[Sequence[tuple[Image.Image, str]]],
    *,
    cell: int = 150,
    gap: int = 14,
    first: str = "",
    rest: str = "",
) -> Image.Image:
    """Return one picture of rows of (picture, caption); ``first`` and ``rest`` head the first column and the others."""
    font, head = ImageFont.load_default(13), 26 if first or rest else 0
    caption = 36
    columns = max(len(row) for row in rows)
    lead = gap * 2 if first else 0  # a wider gap sets the first column off
    sheet = Image.new(
        "RGB", (columns * (cell + gap) + gap + lead, head + len(rows) * (cell + caption + gap) + gap), PAPER
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, 10), first, INK, ImageFont.load_default(15))
    draw.text((gap * 2 + cell + lead, 10), rest, INK, ImageFont.load_default(15))
    for y, row in enumerate(rows):
        for x, (picture, text) in enumerate(row):
            left, top = gap + x * (cell + gap) + (lead if x else 0), gap + head + y * (cell + caption + gap)
            thumb = picture.convert("RGB")
            thumb.thumbnail((cell, cell), Image.Resampling.LANCZOS)
            sheet.paste(thumb, (left + (cell - thumb.width) // 2, top + (cell - thumb.height) // 2))
            for i, line in enumerate(text.split("\n")[:2]):
                while line and draw.textlength(line, font) > cell:
                    line = line.rstrip("…")[:-1] + "…"
                draw.text((left, top + cell + 3 + i * 16), line, FAINT if i else INK, font)
    return sheet
