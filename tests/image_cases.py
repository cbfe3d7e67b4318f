"""Bad and extreme files, each with the code it is refused with or EMBEDDED; and how to measure one."""

from __future__ import annotations

import io
import json
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable

from PIL import Image

from . import image_files as files
from .image_files import chunk, encode, png, quadrants

EMBEDDED = "embedded"
KINDS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF")


def photo(side: int = 300) -> Image.Image:
    """Detail everywhere, so that half of a file is half of the picture."""
    return Image.frombytes("RGB", (side // 4, side // 4), random.Random(1).randbytes(3 * (side // 4) ** 2)).resize(
        (side, side)
    )


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def jpeg_with(header: bytes) -> bytes:
    data = encode(quadrants())
    return data[:20] + header + data[20:]  # behind the JFIF segment


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as z:
        z.writestr("payload.txt", "payload")
    return file.getvalue()


def text(kind: bytes, megabytes: int) -> bytes:
    """A PNG text chunk of that many megabytes once inflated."""
    head = b"Comment\0\0" if kind == b"zTXt" else b"Comment\0\1\0\0\0"
    return chunk(kind, head + files.inflating(megabytes * 2**20))


def cmyk() -> Image.Image:
    return quadrants(200, 200).convert("CMYK")


def palette() -> Image.Image:
    return quadrants(200, 200).quantize(8)


def multi_picture() -> bytes:
    return encode(quadrants(200, 200), "MPO", save_all=True, append_images=[Image.new("RGB", (200, 200))])


MARKUP = b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><rect width="64" height="64"/></svg>'

CASES: dict[str, tuple[Callable[[], bytes], str]] = {
    # Not a picture
    "empty": (lambda: b"", "empty"),
    "one byte": (lambda: b"\xff", "format"),
    "text": (lambda: b"hello, this is no picture" * 100, "format"),
    "SVG": (lambda: MARKUP, "format"),
    "SVG with XML declaration": (lambda: b'<?xml version="1.0"?>' + MARKUP, "format"),
    "EPS renamed .jpg": (lambda: encode(quadrants(), "EPS"), "format"),
    "BMP renamed .jpg": (lambda: encode(quadrants(), "BMP"), "format"),
    "TIFF renamed .jpg": (lambda: encode(quadrants(), "TIFF"), "format"),
    "J2K renamed .jpg": (lambda: encode(quadrants(), "JPEG2000"), "format"),
    "ICO renamed .jpg": (lambda: encode(quadrants(), "ICO"), "format"),
    "PDF renamed .jpg": (lambda: encode(quadrants(), "PDF"), "format"),
    "video with ftyp": (lambda: b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(200), "format"),
    # Truncated
    **{f"half a {kind}": (lambda kind=kind: half(encode(photo(), kind)), "corrupt") for kind in KINDS},  # type: ignore[misc]
    "half a progressive JPEG": (lambda: half(encode(photo(), progressive=True)), "corrupt"),
    "half a 16 megapixel JPEG": (lambda: half(encode(photo(4000), quality=60)), "corrupt"),
    "half a HEIC": (lambda: half(files.HEIC), "corrupt"),
    "only a JPEG's magic": (lambda: b"\xff\xd8\xff", "corrupt"),
    "only a PNG's magic": (lambda: b"\x89PNG\r\n\x1a\n", "corrupt"),
    "only a GIF's magic": (lambda: b"GIF89a", "corrupt"),
    "only a WebP's magic": (lambda: b"RIFF\x10\0\0\0WEBP", "corrupt"),
    "only an AVIF's magic": (lambda: b"\0\0\0\x10ftypavif\0\0\0\0", "corrupt"),
    "PNG without IDAT": (lambda: png(64, 64)[:33] + chunk(b"IEND", b""), "corrupt"),
    # Sides
    **{f"1 x 1 {kind}": (lambda kind=kind: encode(Image.new("RGB", (1, 1)), kind), "side") for kind in KINDS},  # type: ignore[misc]
    "1 x 60000 PNG": (lambda: png(1, 60_000), "side"),
    "60000 x 1 JPEG": (lambda: files.resized_jpeg(60_000, 1), "side"),
    "100 x 30000 PNG": (lambda: png(100, 30_000), "side"),
    # Bombs
    "17 kB PNG of 9000 x 9000": (lambda: png(9000, 9000, 1, 0), EMBEDDED),
    "palette PNG of 9000 x 9000": (lambda: png(9000, 9000, 8, 3), EMBEDDED),
    "colour PNG of 9000 x 9000": (lambda: png(9000, 9000), "pixels"),
    "PNG of 30000 x 30000": (lambda: png(30_000, 30_000, 1, 0), "pixels"),
    "PNG of 2147483647 x 2147483647": (
        lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\x7f\xff\xff\xff" * 2 + b"\x08\2\0\0\0") + chunk(b"IDAT", b""),
        "side",
    ),
    "JPEG of 30000 x 30000": (lambda: files.resized_jpeg(30_000, 30_000), "pixels"),
    "JPEG of 65535 x 65535": (lambda: files.resized_jpeg(65_535, 65_535), "side"),
    "GIF of 13000 x 13000": (lambda: files.gif_header(13_000, 13_000), "pixels"),
    "GIF frame larger than its screen": (lambda: files.gif_header(64, 64, frame=(13_000, 13_000)), "pixels"),
    "GIF frame without pixels": (lambda: files.gif_header(10_000, 9_000), "corrupt"),
    "WebP of 16383 x 16383": (
        lambda: b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\x3f\0\xfe\x3f\0" + bytes(20),
        "pixels",
    ),
    "AVIF of 30000 x 30000": (
        lambda: encode(quadrants(), "AVIF").replace(
            b"ispe" + bytes(4) + b"\0\0\0\x40" * 2, b"ispe" + bytes(4) + b"\0\0\x75\x30" * 2
        ),
        "corrupt",
    ),
    "progressive JPEG of 108 megapixels": (lambda: files.resized_jpeg(12_000, 9_000, progressive=True), "pixels"),
    # browsers show what there is, and so do we
    "progressive JPEG of 60 megapixels without most of its data": (
        lambda: files.resized_jpeg(9_000, 6_700, progressive=True, subsampling=2),
        EMBEDDED,
    ),
    "progressive JPEG with 500 scans": (lambda: files.many_scans(500), "pixels"),
    "progressive JPEG with 50 scans": (lambda: files.many_scans(50), EMBEDDED),
    "zTXt bombs before the pixels": (lambda: png(64, 64, before=text(b"zTXt", 100) * 40), EMBEDDED),
    "zTXt bombs after the pixels": (lambda: png(64, 64, after=text(b"zTXt", 100) * 40), EMBEDDED),
    "iTXt bombs": (lambda: png(64, 64, before=text(b"iTXt", 100) * 40), EMBEDDED),
    "zTXt just below Pillow's limits": (lambda: png(7200, 7200, after=text(b"zTXt", 1) * 63), EMBEDDED),
    "iCCP bomb": (lambda: png(64, 64, before=chunk(b"iCCP", b"p\0\0" + files.inflating(500 * 2**20))), EMBEDDED),
    # Padding
    "30 MB padding after a JPEG": (lambda: encode(quadrants()) + bytes(30 * 2**20), "too_large"),
    "19 MB padding after a JPEG": (lambda: encode(quadrants()) + bytes(19 * 2**20), EMBEDDED),
    "19 MB padding after a PNG": (lambda: encode(quadrants(), "PNG") + bytes(19 * 2**20), EMBEDDED),
    "19 MB of zeros in a JPEG's header": (lambda: jpeg_with(bytes(19 * 2**20)), "corrupt"),
    "19 MB of fill bytes in a JPEG's header": (lambda: jpeg_with(b"\xff" * (19 * 2**20)), "corrupt"),
    "4 million JPEG segments": (lambda: jpeg_with(b"\xff\xe1\0\2" * 4_000_000), "corrupt"),
    "1 million PNG chunks": (lambda: png(64, 64, before=chunk(b"teSt", b"") * 1_000_000), "corrupt"),
    "1 million IDAT chunks": (lambda: png(64, 64, after=chunk(b"IDAT", b"") * 1_000_000), "corrupt"),
    "5 million GIF comment blocks": (
        lambda: files.gif_header(64, 64, extension=b"\x21\xfe" + b"\1x" * 5_000_000 + b"\0"),
        "corrupt",
    ),
    "1 million GIF extensions": (lambda: files.gif_header(64, 64, extension=b"\x21\xfe\1x\0" * 1_000_000), "corrupt"),
    # Polyglots: what starts as a picture is read as that picture
    "JPEG and ZIP": (lambda: encode(quadrants()) + archive(), EMBEDDED),
    "PNG and ZIP": (lambda: encode(quadrants(), "PNG") + archive(), EMBEDDED),
    "GIF and script": (lambda: encode(quadrants(), "GIF") + b"/*<script>alert(1)</script>*/", EMBEDDED),
    "JPEG with PHP in a comment": (lambda: encode(quadrants(), comment=b"<?php system('id'); ?>"), EMBEDDED),
    "PDF around a JPEG": (lambda: b"%PDF-1.4\n" + encode(quadrants()), "format"),
    "EPS behind a JPEG's magic": (lambda: b"\xff\xd8\xff" + encode(quadrants(), "EPS"), "corrupt"),
    # The same work again and again
    **{
        f"{kind} with a profile of 10000 stages": (
            lambda kind=kind: encode(quadrants(), kind, icc_profile=files.slow_profile()),  # type: ignore[misc]
            "profile",
        )
        for kind in ("JPEG", "PNG", "WEBP", "AVIF")
    },
    "JPEG with a profile of 16 stages": (
        lambda: encode(quadrants(), icc_profile=files.slow_profile(16)),
        EMBEDDED,
    ),
    "HEIC whose 50 Exif items are the same 18 MB": (lambda: files.aliasing_heic(50, 18), "corrupt"),
    "HEIC whose 300 Exif items are the same 18 MB": (lambda: files.aliasing_heic(300, 18), "corrupt"),
    "HEIC with an Exif item": (lambda: files.aliasing_heic(1, 1), EMBEDDED),
    "HEIC of 2000 items": (lambda: files.aliasing_heic(2000, 0), "corrupt"),
    "HEIC grid of grids": (lambda: files.grid_of_grids(4), "corrupt"),
    "HEIC made of a chain of 20": (lambda: files.grid_of_grids(20, 1), "corrupt"),
    "HEIC made of itself": (
        lambda: files.heic({2: (b"iden", b"")}, {2: (b"dimg", [2])}, primary=2),
        "corrupt",
    ),
    "AVIF frame larger than it says": (files.lying_avif, "pixels"),
    # Good but unusual
    "CMYK JPEG": (lambda: encode(cmyk()), EMBEDDED),
    "16-bit grey PNG": (lambda: png(200, 200, 16, 0), EMBEDDED),
    "16-bit colour PNG": (lambda: png(200, 200, 16, 2), EMBEDDED),
    "16-bit grey PNG with alpha": (lambda: png(200, 200, 16, 4), EMBEDDED),
    "1-bit PNG": (lambda: png(200, 200, 1, 0), EMBEDDED),
    "palette PNG with transparency": (lambda: encode(palette(), "PNG", transparency=bytes([0, 128, 255])), EMBEDDED),
    "palette GIF with transparency": (lambda: encode(palette(), "GIF", transparency=1), EMBEDDED),
    "MPO": (multi_picture, EMBEDDED),
    "HEIC": (lambda: files.HEIC, EMBEDDED),
    "GIF of 5000 frames": (lambda: files.animation("GIF", 5000), EMBEDDED),
    "WebP of 3000 frames": (lambda: files.animation("WEBP", 3000), EMBEDDED),
    "APNG of 3000 frames": (lambda: files.animation("PNG", 3000), EMBEDDED),
    "AVIF of 200 frames": (lambda: files.animation("AVIF", 200), EMBEDDED),
    # The largest that are accepted
    "108 megapixel JPEG": (files.tall_jpeg, EMBEDDED),
    "52 megapixel PNG with alpha": (lambda: png(7240, 7240, 8, 6), EMBEDDED),
    "120 megapixel grey PNG": (lambda: png(12_000, 10_000, 8, 0), EMBEDDED),
    "26 megapixel 16-bit PNG": (lambda: png(5100, 5100, 16, 6), EMBEDDED),
    "52 megapixel 16-bit PNG": (lambda: png(7240, 7240, 16, 6), "pixels"),
    "100 megapixel GIF": (lambda: encode(Image.new("P", (10_400, 10_000)), "GIF"), EMBEDDED),
    "12 megapixel WebP": (lambda: encode(photo(400).resize((4032, 3024)), "WEBP", method=0), EMBEDDED),
    "16 megapixel AVIF": (lambda: encode(photo(400).resize((4600, 3450)), "AVIF", speed=10), EMBEDDED),
}


MEASURE = """
import json, os, resource, signal, struct, sys, time, traceback
from django_visual_search import images

def measure(size, most):
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    data = sys.stdin.buffer.read(size)
    # CPU time: other processes on the machine don't count
    started = time.process_time()
    try:
        picture = images.load(data, size=224)
        assert picture.size == (224, 224) and picture.mode == "RGB"
        outcome = "embedded"
    except images.ImageRefused as refusal:
        outcome = refusal.code
    seconds = time.process_time() - started
    # Not ru_maxrss: on Linux a child's starts at what its parent had.
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    return json.dumps([outcome, seconds, peak / 1024])

while header := os.read(0, 16):  # unbuffered: a child reads the rest
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps(["status %d" % status, 0, 0]), flush=True)
        continue
    status = 1
    try:
        signal.alarm(60)
        answer = measure(*struct.unpack(">QQ", header))
        os.write(1, answer.encode() + bytes([10]))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
"""


class Measuring:
    """Loads each picture in a fresh process, forked from one that has imported ``images`` and done nothing else."""

    def __enter__(self) -> Measuring:
        command = [sys.executable, "-W", "error", "-c", MEASURE]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=files.ROOT)
        return self

    def __exit__(self, *error: object) -> None:
        self.process.communicate(timeout=60)

    def measure(self, data: bytes, most: int = 2**30) -> tuple[str, float, float]:
        """Load with ``most`` bytes of address space: code or "embedded", CPU seconds, MB resident at most."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(struct.pack(">QQ", len(data), most) + data)
        self.process.stdin.flush()
        outcome, seconds, megabytes = json.loads(self.process.stdout.readline())
        return outcome, seconds, megabytes
