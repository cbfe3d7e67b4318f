"""The probability that a hit is the very product of a photo, by its similarity and its margin over other products."""

from __future__ import annotations

import numpy as np
import pytest

from django_visual_search.learning.calibration import MOST_MARGIN, Identification, calibration_error, margins
from django_visual_search.learning.identification import FirstHits, found_products, learn_identification


def at(*degrees):
    return np.stack([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], axis=1).astype(np.float32)


def test_margins_are_over_the_best_of_the_others():
    assert margins([0.9, 0.5, 0.8]).tolist() == pytest.approx([0.1, -0.4, -0.1])
    assert margins([0.9, 0.9]).tolist() == [0, 0]
    assert margins([0.9]).tolist() == [MOST_MARGIN]
    assert margins([]).tolist() == []


def test_each_photo_is_searched_with_its_product_and_without():
    gallery, products = at(0, 2, 40, 90), np.array([5, 5, 6, 7])
    found = found_products(at(1, 41, 89), gallery, np.array([5, 7, 9]), products, np.array([10, 11, 12]), at_once=1)
    assert found.photos.tolist() == [10, 10, 11, 11, 12]
    assert found.same.tolist() == [True, False, False, False, False]
    near = np.cos(np.deg2rad([1, 39, 1, 1, 1]))
    assert found.similarities == pytest.approx(near, abs=1e-6)
    next_best = np.cos(np.deg2rad([39, 89, 39, 39, 49]))
    assert found.margins == pytest.approx(near - next_best, abs=1e-6)


def test_of_one_product_alone_the_margin_is_the_most_and_nothing_is_left_without_it():
    found = found_products(at(1), at(0, 5), np.array([3]), np.array([3, 3]), np.array([0]), at_once=99)
    assert (found.same.tolist(), found.margins.tolist()) == ([True], [MOST_MARGIN])


def test_pictures_without_a_product_are_each_their_own():
    found = found_products(at(1), at(0, 5), np.array([-1]), np.array([-1, -1]), np.array([0]), at_once=99)
    assert found.same.tolist() == [False]
    assert found.margins[0] < 0.01


def simulated(count, seed):
    """Photos of things among look-alikes: a margin tells more than a similarity does."""
    rng = np.random.default_rng(seed)
    similarity, margin = rng.uniform(0.4, 1, count), rng.exponential(0.06, count)
    same = rng.random(count) < 1 / (1 + np.exp(-(8 * similarity + 30 * np.minimum(margin, MOST_MARGIN) - 7.5)))
    return FirstHits(similarity, margin, same, np.arange(count), np.ones(count))


def test_it_is_calibrated_on_photos_that_it_was_not_learned_from():
    learned, others = learn_identification(simulated(2000, 0)), simulated(4000, 1)
    assert learned.queries == 2000
    assert learned.similarity == pytest.approx(8, rel=0.2)
    assert learned.margin == pytest.approx(30, rel=0.2)
    assert learned.error < 0.04
    sure = learned(others.similarities, others.margins)
    assert calibration_error(sure, others.same) < 0.04
    blind = Identification(8.0, 0.0, -5.5, 1)
    assert calibration_error(blind(others.similarities, others.margins), others.same) > 0.04


def test_a_number_that_misleads_counts_for_nothing():
    found = simulated(1000, 2)
    turned = FirstHits(1.4 - found.similarities, found.margins, found.same, found.photos, found.weights)
    assert learn_identification(turned).similarity == 0


@pytest.mark.parametrize("same", [True, False])
def test_one_answer_alone_teaches_nothing(same):
    found = simulated(50, 3)
    with pytest.raises(ValueError, match="Right and wrong products"):
        learn_identification(
            FirstHits(found.similarities, found.margins, np.full(50, same), found.photos, found.weights)
        )
