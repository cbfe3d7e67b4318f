from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_visual_search.learning.lda import HeadLearner, HeadSettings, Moments, learn_head
from django_visual_search.learning.selection import embed_by

WIDTH = 12


def shop(classes=6, each=15, seed=0, noise=1.0):
    """Pictures of ``classes`` products: their means apart, within each the same covariance, far from round."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((WIDTH, WIDTH))
    products = np.repeat(np.arange(classes), each)
    within = rng.standard_normal((len(products), WIDTH)) @ mixing * noise
    return (4 * rng.standard_normal((classes, WIDTH))[products] + within + 5), products


def named(learned):
    """The directions that tell classes apart, in double precision."""
    return learned.head.matrix[:, : learned.named].astype(float)


def same_space(one, other):
    from scipy.linalg import subspace_angles

    return np.rad2deg(subspace_angles(one, other).max()) < 0.05


def test_without_shrinkage_the_axes_are_those_of_scikit_learn():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    features, products = shop()
    learned = learn_head(features, {"product": products}, HeadSettings(8, shrinkage=0, residual=0))
    oracle = LinearDiscriminantAnalysis(solver="svd").fit(features, products)
    assert learned.named == 5
    assert (learned.head.matrix[:, 5:] == 0).all()
    # Of a variance of 1 within classes, which scikit-learn may divide by all pictures; ours are scaled by how surely a
    # direction tells classes apart too.
    ours, theirs = named(learned), oracle.scalings_
    centred = features - np.stack([features[products == i].mean(axis=0) for i in range(6)])[products]
    theirs = theirs / np.sqrt(np.square(centred @ theirs).sum(axis=0) / (90 - 6))
    lengths = np.linalg.norm(ours, axis=0) / np.linalg.norm(theirs, axis=0)
    cosines = np.abs((ours * theirs).sum(axis=0)) / np.linalg.norm(ours, axis=0) / np.linalg.norm(theirs, axis=0)
    np.testing.assert_allclose(cosines, 1, atol=1e-6)
    means = np.stack([features[products == i].mean(axis=0) for i in range(6)])
    between = np.var((means - features.mean(axis=0)) @ theirs, axis=0)
    np.testing.assert_allclose(lengths, np.sqrt(between / (between + 1)), rtol=1e-5)
    assert (np.diff(between) < 0).all()


@pytest.mark.parametrize("shrinkage", [0.01, 0.2, 0.7, 1.0])
def test_with_shrinkage_the_space_is_that_of_scikit_learn(shrinkage):
    from scipy.linalg import eigh
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    features, products = shop(each=7)
    learned = learn_head(features, {"product": products}, HeadSettings(8, shrinkage=shrinkage, residual=0))
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(features, products)
    assert same_space(named(learned), (oracle.coef_ - oracle.coef_.mean(axis=0))[:-1].T)
    # And the axes within it, by the generalised eigenproblem.
    centred = features - np.stack([features[products == i].mean(axis=0) for i in range(6)])[products]
    within = centred.T @ centred / (len(features) - 6)
    within = (1 - shrinkage) * within + shrinkage * np.trace(within) / WIDTH * np.eye(WIDTH)
    values, axes = eigh(np.cov((features - centred).T, bias=True), within)
    expected = (axes * np.sqrt(values.clip(0) / (values.clip(0) + 1)))[:, ::-1][:, :5]
    np.testing.assert_allclose(np.abs(named(learned)), np.abs(expected), rtol=1e-3, atol=1e-5)


def test_fewer_pictures_than_features_are_enough():
    rng = np.random.default_rng(0)
    products = np.repeat(np.arange(10), 3)
    features = np.hstack([rng.standard_normal((10, 40))[products], 3 * rng.standard_normal((30, 60))])
    for shrinkage in (0, 0.2, None):
        learned = learn_head(features, {"product": products}, HeadSettings(32, shrinkage=shrinkage))
        assert np.isfinite(learned.head.matrix).all()
        assert learned.named == 9
    other = np.hstack([features[::3, :40], 3 * rng.standard_normal((10, 60))])
    nearest = {}
    for name, way in (
        ("head", embed_by(learn_head(features, {"product": products}, HeadSettings(32)).head)),
        ("none", unit),
    ):
        nearest[name] = (products[(way(other) @ way(features).T).argmax(axis=1)] == np.arange(10)).mean()
    assert nearest["head"] > nearest["none"]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_shrinkage_none_is_estimated_by_ledoit_and_wolf():
    features, products = shop()
    learned = learn_head(features, {"product": products}, HeadSettings(8, shrinkage=None))
    estimate = Moments(features, {"product": products}).ledoit_wolf((1.0,))
    assert learned.shrinkage == estimate
    again = learn_head(features, {"product": products}, HeadSettings(8, shrinkage=estimate))
    assert again.head.digest == learned.head.digest
    assert 0 < estimate < 1


@pytest.mark.parametrize("residual", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("classes", [2, 6, 40])
def test_the_residual_has_its_share(residual, classes):
    features, products = shop(classes, each=5)
    learned = learn_head(features, {"product": products}, HeadSettings(10, residual=residual))
    embedded = learned.head(features.astype(np.float32)).astype(float)
    np.testing.assert_allclose(embedded.mean(axis=0), 0, atol=1e-4)
    squares = np.square(embedded).sum(axis=0)
    assert squares[learned.named :].sum() / squares.sum() == pytest.approx(residual, rel=1e-3)
    # Beside what is named, and as much of the rest as there is room for.
    beside = learned.head.matrix[:, learned.named :].astype(float)
    assert beside.shape[1] == 10 - min(classes - 1, 9)
    cosines = unit(beside.T) @ unit(np.linalg.qr(named(learned))[0].T).T
    np.testing.assert_allclose(cosines, 0, atol=1e-5)
    np.testing.assert_allclose(unit(beside.T) @ unit(beside.T).T, np.eye(beside.shape[1]), atol=1e-5)


def test_colour_ranks_where_only_the_shape_is_named():
    """Features 0 to 3 tell products apart, feature 4 is the colour, which differs within each."""
    rng = np.random.default_rng(0)
    products = np.repeat(np.arange(4), 50)
    colour = rng.uniform(-1, 1, 200)
    features = np.hstack([3 * np.eye(4)[products], colour[:, None]]) + 0.05 * rng.standard_normal((200, 5))
    ranks = {}
    for residual in (0.0, 0.1):
        embed = embed_by(
            learn_head(features, {"product": products}, HeadSettings(4, shrinkage=0.1, residual=residual)).head
        )
        cosines = embed(features[:50]) @ embed(features[:50]).T
        far = np.abs(colour[:50, None] - colour[None, :50])
        ranks[residual] = float(np.corrcoef(cosines.ravel(), far.ravel())[0, 1])
    assert ranks[0.1] < -0.6
    assert ranks[0.1] < ranks[0.0] - 0.3


def test_labels_without_information_leave_the_principal_axes():
    from sklearn.decomposition import PCA

    features, products = shop()
    expected = PCA(5).fit(features).components_.T
    for labels, weights in (
        ({"product": [1] * 90}, {}),
        ({"product": list(range(90))}, {}),
        ({"product": [None] * 90}, {}),
        ({"product": products}, {"product": 0.0}),
    ):
        learned = learn_head(features, labels, HeadSettings(5, weights=weights))
        assert (learned.named, learned.shrinkage) == (0, None)
        np.testing.assert_allclose(np.abs(learned.head.matrix), np.abs(expected), atol=1e-5)
        np.testing.assert_allclose(learned.head.mean, features.mean(axis=0), rtol=1e-6)


def test_copies_of_one_picture_show_no_variance():
    features, products = np.repeat(shop(each=1)[0], 3, axis=0), np.repeat(np.arange(6), 3)
    for shrinkage in (0, 0.2, None):
        assert learn_head(features, {"product": products}, HeadSettings(5, shrinkage=shrinkage)).named == 0


def test_labels_count_by_their_weights():
    """Feature 0 tells products of a pair apart, 1 and 2 pairs; noise in all."""
    rng = np.random.default_rng(0)
    products = np.repeat(np.arange(8), 30)
    pairs = products // 2
    means = np.stack([np.where(np.arange(8) % 2, 1, -1), np.array([0, 0, 3, 3, 0, 0, 3, 3]), np.arange(8) // 4 * 3.0])
    features = means.T[products] + rng.standard_normal((240, 3))
    labels = {"product": products, "pair": pairs.astype(str)}
    heads = {
        weight: learn_head(
            features, labels, HeadSettings(3, shrinkage=0, residual=0, weights={"product": 1 - weight, "pair": weight})
        )
        for weight in (0.0, 0.5, 1.0)
    }
    np.testing.assert_array_equal(
        heads[0.0].head.matrix,
        learn_head(features, {"product": products}, HeadSettings(3, shrinkage=0, residual=0)).head.matrix,
    )
    np.testing.assert_array_equal(
        heads[1.0].head.matrix,
        learn_head(features, {"pair": pairs}, HeadSettings(3, shrinkage=0, residual=0)).head.matrix,
    )
    # How much of the head lies along what only the product names falls as the pair counts more.
    shares = [
        float(np.square(heads[weight].head.matrix[0]).sum() / np.square(heads[weight].head.matrix).sum())
        for weight in (0.0, 0.5, 1.0)
    ]
    assert shares[0] > shares[1] > shares[2]
    # Weights matter by their ratio alone for directions; equal labels at any weights are one label.
    twice = learn_head(
        features,
        {"a": products, "b": products},
        HeadSettings(3, shrinkage=0.1, residual=0, weights={"a": 0.3, "b": 0.7}),
    )
    once = learn_head(features, {"a": products}, HeadSettings(3, shrinkage=0.1, residual=0))
    np.testing.assert_allclose(twice.head.matrix, once.head.matrix, rtol=1e-4, atol=1e-6)


def test_pictures_without_a_label_are_centred_but_name_nothing():
    features, products = shop()
    more = np.concatenate([features, features[:30] + 3])
    values = [*products.tolist(), *[None] * 30]
    learned = learn_head(more, {"product": values}, HeadSettings(8, shrinkage=0.2, residual=0))
    plain = learn_head(features, {"product": products}, HeadSettings(8, shrinkage=0.2, residual=0))
    np.testing.assert_allclose(learned.head.mean, more.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(named(learned), named(plain), rtol=1e-4, atol=1e-6)


def test_the_same_numbers_give_the_same_head_and_names_of_classes_do_not_matter():
    features, products = shop()
    one = learn_head(features, {"product": products}, HeadSettings(8)).head
    assert learn_head(features.copy(), {"product": products.tolist()}, HeadSettings(8)).head.digest == one.digest
    named_otherwise = np.array(["f", "e", "d", "c", "b", "a"])[products]
    assert learn_head(features, {"product": named_otherwise}, HeadSettings(8)).head.digest == one.digest
    assert learn_head(np.asfortranarray(features), {"product": products}, HeadSettings(8)).head.matrix == pytest.approx(
        one.matrix
    )


def test_heads_of_one_learner_owe_nothing_to_those_before():
    features, products = shop()
    labels = {"product": products, "pair": products // 2}
    learner = HeadLearner(Moments(features, labels))
    for settings_ in (
        HeadSettings(8),
        HeadSettings(8, residual=0.2),
        HeadSettings(6, residual=0.2),
        HeadSettings(6, shrinkage=0.5),
        HeadSettings(6, shrinkage=0.5, weights={"pair": 0.0}),
        HeadSettings(6, shrinkage=None, weights={"pair": 0.0}),
        HeadSettings(8),
    ):
        assert learner.head(settings_).head.digest == learn_head(features, labels, settings_).head.digest


def test_residual_axes_without_variance_are_left_empty():
    """Pictures on one line leave only rounding beside the named direction, which must not be blown up."""
    features = np.outer([0.0, 0, 1, 2, 5, 6], [1, 1, 1, 1])
    learned = learn_head(features, {"product": [0, 0, 1, 1, 2, 2]}, HeadSettings(4))
    assert learned.named == 1
    assert (learned.head.matrix[:, 1:] == 0).all()


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 999),
    st.integers(2, 25),
    st.integers(1, 6),
    st.sampled_from([0, 0.2, 1.0]),
    st.sampled_from([0, 0.05, 0.5]),
    st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_any_shop_gives_a_finite_head_that_no_scale_changes(seed, pictures, classes, shrinkage, residual, scale):
    rng = np.random.default_rng(seed)
    features = rng.integers(0, 3, (pictures, 4)) + rng.integers(0, 2) * rng.standard_normal((pictures, 4))
    labels = {"product": rng.integers(0, classes, pictures)}
    if (features == features[0]).all():
        features[0] += 1
    chosen = HeadSettings(4, shrinkage=shrinkage, residual=residual)
    learned = learn_head(features, labels, chosen)
    assert np.isfinite(learned.head.matrix).all()
    assert learned.named < max(2, classes, 4) + 1
    embedded = embed_by(learned.head)(features)
    norms = np.linalg.norm(embedded, axis=1)
    assert ((np.abs(norms - 1) < 1e-4) | (norms == 0)).all()
    scaled = learn_head(features * scale, labels, chosen)
    assert scaled.named == learned.named


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": 0}, "dimensions must be 1 or more"),
        ({"dimensions": 2, "shrinkage": -0.1}, "shrinkage must be from 0 to 1"),
        ({"dimensions": 2, "shrinkage": float("nan")}, "shrinkage must be from 0 to 1"),
        ({"dimensions": 2, "residual": 1.0}, "residual must be from 0 to below 1"),
        ({"dimensions": 2, "residual": float("nan")}, "residual must be from 0 to below 1"),
        ({"dimensions": 2, "weights": {"a": -1}}, "Weights of labels"),
        ({"dimensions": 2, "weights": {"a": float("inf")}}, "Weights of labels"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HeadSettings(**options)


def test_what_does_not_fit_is_refused():
    features, products = shop()
    with pytest.raises(ValueError, match="12 features can't be projected to 13 dimensions"):
        learn_head(features, {"product": products}, HeadSettings(13))
    with pytest.raises(ValueError, match="no label brand, kind to weigh"):
        learn_head(features, {"product": products}, HeadSettings(4, weights={"kind": 1, "brand": 1, "product": 1}))
