from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_visual_search.learning.labels import ROWS_AT_ONCE, class_means, grouping, groupings, scatter

NAMES = st.lists(st.sampled_from([None, "", math.nan, "a", "b", 3, 7.5]), max_size=30)


@settings(deadline=None)
@given(NAMES)
def test_classes_number_equal_values_in_the_order_they_came(values):
    group = grouping("brand", values, len(values))
    named = [value for value in values if value not in (None, "") and value == value]
    assert list(group.values) == list(dict.fromkeys(named))
    assert group.counts.tolist() == [named.count(value) for value in group.values]
    for value, number in zip(values, group.classes.tolist(), strict=True):
        assert (number == -1) == (value in (None, "") or value != value)
        assert number == -1 or group.values[number] == value
    assert group.spare == len(named) - len(group.values)


def test_arrays_and_lists_are_the_same():
    plain = ["pear", "", "plum", "pear"]
    for values in (np.array(plain), np.array(plain, object)):
        np.testing.assert_array_equal(grouping("kind", values, 4).classes, grouping("kind", plain, 4).classes)
    assert grouping("kind", np.array([2.0, np.nan, 2.0]), 3).classes.tolist() == [0, -1, 0]


def test_labels_must_fit_the_pictures():
    with pytest.raises(ValueError, match="There are 2 labels 'brand' for 3 pictures"):
        grouping("brand", ["a", "b"], 3)
    with pytest.raises(ValueError, match="nothing to learn from"):
        groupings({}, 3)
    assert [group.name for group in groupings({"b": [1, 1], "a": [1, 2]}, 2)] == ["b", "a"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_means_and_scatter_by_parts_are_those_of_numpy(dtype):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((50, 4)).astype(dtype)
    values = rng.choice(["a", "b", "c", ""], 50)
    group = grouping("kind", values, 50)
    plain = features.astype(float)
    expected = np.stack([plain[values == value].mean(axis=0) for value in group.values])
    rows = np.flatnonzero(group.classes >= 0)
    centred = plain[rows] - expected[group.classes[rows]]
    around_one = plain[rows] - expected[0]
    for at_once in (ROWS_AT_ONCE, 7, 1):
        means = class_means(features, group, at_once)
        np.testing.assert_allclose(means, expected, atol=1e-12)
        by_class = scatter(features, means[group.classes[rows]], rows, at_once)
        np.testing.assert_allclose(by_class, centred.T @ centred, atol=1e-9)
        np.testing.assert_allclose(scatter(features, means[0], rows, at_once), around_one.T @ around_one, atol=1e-9)


def test_nothing_labelled_has_no_means():
    assert class_means(np.ones((3, 2)), grouping("kind", [None] * 3, 3)).shape == (0, 2)
