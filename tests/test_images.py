"""``images.load``: what each option does to pixels, for every format."""

from __future__ import annotations

import io
import math
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageCms, ImageDraw, ImageFile, ImageOps, ImageStat

from django_visual_search.images import FITS, ImageOptions, ImageRefused, check_crop, load

from . import image_files as files
from .image_files import BLUE, GREEN, RED, YELLOW, encode, oriented, quadrants

WHITE = (255, 255, 255)
PLAIN = ImageOptions(trim=False)


def close(a: Any, b: Any, tolerance: int = 6) -> bool:
    return all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))


def corners(image: Image.Image, inset: float = 0.2) -> list[Any]:
    near, far = int(image.width * inset), int(image.width * (1 - inset))
    return [image.getpixel(at) for at in ((near, near), (far, near), (near, far), (far, far))]


def difference(a: Image.Image, b: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(a, b)).mean) / 3


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
            assert all(high - low < 8 for low, high in picture.getextrema())  # one colour only  # type: ignore[misc]
            assert close(picture.getpixel((32, 32)), expected)


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


def checks(side: int, square: int) -> Image.Image:
    image = Image.new("L", (side, side))
    for x in range(0, side, square):
        for y in range(0, side, square):
            image.paste(255 * ((x + y) // square % 2), (x, y, x + square, y + square))
    return image


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


# Trim


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
    noise = Image.effect_noise(noisy.size, 4).convert("RGB")
    noisy = ImageChops.add(noisy, noise, 1, -128)
    assert (
        difference(load(encode(noisy, quality=70), size=96), load(encode(shop_picture((240, 240, 240))), size=96)) < 4
    )


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
    image.paste(checks(320, 20).convert("RGB"), (2000, 500))
    picture = load(encode(image), size=192)
    directly = load(encode(image.crop((1968, 468, 2352, 852))), size=192, options=PLAIN)
    assert difference(picture, directly) < 6


# Denoise


def test_denoise_removes_specks() -> None:
    image = Image.new("RGB", (448, 448), (120, 130, 140))
    for n in range(0, 448, 7):
        image.putpixel((n, n * 5 % 448), (0, 0, 0))
        image.putpixel((n * 3 % 448, n), WHITE)
    clean = load(encode(image, "PNG"), size=224, options=ImageOptions(denoise=3))
    assert clean.getextrema() == ((120, 120), (130, 130), (140, 140))
    assert load(encode(image, "PNG"), size=224).getextrema() != clean.getextrema()


# Colours


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
    return [
        round(255 * (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055)) for v in (max(0, v) for v in rgb)
    ]


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


# Sources and options


class Reader(io.RawIOBase):
    """A binary stream that gives at most ``step`` bytes at once and counts them."""

    def __init__(self, data: bytes, step: int) -> None:
        self.file, self.step, self.given = io.BytesIO(data), step, 0

    def read(self, size: int = -1) -> bytes:
        part = self.file.read(self.step if size < 0 else min(self.step, size))
        self.given += len(part)
        return part


def test_files_are_read_to_the_end_but_no_further_than_the_limit() -> None:
    data = encode(quadrants(), "PNG")
    assert load(Reader(data, 7), size=16) == load(data, size=16)  # type: ignore[arg-type]
    reader = Reader(data + bytes(100_000), 1000)
    with pytest.raises(ImageRefused) as refusal:
        load(reader, size=16, options=ImageOptions(max_bytes=5000))  # type: ignore[arg-type]
    assert refusal.value.code == "too_large"
    assert reader.given == 5001
    assert load(data, size=16, options=ImageOptions(max_bytes=len(data))).size == (16, 16)


def test_a_failing_storage_is_no_bad_picture() -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise ConnectionResetError("storage")

    with pytest.raises(ConnectionResetError):
        load(Broken(), size=16)  # type: ignore[arg-type]


def test_formats_are_an_allow_list() -> None:
    only = ImageOptions(formats=["JPEG"])  # type: ignore[arg-type]
    assert load(encode(quadrants()), size=16, options=only).size == (16, 16)
    with pytest.raises(ImageRefused, match="Save it as JPEG") as refusal:
        load(encode(quadrants(), "PNG"), size=16, options=only)
    assert refusal.value.code == "format"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"max_pixels": 4095}, "pixels"), ({"max_memory": 4 * 4095}, "pixels"), ({"max_side": 63}, "side"),
        ({"min_side": 65}, "side"), ({"max_pixels": 4096, "max_memory": 4 * 4096, "max_side": 64, "min_side": 64}, None),
    ],
)  # fmt: skip
def test_limits(options: dict[str, int], code: str | None) -> None:
    data = encode(quadrants(64, 64), "PNG")
    if code is None:
        assert load(data, size=16, options=ImageOptions(**options)).size == (16, 16)  # type: ignore[arg-type]
    else:
        with pytest.raises(ImageRefused) as refusal:
            load(data, size=16, options=ImageOptions(**options))  # type: ignore[arg-type]
        assert refusal.value.code == code


def test_aspect_limit() -> None:
    data = encode(quadrants(320, 64), "PNG")
    assert load(data, size=16, options=ImageOptions(max_aspect=5)).size == (16, 16)
    with pytest.raises(ImageRefused):
        load(data, size=16, options=ImageOptions(max_aspect=4.9))


@pytest.mark.parametrize(
    "options",
    [
        {"fit": "crop"}, {"denoise": 2}, {"denoise": 0}, {"trim_tolerance": 256}, {"trim_margin": -1}, {"formats": []},
        {"formats": ["TIFF"]}, {"background": [255, 255]}, {"background": [0, 0, 256]}, {"max_bytes": 0}, {"max_aspect": math.nan},
    ],
)  # fmt: skip
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ImageOptions(**options)


def test_options_are_hashable_and_their_repr_holds_what_changes_pixels() -> None:
    assert hash(ImageOptions(background=[1, 2, 3])) == hash(ImageOptions(background=(1, 2, 3)))  # type: ignore[arg-type]
    # The extractor's key: whoever changes this line makes every shop embed its catalogue again.
    assert repr(ImageOptions(max_bytes=1000, formats=("JPEG",))) == (
        "ImageOptions(fit='pad', trim=True, trim_margin=0.1, trim_tolerance=12, denoise=None, "
        "background=(255, 255, 255), orient=True, icc=True)"
    )


def test_size_below_one_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="size must be at least 1"):
        load(encode(quadrants()), size=0)


def test_refusals_cross_process_borders() -> None:
    refusal = pickle.loads(pickle.dumps(ImageRefused("side", "Too small.")))
    assert (refusal.code, str(refusal)) == ("side", "Too small.")


def test_importing_is_light_and_changes_no_global_setting() -> None:
    script = (
        "import sys, PIL.Image as i, PIL.ImageFile as f; before = (i.MAX_IMAGE_PIXELS, f.LOAD_TRUNCATED_IMAGES)\n"
        "from django_visual_search.images import load\n"
        "load(sys.stdin.buffer, size=32)\n"
        "assert before == (i.MAX_IMAGE_PIXELS, f.LOAD_TRUNCATED_IMAGES)\n"
        "assert not {'numpy', 'django', 'pi_heif', 'PIL.ImageCms', 'PIL.PngImagePlugin', 'PIL.WebPImagePlugin'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=encode(quadrants()), capture_output=True, cwd=files.ROOT
    )
    assert done.returncode == 0, done.stderr.decode()
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


# Anything at all

VALID = {
    "JPEG": encode(quadrants(), quality=80, subsampling=2, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0", icc_profile=files.wide_gamut_profile()),
    "progressive": encode(quadrants(), progressive=True),
    "CMYK": encode(quadrants().convert("CMYK")),
    "MPO": encode(quadrants(), "MPO", save_all=True, append_images=[quadrants()]),
    "PNG": encode(quadrants(), "PNG", icc_profile=files.wide_gamut_profile()),
    "palette": encode(quadrants().quantize(4), "PNG", transparency=1),
    "GIF": files.animation("GIF", 3),
    "WebP": files.animation("WEBP", 3),
    "lossless": encode(quadrants(), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    "AVIF": encode(quadrants(), "AVIF"),
    "HEIC": files.HEIC,
}  # fmt: skip


@pytest.mark.parametrize("kind", VALID)
@given(data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_broken_bytes_give_a_picture_or_a_refusal(kind: str, data: st.DataObject) -> None:
    if kind == "HEIC":
        pytest.importorskip("pi_heif", reason="needs the heic extra")
    broken = bytearray(VALID[kind])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(broken) - 1), st.integers(0, 255)), max_size=12)):
        broken[at] = value
    start = data.draw(st.integers(0, len(broken)))
    removed = data.draw(st.sampled_from([0, 0, 1, 4, len(broken)]))
    broken[start : start + removed] = data.draw(st.binary(max_size=8))
    crop = data.draw(st.sampled_from([None, (0.1, 0.2, 0.7, 0.9)]))
    try:
        picture = load(bytes(broken), size=24, crop=crop)
    except ImageRefused:
        return
    assert (picture.mode, picture.size) == ("RGB", (24, 24))


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X"]),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_arbitrary_bytes_are_refused(data: bytes, magic: bytes) -> None:
    with pytest.raises(ImageRefused):
        load(magic + data, size=24)
