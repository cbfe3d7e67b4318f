"""``images.load``: whatever the bytes are, a picture or a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_visual_search.images import ImageOptions, ImageRefused, load

from .. import image_files as files
from ..image_files import encode, quadrants

WHITE = (255, 255, 255)
PLAIN = ImageOptions(trim=False)


VALID = {
    "JPEG": encode(quadrants(), quality=80, subsampling=2, icc_profile=files.wide_gamut_profile()),
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
