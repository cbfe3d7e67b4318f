"""Turn the bytes of a picture into a clean, square RGB image.

Entry function: ``load``. ``ImageOptions`` say what is accepted and how it is prepared; ``ImageRefused`` says, with a
code and a sentence, why a file is not. May import: Pillow only. No Django and no NumPy, so that a decoder process
starts fast.
"""

from .load import VERSION, Area, Photo, crop_square, load, load_whole, read_picture
from .options import CODES, FITS, FORMATS, Box, ImageOptions, ImageRefused, check_crop

__all__ = [
    "CODES",
    "FITS",
    "FORMATS",
    "VERSION",
    "Area",
    "Box",
    "ImageOptions",
    "ImageRefused",
    "Photo",
    "check_crop",
    "crop_square",
    "load",
    "load_whole",
    "read_picture",
]
