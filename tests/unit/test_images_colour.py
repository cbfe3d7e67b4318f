"""``images.load``: profiles, modes and transparency become sRGB on the background."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from django_visual_search.images import ImageOptions, load

from .. import image_files as files
from ..image_files import close, difference, encode, quadrants

WHITE = (255, 255, 255)
PLAIN = ImageOptions(trim=False)


def to_srgb(pixel: tuple[int, int, int]) -> list[int]:
    """From Display P3 primaries with a gamma of 2.2 to sRGB, by the profile's own numbers."""
    linear = [(v / 255) ** files.GAMMA for v in pixel]
    xyz = [sum(files.P3[c][row] * linear[c] for c in range(3)) for row in range(3)]
    (a, d, g), (b, e, h), (c, f, i) = files.SRGB  # columns
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    inverse = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    rgb = [sum(inverse[row][k] * xyz[k] for k in range(3)) / determinant for row in range(3)]
    encoded = (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055 for v in (max(0, v) for v in rgb))
    return [round(255 * v) for v in encoded]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("pixel", [(200, 100, 100), (90, 180, 90), (60, 90, 180)])
def test_wide_gamut_is_converted(kind: str, pixel: tuple[int, int, int]) -> None:
    data = encode(Image.new("RGB", (64, 64), pixel), kind, icc_profile=files.wide_gamut_profile(), quality=100)
    expected = to_srgb(pixel)
    assert not close(expected, pixel, 8)
    assert close(load(data, size=16).getpixel((8, 8)), expected, 4)
    assert close(load(data, size=16, options=ImageOptions(icc=False)).getpixel((8, 8)), pixel, 4)


def test_srgb_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with_profile = load(encode(quadrants(), "PNG", icc_profile=profile), size=64)
    assert difference(with_profile, load(encode(quadrants(), "PNG"), size=64)) < 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@given(cut=st.integers(0, 475), flips=st.lists(st.tuples(st.integers(0, 475), st.integers(0, 255)), max_size=20))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_broken_profiles_never_cost_the_picture(kind: str, cut: int, flips: list[tuple[int, int]]) -> None:
    profile = bytearray(files.wide_gamut_profile())
    for at, value in flips:
        profile[at] = value
    picture = load(encode(quadrants(), kind, icc_profile=bytes(profile[: 476 - cut]) or b"x"), size=16)
    assert picture.size == (16, 16)


def test_profile_for_another_mode_is_ignored() -> None:
    data = encode(quadrants().convert("L"), icc_profile=files.wide_gamut_profile())
    assert difference(load(data, size=64), quadrants().convert("L").convert("RGB")) < 2


def test_cmyk() -> None:
    image = Image.new("CMYK", (64, 64), (0, 200, 200, 20))
    red, green, blue = load(encode(image), size=16).getpixel((8, 8))  # type: ignore[misc]
    assert red > 200
    assert max(green, blue) < 80


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    image = Image.new("I;16", (256, 64))
    image.putdata([x * 257 for x in range(256)] * 64)
    picture = load(encode(image, "PNG"), size=256, options=ImageOptions(fit="stretch", trim=False))
    assert all(close(picture.getpixel((x, 128)), (x, x, x), 1) for x in range(256))


def test_alpha_is_flattened_on_white() -> None:
    half = Image.new("RGBA", (64, 64), (0, 0, 0, 128))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("AVIF", {"quality": 100})):
        assert close(load(encode(half, kind, **options), size=16).getpixel((8, 8)), (127, 127, 127), 2)
    grey = Image.new("LA", (64, 64), (100, 0))
    assert load(encode(grey, "PNG"), size=16).getpixel((8, 8)) == WHITE


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_transparency_is_flattened_on_white(kind: str) -> None:
    image = Image.new("P", (64, 64), 1)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.paste(0, (0, 0, 32, 64))
    picture = load(encode(image, kind, transparency=0), size=64, options=PLAIN)
    assert picture.getpixel((10, 32)) == WHITE
    assert picture.getpixel((50, 32)) == (200, 0, 0)


@pytest.mark.parametrize(
    ("mode", "key", "other"), [("L", 40, 200), ("RGB", (40, 40, 40), (200, 200, 200)), ("1", 0, 1)]
)
def test_colour_key_transparency(mode: str, key: Any, other: Any) -> None:
    image = Image.new(mode, (64, 64), key)
    image.paste(other, (32, 0, 64, 64))
    picture = load(encode(image, "PNG", transparency=key), size=64, options=PLAIN)
    assert picture.getpixel((10, 32)) == WHITE
    assert picture.getpixel((50, 32)) == (WHITE if mode == "1" else (200, 200, 200))


def test_large_pictures_flatten_in_strips_without_seams() -> None:
    image = Image.linear_gradient("L").resize((2500, 2500))
    alpha = Image.merge("RGBA", [image, image, image, Image.new("L", image.size, 255)])
    difference_to_whole = difference(load(encode(alpha, "PNG"), size=224), load(encode(image, "PNG"), size=224))
    assert difference_to_whole < 1
