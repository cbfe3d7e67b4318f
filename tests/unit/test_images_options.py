"""``images``: options, limits, sources, and what importing costs."""

from __future__ import annotations

import io
import math
import pickle
import subprocess
import sys
from typing import Any

import pytest
from PIL import ImageFile

from django_visual_search.images import ImageOptions, ImageRefused, load

from .. import image_files as files
from ..image_files import encode, quadrants

WHITE = (255, 255, 255)
PLAIN = ImageOptions(trim=False)


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
    with pytest.raises(ImageRefused, match=r"\(JPEG\)") as refusal:
        load(encode(quadrants(), "PNG"), size=16, options=only)
    assert refusal.value.code == "format"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"max_pixels": 4095}, "pixels"), ({"max_memory": 4 * 4095}, "pixels"), ({"max_side": 63}, "side"),
        ({"min_side": 65}, "side"),
        ({"max_pixels": 4096, "max_memory": 4 * 4096, "max_side": 64, "min_side": 64}, None),
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
        {"formats": ["TIFF"]}, {"background": [255, 255]}, {"background": [0, 0, 256]}, {"max_bytes": 0},
        {"max_aspect": math.nan},
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
        "heavy = {'numpy', 'django', 'pi_heif', 'PIL.ImageCms', 'PIL.PngImagePlugin'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=encode(quadrants()), capture_output=True, cwd=files.ROOT
    )
    assert done.returncode == 0, done.stderr.decode()
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
