"""Check an ICC profile before LittleCMS reads it: entry function ``safe_profile``.

Layout: ICC.1:2022, sections 7.3 (tag table) and 10.16 (multiProcessElementsType).
"""

from __future__ import annotations

import struct

from .formats import MAX_PROFILE
from .options import ImageRefused, gettext_noop

MAX_TAGS = 100  # as LittleCMS
MAX_STAGES = 16
FLOAT_PIPELINES = {f"{a}2{b}{n}".encode() for a, b in ("DB", "BD") for n in range(4)}
UNUSED = b"\0\0\0\0"


def safe_profile(profile: bytes | None) -> bytes | None:
    """Return the profile without its floating-point pipelines; None where it is too long or broken.

    LittleCMS would prefer them and run all their stages for each of 36,000 colours, however often these name the same
    data. Every profile has a table or a matrix as well, which browsers use. Raises ImageRefused for a pipeline of so
    many stages that it was made to hurt.
    """
    if profile is None or len(profile) > MAX_PROFILE or len(profile) < 132:
        return None
    (count,) = struct.unpack_from(">L", profile, 128)
    if count > MAX_TAGS:
        return None
    safe = bytearray(profile)
    for entry in range(132, min(132 + 12 * count, len(profile) - 11), 12):
        name, start, _ = struct.unpack_from(">4sLL", profile, entry)
        pipeline = profile[start : start + 4] == b"mpet"
        if pipeline and int.from_bytes(profile[start + 12 : start + 16], "big") > MAX_STAGES:
            raise ImageRefused(
                "profile",
                gettext_noop("The picture's colour profile would take too long to apply. Save the picture in sRGB."),
            )
        if pipeline or name in FLOAT_PIPELINES:
            safe[entry : entry + 4] = UNUSED
    return bytes(safe)
