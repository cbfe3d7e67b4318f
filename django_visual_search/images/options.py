"""``ImageOptions``, which say which pictures are accepted and how they are prepared, and ``ImageRefused``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

FORMATS = ("JPEG", "PNG", "WebP", "AVIF", "GIF", "HEIC")
FITS = ("pad", "stretch", "center-crop")

CODES = {
    "empty": "The file has no bytes.",
    "too_large": "The file has more bytes than max_bytes.",
    "format": "The bytes are not one of the accepted formats, whatever the file is called.",
    "heic": "A HEIC photo, and the heic extra is not installed.",
    "corrupt": "The format is accepted but the file is truncated or broken.",
    "pixels": "The picture has more pixels than max_pixels, or needs more memory or time to decode than is allowed.",
    "side": "A side is shorter than min_side or longer than max_side, or one is max_aspect times the other.",
    "crop": "The crop box is not a box inside the picture, or it is too small.",
    "memory": "Memory ran out while decoding.",
    "time": "Decoding took more processor time than is allowed.",
    "profile": "The colour profile would take too long to apply.",
}
"""Every code that an ImageRefused can have, with its meaning for programmers.

The sentences for people stand where an ImageRefused is raised: in this package and in ``decoding``.
"""


class ImageRefused(ValueError):  # noqa: N818 (shops catch it by this name)
    """The input is not accepted: ``code``, a key of CODES, is for programs, ``str(e)``, a sentence, for people.

    ``message``: the sentence in English, with a ``%(name)s`` for each of ``values``, so that it can be translated.
    """

    def __init__(self, code: str, message: str, values: dict[str, Any] | None = None) -> None:
        super().__init__(message % values if values else message)
        self.code = code
        self.message = message
        self.values = values or {}

    def __reduce__(self) -> tuple[type[ImageRefused], tuple[str, str, dict[str, Any]]]:
        # The default would lose the code.
        return type(self), (self.code, self.message, self.values)


def gettext_noop(text: str) -> str:
    """Mark a sentence for translation where it is shown. As Django's, which this package doesn't import."""
    return text


EMPTY_FILE = gettext_noop("The file is empty. Choose a picture.")
BROKEN_PICTURE = gettext_noop("The picture is truncated or broken. Save or photograph it again.")


def _limit(default: float) -> Any:
    # Limits decide whether there is a vector, never which one. Kept out of the repr, they stay out of the extractor's
    # key, so a shop can change them without embedding its catalogue again.
    return field(default=default, repr=False)


@dataclass(frozen=True)
class ImageOptions:
    """Options that turn bytes into an extractor's square RGB picture. The repr has every option that changes pixels."""

    fit: str = "pad"
    """Way to make the picture square: ``pad`` with the background, ``stretch``, or ``center-crop``."""
    trim: bool = True
    """Cut borders of one colour, the same at all four corners, so that products fill their pictures alike."""
    trim_margin: float = 0.1
    """Border that a trim leaves on each side, as a share of the product's longest side.

    Measured on the grocery data (880 photos to 81 shop pictures, MobileNetV2-0.35, cosine), R@1 / R@5: pictures as they
    are .232 / .503 without a trim, .225 / .508 with margin 0, .232 / .497 with 0.1; with random white borders
    .211 / .436, .245 / .502 and .235 / .499. R@1 on centred features, pictures as they are: .267, .241 and .268.
    """
    trim_tolerance: int = 12
    """Most difference of a border's channel from the corners' colour, 0 to 255: above JPEG noise on white."""
    denoise: int | None = None
    """Side in pixels of a median filter: 3, 5, 7, 9 or None. It works at two to four times the final size."""
    background: tuple[int, int, int] = (255, 255, 255)
    """RGB colour beneath transparent pixels and around padded pictures. Shops photograph on white."""
    orient: bool = True
    """Turn the picture as its EXIF orientation says."""
    icc: bool = True
    """Convert colours from the embedded ICC profile to sRGB. A profile that is broken is ignored."""

    formats: tuple[str, ...] = field(default=FORMATS, repr=False)
    """Accepted formats, from JPEG, PNG, WebP, AVIF, GIF and HEIC (which needs the ``heic`` extra)."""
    max_bytes: int = _limit(20 * 2**20)
    """Most bytes of a file; at most one byte more is read."""
    max_pixels: int = _limit(120_000_000)
    """Most pixels, width times height, as stored. Enough for the 108 megapixels of a phone."""
    max_memory: int = _limit(200 * 2**20)
    """Most bytes that decoding may need, as estimated from format and size before anything is decoded.

    JPEG decodes at a fraction of its size, so 108 megapixels need little; others decode whole: 52 megapixels of PNG in
    colour (26 at 16 bits), 120 of greyscale PNG, 104 of GIF, 24 of HEIC, 16 of AVIF, 12 of WebP.
    """
    min_side: int = _limit(8)
    """Least pixels of a side."""
    max_side: int = _limit(32_768)
    """Most pixels of a side."""
    max_aspect: float = _limit(32.0)
    """Largest ratio of the longest side to the shortest."""

    def __post_init__(self) -> None:
        for name in ("background", "formats"):  # settings and JSON give lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}, not {self.fit!r}.")
        if self.denoise is not None and self.denoise not in (3, 5, 7, 9):
            raise ValueError(f"denoise must be None or 3, 5, 7 or 9 pixels, not {self.denoise!r}.")
        if not 0 <= self.trim_margin <= 10:
            raise ValueError(f"trim_margin must be from 0 to 10, not {self.trim_margin!r}.")
        if not 0 <= self.trim_tolerance <= 255:
            raise ValueError(f"trim_tolerance must be from 0 to 255, not {self.trim_tolerance!r}.")
        if len(self.background) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in self.background):
            raise ValueError(f"background must be three integers from 0 to 255, not {self.background!r}.")
        if not self.formats or set(self.formats) - set(FORMATS):
            raise ValueError(f"formats must be some of {', '.join(FORMATS)}, not {self.formats!r}.")
        for name in ("max_bytes", "max_pixels", "max_memory", "min_side", "max_side", "max_aspect"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)!r}.")


def check_size(width: int, height: int, options: ImageOptions) -> None:
    """Raise ImageRefused for a picture that is too small, too large or too thin."""
    size = {"width": width, "height": height}
    if min(width, height) < options.min_side:
        raise ImageRefused(
            "side",
            gettext_noop(
                "The picture is only %(width)d x %(height)d pixels. Use one of at least %(least)d on each side."
            ),
            {**size, "least": options.min_side},
        )
    if max(width, height) > options.max_side:
        raise ImageRefused(
            "side",
            gettext_noop("The picture is %(width)d x %(height)d pixels. Use one of at most %(most)d on each side."),
            {**size, "most": options.max_side},
        )
    if max(width, height) > options.max_aspect * min(width, height):
        thin = gettext_noop("The picture is too thin: %(width)d x %(height)d pixels. Crop it nearer to a square.")
        raise ImageRefused("side", thin, size)
    check_pixels(width, height, 0, options)


def check_pixels(width: int, height: int, bytes_per_pixel: float, options: ImageOptions) -> None:
    """Raise ImageRefused for a picture with too many pixels, or whose decoding would need too much memory."""
    pixels = width * height
    if pixels > options.max_pixels or pixels * bytes_per_pixel > options.max_memory:
        raise ImageRefused(
            "pixels",
            gettext_noop(
                "The picture is too large to decode: %(width)d x %(height)d pixels. "
                "Scale it down, for example to 2000 pixels on the longest side."
            ),
            {"width": width, "height": height},
        )


Box = tuple[float, float, float, float]


def check_crop(crop: Any) -> Box:
    """Return the crop box ``(x0, y0, x1, y1)`` as floats, fractions of the picture as shown. Raises ImageRefused."""
    try:
        x0, y0, x1, y1 = (float(value) for value in crop)
    except (TypeError, ValueError, OverflowError):
        raise ImageRefused(
            "crop", gettext_noop("The crop box must be four numbers: left, top, right and bottom.")
        ) from None
    if not all(map(math.isfinite, (x0, y0, x1, y1))) or not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise ImageRefused(
            "crop",
            gettext_noop(
                "The crop box must lie in the picture: 0 ≤ left < right ≤ 1 and 0 ≤ top < bottom ≤ 1, as fractions."
            ),
        )
    return x0, y0, x1, y1
