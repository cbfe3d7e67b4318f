from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_visual_search.extractors.base import l2_normalise
from django_visual_search.extractors.heads import LinearHead
from django_visual_search.learning import folds, selection
from django_visual_search.learning.folds import TrainingPlan, answerable, answerable_folds, draws_of, folds_of, take
from django_visual_search.learning.lda import learn_head
from django_visual_search.learning.selection import choose_settings, embed_by, measure
from django_visual_search.learning.splits import Split, unseen_pictures, unseen_products


def shop(products=20, each=8, width=16, noise=1.0, seed=0):
    """Features of which half tell products apart and the others, five times as large, vary within each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(products), each)
    means = np.hstack([rng.standard_normal((products, width // 2)), np.zeros((products, width // 2))])
    spread = np.r_[np.full(width // 2, 0.3), np.full(width // 2, 5.0)]
    return (means[labels] + noise * spread * rng.standard_normal((len(labels), width))).astype(np.float32), labels


def by_hand(features, target, split, scenes):
    """First-hit rate, mean average precision, and how many have nothing right to be found."""
    unit = l2_normalise(features)
    hits, precisions, nothing = [], [], 0
    for i in split.held_out:
        if target[i] in (None, ""):
            continue
        if split.task == "unseen pictures":
            gallery = list(split.train)
        else:
            gallery = [j for j in split.held_out if scenes[j] != scenes[i] and target[j] not in (None, "")]
        ranked = sorted(gallery, key=lambda j: -float(unit[i] @ unit[j]))
        right = [target[j] == target[i] for j in ranked]
        places = [place for place, hit in enumerate(right, 1) if hit]
        if not places:
            nothing += 1
            continue
        hits.append(right[0])
        precisions.append(np.mean([(n + 1) / place for n, place in enumerate(places)]))
    return np.mean(hits), np.mean(precisions), nothing


@pytest.mark.parametrize("split_by", [unseen_pictures, unseen_products])
def test_figures_are_those_of_their_definition(split_by):
    features, labels = shop(products=8, each=5)
    target = [None if i % 11 == 0 else "" if i % 13 == 0 else f"p{label}" for i, label in enumerate(labels)]
    scenes = np.arange(40) // 2
    split = split_by(target, scenes=scenes, share=0.4)
    recall, precision, nothing = by_hand(features, target, split, scenes)
    for at_once in (selection.SIMILARITIES_AT_ONCE, 60):
        found = measure(features, target, split, l2_normalise, scenes=scenes, at_once=at_once).mean()
        assert found.recall[1] == pytest.approx(recall)
        assert found.mean_average_precision == pytest.approx(precision, abs=1e-6)
        assert found.left_out == nothing
    as_array = measure(features, np.array(target, object), split, l2_normalise, scenes=scenes).mean()
    assert as_array.mean_average_precision == pytest.approx(precision, abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([None, "", "a", "b", "c"]), st.integers(0, 6), st.booleans()), min_size=2, max_size=15
    ),
    st.sampled_from(["unseen pictures", "unseen products"]),
    st.booleans(),
)
def test_answerable_queries_are_those_not_left_out(pictures, task, with_scenes):
    target = [value for value, _, _ in pictures]
    scenes = np.array([scene for _, scene, _ in pictures]) if with_scenes else None
    held = np.array([out for _, _, out in pictures])
    split = Split(task, np.flatnonzero(~held), np.flatnonzero(held), None)
    features = np.random.default_rng(0).standard_normal((len(pictures), 3))
    asked = [int(i) for i in split.held_out if target[i] not in (None, "")]
    measured = measure(features, target, split, l2_normalise, scenes=scenes)
    there = [i for i, value in zip(asked, measured.average_precision, strict=True) if not np.isnan(value)]
    assert answerable(target, split, scenes).tolist() == there


@pytest.mark.parametrize("split_by", [unseen_pictures, unseen_products])
def test_a_sample_of_queries_and_pictures_stands_for_all(split_by):
    features, labels = shop(products=60, each=20, noise=0.4)
    split = split_by(labels)
    every = measure(features, labels, split, l2_normalise).mean()
    some = measure(features, labels, split, l2_normalise, queries=120)
    assert some.mean().queries == 120
    assert some.mean().mean_average_precision == pytest.approx(every.mean_average_precision, abs=0.1)
    again = measure(features, labels, split, l2_normalise, queries=120)
    np.testing.assert_array_equal(some.average_precision, again.average_precision)
    other = measure(features, labels, split, l2_normalise, queries=120, seed=1)
    assert (some.average_precision != other.average_precision).any()
    # Among fewer pictures everything right is still there, and the others are fewer.
    among = measure(features, labels, split, l2_normalise, queries=5, among=200)
    alone = measure(features, labels, split, l2_normalise, queries=5)
    assert (among.average_precision >= alone.average_precision - 1e-9).all()
    assert among.average_precision.mean() > alone.average_precision.mean()


def test_queries_are_drawn_from_those_with_something_to_find():
    labels = [*[f"single {i}" for i in range(300)], *np.repeat(["a", "b", "c"], 4)]
    features = np.random.default_rng(0).standard_normal((312, 4))
    split = Split("unseen products", np.arange(0), np.arange(312), None)
    assert measure(features, labels, split, l2_normalise, queries=10).mean().queries == 10
    assert measure(features, labels, split, l2_normalise).mean().left_out == 300


def held_out_folds(labels, plan, plain=None, seed=0):
    found = folds_of(labels, np.arange(len(labels["product"])), plan, None, plain, seed, [])
    return answerable_folds(found, labels, None)


def test_settings_that_suit_the_shop_are_chosen():
    features, numbers = shop()
    labels, plan = {"product": numbers}, TrainingPlan(8, "product", share=0.4)
    parts = held_out_folds(labels, plan)
    assert [fold.split.task for fold in parts] == ["unseen pictures", "unseen products"]
    chosen, tried = choose_settings(features, labels, plan, parts, l2_normalise(features))
    for one in tried:
        expected = [(metric.recall[1] + metric.mean_average_precision) / 2 for metric in one.metrics]
        assert one.objective == pytest.approx(np.mean(expected))
        assert len(one.metrics) == 2
    assert {one.settings.shrinkage for one in tried} == set(folds.SHRINKAGES)
    assert {one.settings.residual for one in tried} == set(folds.RESIDUALS)
    assert chosen == max(tried, key=lambda one: one.rank).settings
    # Each of the figures is that of a head learned from that split's pictures alone.
    split, one = parts[0].split, tried[3]
    head = learn_head(features[split.train], {"product": numbers[split.train]}, one.settings).head
    expected = measure(features, numbers, split, embed_by(head)).mean()
    assert one.metrics[0].mean_average_precision == pytest.approx(expected.mean_average_precision, abs=1e-6)


def test_a_misleading_label_is_given_no_weight():
    features, numbers = shop()
    labels = {"product": numbers, "shelf": np.random.default_rng(1).integers(0, 4, len(numbers))}
    plan = TrainingPlan(8, "product", share=0.4, weights={"shelf": (5.0, 0.0)})
    chosen, _ = choose_settings(features, labels, plan, held_out_folds(labels, plan), l2_normalise(features))
    assert chosen.weights["shelf"] == 0


def single_shop(products=240, views=120):
    """Products with one picture each: some features tell kinds apart, some colours, others single products.

    Returns features of pictures, then of altered views of some, the labels, and which rows are pictures.
    """
    rng = np.random.default_rng(0)
    kinds, colours = rng.integers(0, 6, products), rng.integers(0, 4, products)
    parts = [1.5 * np.eye(6)[kinds], 2 * np.eye(4)[colours], rng.standard_normal((products, 12))]
    own = np.hstack(parts)
    of = np.r_[np.arange(products), np.arange(views)]
    features = own[of] + 0.6 * rng.standard_normal((len(of), own.shape[1]))
    labels = {"product": of, "kind": kinds[of], "colour": colours[of]}
    return features.astype(np.float32), labels, np.arange(len(of)) < products


def test_a_named_label_is_what_right_means_and_products_stay_findable():
    features, labels, plain = single_shop()
    plan = TrainingPlan(22, "product", aims=["kind"])
    parts = held_out_folds(labels, plan, plain)
    [fold] = parts
    assert [(one.label, one.aim, one.split.task) for one in fold.questions] == [
        ("product", False, "unseen products"),
        ("kind", True, "same label"),
    ]
    pictures = fold.questions[1].split
    assert plain[pictures.train].all()
    assert plain[pictures.held_out].all()
    assert not np.isin(labels["product"][fold.split.train], labels["product"][fold.split.held_out]).any()
    untrained = l2_normalise(features)
    chosen, tried = choose_settings(features, labels, plan, parts, untrained)
    best = next(one for one in tried if one.settings == chosen)
    before = measure(untrained, labels["kind"], pictures, selection.unchanged).mean()
    assert best.metrics[1].recall[1] > before.recall[1] + 0.05
    least = measure(untrained, labels["product"], fold.split, selection.unchanged).mean().recall[1]
    assert best.metrics[0].recall[1] >= least - 0.02
    assert best.shortfall == min(one.shortfall for one in tried)
    assert best.objective == max(one.objective for one in tried if one.shortfall == best.shortfall)
    # Another label that is named changes the mixture.
    both = replace(plan, aims=["kind", "colour"])
    mixed, _ = choose_settings(features, labels, both, held_out_folds(labels, both, plain), untrained)
    assert mixed.weights["colour"] >= 0.3


def test_one_query_decides_nothing_and_questions_beside_an_aim_count_less():
    features, labels, plain = single_shop()
    plan = TrainingPlan(22, "product", aims=["kind"])
    parts = [fold for seed in range(3) for fold in held_out_folds(labels, plan, plain, seed)]
    untrained = l2_normalise(features)
    _, tried = choose_settings(features, labels, plan, parts, untrained)
    asked = [question for fold in parts for question in fold.questions]
    before = [measure(untrained, labels[one.label], one.split, selection.unchanged).mean() for one in asked]
    for one in tried:
        reached = [(metric.recall[1] + metric.mean_average_precision) / 2 for metric in one.metrics]
        assert one.objective == pytest.approx(np.mean(reached[1::2]) + selection.BESIDE_SHARE * np.mean(reached[::2]))
        lost = [old.recall[1] - new.recall[1] - 1 / old.queries for old, new in zip(before, one.metrics, strict=True)]
        assert one.shortfall == pytest.approx(max(0, *lost), abs=1e-6)
    assert any(one.shortfall for one in tried)


def test_few_queries_are_pooled_from_several_draws():
    _, labels, plain = single_shop(products=30, views=30)
    plan = TrainingPlan(8, "product", aims=["kind"])
    draws = draws_of(labels, np.arange(60), plan, None, plain, 0, [])
    assert not plain[draws[0][0].split.held_out].any()
    assert len(draws) == folds.MOST_DRAWS
    held = {tuple(draw[-1].split.held_out.tolist()) for draw in draws}
    assert len(held) > 1
    assert len(draws_of(labels, np.arange(60), replace(plan, draws=1), None, plain, 0, [])) == 1


def test_nothing_to_choose_by_is_refused():
    features, numbers = shop(products=4)
    labels, plan = {"product": numbers}, TrainingPlan(4, "product")
    with pytest.raises(ValueError, match="no settings or no held-out pictures"):
        choose_settings(features, labels, plan, [], features)
    with pytest.raises(ValueError, match="no settings or no held-out pictures"):
        choose_settings(features, labels, replace(plan, shrinkages=()), held_out_folds(labels, plan), features)
    with pytest.raises(ValueError, match="There are 3 target labels for 32 pictures"):
        measure(features, numbers[:3], unseen_pictures(numbers), l2_normalise)
    with pytest.raises(ValueError, match="No query has anything right"):
        measure(features, [None] * 32, unseen_pictures(numbers), l2_normalise).mean()


def test_embedding_by_a_head_is_of_unit_length():
    features, _ = shop(products=3)
    head = LinearHead(np.random.default_rng(0).standard_normal((16, 4)), features.mean(axis=0))
    made = embed_by(head)(features.astype(np.float64))
    expected = (features - features.mean(axis=0)) @ head.matrix
    np.testing.assert_allclose(made, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    assert made.dtype == np.float32


def test_labels_of_some_rows():
    taken = take({"a": np.array([5, 6, 7]), "b": ["x", None, ""]}, np.array([2, 0]))
    assert taken["a"].tolist() == [7, 5]
    assert taken["b"] == ["", "x"]
