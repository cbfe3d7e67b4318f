"""``load_whole`` and ``crop_square`` prepare parts of a photo as ``load`` does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_visual_search.decoding.photos import decode_whole
from django_visual_search.images import FITS, ImageOptions, ImageRefused, crop_square, load, load_whole

from ..image_cases import photo
from ..image_files import difference, encode, oriented, quadrants
from .test_images_fuzz import VALID

OPTIONS = ImageOptions()


@pytest.mark.parametrize("kind", ["JPEG", "progressive", "CMYK", "PNG", "palette", "GIF", "WebP", "AVIF"])
def test_parts_are_those_of_load(kind: str) -> None:
    whole = load_whole(VALID[kind], size=200)
    assert whole.mode == "RGB"
    for crop in ((0, 0, 1, 1), (0.1, 0.2, 0.7, 0.9)):
        part = crop_square(whole, options=OPTIONS, crop=crop, size=48)
        assert (part.mode, part.size) == ("RGB", (48, 48))
        assert difference(part, load(VALID[kind], crop=crop, size=48)) < 6


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("denoise", [None, 3])
def test_options_are_those_of_load(fit: str, denoise: int | None) -> None:
    data, options = encode(photo(400), quality=95), ImageOptions(fit=fit, denoise=denoise, background=(1, 2, 3))
    crop = (0.2, 0.1, 0.9, 0.5)
    part = crop_square(load_whole(data, options=options, size=400), options=options, crop=crop, size=64)
    assert difference(part, load(data, options=options, crop=crop, size=64)) < 6


def test_borders_of_a_part_are_trimmed() -> None:
    white = ImageOptions(background=(255, 255, 255))
    framed = quadrants(400, 400)
    framed.paste((255, 255, 255), (0, 0, 150, 400))
    framed.paste((255, 255, 255), (0, 0, 400, 150))
    framed.paste((255, 255, 255), (250, 0, 400, 400))
    framed.paste((255, 255, 255), (0, 250, 400, 400))
    data = encode(framed, "PNG")
    part = crop_square(load_whole(data, size=400), options=white, crop=(0, 0, 1, 1), size=40)
    assert difference(part, load(data, options=white, size=40)) < 6
    assert part.getpixel((12, 12)) != (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright(orientation: int) -> None:
    data = oriented("JPEG", orientation, quadrants(800, 400))
    whole = load_whole(data, size=200)
    assert (whole.width > whole.height) == (orientation < 5)
    part = crop_square(whole, options=OPTIONS, crop=(0.1, 0.1, 0.9, 0.6), size=48)
    assert difference(part, load(data, crop=(0.1, 0.1, 0.9, 0.6), size=48)) < 6


@pytest.mark.parametrize(("side", "kind"), [(1791, "JPEG"), (900, "PNG"), (3000, "JPEG"), (40, "PNG")])
def test_size(side: int, kind: str) -> None:
    whole = load_whole(encode(quadrants(side, side // 2), kind), size=224)
    assert min(224, side) <= whole.width < 448
    assert whole.height == pytest.approx(whole.width / 2, abs=1)


def test_a_part_of_no_pixels() -> None:
    whole = load_whole(encode(quadrants(40, 40), "PNG"), size=40)
    for crop in ((0.5, 0.5, 0.501, 0.501), (0.999, 0, 1, 1)):
        assert crop_square(whole, options=OPTIONS, crop=crop, size=16).size == (16, 16)


@pytest.mark.parametrize("kind", [kind for kind in VALID if kind != "HEIC"])
@given(data=st.data())
@settings(max_examples=20, deadline=None, derandomize=True)
def test_broken_bytes_give_a_picture_or_a_refusal(kind: str, data: st.DataObject) -> None:
    broken = bytearray(VALID[kind])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(broken) - 1), st.integers(0, 255)), max_size=12)):
        broken[at] = value
    try:
        whole = load_whole(bytes(broken[: data.draw(st.integers(0, len(broken)))]), size=100)
    except ImageRefused:
        return
    assert whole.mode == "RGB"


def test_the_decoding_process_gives_the_same() -> None:
    data = encode(quadrants(500, 300))
    pixels = decode_whole(data, OPTIONS, 200)
    assert pixels.shape[2] == 3
    assert pixels.tobytes() == load_whole(data, size=200).tobytes()
    with pytest.raises(ImageRefused, match="broken"):
        decode_whole(data[:200], OPTIONS, 200)
