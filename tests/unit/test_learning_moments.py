from __future__ import annotations

import numpy as np
import pytest

from django_visual_search.learning.labels import ROWS_AT_ONCE
from django_visual_search.learning.lda import Moments


@pytest.fixture
def shop():
    """90 pictures of 5 features in 6 products and 3 brands, some without either."""
    rng = np.random.default_rng(3)
    products = rng.integers(0, 6, 90)
    features = rng.standard_normal((6, 5))[products] * 3 + rng.standard_normal((90, 5)) * [1, 2, 0.5, 1, 3] + 10
    brands = np.array(["x", "y", "z"])[products % 3].astype(object)
    named = products.astype(object)
    named[:7], brands[3:12] = None, ""
    return features, {"product": named, "brand": brands}


def within(features, values):
    """The pooled covariance within classes, from its definition."""
    total, spare = np.zeros((features.shape[1],) * 2), 0
    for value in {value for value in values if value not in (None, "")}:
        own = features[[other == value for other in values]]
        centred = own - own.mean(axis=0)
        total += centred.T @ centred
        spare += len(own) - 1
    return total / spare


def rebuilt(values, axes):
    return (axes * values) @ axes.T


def test_total_and_variance_are_those_of_numpy(shop):
    features, labels = shop
    for at_once in (ROWS_AT_ONCE, 11):
        found = Moments(features.astype(np.float32), labels, at_once)
        plain = features.astype(np.float32).astype(float)
        np.testing.assert_allclose(found.total, np.cov(plain.T, bias=True), rtol=1e-9)
        assert found.variance == pytest.approx(plain.var(axis=0).sum(), rel=1e-9)
        assert found.width == 5


def test_within_pools_labels_by_their_weights(shop):
    features, labels = shop
    found = Moments(features, labels)
    product, brand = (within(features, labels[name]) for name in ("product", "brand"))
    np.testing.assert_allclose(found.within((1.0, 0.0)), product, atol=1e-9)
    np.testing.assert_allclose(found.within((1.0, 3.0)), product / 4 + brand * 3 / 4, atol=1e-9)
    np.testing.assert_allclose(found.within((2.0, 6.0)), product / 4 + brand * 3 / 4, atol=1e-9)
    np.testing.assert_allclose(found.within((1.0, 0.0)), product, atol=1e-9)  # asked twice


def test_labels_without_two_pictures_of_a_class_are_left_out_of_within(shop):
    features, labels = shop
    found = Moments(features, {**labels, "each": list(range(90))})
    np.testing.assert_allclose(found.within((1.0, 0.0, 9.0)), within(features, labels["product"]), atol=1e-9)
    alone = Moments(features, {"each": list(range(90))})
    assert (alone.within((1.0,)) == 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_copies_within_a_class_are_no_variance(dtype):
    rng = np.random.default_rng(0)
    features = np.repeat(100 + rng.standard_normal((20, 8)), 7, axis=0).astype(dtype)
    assert (Moments(features, {"product": np.repeat(np.arange(20), 7)}).within((1.0,)) == 0).all()


@pytest.mark.parametrize("weights", [(1.0, 0.0), (1.0, 0.5), (0.0, 2.0)])
@pytest.mark.parametrize("columns", [2, 5])
def test_between_turns_to_the_variance_of_class_means(shop, weights, columns):
    features, labels = shop
    whiten = np.random.default_rng(1).standard_normal((5, columns))
    expected = np.zeros((columns, columns))
    for name, weight in zip(labels, weights, strict=True):
        labelled = np.array([value not in (None, "") for value in labels[name]])
        own, values = features[labelled] @ whiten, labels[name][labelled]
        means = np.stack([own[values == value].mean(axis=0) for value in values])  # of each picture
        expected += weight * np.cov(means.T, bias=True)
    variances, turn = Moments(features, labels).between(whiten, weights)
    assert (np.diff(variances) <= 0).all()
    np.testing.assert_allclose(turn.T @ turn, np.eye(len(variances)), atol=1e-9)
    np.testing.assert_allclose(rebuilt(variances, turn), expected, atol=1e-8)


def test_means_that_do_not_differ_have_no_directions():
    features = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    variances, turn = Moments(features, {"product": [0, 0, 1, 1]}).between(np.eye(2), (1.0,))
    assert variances.shape == (0,)
    assert turn.shape == (2, 0)


def test_ledoit_and_wolf_by_scikit_learn(shop):
    from sklearn.covariance import ledoit_wolf_shrinkage

    features, labels = shop
    found = Moments(features, labels)
    each = []
    for name in labels:
        labelled = np.array([value not in (None, "") for value in labels[name]])
        own, values = features[labelled], labels[name][labelled]
        centred = own - np.stack([own[values == value].mean(axis=0) for value in values])
        each.append(ledoit_wolf_shrinkage(centred, assume_centered=True))
    assert found.ledoit_wolf((1.0, 0.0)) == pytest.approx(each[0])
    assert found.ledoit_wolf((1.0, 3.0)) == pytest.approx(each[0] / 4 + each[1] * 3 / 4)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.ones(3), {"a": [1, 1, 1]}, "not of shape"),
        (np.ones((0, 4)), {"a": []}, "not of shape"),
        (np.array([[1.0, np.inf], [0, 1]]), {"a": [1, 2]}, "finite"),
        (np.eye(2), {"a": [1]}, "1 labels 'a' for 2 pictures"),
        (np.eye(2), {}, "No labels were given"),
        (np.full((4, 3), 0.1, np.float32), {"a": [1, 1, 2, 2]}, "All pictures have the same features"),
        (np.zeros((4, 3)), {"a": [1, 1, 2, 2]}, "All pictures have the same features"),
        (np.ones((1, 3)), {"a": [1]}, "All pictures have the same features"),
    ],
)
def test_inputs_without_anything_to_learn_are_refused(features, labels, message):
    with pytest.raises(ValueError, match=message):
        Moments(features, labels)
