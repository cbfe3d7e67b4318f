"""Colours by the names that shops give them, and colours derived from them."""

from __future__ import annotations

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "Ivory": (238, 230, 214),
    "Sand": (214, 190, 150),
    "Mustard": (222, 168, 48),
    "Terracotta": (200, 98, 66),
    "Coral": (240, 122, 106),
    "Poppy": (214, 52, 48),
    "Burgundy": (122, 32, 52),
    "Blush": (238, 184, 184),
    "Plum": (104, 56, 108),
    "Lavender": (172, 156, 214),
    "Navy": (34, 50, 92),
    "Cobalt": (44, 92, 196),
    "Sky": (132, 186, 226),
    "Teal": (26, 126, 128),
    "Mint": (158, 214, 190),
    "Sage": (146, 166, 134),
    "Forest": (40, 88, 62),
    "Olive": (112, 114, 54),
    "Espresso": (78, 54, 44),
    "Slate": (104, 118, 132),
    "Charcoal": (54, 56, 62),
    "Snow": (246, 246, 244),
}

WOODS: dict[str, Colour] = {
    "oak": (196, 152, 98),
    "walnut": (112, 72, 48),
    "beech": (222, 184, 136),
    "ash": (150, 128, 106),
}
METALS: dict[str, Colour] = {
    "steel": (186, 190, 196),
    "brass": (206, 166, 88),
    "black": (48, 48, 52),
    "copper": (196, 122, 88),
}
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (18, 18, 22)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Return ``a`` with ``share`` of ``b`` in it."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def lighter(colour: Colour, share: float) -> Colour:
    return mix(colour, WHITE, share)


def darker(colour: Colour, share: float) -> Colour:
    return mix(colour, BLACK, share)


def luminance(colour: Colour) -> float:
    """Return 0 for black to 255 for white (Rec. 601)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def accent(colour: Colour) -> Colour:
    """Return a colour that shows on ``colour``: cream on dark, a deep shade of itself on light."""
    return (246, 238, 222) if luminance(colour) < 150 else darker(colour, 0.5)
