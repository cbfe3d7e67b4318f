from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from django_visual_search.extractors.classic import ClassicExtractor
from django_visual_search.learning.augment import ALTERATIONS_BY_NAME, alter, altered_views
from django_visual_search.learning.confidence import draw_strangers


@pytest.fixture
def photo():
    """160 x 120, no two places alike."""
    patches = np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((160, 120), Image.Resampling.BICUBIC)


@pytest.fixture
def cut_out():
    """A ring with white inside, on white, as shops show products."""
    picture = Image.new("RGB", (160, 120), "white")
    ImageDraw.Draw(picture).ellipse((40, 20, 120, 100), fill="white", outline=(180, 30, 40), width=14)
    return picture


def difference(one, other):
    return np.abs(np.asarray(one, float) - np.asarray(other, float)).mean()


@pytest.mark.parametrize("name", ALTERATIONS_BY_NAME)
def test_an_alteration_keeps_the_size_and_alters(name, photo):
    before = photo.tobytes()
    for seed in range(5):
        view = alter(photo, name, 0.5, seed)
        assert view.size == photo.size
        assert view.mode == "RGB"
        assert difference(view, photo) > 0.1
    assert photo.tobytes() == before


@pytest.mark.parametrize("name", ALTERATIONS_BY_NAME)
def test_seeds_tell_alterations_apart_and_strength_zero_alters_nothing(name, photo):
    assert alter(photo, name, 0.5, 3).tobytes() == alter(photo, name, 0.5, 3).tobytes()
    if name not in ("jpeg", "flip"):
        assert alter(photo, name, 0.5, 3).tobytes() != alter(photo, name, 0.5, 4).tobytes()
    assert alter(photo, name, 0.0).tobytes() == photo.tobytes()


@pytest.mark.parametrize("name", ["crop", "light", "rotation", "background", "blur", "jpeg"])
def test_more_strength_alters_more(name, photo):
    weak, strong = (np.mean([difference(alter(photo, name, s, i), photo) for i in range(8)]) for s in (0.15, 1.0))
    assert strong > 1.1 * weak


def test_crop_shows_a_part_and_rotation_no_empty_corner():
    marked = Image.new("RGB", (100, 100), "white")
    ImageDraw.Draw(marked).rectangle((0, 0, 4, 99), fill="black")
    crops = [alter(marked, "crop", 1.0, i) for i in range(10)]
    assert any(np.asarray(crop)[..., 0].min() > 200 for crop in crops)  # the line is out of the picture
    white = Image.new("RGB", (160, 90), "white")
    for seed in range(10):
        assert np.asarray(alter(white, "rotation", 0.5, seed)).min() == 255


def test_light_keeps_black_dark_and_moves_grey():
    grey = Image.new("RGB", (20, 20), (100, 100, 100))
    levels = [np.asarray(alter(grey, "light", 0.5, i)).mean() for i in range(12)]
    assert min(levels) < 85 < 115 < max(levels)
    assert np.asarray(alter(Image.new("RGB", (20, 20)), "light", 0.5)).max() < 60


def test_background_is_replaced_around_a_thing_and_not_within_it(cut_out):
    before = np.asarray(cut_out)
    for seed in range(5):
        after = np.asarray(alter(cut_out, "background", 1.0, seed))
        assert np.abs(after[5, 5].astype(int) - 255).max() > 20  # outside
        np.testing.assert_array_equal(after[60, 80], before[60, 80])  # white within the ring
        assert np.abs(after[60, 46].astype(int) - before[60, 46]).max() < 40  # the ring


def test_background_of_a_full_picture_is_around_it(photo):
    view = np.asarray(alter(photo, "background", 1.0, 2)).astype(float)
    small = np.asarray(photo.resize((96, 72), Image.Resampling.HAMMING)).astype(float)
    found = min(np.abs(view[y : y + 72, x : x + 96] - small).mean() for y in range(49) for x in range(65))
    assert found == 0


def test_jpeg_loses_detail_with_quality(photo):
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    losses = [difference(alter(noisy, "jpeg", s), noisy) for s in (0.1, 0.5, 1.0)]
    assert losses == sorted(losses)
    assert losses[2] > 1.3 * losses[0]


def test_views_differ_and_do_not_depend_on_their_count(photo):
    made = altered_views(photo, 6, seed=7)
    assert len({view.tobytes() for view in made}) == 6
    assert [view.tobytes() for view in altered_views(photo, 3, seed=7)] == [view.tobytes() for view in made[:3]]
    assert altered_views(photo, 1, seed=(7, 12))[0].tobytes() != made[0].tobytes()
    assert altered_views(photo, 0) == []
    assert all(view.size == photo.size for view in made)


def test_views_stay_nearer_to_their_picture_than_other_pictures():
    extractor = ClassicExtractor()
    rng = np.random.default_rng(1)
    pictures = []
    for _ in range(8):
        picture = Image.new("RGB", (160, 160), tuple(rng.integers(0, 255, 3).tolist()))
        ImageDraw.Draw(picture).ellipse((30, 40, 130, 120), fill=tuple(rng.integers(0, 255, 3).tolist()))
        pictures.append(picture)
    vectors = extractor(np.stack([np.asarray(picture) for picture in pictures]))
    right = 0
    for i, picture in enumerate(pictures):
        seen = extractor(np.stack([np.asarray(view) for view in altered_views(picture, 4, seed=i)]))
        right += ((seen @ vectors.T).argmax(axis=1) == i).sum()
    assert right >= 20  # of 32; by chance 4


@pytest.mark.parametrize(
    ("mode", "name", "strength", "message"),
    [
        ("RGB", "melt", 0.5, "no alteration 'melt'"),
        ("RGB", "crop", 1.5, "from 0 to 1"),
        ("L", "crop", 0.5, "Only RGB"),
    ],
)
def test_what_makes_no_sense_is_refused(mode, name, strength, message):
    with pytest.raises(ValueError, match=message):
        alter(Image.new(mode, (8, 8)), name, strength)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2)])
@pytest.mark.parametrize("name", ALTERATIONS_BY_NAME)
def test_tiny_pictures_are_altered_too(name, size):
    assert alter(Image.new("RGB", size, "red"), name, 1.0).size == size


def test_strangers_are_drawn_and_differ():
    pictures = draw_strangers(12, seed=3)
    assert len({picture.tobytes() for picture in pictures}) == 12
    assert {(picture.size, picture.mode) for picture in pictures} == {((256, 256), "RGB")}
    assert [picture.tobytes() for picture in draw_strangers(5, seed=3)] == [
        picture.tobytes() for picture in pictures[:5]
    ]
    assert draw_strangers(1, seed=4)[0].tobytes() != pictures[0].tobytes()
