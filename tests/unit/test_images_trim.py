"""``images.load``: trim and denoise, in pixels."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from django_visual_search.images import ImageOptions, load

from ..image_files import BLUE, GREEN, RED, YELLOW, checks, close, corners, difference, encode, quadrants

WHITE = (255, 255, 255)
PLAIN = ImageOptions(trim=False)


def shop_picture(colour: Any = WHITE, side: int = 400) -> Image.Image:
    image = Image.new("RGB", (side, side), colour)
    image.paste(quadrants(side // 4, side // 4), (side // 8, side // 2))
    return image


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("colour", [WHITE, (0, 0, 0), (235, 236, 240)])
def test_trim_centres_and_enlarges_the_product(kind: str, colour: Any) -> None:
    picture = load(encode(shop_picture(colour), kind), size=120)
    # 100 pixels of product and a tenth of margin on each side are 120 pixels
    for pixel, expected in zip(corners(picture, 0.12), (RED, GREEN, BLUE, YELLOW), strict=True):
        assert close(pixel, expected, 12)
    assert close(picture.getpixel((4, 4)), colour)
    tight = load(encode(shop_picture(colour), kind), size=120, options=ImageOptions(trim_margin=0))
    assert close(corners(tight, 0.05)[0], RED, 12)


def test_trim_off_keeps_the_border() -> None:
    picture = load(encode(shop_picture(), "PNG"), size=100, options=PLAIN)
    assert corners(picture) == [WHITE, WHITE, RED, WHITE] or corners(picture)[1] == WHITE
    assert picture.getpixel((18, 56)) == RED


def test_trim_makes_two_shots_of_a_product_alike() -> None:
    far, near = shop_picture(side=1600), shop_picture().crop((0, 150, 250, 350))
    assert difference(load(encode(far), size=96), load(encode(near), size=96)) < 3
    assert difference(load(encode(far), size=96, options=PLAIN), load(encode(near), size=96, options=PLAIN)) > 15


@pytest.mark.parametrize("colour", [WHITE, (0, 0, 0), (90, 120, 20)])
def test_trim_leaves_a_uniform_picture(colour: Any) -> None:
    picture = load(encode(Image.new("RGB", (100, 100), colour), "PNG"), size=50)
    assert picture.getextrema() == tuple((v, v) for v in colour)


def test_trim_ignores_dust_and_noise() -> None:
    dusty = Image.new("RGB", (1000, 1000), WHITE)
    dusty.paste((0, 0, 0), (700, 300, 706, 306))
    assert difference(load(encode(dusty, "PNG"), size=100), Image.new("RGB", (100, 100), WHITE)) < 1
    noisy = shop_picture((240, 240, 240))
    noise = Image.effect_noise(noisy.size, 2).convert("RGB")
    noisy = ImageChops.add(noisy, noise, 1, -128)
    picture = load(encode(noisy, quality=70), size=96)
    for pixel, expected in zip(corners(picture), (RED, GREEN, BLUE, YELLOW), strict=True):
        assert close(pixel, expected, 24)


def test_trim_tolerance() -> None:
    faint = Image.new("RGB", (200, 200), WHITE)
    faint.paste((235, 235, 235), (80, 80, 120, 120))
    assert load(encode(faint, "PNG"), size=48).getpixel((24, 8)) == (235, 235, 235)
    assert load(encode(faint, "PNG"), size=48, options=ImageOptions(trim_tolerance=30)).getpixel((24, 8)) == WHITE


def test_trim_needs_the_same_colour_at_all_corners() -> None:
    image = shop_picture()
    image.paste((0, 0, 0), (300, 0, 400, 100))
    assert load(encode(image, "PNG"), size=100) == load(encode(image, "PNG"), size=100, options=PLAIN)


def test_a_small_product_is_decoded_again_at_full_resolution() -> None:
    """Of 3200 pixels the product has 320: the eighth that the whole needs would leave 40."""
    image = Image.new("RGB", (3200, 3200), WHITE)
    image.paste(checks(320, 8).convert("RGB"), (2000, 500))
    middle = load(encode(image), size=192).convert("L").crop((50, 50, 142, 142))
    assert ImageStat.Stat(middle).stddev[0] > 80  # black and white squares of 4 pixels, not the grey of their average


def test_denoise_removes_specks() -> None:
    image = Image.new("RGB", (448, 448), (120, 130, 140))
    for n in range(0, 448, 7):
        image.putpixel((n, n * 5 % 448), (0, 0, 0))
        image.putpixel((n * 3 % 448, n), WHITE)
    clean = load(encode(image, "PNG"), size=224, options=ImageOptions(denoise=3))
    assert clean.getextrema() == ((120, 120), (130, 130), (140, 140))
    assert load(encode(image, "PNG"), size=224).getextrema() != clean.getextrema()
