"""Boxes of objects: from maps that are made here, and from the network's for photos of drawn products."""

import numpy as np
import pytest

from django_visual_search import images
from django_visual_search.extractors import objects
from django_visual_search.extractors.objects import (
    GRID,
    REPEATED,
    boxes_from_maps,
    kept_boxes,
    network_maps,
    proposals,
    region_boxes,
)

from ..still_life import overlap, still_life


@pytest.fixture(scope="module")
def folder(run_folder):
    path = run_folder / "maps"
    path.mkdir(exist_ok=True)
    return path


def maps_of(*boxes, noise=0.1):
    """Return maps in which the cells of each box, in cells of the grid, are unlike the rest."""
    rng = np.random.default_rng(0)
    maps = []
    for side, channels in ((40, 6), (20, 12), (10, 24)):
        values = rng.normal(0, noise, (side, side, channels))
        for x0, y0, x1, y1 in boxes:
            across = slice(x0 * side // GRID, x1 * side // GRID), slice(y0 * side // GRID, y1 * side // GRID)
            values[across[1], across[0]] += rng.normal(0, 2, channels)
        maps.append(values.astype(np.float32))
    return maps


def test_things_in_maps_are_found_first_and_exactly():
    things = [(2, 2, 8, 8), (12, 10, 18, 18)]
    found = boxes_from_maps(maps_of(*things), most=7)
    for thing in things:
        assert max(overlap(box, tuple(edge / GRID for edge in thing)) for box, _ in found[:2]) == 1
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)


def test_at_most_so_many():
    assert len(boxes_from_maps(maps_of((2, 2, 8, 8), (12, 10, 18, 18), noise=1), most=1)) == 1


@pytest.mark.parametrize("level", [0, 3])
def test_maps_without_any_difference(level):
    """A plain picture has no objects, and divides by nothing."""
    assert boxes_from_maps([np.full((side, side, 8), level, np.float32) for side in (40, 20, 10)], most=7) == []


def test_regions_are_those_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(1)
    for smooth in (0, 0.7, 2):
        levels = np.rint(ndimage.gaussian_filter(rng.random((GRID, GRID)), smooth) * 12).astype(int)
        expected = set()
        for level in range(1, levels.max() + 1):
            labels, _ = ndimage.label(levels >= level)
            expected |= {(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)}
        assert region_boxes(levels) == expected
    assert region_boxes(np.zeros((GRID, GRID), int)) == set()


def test_a_region_that_winds():
    levels = np.zeros((GRID, GRID), int)
    levels[::2] = 1
    levels[1::4, -1] = levels[3::4, 0] = 1
    assert region_boxes(levels) == {(0, 0, GRID, GRID)}


def test_small_proposals_and_equal_ones_are_dropped():
    saliency = np.zeros((2, GRID, GRID), np.float32)
    saliency[:, 3:6, 4:9] = 1
    saliency[:, 15, 15] = 1
    assert proposals(saliency).tolist() == [[4, 3, 9, 6]]


def test_boxes_that_overlap_a_better_one_are_dropped():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4], [12, 0, 20, 8]])
    kept, scores = kept_boxes(boxes, np.array([0.5, 0.9, 0.4, 0.6]), most=8)
    assert kept == [1, 3, 2]
    assert scores == pytest.approx([0.9, 0.6, 0.4 - REPEATED])  # the last lies within the first
    assert kept_boxes(boxes, np.array([0.5, 0.9, 0.4, 0.6]), most=2)[0] == [1, 3]


def test_what_repeats_a_better_box_comes_later():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 4], [12, 0, 20, 8]])
    assert kept_boxes(boxes, np.array([0.9, 0.6, 0.6 - REPEATED / 2]), most=8)[0] == [0, 2, 1]


def test_products_in_photos(folder):
    """Found by the real network: at least nine of the ten, by a box of half intersection over union."""
    found = total = 0
    for scene, kinds in {
        "table": ("mug", "sneaker", "cap"),
        "wooden": ("teapot", "backpack"),
        "room": ("vase", "mug", "handbag"),
        "outdoors": ("chair", "teapot"),
    }.items():
        photo, boxes = still_life(scene, *kinds)
        options = images.ImageOptions(fit="stretch", trim=False)
        pixels = np.asarray(images.load(photo, options=options, size=objects.SIDE))
        proposed = [box for box, _ in boxes_from_maps(network_maps(folder, pixels), most=7)]
        found += sum(max(overlap(box, thing) for box in proposed) >= 0.5 for thing in boxes)
        total += len(boxes)
    assert (total, found >= 9) == (10, True), found
