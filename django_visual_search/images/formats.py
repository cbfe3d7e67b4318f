"""Format, size and metadata of a file, read from its bytes before any decoder sees them.

Each reader bounds the work of Pillow's own header parser, which walks a file in Python.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from .options import ImageRefused, gettext_noop

MAX_PROFILE = 4 * 2**20  # bytes; press profiles have up to 3 MB
MAX_PARTS = 100_000  # chunks or blocks; a picture of 20 MB in PNG chunks of 4 kB has 5,000
MAX_JPEG_SEGMENTS = 4_000  # before the first scan; an ICC profile takes at most 255
MAX_JPEG_JUNK = 65_536  # bytes between segments, which Pillow skips one by one

AVIF_BRANDS = {b"avif", b"avis"}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}


class BrokenError(Exception):
    """The file contradicts its own format."""


def sniff(data: bytes) -> str | None:
    """Return the format that the first bytes name, one of ``FORMATS``, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        # ISO/IEC 14496-12: size, "ftyp", major brand, minor version, compatible brands. The major brand may be the
        # generic "mif1", so a compatible one decides.
        box = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
        brands = {box[i : i + 4] for i in (0, *range(8, len(box), 4))}
        return "AVIF" if brands & AVIF_BRANDS else "HEIC" if brands & HEIC_BRANDS else None
    return None


@dataclass(frozen=True)
class JPEG:
    """A JPEG without the segments that its picture doesn't need."""

    data: bytes
    exif: bytes | None
    frame: int
    """Second byte of the start-of-frame marker: 0xC0 baseline, 0xC1 extended, 0xC2 progressive."""
    scans: int
    """At least as many scans as the decoder will meet; 1 if one scan holds all components."""


_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
# Comments and application segments, except JFIF (0xE0), ICC (0xE2) and Adobe's colour transform (0xEE)
_DROPPED = {0xFE, *range(0xE0, 0xF0)} - {0xE0, 0xE2, 0xEE}
_MARKER = re.compile(rb"\xff+([^\xff])")


def jpeg_essentials(data: bytes) -> JPEG:
    """Walk the segments to the first scan (ITU T.81, annex B). Raises BrokenError without one."""
    view, kept = memoryview(data), [memoryview(data)[:2]]
    pos, junk, frame, components, exif = 2, 0, 0, 0, None
    for _ in range(MAX_JPEG_SEGMENTS):
        start = data.find(b"\xff", pos)
        marker = _MARKER.match(data, start) if start >= 0 else None
        if marker is None:
            break
        code, body = marker[1][0], marker.end()
        junk += body - pos - 2
        if junk > MAX_JPEG_JUNK:
            break
        if code in (0x00, 0x01) or 0xD0 <= code <= 0xD8:  # no length follows
            pos = body
            continue
        end = body + max(2, int.from_bytes(data[body : body + 2], "big"))
        if code in _FRAMES:
            frame, components = code, data[body + 7] if len(data) > body + 7 else 0
        elif code == 0xE1 and exif is None and data[body + 2 : body + 8] == b"Exif\0\0":
            exif = data[body + 2 : end]
        elif code == 0xDA:
            # libjpeg collects a picture's coefficients unless the first scan has them all. Entropy-coded bytes never
            # hold FF DA, so this counts no scan too few.
            whole = frame != 0xC2 and data[body + 2 : body + 3] >= bytes([components])
            scans = 1 if whole else max(2, data.count(b"\xff\xda", start))
            return JPEG(b"".join([*kept, view[body - 2 :]]), exif, frame, scans)
        if code not in _DROPPED:
            kept.append(view[body - 2 : end])
        pos = end
    raise BrokenError("no scan")


def png_essentials(data: bytes) -> tuple[bytes, bytes | None]:
    """Return the PNG without the chunks that its still picture doesn't need, and the ICC profile.

    Text chunks (zTXt and iTXt inflate 1000-fold) and animation frames are dropped; a profile is inflated to at most
    ``MAX_PROFILE`` bytes. Layout: https://www.w3.org/TR/png-3/#5Chunk-layout
    """
    view, pos, profile = memoryview(data), 8, None
    head: list[bytes | memoryview] = [data[:8]]
    body: list[bytes | memoryview] = []
    for _ in range(MAX_PARTS):
        kind, end = data[pos + 4 : pos + 8], pos + 12 + int.from_bytes(data[pos : pos + 4], "big")
        if len(kind) < 4 or kind == b"IEND":
            break
        if kind == b"IDAT":
            body.append(view[pos:end])
        elif (kind in (b"IHDR", b"PLTE", b"tRNS") and not body) or kind == b"eXIf":
            head.append(view[pos:end])
        elif kind == b"iCCP" and profile is None:
            profile = _inflate_profile(data[pos + 8 : end - 4])
        pos = end
    else:
        raise BrokenError("too many chunks")
    return b"".join([*head, *body, b"\0\0\0\0IEND\xaeB`\x82"]), profile


def _inflate_profile(chunk: bytes) -> bytes | None:
    stream = zlib.decompressobj()
    try:
        profile = stream.decompress(chunk[chunk.index(b"\0") + 2 :], MAX_PROFILE)
    except (ValueError, zlib.error):
        return None
    return profile if stream.eof else None


def gif_size(data: bytes) -> tuple[int, int]:
    """Return the size that the first frame needs, which may exceed the screen (GIF89a, sections 18 and 20)."""
    try:
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        pos = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
        for _ in range(MAX_PARTS):
            block = data[pos]
            pos += 1
            if block == 0x2C:
                x, y, w, h = struct.unpack_from("<HHHH", data, pos)
                return max(width, x + w), max(height, y + h)
            if block == 0x21:
                pos = _skip_blocks(data, pos + 1)
            elif block == 0x3B:
                break
    except (IndexError, struct.error):
        pass
    raise BrokenError("no frame")


def _skip_blocks(data: bytes, pos: int) -> int:
    for _ in range(MAX_PARTS):
        if not data[pos]:
            return pos + 1
        pos += data[pos] + 1
    raise BrokenError("too many blocks")


def webp_size(data: bytes) -> tuple[int, int]:
    """Return the size of the canvas, which the decoder allocates at once (RFC 9649, sections 2.5 to 2.7)."""
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8 " and len(data) >= 30 and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(data) >= 25 and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise BrokenError("no size")


def exif_orientation(exif: bytes | None) -> int:
    """Return the orientation, 1 to 8 (tag 0x0112 of the first IFD; Exif 3.0, section 4.6.5), by default 1."""
    tiff = (exif or b"").removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "L", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHLH", tiff, entry)
            if tag == 0x0112:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


MAX_TAGS = 100  # as LittleCMS
MAX_STAGES = 16
FLOAT_PIPELINES = {f"{a}2{b}{n}".encode() for a, b in ("DB", "BD") for n in range(4)}
UNUSED = b"\0\0\0\0"


def safe_profile(profile: bytes | None) -> bytes | None:
    """Return the profile without its floating-point pipelines; None where it is too long or broken.

    LittleCMS would prefer them and run all their stages for each of 36,000 colours, however often these name the same
    data. Every profile has a table or a matrix as well, which browsers use. Raises ImageRefused for a pipeline with too
    many stages, which only an attacker makes.
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
