from __future__ import annotations

import io

import numpy as np
from PIL import Image

from django_visual_search import images
from django_visual_search.extractors.classic import ClassicExtractor
from django_visual_search.learning.confidence import STRANGER_SIDE, draw_strangers


def test_equal_seeds_draw_equal_pictures():
    pictures = draw_strangers(12)
    assert all(picture.size == (STRANGER_SIDE, STRANGER_SIDE) and picture.mode == "RGB" for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 12
    assert [picture.tobytes() for picture in draw_strangers(5)] == [picture.tobytes() for picture in pictures[:5]]
    assert not {picture.tobytes() for picture in draw_strangers(12, seed=1)} & {
        picture.tobytes() for picture in pictures
    }
    assert draw_strangers(0) == []


def test_the_kinds_of_pictures_differ():
    """Noise differs from pixel to pixel, soft patches hardly do, shapes and text have few colours."""
    noise, patches, shapes, text = (np.asarray(picture, int) for picture in draw_strangers(4))
    steps = [np.abs(np.diff(picture, axis=1)).mean() for picture in (noise, patches, shapes, text)]
    assert steps[0] > 60
    assert steps[1] < 20
    colours = [len(np.unique(picture.reshape(-1, 3), axis=0)) for picture in (noise, patches, shapes, text)]
    assert colours[2] <= 13
    assert colours[3] < 1000 < min(colours[:2])


def test_every_one_can_be_embedded_as_a_photo_is():
    extractor = ClassicExtractor()
    for picture in draw_strangers(8):
        file = io.BytesIO()
        picture.save(file, "JPEG")
        loaded = images.load(file.getvalue(), options=extractor.spec.images, size=extractor.spec.input_size)
        assert isinstance(loaded, Image.Image)
        vector = extractor(np.asarray(loaded)[None])[0]
        assert np.linalg.norm(vector) > 0.99
