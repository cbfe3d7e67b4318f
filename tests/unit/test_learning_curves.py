from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_visual_search.learning import calibration
from django_visual_search.learning.calibration import KNOTS, ConfidenceCurve, curve_through, isotonic, platt

SIMILARITIES = st.lists(st.tuples(st.floats(-1, 1), st.booleans(), st.floats(0.01, 100)), min_size=1, max_size=60).map(
    lambda rows: tuple(np.array(column, float) for column in zip(*rows, strict=True))
)


def logistic(count, seed=0, slope=12.0, middle=0.6):
    """Similarities, whether they are right, and the true probability of that."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, count)
    p = 1 / (1 + np.exp(-slope * (x - middle)))
    return x, (rng.random(count) < p).astype(float), p


@settings(max_examples=30, deadline=None)
@given(SIMILARITIES)
@pytest.mark.parametrize("fit", [isotonic, platt])
def test_any_pairs_make_a_rising_curve_within_what_was_seen(fit, pairs):
    x, y, w = pairs
    made = fit(x, y, w)
    assert made.pairs == len(x)
    assert 1 <= len(made.similarities) <= KNOTS
    assert x.min() - 1e-6 <= made.similarities[0]
    assert made.similarities[-1] <= x.max() + 1e-6
    grid = made(np.linspace(-1, 1, 201))
    assert (np.diff(grid) >= 0).all()
    assert ((grid >= 0) & (grid <= 1)).all()
    assert made(-5.0) == made.probabilities[0]
    assert made(5.0) == made.probabilities[-1]


@settings(max_examples=30, deadline=None)
@given(SIMILARITIES, st.floats(0, 1))
def test_similarity_for_is_the_lowest_with_that_probability(pairs, confidence):
    for fit in (isotonic, platt):
        made = fit(*pairs)
        found = made.similarity_for(confidence)
        if found == math.inf:
            assert made.probabilities[-1] < confidence
        elif found == -math.inf:
            assert made.probabilities[0] >= confidence
        else:
            assert made(found) == pytest.approx(confidence, abs=1e-9)
            assert made(found - 2e-6) < confidence


def test_isotonic_steps_are_those_of_scikit_learn():
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(0)
    x, y, _ = logistic(400)
    x = x.round(2)  # with ties
    w = rng.uniform(0.2, 3, 400)
    made = isotonic(x, y, w, doubt=0.0, knots=10_000)
    oracle = IsotonicRegression(y_min=0, y_max=1).fit(x, y, sample_weight=w)
    steps = oracle.predict(x)
    levels = np.unique(steps.round(9))
    np.testing.assert_allclose(made.probabilities, levels, atol=1e-5)
    middles = [np.average(x[steps.round(9) == level], weights=w[steps.round(9) == level]) for level in levels]
    np.testing.assert_allclose(made.similarities, middles, atol=1e-5)


def test_few_pairs_are_drawn_towards_the_rate_of_all():
    x = np.r_[np.linspace(0, 0.4, 97), [0.9, 0.91, 0.92]]
    y = np.r_[np.zeros(97), np.ones(3)]
    assert isotonic(x, y, np.ones(100)).probabilities[-1] == pytest.approx((3 + calibration.DOUBT * 0.03) / 5, abs=1e-6)


def test_platt_is_the_logistic_regression_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    x, y, _ = logistic(600)
    w = np.random.default_rng(1).uniform(0.2, 3, 600)
    made = platt(x, y, w)
    oracle = LogisticRegression(C=1e9, max_iter=1000).fit(x[:, None], y, sample_weight=w)
    grid = np.linspace(x.min(), x.max(), 50)
    # But for the targets, which are kept a little off 0 and 1.
    np.testing.assert_allclose(made(grid), oracle.predict_proba(grid[:, None])[:, 1], atol=0.02)


@pytest.mark.parametrize(("fit", "tolerance"), [(isotonic, 0.08), (platt, 0.03)])
def test_the_true_probability_is_found(fit, tolerance):
    x, y, p = logistic(5000)
    found = fit(x, y, np.ones(5000))(x)
    assert np.abs(found - p).mean() < tolerance / 2
    assert np.abs(found - p)[(x > 0.05) & (x < 0.95)].max() < tolerance * 2
    assert found.mean() == pytest.approx(y.mean(), abs=0.02)


@pytest.mark.parametrize("fit", [isotonic, platt])
def test_a_pair_of_weight_three_counts_as_three(fit):
    x, y, _ = logistic(60)
    w = np.random.default_rng(0).integers(1, 4, 60)
    weighed = fit(x, y, w.astype(float))
    repeated = fit(np.repeat(x, w), np.repeat(y, w), np.ones(w.sum()))
    grid = np.linspace(0, 1, 30)
    # Platt's targets and the doubt go by how many pairs there were.
    np.testing.assert_allclose(weighed(grid), repeated(grid), atol=0.06)


@pytest.mark.parametrize("fit", [isotonic, platt])
def test_where_likelihood_falls_the_curve_is_level_at_the_weighed_rate(fit):
    x = np.linspace(0, 1, 200)
    y = np.r_[np.ones(100), np.zeros(100)]
    w = np.r_[np.full(100, 9.0), np.ones(100)]
    made = fit(x, y, w)
    assert len(set(made.probabilities)) == 1
    assert made.probabilities[0] == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("fit", [isotonic, platt])
def test_one_similarity_has_one_probability(fit):
    made = fit(np.full(10, 0.5), np.r_[np.ones(6), np.zeros(4)], np.ones(10))
    assert made.similarities == (0.5,)
    assert made(0.1) == made(0.9)
    assert made(0.5) == pytest.approx(0.6, abs=0.02)
    assert (made.similarity_for(0.5), made.similarity_for(0.7)) == (-math.inf, math.inf)


@pytest.mark.parametrize("fit", [isotonic, platt])
def test_separate_similarities_are_separated(fit):
    x = np.r_[np.linspace(0, 0.4, 500), np.linspace(0.6, 1, 500)]
    made = fit(x, (x > 0.5).astype(float), np.ones(1000))
    assert 0.4 < made.similarity_for(0.5) < 0.6
    assert made(0.1) < 0.02
    assert made(0.9) > 0.98


def test_mixing_is_a_mean_of_both():
    one, other = ConfidenceCurve((0.0, 1.0), (0.2, 0.8), 40), ConfidenceCurve((0.5, 0.7), (0.1, 0.9), 500)
    mixed = one.mixed(other, 0.25)
    grid = np.linspace(-0.5, 1.5, 41)
    np.testing.assert_allclose(mixed(grid), 0.25 * one(grid) + 0.75 * other(grid), atol=1e-6)
    assert mixed.pairs == 40


def test_many_points_are_drawn_through_few():
    x = np.linspace(0, 1, 1000)
    made = curve_through(x, x**2, 7)
    assert len(made.similarities) == KNOTS
    np.testing.assert_allclose(made(x), x**2, atol=1e-3)
    assert made.pairs == 7


@pytest.mark.parametrize(
    ("similarities", "probabilities"),
    [
        ((), ()),
        ((0.1, 0.2), (0.5,)),
        ((0.2, 0.1), (0.5, 0.6)),
        ((0.1, 0.1), (0.5, 0.6)),
        ((0.1, 0.2), (0.6, 0.5)),
        ((0.1, 0.2), (0.5, 1.1)),
        ((0.1, 0.2), (-0.1, 0.5)),
        ((0.1, math.nan), (0.1, 0.5)),
        ((0.1, math.inf), (0.1, 0.5)),
        ((0.1, 0.2), (0.1, math.nan)),
    ],
)
def test_a_curve_must_rise(similarities, probabilities):
    with pytest.raises(ValueError, match="rising similarities"):
        ConfidenceCurve(similarities, probabilities, 1)
