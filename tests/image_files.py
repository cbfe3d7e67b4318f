"""Makers of picture files for tests: good ones with Pillow, bad ones by hand."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageStat

ROOT = Path(__file__).resolve().parent.parent
RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 40), (30, 40, 220), (230, 220, 30)

# 64 x 48 pixels, left half about (200, 30, 40), right half about (20, 60, 220); written once with pillow-heif, because
# pi-heif only reads.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAA"
    "AAAERAAAEAAQAAAAABoQABAAAAAAAAAGAAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/WlwcnAA"
    "AADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkA"
    "AAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAA"
    "AAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAG"
    "htZGF0AAAAXCgBrwngOSMkv//5/7//9qF5D9pbVwX/8HCH3+DmB//vTd1FdlVHywpxbsO03dYlSjCkFrGzkY8pNjDnV1TvcVE8mlgRlQa9d9+1"
    "LKus0B/2uYSN9WiRHAR9Aed+"
)


def quadrants(width: int = 64, height: int = 64) -> Image.Image:
    """Red, green / blue, yellow: every orientation and crop of it looks different."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(YELLOW, (width // 2, height // 2, width, height))
    return image


def checks(side: int, square: int) -> Image.Image:
    """Black and white squares."""
    image = Image.new("L", (side, side))
    for x in range(0, side, square):
        for y in range(0, side, square):
            image.paste(255 * ((x + y) // square % 2), (x, y, x + square, y + square))
    return image


def corners(image: Image.Image, inset: float = 0.2) -> list[Any]:
    """Pixels towards the four corners of a square picture: left and right above, left and right below."""
    near, far = int(image.width * inset), int(image.width * (1 - inset) - 1)
    return [image.getpixel(at) for at in ((near, near), (far, near), (near, far), (far, far))]


def close(a: Any, b: Any, tolerance: int = 6) -> bool:
    """Whether two pixels differ by no more than that in any channel."""
    return all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of two RGB pictures, 0 to 255."""
    return sum(ImageStat.Stat(ImageChops.difference(a, b)).mean) / 3


def encode(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    if kind == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    image.save(file, kind, **options)
    return file.getvalue()


def oriented(kind: str, orientation: int, image: Image.Image | None = None, order: str = "<") -> bytes:
    """A file with that EXIF orientation. ``order``: ``<`` little-endian (II), ``>`` big-endian (MM)."""
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(
        order + "LHHHLHHL", 8, 1, 0x0112, 3, 1, orientation, 0, 0
    )
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    return encode(image or quadrants(96, 48), kind, exif=b"Exif\0\0" + tiff, **options)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int = 8, colour: int = 2, *, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG of that size, all zero, made without its pixels ever in memory; chunks may go before and after IDAT."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + (width * depth * channels + 7) // 8)
    stream = zlib.compressobj(9)
    # 64 rows at a time: deflate's own window is 32 kB, so this compresses as well as row by row
    data = b"".join(stream.compress(row * min(64, height - y)) for y in range(0, height, 64)) + stream.flush()
    palette = chunk(b"PLTE", bytes([40, 90, 160, 0, 0, 0])) if colour == 3 else b""
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + palette + before + chunk(b"IDAT", data) + after + chunk(b"IEND", b"")


def inflating(size: int) -> bytes:
    """A zlib stream, 1,000 times smaller than the ``size`` zero bytes that it inflates to."""
    stream, block = zlib.compressobj(9), bytes(2**20)
    return b"".join(stream.compress(block) for _ in range(size // len(block))) + stream.flush()


def gif_header(width: int, height: int, *, frame: tuple[int, int] | None = None, extension: bytes = b"") -> bytes:
    """A GIF of that screen and frame size with next to no pixels, whose disposal makes Pillow allocate on opening."""
    control = b"\x21\xf9\x04" + bytes([2 << 2, 1, 0, 0, 0])
    image = b"," + struct.pack("<HHHHB", 0, 0, *(frame or (width, height)), 0) + b"\x02\x02\x44\x01\0"
    header = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes([255, 0, 0, 0, 0, 255])
    return header + extension + control + image + b";"


def animation(kind: str, frames: int) -> bytes:
    """Every frame differs, so that no encoder merges them; the first is red."""
    first = Image.new("RGB", (16, 16), RED)
    others = [Image.new("RGB", (16, 16), (n % 256, n // 256, 128)) for n in range(1, frames)]
    return encode(first, kind, save_all=True, append_images=others, duration=20)


def tall_jpeg(width: int = 12_096, rows: int = 70) -> bytes:
    """A baseline JPEG of ``width`` x ``128 * rows`` pixels (108 megapixels): one strip's entropy-coded rows, repeated.

    With a restart marker after each row of MCUs no row depends on the one before (ITU T.81, section E.1.4).
    """
    strip = Image.effect_noise((width // 4, 32), 60).resize((width, 128)).convert("RGB")
    data = encode(strip, quality=55, subsampling=2, restart_marker_rows=1)
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    start = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    header = data[: frame + 5] + struct.pack(">H", 128 * rows) + data[frame + 7 : start]
    return header + b"\xff\xd7".join([data[start:-2]] * rows) + b"\xff\xd9"


def resized_jpeg(width: int, height: int, **options: Any) -> bytes:
    """A small JPEG whose header claims another size."""
    data = encode(quadrants(), **options)
    frame = next(i for marker in (b"\xff\xc0", b"\xff\xc2") if (i := data.find(marker)) > 0)
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def many_scans(count: int, side: int = 4000) -> bytes:
    """A progressive JPEG whose last, nearly empty scan comes ``count`` times more."""
    data = encode(Image.new("RGB", (side, side), (120, 90, 60)), progressive=True, quality=80)
    tables = data.rfind(b"\xff\xc4", 0, data.rfind(b"\xff\xda"))
    return data[:-2] + data[tables:-2] * count + b"\xff\xd9"


# D50-adapted XYZ of the primaries, the columns of the matrix from linear RGB, as in the ICC profiles of both.
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
GAMMA = 2.2


def wide_gamut_profile() -> bytes:
    """An ICC v2 matrix profile with the primaries of Display P3 and a gamma of 2.2 (ICC.1:2001-04, section 6)."""

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3l", *(round(v * 65536) for v in values))

    curve = b"curv\0\0\0\0" + struct.pack(">LH", 1, round(GAMMA * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">L", 5) + b"test\0" + bytes(78)
    tags = {
        b"desc": text + bytes(-len(text) % 4),
        b"cprt": b"text\0\0\0\0none",
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        **{bytes([letter]) + b"XYZ": xyz(column) for letter, column in zip(b"rgb", P3, strict=True)},
        **{bytes([letter]) + b"TRC": curve for letter in b"rgb"},
    }
    table, body, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">LL", offset + len(body), len(data))
        body += data
    head = bytes(8) + struct.pack(">L", 0x02100000) + b"mntrRGB XYZ "
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">3l", 63190, 65536, 54061)
    profile = head.ljust(128, b"\0") + struct.pack(">L", len(tags)) + table + body
    return struct.pack(">L", len(profile)) + profile[4:]
