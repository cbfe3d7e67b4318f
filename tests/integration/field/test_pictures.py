"""Row 18 of "In a stranger's shop": pictures that browsers show."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from django.core.files.storage import FileSystemStorage
from PIL import Image

from django_visual_search.images import ImageOptions, ImageRefused, load
from django_visual_search.models import IndexingAttempt

from ...conftest import embed_all, picture
from ...image_files import encode, quadrants
from ...testshop.models import Product

PLAIN = ImageOptions(trim=False)


def jpeg(**options):
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [32, 300])
def test_a_jpeg_without_the_marker_of_its_end(progressive, size):
    whole = jpeg(progressive=progressive)
    expected = load(whole, options=PLAIN, size=size)
    for end in (whole[:-1], whole[:-2], whole[:-2] + b"\xff"):
        assert load(end, options=PLAIN, size=size).tobytes() == expected.tobytes()
    for cut in (40, 1000, len(whole) // 2):
        with pytest.raises(ImageRefused, match="truncated"):
            load(whole[:-cut], options=PLAIN, size=size)


@pytest.mark.parametrize(("kind", "missing"), [("PNG", 12), ("PNG", 4), ("GIF", 1)])
def test_other_formats_without_the_marker_of_their_end(kind, missing):
    whole = encode(quadrants(90, 70), kind)
    shown = load(whole, options=PLAIN, size=64)
    assert load(whole[:-missing], options=PLAIN, size=64).tobytes() == shown.tobytes()


@pytest.mark.parametrize("background", [(255, 255, 255), (200, 100, 0)])
def test_sixteen_bits_of_grey_with_one_that_is_clear(background):
    values = np.full((64, 64), 30000, np.uint16)
    values[:, 32:] = 5
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", transparency=5)
    shown = load(file.getvalue(), options=ImageOptions(trim=False, background=background), size=64)
    assert shown.getpixel((8, 32)) == (117, 117, 117)
    assert shown.getpixel((56, 32)) == background


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["folder", "file.jpg/inside.jpg"])
def test_a_name_that_is_no_file_is_refused_once(name, media):
    folder = Path(FileSystemStorage().location)
    (folder / "folder").mkdir(parents=True)
    (folder / "file.jpg").write_bytes(picture(0))
    Product.objects.create(name="p", image=name)
    assert embed_all().refused == 1
    assert IndexingAttempt.objects.get().code == "unsafe_name"
    assert embed_all().settled == 0


@pytest.mark.django_db
def test_a_name_that_is_too_long_is_refused_once(monkeypatch):
    Product.objects.create(name="p", image="short.jpg")
    storage = Product._meta.get_field("image").storage
    monkeypatch.setattr(storage, "_open", lambda name, mode: os.open("a" * 300, os.O_RDONLY))
    assert embed_all().refused == 1
    assert IndexingAttempt.objects.get().code == "unsafe_name"
