from __future__ import annotations

import itertools
import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, Success, nDCG

from django_visual_search.learning.metrics import evaluate, evaluate_lists

KS = (1, 5, 10)
ORACLE = {"R@1": Success @ 1, "R@5": Success @ 5, "R@10": Success @ 10, "mAP": AP, "MRR": RR, "nDCG@10": nDCG @ 10}


def names(per_query):
    """The measures of each query by the names of ORACLE."""
    return {
        **{f"R@{k}": values for k, values in per_query.recall.items()},
        "mAP": per_query.average_precision,
        "MRR": per_query.reciprocal_rank,
        "nDCG@10": per_query.ndcg,
    }


def by_ir_measures(similarities, gains):
    """The same by ir_measures (trec_eval's code), for scores without ties."""
    rows, columns = similarities.shape
    qrels = [ir_measures.Qrel(str(q), str(d), int(gains[q, d])) for q in range(rows) for d in range(columns)]
    run = [
        ir_measures.ScoredDoc(str(q), str(d), float(similarities[q, d])) for q in range(rows) for d in range(columns)
    ]
    found = {name: np.full(rows, np.nan) for name in ORACLE}
    back = {str(measure): name for name, measure in ORACLE.items()}
    for value in ir_measures.iter_calc(list(ORACLE.values()), qrels, run):
        found[back[str(value.measure)]][int(value.query_id)] = value.value
    return found


def by_hand(gains, k):
    """Measures of one ranking, from their definitions."""
    right = [gain > 0 for gain in gains]
    places = [i for i, hit in enumerate(right, 1) if hit]
    ideal = sum(g / math.log2(i + 1) for i, g in enumerate(sorted(gains, reverse=True)[:10], 1))
    return {
        f"R@{k}": float(any(right[:k])),
        "mAP": sum(sum(right[:i]) / i for i in places) / len(places),
        "MRR": 1 / places[0],
        "nDCG@10": sum(g / math.log2(i + 1) for i, g in enumerate(gains[:10], 1)) / ideal,
    }


def over_all_orders(scores, gains, k):
    """Means over every order that agrees with the scores: what a tie is worth."""
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    each = [by_hand([gains[i] for i in order], k) for order in orders]
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}


def test_as_ir_measures_where_nothing_ties():
    rng = np.random.default_rng(0)
    similarities = rng.permuted(np.tile(np.linspace(-1, 1, 40), (25, 1)), axis=1)
    gains = rng.choice([0, 0, 0, 1, 2], size=similarities.shape)
    found = names(evaluate(similarities, gains))
    for name, expected in by_ir_measures(similarities, gains).items():
        np.testing.assert_allclose(found[name], expected, atol=1e-9, err_msg=name)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.0, 1.0, 3.0])), min_size=1, max_size=6).filter(
        lambda pairs: any(gain for _, gain in pairs)
    ),
    st.integers(1, 7),
)
def test_ties_count_as_the_mean_over_all_their_orders(pairs, k):
    scores, gains = (np.array(values, float) for values in zip(*pairs, strict=True))
    found = names(evaluate(scores[None], gains[None], ks=(k,)))
    for name, expected in over_all_orders(scores, gains, k).items():
        assert found[name][0] == pytest.approx(expected, abs=1e-12), name


def test_an_order_of_equal_scores_in_the_array_changes_nothing():
    scores, gains = np.zeros((2, 30)), np.zeros((2, 30), bool)
    gains[0, :3] = gains[1, -3:] = True
    for values in names(evaluate(scores, gains)).values():
        assert 0 < values[0] < 1
        assert values[0] == pytest.approx(values[1], abs=1e-12)


def test_pictures_that_are_not_candidates_are_ignored():
    rng = np.random.default_rng(1)
    scores, gains = rng.random((6, 9)), rng.random((6, 9)) < 0.4
    gains[:, :2] = True
    candidates = np.ones(scores.shape, bool)
    candidates[:, 4:6] = False
    without = [0, 1, 2, 3, 6, 7, 8]
    expected = names(evaluate(scores[:, without], gains[:, without]))
    for name, values in names(evaluate(scores, gains, candidates=candidates)).items():
        np.testing.assert_allclose(values, expected[name], err_msg=name)


def test_queries_with_nothing_right_are_left_out_and_counted():
    found = evaluate(np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]), np.array([[1, 0], [0, 0], [1, 0]]))
    assert np.isnan(found.average_precision[1])
    mean = found.mean()
    assert (mean.queries, mean.left_out) == (2, 1)
    assert mean.mean_average_precision == pytest.approx((1 + 0.5) / 2)
    assert mean.recall[1] == 0.5
    assert found.mean(np.array([0])).mean_reciprocal_rank == 1
    assert mean.as_dict()["R@1"] == 0.5
    assert "mAP 0.750" in str(mean)
    with pytest.raises(ValueError, match="No query has anything right"):
        found.mean(np.array([1]))


def test_lists_that_end_early_miss_the_rest():
    rankings = [["a", "b", "c"], ["d"], []]
    right = [{"b", "z"}, {"d"}, {"x"}]
    found = evaluate_lists(rankings, right)
    np.testing.assert_allclose(found.average_precision, [0.5 / 2, 1, 0])
    np.testing.assert_allclose(found.reciprocal_rank, [0.5, 1, 0])
    np.testing.assert_allclose(found.recall[1], [0, 1, 0])
    np.testing.assert_allclose(found.ndcg, [1 / math.log2(3) / (1 + 1 / math.log2(3)), 1, 0])


def test_lists_as_ir_measures():
    rng = np.random.default_rng(2)
    rankings = [[str(d) for d in rng.permutation(50)[: rng.integers(1, 30)]] for _ in range(20)]
    right = [{str(d) for d in rng.choice(50, 12, replace=False)} for _ in range(20)]
    qrels = [ir_measures.Qrel(str(q), d, 1) for q, things in enumerate(right) for d in things]
    run = [ir_measures.ScoredDoc(str(q), d, -i) for q, ranking in enumerate(rankings) for i, d in enumerate(ranking)]
    expected = ir_measures.calc_aggregate(list(ORACLE.values()), qrels, run)
    mean = evaluate_lists(rankings, right).mean().as_dict()
    for name, measure in ORACLE.items():
        assert mean[name] == pytest.approx(expected[measure], abs=1e-9), name


def test_many_rows_are_measured_a_part_at_a_time():
    rng = np.random.default_rng(3)
    scores, gains = rng.random((50, 20)), rng.random((50, 20)) < 0.2
    candidates = rng.random((50, 20)) < 0.9
    whole = names(evaluate(scores, gains, candidates=candidates))
    for name, values in names(evaluate(scores, gains, candidates=candidates, at_once=130)).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-14, err_msg=name)


def test_nothing_to_measure_is_nothing():
    assert evaluate(np.empty((0, 5)), np.empty((0, 5))).average_precision.shape == (0,)
    assert np.isnan(evaluate(np.empty((2, 0)), np.empty((2, 0))).ndcg).all()


@pytest.mark.parametrize(
    ("similarities", "gains", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), "alike"),
        (np.zeros(3), np.zeros(3), "alike"),
        (np.array([[np.nan, 0]]), np.ones((1, 2)), "NaN"),
        (np.zeros((1, 2)), np.array([[-1, 1]]), "negative"),
    ],
)
def test_what_does_not_fit_is_refused(similarities, gains, message):
    with pytest.raises(ValueError, match=message):
        evaluate(similarities, gains)


def test_lists_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="1 rankings but 2"):
        evaluate_lists([["a"]], [{"a"}, {"b"}])
    with pytest.raises(ValueError, match="twice"):
        evaluate_lists([["a", "a"]], [{"a"}])
    with pytest.raises(ValueError, match="shape"):
        evaluate(np.zeros((2, 3)), np.ones((2, 3)), candidates=np.ones((2, 2), bool))
