from __future__ import annotations

import numpy as np
import pytest

from django_visual_search.extractors.base import l2_normalise
from django_visual_search.learning.confidence import FURTHER_HITS, STRANGER_SHARE, first_hits, further_hits


def at(*degrees):
    """Unit vectors in the plane."""
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_the_nearest_picture_is_right_where_a_label_agrees():
    queries, gallery = at(1, 44, 89, 178), at(0, 40, 90, 180)
    products, kinds = [["a", "x", "c", None]], [["pear", "plum", "plum", ""]]
    gallery_products, gallery_kinds = [["a", "b", "z", None]], [["pear", "plum", "pear", ""]]
    by_product = first_hits(queries, gallery, products, gallery_products)
    assert by_product.hits.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(by_product.similarities, np.cos(np.deg2rad([1, 4, 1, 2])))
    assert by_product.right.tolist() == [True, False, False, False]  # None is not like None
    assert by_product.weights.tolist() == [1, 1, 1, 1]
    either = first_hits(queries, gallery, products + kinds, gallery_products + gallery_kinds)
    assert either.right.tolist() == [True, True, False, False]


def test_numbers_and_arrays_are_labels_too():
    found = first_hits(at(0, 90), at(1, 91), [np.array([7, 8])], [np.array([7, 9])])
    assert found.right.tolist() == [True, False]
    assert first_hits(at(0), at(1), [[3]], [np.array([3.0])]).right.tolist() == [True]


def test_further_hits_are_those_of_known_queries_without_their_product():
    queries, gallery = at(1, 89, 45), at(0, 2, 40, 90)
    labels = [["a", "b", None], ["pear", "plum", "plum"]], [["a", "a", "x", "b"], ["pear", "pear", "pear", "plum"]]
    found = further_hits(queries, gallery, *labels, np.array([True, True, False]))
    assert found.hits.tolist() == [2, 3, 2, 1, 0]
    assert found.right.tolist() == [True, False, False, False, False]
    np.testing.assert_allclose(found.similarities, np.cos(np.deg2rad([39, 89, 49, 87, 89])))
    many = further_hits(at(*range(5)), at(*range(200)), [range(5)], [range(100, 300)], np.ones(5, bool))
    assert len(many.hits) == 5 * FURTHER_HITS
    assert many.similarities.min() > np.cos(np.deg2rad(105))
    assert not len(further_hits(queries, gallery, *labels, np.zeros(3, bool)).hits)
    for at_once in (1, 9):  # similarities in memory
        some = further_hits(queries, gallery, *labels, np.array([True, True, False]), at_once=at_once)
        np.testing.assert_array_equal(some.hits, found.hits)
        np.testing.assert_array_equal(some.right, found.right)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.6])
def test_strangers_are_wrong_and_weigh_their_share(share):
    queries, gallery = at(0, 30, 60), at(0, 30, 60)
    labels = [["a", "b", "c"]]
    found = first_hits(queries, gallery, labels, labels, strangers=at(200, 100, 61, 359, 2), share=share)
    assert found.right.tolist() == [True] * 3 + [False] * 5
    assert found.hits[3:].tolist() == [2, 2, 2, 0, 0]
    assert found.weights[3:].sum() / found.weights.sum() == pytest.approx(share)
    assert found.weights[:3].tolist() == [1, 1, 1]
    assert len(set(found.weights[3:].tolist())) == 1


def test_absent_strangers_add_no_pairs():
    labels = [["a"]]
    for options in ({}, {"strangers": None}, {"strangers": at()}, {"strangers": at(5), "share": 0}):
        assert len(first_hits(at(0), at(0), labels, labels, **options).hits) == 1
    assert 0 < STRANGER_SHARE < 1


def test_many_queries_are_searched_a_part_at_a_time():
    rng = np.random.default_rng(0)
    queries, gallery = (l2_normalise(rng.standard_normal((count, 6))) for count in (50, 30))
    labels = [rng.integers(0, 4, 50)], [rng.integers(0, 4, 30)]
    whole = first_hits(queries, gallery, *labels, strangers=queries[:7])
    cosines = queries @ gallery.T
    np.testing.assert_array_equal(whole.hits[:50], cosines.argmax(axis=1))
    np.testing.assert_allclose(whole.similarities[:50], cosines.max(axis=1), rtol=1e-6)
    for at_once in (100, 1):
        parts = first_hits(queries, gallery, *labels, strangers=queries[:7], at_once=at_once)
        np.testing.assert_array_equal(parts.hits, whole.hits)
        np.testing.assert_allclose(parts.similarities, whole.similarities, rtol=1e-6)


@pytest.mark.parametrize(
    ("queries", "query_labels", "gallery_labels", "options", "message"),
    [
        (at(0), [["a"]], [["a"]], {"share": 1.0}, "from 0 to below 1"),
        (at(0), [["a"]], [["a"]], {"share": -0.1}, "from 0 to below 1"),
        (at(0), [], [], {}, "Queries have 0 labels"),
        (at(0), [["a"], ["b"]], [["a"]], {}, "Queries have 2 labels, the gallery has 1"),
        (at(), [[]], [["a"]], {}, "no queries or no pictures"),
        (at(0), [["a", "b"]], [["a"]], {}, "2 and 1 labels for 1 queries and 1"),
    ],
)
def test_what_does_not_fit_is_refused(queries, query_labels, gallery_labels, options, message):
    with pytest.raises(ValueError, match=message):
        first_hits(queries, at(0), query_labels, gallery_labels, **options)
