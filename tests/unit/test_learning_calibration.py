from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_visual_search.learning.calibration import (
    FEWEST_PAIRS,
    TRUST,
    Calibration,
    ConfidenceCurve,
    Identification,
    brier,
    calibrate,
    calibration_error,
)


def pairs(count=4000, seed=0, middle=0.6):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, count)
    return x, rng.random(count) < 1 / (1 + np.exp(-12 * (x - middle)))


@pytest.mark.parametrize("method", ["isotonic", "platt", None])
def test_confidence_is_the_share_that_is_right(method):
    calibration = calibrate(*pairs(), method=method)
    x, right = pairs(seed=1)
    confidence = calibration(x)
    assert calibration_error(confidence, right) < 0.04
    assert brier(confidence, right) < brier(x, right) - 0.01
    assert right[confidence > 0.9].mean() > 0.85
    assert right[confidence < 0.1].mean() < 0.15
    assert calibration.method in (("isotonic", "platt") if method is None else (method,))


def test_the_method_that_is_better_on_pairs_left_out_is_taken():
    assert calibrate(*pairs(200)).method == "platt"  # truly logistic, and few
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, 4000)
    steps = np.select([x < 0.3, x < 0.9], [0.02, 0.5], 0.98)
    assert calibrate(x, rng.random(4000) < steps).method == "isotonic"


def test_categories_have_curves_of_their_own_by_how_many_pairs_they_have():
    rng = np.random.default_rng(0)
    (easy, easy_right), (hard, hard_right) = pairs(2000, 1, middle=0.3), pairs(2000, 2, middle=0.8)
    x, right = np.r_[easy, hard], np.r_[easy_right, hard_right]
    names = np.array(["easy"] * 2000 + ["hard"] * 2000, object)
    names[rng.permutation(4000)[:300]] = None
    names[:20], names[20 : 20 + FEWEST_PAIRS - 1], names[3990:] = "all right", "few", "all wrong"
    right[:20], right[3990:] = True, False
    calibration = calibrate(x, right, categories=names)
    assert set(calibration.categories) == {"easy", "hard"}
    at = calibration([0.55, 0.55, 0.55, 0.55], ["easy", "hard", "never seen", None])
    assert at[0] > at[2] + 0.15
    assert at[1] < at[2] - 0.15
    assert at[2] == at[3] == calibration([0.55])[0]
    assert calibration.categories["easy"].pairs == (names == "easy").sum()
    # A filter in the database must let through whatever any category is confident of.
    least = calibration.similarity_for(0.5)
    assert least == calibration.similarity_for(0.5, "easy")
    assert least < calibration.similarity_for(0.5, "never seen") < calibration.similarity_for(0.5, "hard")


def test_a_category_with_few_pairs_is_drawn_towards_all():
    x, right = pairs(3000)
    names = ["many"] * 3000
    own_x, own_right = np.linspace(0, 1, 50), np.r_[np.ones(49, bool), False]
    calibration = calibrate(
        np.r_[x, own_x], np.r_[right, own_right], categories=[*names, *["few"] * 50], method="platt"
    )
    alone = calibrate(own_x, own_right, method="platt")
    share = 50 / (50 + TRUST)
    expected = share * alone([0.3])[0] + (1 - share) * calibration([0.3])[0]
    assert calibration([0.3], ["few"])[0] == pytest.approx(expected, abs=2e-3)


def test_categories_are_named_by_their_text():
    x, right = pairs(600)
    numbers = calibrate(x, right, categories=np.tile([3, 4], 300))
    assert set(numbers.categories) == {"3", "4"}
    # One text, one curve, of all its pairs.
    mixed = calibrate(x, right, categories=[3, "3"] * 300)
    assert set(mixed.categories) == {"3"}
    assert mixed.categories["3"].pairs == 600
    assert not calibrate(x, right, categories=np.full(600, np.nan)).categories


def test_pairs_without_weight_count_nothing():
    x, right = pairs(400)
    names = np.tile(["a", "b"], 200)
    extra, wrong = np.r_[x, np.ones(300)], np.r_[right, np.zeros(300, bool)]
    weights = np.r_[np.ones(400), np.zeros(300)]
    with_them = calibrate(extra, wrong, categories=[*names, *["a"] * 300], weights=weights)
    without = calibrate(x, right, categories=names)
    assert with_them.as_json() == without.as_json()


def test_strangers_of_some_weight_lower_the_confidence_where_they_are():
    x, right = pairs(1000)
    near = np.full(200, 0.7)
    calibration = {
        weight: calibrate(
            np.r_[x, near], np.r_[right, np.zeros(200, bool)], weights=np.r_[np.ones(1000), [weight] * 200]
        )
        for weight in (0.01, 1.0, 5.0)
    }
    at = [calibration[weight]([0.7])[0] for weight in (0.01, 1.0, 5.0)]
    assert at[0] > at[1] > at[2]


def test_it_is_the_same_after_json():
    calibration = calibrate(*pairs(800), categories=["a", "b"] * 400)
    text = json.dumps(calibration.as_json(), allow_nan=False)
    back = Calibration.from_json(json.loads(text))
    assert back == replace(calibration, categories=dict(calibration.categories))
    told = replace(calibration, same_product=Identification(9.5, 12.0, -8.0, 90, 0.04))
    assert Calibration.from_json(json.loads(json.dumps(told.as_json()))).same_product == told.same_product
    old = {name: value for name, value in told.as_json().items() if name not in ("same_product", "error")}
    assert Calibration.from_json(old).same_product is None
    x = np.linspace(-1, 1, 300)
    np.testing.assert_array_equal(back(x, ["b"] * 300), calibration(x, ["b"] * 300))
    assert len(text) < 12_000


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"method": "platt", "overall": None, "categories": {}},
        {"method": "platt", "overall": {"similarities": [0, 1], "probabilities": [1, 0], "pairs": 1}, "categories": {}},
        {"method": "platt", "overall": {"similarities": ["x"], "probabilities": [1], "pairs": 1}, "categories": {}},
        {"method": "platt", "overall": {"similarities": [0], "probabilities": [1], "pairs": 1}, "categories": []},
        [],
        None,
        "platt",
    ],
)
def test_a_damaged_calibration_is_refused(data):
    with pytest.raises(ValueError, match="Learn the head again"):
        Calibration.from_json(data)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.booleans()), min_size=2, max_size=80), st.floats(0.01, 0.99))
def test_a_filter_by_similarity_keeps_exactly_the_confident_hits(rows, least):
    x, right = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    if right.all() or not right.any():
        with pytest.raises(ValueError, match="both right and wrong"):
            calibrate(x, right)
        return
    calibration = calibrate(x, right)
    threshold = calibration.similarity_for(least)
    away = np.abs(x - threshold) > 1e-6
    np.testing.assert_array_equal((calibration(x) >= least)[away], (x >= threshold)[away])


@pytest.mark.parametrize(
    ("similarities", "right", "options", "message"),
    [
        ([0.1, 0.2], [True], {}, r"\(pairs,\)"),
        ([[0.1]], [[True]], {}, r"\(pairs,\)"),
        ([0.1, 0.2], [True, False], {"weights": [1.0]}, r"\(pairs,\)"),
        ([0.1, math.nan], [True, False], {}, "finite"),
        ([0.1, 0.2], [True, False], {"weights": [1, -1]}, "not negative"),
        ([0.1, 0.2], [True, False], {"weights": [1, math.inf]}, "finite"),
        ([0.1, 0.2], [True, False], {"weights": [1, math.nan]}, "finite"),
        ([0.1, 0.2], [1, 0.5], {}, "right or not"),
        ([0.1, 0.2], [True, False], {"method": "guess"}, "isotonic, platt or None"),
        ([0.1, 0.2], [True, False], {"categories": ["a"]}, "1 labels 'category' for 2"),
        ([0.1, 0.2], [True, True], {}, "Of 2 pairs, 2 are right"),
        ([0.1, 0.2], [False, True], {"weights": [1, 0]}, "Of 1 pairs, 0 are right"),
        ([], [], {}, "Of 0 pairs"),
    ],
)
def test_pairs_that_are_all_right_or_all_wrong_are_refused(similarities, right, options, message):
    with pytest.raises(ValueError, match=message):
        calibrate(similarities, right, **options)


def test_categories_must_fit_the_hits():
    with pytest.raises(ValueError, match="1 categories for 2 similarities"):
        Calibration("platt", ConfidenceCurve((0.0,), (0.5,), 1))([0.1, 0.2], ["a"])


def test_hits_after_a_sure_one_have_a_curve_of_their_own():
    line, early = ConfidenceCurve((0.4, 0.8), (0.0, 1.0), 9), ConfidenceCurve((0.1, 0.3), (0.0, 1.0), 9)
    own = {"a": ConfidenceCurve((0.0, 1.0), (0.0, 1.0), 9)}
    calibration = Calibration("platt", line, own, further=early)
    np.testing.assert_allclose(calibration([0.8, 0.35, 0.2, 0.0], best=0.8), [1, 1, 0.5, 0])
    np.testing.assert_allclose(calibration([0.6, 0.35], best=0.6), [0.5, 0.5])  # no surer than that the shop has it
    np.testing.assert_allclose(calibration([0.4, 0.39, 0.35], best=0.4), [0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(calibration([0.6, 0.2, 0.2], ["b", "a", "b"], best=0.6), [0.5, 0.3, 0.25])
    alone = calibration([0.6, 0.35])
    np.testing.assert_allclose(alone, line([0.6, 0.35]))
    np.testing.assert_array_equal(Calibration("platt", line)([0.6, 0.35], best=0.6), alone)
    assert Calibration.from_json(json.loads(json.dumps(calibration.as_json()))) == calibration
    old = {name: value for name, value in calibration.as_json().items() if name != "further"}
    assert Calibration.from_json(old).further is None


def test_brier_is_that_of_scikit_learn():
    from sklearn.metrics import brier_score_loss

    x, right = pairs(300)
    w = np.random.default_rng(0).uniform(0, 2, 300)
    assert brier(x, right) == pytest.approx(brier_score_loss(right, x))
    assert brier(x, right, w) == pytest.approx(brier_score_loss(right, x, sample_weight=w))


def test_calibration_error_by_its_definition():
    rng = np.random.default_rng(0)
    p = rng.random(100)
    right = rng.random(100) < 0.5
    order = np.argsort(p)
    bins = order.reshape(10, 10)
    expected = np.mean([abs(p[rows].mean() - right[rows].mean()) for rows in bins])
    assert calibration_error(p, right, bins=10) == pytest.approx(expected)
    assert calibration_error(np.full(8, 0.5), np.tile([True, False], 4)) == 0  # equal confidence is one bin
    assert calibration_error(np.ones(4), np.zeros(4)) == 1
    assert calibration_error([], []) == 0
