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
    data = inflating(height * (1 + (width * depth * channels + 7) // 8))
    palette = chunk(b"PLTE", bytes([40, 90, 160, 0, 0, 0])) if colour == 3 else b""
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + palette + before + chunk(b"IDAT", data) + after + chunk(b"IEND", b"")


def inflating(size: int) -> bytes:
    """A zlib stream, 1,000 times smaller than the ``size`` zero bytes that it inflates to.

    It repeats that of a megabyte, which no other follows or precedes: to deflate a gigabyte takes seconds.
    """
    count, rest = divmod(size, 2**20)
    stream = zlib.compressobj(9, wbits=-15)
    block = stream.compress(bytes(2**20)) + stream.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, wbits=-15)
    checksum = size % 65521 << 16 | 1  # Adler-32 of zeros
    return b"\x78\xda" + block * count + end.compress(bytes(rest)) + end.flush() + struct.pack(">L", checksum)


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


def wide_gamut_profile(**more: bytes) -> bytes:
    """An ICC v2 matrix profile with the primaries of Display P3 and a gamma of 2.2 (ICC.1:2001-04, section 6).

    ``more``: further tags.
    """

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
        **{name.encode(): data for name, data in more.items()},
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


def pipeline(stages: int) -> bytes:
    """A ``mpet`` tag of that many stages, which all name the same identity matrix (ICC.1:2022, section 10.16)."""
    matrix = b"matf\0\0\0\0" + struct.pack(">HH12f", 3, 3, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)
    place = struct.pack(">LL", 16 + 8 * stages, len(matrix))
    return b"mpet\0\0\0\0" + struct.pack(">HHL", 3, 3, stages) + place * stages + matrix


def slow_profile(stages: int = 10_000) -> bytes:
    return wide_gamut_profile(D2B0=pipeline(stages), D2B1=pipeline(stages))


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">L4s", 8 + len(body), kind) + body


def heic(
    items: dict[int, tuple[bytes, bytes | int]],
    references: dict[int, tuple[bytes, list[int]]] | None = None,
    primary: int = 1,
) -> bytes:
    """HEIC with further items: by number, (type, bytes), where a number in place of bytes names another item's bytes.

    ``references``: by number of the item, (type, numbers of others).
    """
    meta = HEIC[HEIC.index(b"meta") - 4 :]
    old = {kind: _child(meta[12:], kind) for kind in (b"hdlr", b"iprp")}
    stored: dict[int, bytes] = {1: HEIC[-96:]}
    stored |= {number: data for number, (_, data) in items.items() if isinstance(data, bytes)}
    kinds = {1: b"hvc1"} | {number: kind for number, (kind, _) in items.items()}
    same = {number: data for number, (_, data) in items.items() if isinstance(data, int)}
    info = [box(b"infe", b"\2\0\0\0", struct.pack(">HH4s", number, 0, kind), b"\0") for number, kind in kinds.items()]

    def whole(start: int) -> tuple[bytes, bytes]:
        places, body = {}, b""
        for number, data in stored.items():
            places[number] = start + len(body), len(data)
            body += data
        entries = [struct.pack(">HHHLL", n, 0, 1, *places[same.get(n, n)]) for n in kinds]
        boxes = [
            old[b"hdlr"],
            box(b"pitm", bytes(4), struct.pack(">H", primary)),
            box(b"iloc", bytes(4), struct.pack(">HH", 0x4400, len(entries)), *entries),
            box(b"iinf", bytes(4), struct.pack(">H", len(info)), *info),
            old[b"iprp"],
        ]
        if references:
            boxes.append(
                box(
                    b"iref",
                    bytes(4),
                    *(
                        box(kind, struct.pack(f">HH{len(to)}H", n, len(to), *to))
                        for n, (kind, to) in references.items()
                    ),
                )
            )
        return HEIC[:28] + box(b"meta", bytes(4), *boxes), box(b"mdat", body)

    head, _ = whole(0)
    return b"".join(whole(len(head) + 8))


def _child(boxes: bytes, kind: bytes) -> bytes:
    at = boxes.index(kind) - 4
    return boxes[at : at + int.from_bytes(boxes[at : at + 4], "big")]


def aliasing_heic(count: int, megabytes: int) -> bytes:
    """A HEIC with ``count`` Exif items that all name the same bytes."""
    exif = b"\0\0\0\6Exif\0\0II*\0\x08\0\0\0".ljust(megabytes * 2**20, b"\0")
    items: dict[int, tuple[bytes, bytes | int]] = {2: (b"Exif", exif)}
    items |= dict.fromkeys(range(3, count + 2), (b"Exif", 2))
    return heic(items, {number: (b"cdsc", [1]) for number in items})


def grid_of_grids(depth: int, tiles: int = 16) -> bytes:
    """A HEIC whose primary item is a grid of ``tiles`` times the same grid, and so on."""
    layout = bytes([0, 0, tiles - 1, 0]) + struct.pack(">HH", 64, 48 * tiles)
    numbers = range(2, depth + 2)
    references = {number: (b"dimg", [number - 1] * tiles) for number in numbers}
    return heic(dict.fromkeys(numbers, (b"grid", layout)), references, primary=depth + 1)


def lying_avif(side: int = 8000) -> bytes:
    """An AVIF of ``side`` x ``side`` pixels whose boxes say 64 x 64."""
    data = encode(Image.new("L", (side, side), 90), "AVIF", speed=10, quality=10)
    assert data.count(b"ispe") == 1
    return data.replace(struct.pack(">4sLLL", b"ispe", 0, side, side), struct.pack(">4sLLL", b"ispe", 0, 64, 64))
