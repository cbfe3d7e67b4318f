"""Paint a cut-out part by part, with light from the upper left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from .palette import Colour
from .shapes import SIZE, Mask, around, both

PIXELS = SIZE / 100


def _slopes(height: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the slopes down and across, as ``np.gradient`` does in twice the time."""
    down, across = np.empty_like(height), np.empty_like(height)
    np.subtract(height[2:], height[:-2], out=down[1:-1])
    np.subtract(height[:, 2:], height[:, :-2], out=across[:, 1:-1])
    down[1:-1] /= 2
    across[:, 1:-1] /= 2
    down[0], down[-1] = height[1] - height[0], height[-1] - height[-2]
    across[:, 0], across[:, -1] = height[:, 1] - height[:, 0], height[:, -1] - height[:, -2]
    return down, across


class Canvas:
    """An RGBA picture of ``SIZE`` pixels a side, transparent at first."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (SIZE, SIZE))

    def part(
        self,
        mask: Mask,
        colour: Colour,
        *,
        pattern: Mask | None = None,
        second: Colour | None = None,
        bevel: float = 1.2,
        depth: float = 0.35,
        fall: float = 0.1,
        round: float = 0.0,
        opacity: float = 1.0,
    ) -> None:
        """Paint the shape ``mask``.

        ``second`` is the colour where ``pattern`` is white; ``bevel`` is the width of the rounded edge in hundredths of
        the picture, ``depth`` how strongly it takes the light; ``fall`` darkens from top to bottom; ``round`` shades
        across as on a cylinder.
        """
        if (bounds := mask.getbbox()) is None or (region := around(mask, int(bevel * PIXELS * 2) + 2)) is None:
            return
        x0, x1 = bounds[0], bounds[2]
        shape = mask.crop(region)
        light = np.zeros((shape.height, shape.width), np.float32)
        if depth and bevel:
            radius = bevel * PIXELS
            height = np.asarray(shape.filter(ImageFilter.GaussianBlur(radius)), np.float32)
            height /= 255
            down, across = _slopes(height)
            across *= 0.55
            down *= 0.85
            across += down
            for factor in (radius, 2.2, depth):
                across *= factor
            light = across
        light += fall * (1 - 2 * np.linspace(0, 1, shape.height, dtype=np.float32))[:, None]
        if round:
            places = (np.arange(shape.width, dtype=np.float32) + region[0] - x0) / max(1, x1 - x0)
            light += round * (0.75 - 2.6 * np.abs(places - 0.34) ** 1.5 - 0.25)[None, :]
        np.clip(light, -0.75, 0.75, out=light)
        bright, darker = light > 0, light + 1
        share = None
        if pattern is not None and second is not None:
            share = np.asarray(pattern.crop(region), np.float32) / np.float32(255)
        # Each channel by itself: NumPy is several times as fast with whole rows as with triples.
        channels = []
        for i in range(3):
            value: NDArray[np.float32] | np.float32 = np.float32(colour[i])
            if share is not None and second is not None:
                value = value + np.float32(second[i] - colour[i]) * share
            channel = darker * value
            np.copyto(channel, (255 - value) * light + value, where=bright)
            channels.append(Image.fromarray(channel.astype(np.uint8)))
        alpha = shape if opacity == 1 else shape.point(lambda value: int(value * opacity))
        self.image.alpha_composite(Image.merge("RGBA", [*channels, alpha]), region[:2])

    def glow(
        self, mask: Mask, colour: Colour, *, opacity: float, blur: float = 1.0, within: Mask | None = None
    ) -> None:
        """Paint a soft patch of light or shade, cut to ``within``."""
        if (region := around(mask, int(blur * PIXELS * 3) + 6)) is None:
            return
        soft = mask.crop(region).filter(ImageFilter.GaussianBlur(blur * PIXELS))
        soft = soft.point(lambda value: int(value * opacity))
        layer = Image.new("RGBA", soft.size, (*colour, 0))
        layer.putalpha(soft if within is None else both(soft, within.crop(region)))
        self.image.alpha_composite(layer, region[:2])

    def shade_under(
        self, mask: Mask, below: Mask, *, opacity: float = 0.4, blur: float = 1.5, shift: float = 1.5
    ) -> None:
        """Paint the shadow of a part on the one below it; call this before the part is painted."""
        self.glow(ImageChops.offset(mask, 0, int(shift * PIXELS)), (0, 0, 0), opacity=opacity, blur=blur, within=below)
