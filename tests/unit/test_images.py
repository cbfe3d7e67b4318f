"""``images.load``: formats, orientation, crop, square and scale, in pixels."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageDraw, ImageOps, ImageStat

from django_visual_search.images import FITS, ImageOptions, ImageRefused, check_crop, load

from .. import image_files as files
from ..image_files import BLUE, GREEN, RED, YELLOW, checks, close, corners, difference, encode, oriented, quadrants

WHITE = (255, 255, 255)
PLAIN = ImageOptions(trim=False)


@pytest.mark.parametrize("size", [1, 32, 224, 299])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF"])
def test_every_format_gives_the_same_picture(kind: str, size: int) -> None:
    picture = load(encode(quadrants(400, 400), kind), size=size)
    assert (picture.mode, picture.size) == ("RGB", (size, size))
    if size > 1:
        for pixel, expected in zip(corners(picture), (RED, GREEN, BLUE, YELLOW), strict=True):
            assert close(pixel, expected, 12)


def test_heic() -> None:
    pytest.importorskip("pi_heif", reason="needs the heic extra")
    picture = load(files.HEIC, size=64)
    assert close(picture.getpixel((10, 32)), (200, 30, 40), 20)
    assert close(picture.getpixel((54, 32)), (20, 60, 220), 20)
    assert picture.getpixel((32, 2)) == WHITE


# Orientation and crop


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "order"), [("JPEG", "<"), ("JPEG", ">"), ("PNG", "<"), ("WEBP", ">"), ("AVIF", "<")])
def test_exif_orientation(kind: str, order: str, orientation: int) -> None:
    data = oriented(kind, orientation, order=order)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    picture = load(data, size=96, options=PLAIN)
    # 96 x 48 as stored: upright it is 48 wide, and the padding is left and right
    assert (picture.getpixel((2, 48)) == WHITE) == (orientation >= 5)
    left, top = (96 - shown.width) // 2, (96 - shown.height) // 2
    assert difference(picture.crop((left, top, left + shown.width, top + shown.height)), shown) < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_crop_is_of_the_picture_as_shown(kind: str, orientation: int) -> None:
    # 1600 x 800 and a size of 64: JPEG decodes at an eighth
    data = oriented(kind, orientation, quadrants(1600, 800))
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    for x in (0, 1):
        for y in (0, 1):
            expected = shown.getpixel((shown.width * (1 + 2 * x) // 4, shown.height * (1 + 2 * y) // 4))
            box = (x * 0.5 + 0.05, y * 0.5 + 0.05, x * 0.5 + 0.45, y * 0.5 + 0.45)
            picture = load(data, size=64, options=ImageOptions(trim=False, fit="stretch"), crop=box)
            assert all(close(pixel, expected) for pixel in [picture.getpixel((32, 32)), *corners(picture, 0)])


def test_orientation_can_be_left_alone() -> None:
    picture = load(oriented("PNG", 6), size=96, options=ImageOptions(orient=False, trim=False))
    assert picture.getpixel((10, 40)) == RED
    assert picture.getpixel((48, 2)) == WHITE


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"nonsense", b"II*\0\0\0\0\0" * 9]
)
def test_broken_exif_is_ignored(exif: bytes) -> None:
    picture = load(encode(quadrants(), exif=b"Exif\0\0" + exif), size=64)
    assert close(picture.getpixel((10, 10)), RED)


def test_crop_gets_the_files_own_resolution() -> None:
    """A hundredth of a large photo is decoded larger than the whole would be."""
    image = quadrants(3200, 3200)
    ImageDraw.Draw(image).bitmap((1000, 1000), checks(320, 20).convert("1"), fill=(0, 0, 0))
    box = (1000 / 3200, 1000 / 3200, 1320 / 3200, 1320 / 3200)
    picture = load(encode(image), size=160, options=PLAIN, crop=box).convert("L")
    assert ImageStat.Stat(picture).stddev[0] > 25  # squares of 10 pixels stay squares; an eighth of the file blurs them


@pytest.mark.parametrize(
    "crop",
    [
        (0, 0, 0, 1), (0.5, 0, 0.4, 1), (-0.1, 0, 1, 1), (0, 0, 1, 1.1), (0, 0, math.nan, 1), (0, 0, math.inf, 1),
        (0, 0, 1), (0, 0, 1, 1, 1), "0011x", "abcd", None, 7, (None, 0, 1, 1), (0, 0, 10**400, 1),
    ],
)  # fmt: skip
def test_invalid_crops(crop: Any) -> None:
    with pytest.raises(ImageRefused) as refusal:
        check_crop(crop)
    assert refusal.value.code == "crop"


def test_crop_of_too_few_pixels_is_refused() -> None:
    with pytest.raises(ImageRefused) as refusal:
        load(encode(quadrants()), size=32, crop=(0, 0, 0.1, 0.5))
    assert refusal.value.code == "crop"
    with pytest.raises(ImageRefused):
        load(encode(quadrants()), size=32, crop=(0.5, 0.5, 0.5, 0.5))


# Square


def test_fits() -> None:
    data = encode(quadrants(400, 100), "PNG")
    pad, stretch, center = (load(data, size=100, options=ImageOptions(fit=fit, trim=False)) for fit in FITS)
    assert [pad.getpixel((50, y)) for y in (0, 36, 63, 99)] == [WHITE] * 2 + [WHITE] * 2
    assert pad.getpixel((10, 44)) == RED
    assert pad.getpixel((90, 55)) == YELLOW
    assert corners(stretch, 0.05) == [RED, GREEN, BLUE, YELLOW]
    assert corners(center, 0.05) == [RED, GREEN, BLUE, YELLOW]
    # of 400 pixels the middle 100 are left, so the stretch is narrower around the middle
    thin = Image.new("RGB", (400, 100), WHITE)
    thin.paste((0, 0, 0), (140, 0, 260, 100))
    for fit, expected in (("stretch", WHITE), ("center-crop", (0, 0, 0))):
        assert (
            load(encode(thin, "PNG"), size=100, options=ImageOptions(fit=fit, trim=False)).getpixel((5, 50)) == expected
        )


def test_background_is_beneath_alpha_and_around() -> None:
    image = Image.new("RGBA", (200, 100), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (100, 0, 200, 100))
    for background in (WHITE, (10, 200, 30)):
        picture = load(encode(image, "PNG"), size=100, options=ImageOptions(trim=False, background=background))
        assert picture.getpixel((50, 5)) == background  # padding
        assert picture.getpixel((20, 50)) == background  # transparent
        assert picture.getpixel((80, 50)) == (0, 0, 0)


def test_small_and_extreme_pictures_are_scaled_up() -> None:
    assert corners(load(encode(quadrants(8, 8), "PNG"), size=224), 0.05) == [RED, GREEN, BLUE, YELLOW]
    thin = load(encode(quadrants(320, 10), "PNG"), size=16, options=PLAIN)
    assert thin.getpixel((8, 0)) == WHITE


# Frames


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_only_the_first_frame_of_an_animation_counts(kind: str) -> None:
    assert close(load(files.animation(kind, 12), size=16).getpixel((8, 8)), RED, 12)


def test_only_the_first_picture_of_an_mpo_counts() -> None:
    data = encode(quadrants(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 64))], quality=95)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert close(load(data, size=64).getpixel((10, 10)), RED)


# Scale


def test_a_fraction_of_a_jpeg_looks_like_the_whole() -> None:
    image = Image.radial_gradient("L").resize((2000, 1500))
    image = Image.merge("RGB", [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), ImageChops.invert(image)])
    assert difference(load(encode(image), size=224), load(encode(image, "PNG"), size=224)) < 2
