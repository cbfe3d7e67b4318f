from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from django_visual_search.extractors.base import l2_normalise
from django_visual_search.learning import confidence, train
from django_visual_search.learning.calibration import calibrate
from django_visual_search.learning.confidence import first_hits
from django_visual_search.learning.folds import TrainingPlan, take
from django_visual_search.learning.lda import (
    HeadLearner,
    HeadSettings,
    Moments,
    learn_head,
    learn_reduced_head,
    principal_axes,
)
from django_visual_search.learning.metrics import evaluate
from django_visual_search.learning.selection import embed_by
from django_visual_search.learning.splits import unseen_pictures
from django_visual_search.learning.train import train_head

WIDTH = 16
FEW = {"shrinkages": (0.05, 0.3), "residuals": (0.02, 0.1), "draws": 1}


def shop(products=30, each=10, seed=0):
    """Half of the features tell products apart, the others vary far more within each; six categories."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(products), each)
    means = np.hstack([rng.standard_normal((products, WIDTH // 2)), np.zeros((products, WIDTH // 2))])
    spread = np.r_[np.full(WIDTH // 2, 0.3), np.full(WIDTH // 2, 3.0)]
    features = (means[numbers] + spread * rng.standard_normal((len(numbers), WIDTH)) + 2).astype(np.float32)
    return features, {"product": numbers, "category": np.array(list("abcdef"))[numbers % 6]}


PLAN = TrainingPlan(8, "product", kind="category", weights={"category": [0]}, **FEW)


def trained_on(features, labels, plan=PLAN, **options):
    return train_head(features, labels, plan, **{"before": l2_normalise(features), **options})


def test_a_head_that_finds_better_is_trained_and_measured():
    features, labels = shop()
    messages = []
    trained = trained_on(features, labels, progress=messages.append)
    assert [outcome.split.task for outcome in trained.outcomes] == ["unseen pictures", "unseen products"]
    for outcome in trained.outcomes:
        assert outcome.gain.mean > 2 * outcome.gain.error > 0
        assert outcome.after.recall[1] > outcome.before.recall[1] + 0.1
    assert trained.notes == ()
    assert trained.seconds > 0
    assert [one.settings for one in trained.tried if one.settings == trained.settings]
    assert len(messages) == 5, messages
    assert "300 pictures" in messages[-1]


def test_the_head_that_serves_is_learned_from_all_pictures():
    features, labels = shop()
    trained = trained_on(features, labels)
    assert trained.head.digest == learn_head(features, labels, trained.settings).head.digest


def test_figures_owe_nothing_to_what_they_are_measured_with(monkeypatch):
    """Neither settings nor the heads that are measured ever saw a held-out picture, or a product that is held out."""
    features, labels = shop()
    features[:, 0] = np.arange(len(features))  # tells which rows anything was made from
    seen, measured = [], []

    class Watched(Moments):
        def __init__(self, rows, own):
            seen.append(rows[:, 0].astype(int))
            super().__init__(rows, own)

    for module in ("selection", "train"):
        monkeypatch.setattr(f"django_visual_search.learning.{module}.Moments", Watched)
    measure = train.measure
    monkeypatch.setattr(
        train, "measure", lambda *args, **options: measured.append(len(seen)) or measure(*args, **options)
    )
    trained = trained_on(features, labels, replace(PLAN, confidence_splits=1))
    # two inner splits, then one head a task, and one for confidence on the first
    choosing, parts, (confident,) = seen[:2], seen[2:4], seen[4:]
    assert not set(confident) & set(trained.outcomes[0].split.held_out)
    for outcome, part in zip(trained.outcomes, parts, strict=True):
        held = outcome.split.held_out
        assert not np.isin(part, held).any()
        for rows in choosing:
            assert not np.isin(rows, held).any()
        np.testing.assert_array_equal(part, outcome.split.train)
    products = trained.outcomes[1].split
    for rows in [parts[1], *choosing]:
        assert not np.isin(labels["product"][rows], labels["product"][products.held_out]).any()
    assert measured == [3, 3, 3, 4, 4, 4]


def test_scenes_stay_on_one_side():
    features, labels = shop()
    scenes = np.arange(len(features)) // 2
    trained = trained_on(features, labels, scenes=scenes)
    for outcome in trained.outcomes:
        assert outcome.split.leaked == 0
        assert not np.isin(scenes[outcome.split.held_out], scenes[outcome.split.train]).any()


def test_before_is_measured_by_the_vectors_that_are_given():
    features, labels = shop()
    other = l2_normalise(np.random.default_rng(1).standard_normal((len(features), 5)))
    found = {
        name: trained_on(features, labels, before=rows)
        for name, rows in (("now", l2_normalise(features)), ("other", other))
    }
    assert found["now"].head.digest == found["other"].head.digest
    for i in range(2):
        one, two = (found[name].outcomes[i] for name in ("now", "other"))
        assert one.after == two.after
        assert two.before.mean_average_precision < one.before.mean_average_precision
    split = found["other"].outcomes[0].split
    right = labels["product"][split.held_out][:, None] == labels["product"][split.train][None]
    expected = evaluate(other[split.held_out] @ other[split.train].T, right).mean()
    assert found["other"].outcomes[0].before.mean_average_precision == pytest.approx(expected.mean_average_precision)
    # Those of the head itself are no better and no worse than it.
    again = trained_on(features, labels, before=embed_by(found["now"].head)(features)).outcomes[0]
    assert again.before.mean_average_precision > found["now"].outcomes[0].before.mean_average_precision


def test_a_serving_head_is_measured_by_heads_that_never_saw_the_held_out_pictures():
    features, labels = shop()
    served = trained_on(features, labels)
    again = trained_on(features, labels, before=features, learned_before=served.settings)
    assert [one.before for one in again.outcomes] == [one.after for one in served.outcomes]
    other = replace(served.settings, shrinkage=0.99, residual=0.9)
    worse = trained_on(features, labels, before=features, learned_before=other)
    assert worse.outcomes[0].before.mean_average_precision < worse.outcomes[0].after.mean_average_precision


def hardest(strangers, gallery):
    """Return the quarter of them that is most similar to anything."""
    nearest = (strangers @ gallery.T).max(axis=1)
    return strangers[nearest >= np.sort(nearest)[-len(strangers) // 4]]


@pytest.mark.parametrize(("enough", "number"), [(1, 1), (100, 2), (3000, 4)])
def test_confidence_is_learned_from_held_out_pictures_and_heads_that_never_saw_them(enough, number):
    features, labels = shop()
    strangers = (np.random.default_rng(2).standard_normal((60, WIDTH)) * 4).astype(np.float32)
    plan = replace(PLAN, kind=None, category="category", confidence_queries=enough)
    trained = trained_on(features, labels, plan, strangers=strangers)
    splits = [trained.outcomes[0].split]
    assert len(splits[0].held_out) < 100
    splits += [unseen_pictures(labels["product"], seed=plan.seed + 1000 * i) for i in range(1, number)]
    found, categories = [], []
    for split in splits:
        learner = HeadLearner(Moments(features[split.train], take(labels, split.train)))
        embed = embed_by(learner.head(trained.settings).head)
        query_labels, gallery_labels = take(labels, split.held_out), take(labels, split.train)
        pairs = first_hits(
            embed(features[split.held_out]),
            embed(features[split.train]),
            [query_labels["product"]],
            [gallery_labels["product"]],
            strangers=hardest(embed(strangers), embed(features[split.train])),
        )
        found.append(pairs)
        categories += gallery_labels["category"][pairs.hits].tolist()
    similarities, right, weights = (
        np.concatenate([getattr(pairs, name) for pairs in found]) for name in ("similarities", "right", "weights")
    )
    expected = calibrate(similarities, right, weights=weights, categories=categories)
    assert replace(trained.calibration, same_product=None).as_json() == expected.as_json()
    assert trained.calibration.same_product.queries == len({*np.concatenate([s.held_out for s in splits])}) + 15


def test_a_further_split_that_fails_does_not_end_the_training(monkeypatch):
    features, labels = shop()
    alone = trained_on(features, labels)
    real, made = confidence.learned_embed, []

    def fails_second(*arguments):
        made.append(arguments)
        if len(made) == 2:
            raise ValueError("All pictures have the same features.")
        return real(*arguments)

    monkeypatch.setattr(confidence, "learned_embed", fails_second)
    trained = trained_on(features, labels)
    assert trained.notes == ("confidence: from 2 of 4 splits: All pictures have the same features.",)
    assert trained.calibration.overall.pairs < alone.calibration.overall.pairs
    assert trained.head.digest == alone.head.digest


def test_strangers_lower_the_confidence_of_what_is_like_them():
    features, labels = shop()
    rng = np.random.default_rng(2)
    strangers, others = ((rng.standard_normal((60, WIDTH)) * 4).astype(np.float32) for _ in range(2))
    with_them, without = trained_on(features, labels, strangers=strangers), trained_on(features, labels)
    gallery = embed_by(with_them.head)(features)
    nearest = (embed_by(with_them.head)(others) @ gallery.T).max(axis=1)
    assert with_them.calibration(nearest).mean() < without.calibration(nearest).mean()


def test_training_twice_gives_the_same():
    features, labels = shop()
    one, two = (trained_on(features, labels) for _ in range(2))
    assert one.head.digest == two.head.digest
    assert one.outcomes[0].after == two.outcomes[0].after
    assert one.calibration.as_json() == two.calibration.as_json()
    plan = replace(PLAN, seed=5)
    other = trained_on(features, labels, plan)
    assert other.outcomes[0].split.held_out.tolist() != one.outcomes[0].split.held_out.tolist()


def test_half_precision_features_are_as_good():
    features, labels = shop()
    half = trained_on(features.astype(np.float16), labels)
    whole = trained_on(features, labels)
    assert half.outcomes[0].after.mean_average_precision == pytest.approx(
        whole.outcomes[0].after.mean_average_precision, abs=0.02
    )


def test_single_pictures_leave_nothing_to_measure_with_and_a_note():
    features, _ = shop()
    trained = trained_on(features, {"product": list(range(len(features)))}, TrainingPlan(8, "product", **FEW))
    assert trained.outcomes == ()
    assert trained.calibration is None
    assert trained.tried == ()
    assert trained.settings == HeadSettings(8)
    assert trained.head.dimensions == 8
    text = " ".join(trained.notes)
    assert "No product has two pictures" in text
    assert "unseen products: No query has anything right" in text
    assert "the defaults are taken" in text


def test_one_product_leaves_unseen_pictures_alone():
    features, _ = shop()
    trained = trained_on(features, {"product": ["one"] * len(features)}, TrainingPlan(8, "product", **FEW))
    assert [outcome.split.task for outcome in trained.outcomes] == ["unseen pictures"]
    assert trained.calibration is None  # everything is right
    assert any("two or more products" in note for note in trained.notes)
    assert any(note.startswith("confidence:") for note in trained.notes)


def test_without_any_label_the_principal_axes_are_left_and_nothing_is_measured():
    features, _ = shop()
    trained = trained_on(features, {"product": [None] * len(features)}, TrainingPlan(8, "product", **FEW))
    assert trained.learned.named == 0
    assert trained.outcomes == ()
    assert len(trained.notes) == 2


def test_a_few_products_with_two_pictures_are_enough_to_measure():
    features, _ = shop()
    products = list(range(len(features)))
    for i in range(0, 40, 2):
        products[i + 1] = products[i]
    trained = trained_on(features, {"product": products}, TrainingPlan(8, "product", **FEW))
    assert trained.outcomes[0].split.task == "unseen pictures"
    assert trained.outcomes[0].before.queries == 20


def test_two_pictures_are_enough_to_learn():
    trained = train_head(
        np.eye(4, dtype=np.float32)[:2],
        {"product": ["a", "b"]},
        TrainingPlan(2, "product", draws=1),
        before=np.eye(2, dtype=np.float32),
    )
    assert trained.outcomes == ()
    assert trained.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"product": [1, 2]}}, "2 labels 'product' for 300 pictures"),
        ({"before": np.ones((7, 3))}, "7 vectors before for 300 pictures"),
        ({"before": np.full((300, 3), np.nan)}, "zeros where a picture has none"),
        ({"scenes": np.arange(301)}, "301 scenes for 300 pictures"),
        ({"plan": TrainingPlan(8, "brand")}, "no label 'brand'; there are product, category"),
        ({"plan": TrainingPlan(8, "product", kind="brand")}, "no label 'brand'"),
        ({"plan": TrainingPlan(8, "product", category="brand")}, "no label 'brand'"),
        ({"plan": TrainingPlan(8, "product", weights={"brand": [1]})}, "no label 'brand'"),
        ({"plan": TrainingPlan(WIDTH + 1, "product")}, "can't be projected to 17 dimensions"),
        ({"plan": TrainingPlan(8, "product", share=1.5)}, "between 0 and 1"),
        ({"features": np.full((300, WIDTH), 3.0)}, "All pictures have the same features"),
        ({"strangers": np.ones((5, 3), np.float32)}, "rows of 16 features"),
    ],
)
def test_inputs_without_anything_to_learn_are_refused(change, message):
    features, labels = shop()
    given = {"features": features, "labels": labels, "plan": TrainingPlan(8, "product", **FEW), **change}
    with pytest.raises(ValueError, match=message):
        train_head(
            given["features"],
            given["labels"],
            given["plan"],
            before=given.get("before", l2_normalise(features)),
            scenes=given.get("scenes"),
            strangers=given.get("strangers"),
        )


def test_pictures_of_kinds_that_a_head_does_not_know_are_strangers(monkeypatch):
    """They lower confidence where kinds look alike, and never come with a head that learned them."""
    features, labels = shop()
    plan = replace(PLAN, category="category")
    trained, calibrated = [], []
    learned_embed, calibrate_really = confidence.learned_embed, confidence.calibrate
    monkeypatch.setattr(
        confidence,
        "learned_embed",
        lambda rows, own, split, settings: trained.append(split) or learned_embed(rows, own, split, settings),
    )
    monkeypatch.setattr(
        confidence,
        "calibrate",
        lambda *given, **how: calibrated.append((given, how)) or calibrate_really(*given, **how),
    )
    trained_on(features, labels, plan)
    kinds = labels["category"]
    assert len(trained) == 3
    for split in trained:
        missing = set(kinds) - set(kinds[split.train])
        assert len(missing) == 1  # a fifth of six
        assert not missing & set(kinds[split.held_out])
    (_, right), how = calibrated[0]
    asked = sum(len(split.held_out) for split in trained) + 90
    unknown = how["weights"] != 1
    assert unknown.sum() == 3 * 50
    assert not right[unknown].any()
    assert how["weights"][unknown].sum() == pytest.approx(0.3 / 3 * (asked - 90))


@pytest.mark.parametrize("copies", [0, 20])
def test_few_pictures_have_the_principal_axes_of_the_whole_covariance(copies):
    rng = np.random.default_rng(3)
    features = (rng.standard_normal((60, 30)) @ rng.standard_normal((30, 90)) + 2).astype(np.float32)
    features[:copies] = features[30 : 30 + copies]
    found = principal_axes(features, 8, most=20).matrix
    values, vectors = np.linalg.eigh(np.cov(features.T.astype(np.float64), bias=True))
    most = vectors[:, np.argsort(-values)[:20]]
    assert found.shape == (90, 20)
    assert np.abs(found.T @ found - np.eye(20)).max() < 1e-6
    assert np.abs(np.abs((found * most).sum(axis=0)) - 1).max() < 1e-6


def test_many_features_are_learned_from_by_their_principal_axes():
    """The head takes the features as they are, and finds what a head of all of them finds."""
    features, labels = shop()
    rng = np.random.default_rng(0)
    turned = np.linalg.qr(rng.standard_normal((40, 40)))[0][:, :WIDTH].astype(np.float32)
    wide = features @ turned.T + np.float32(0.5)
    axes = principal_axes(wide, 8, most=WIDTH)
    np.testing.assert_allclose(axes.matrix.T @ axes.matrix, np.eye(WIDTH), atol=1e-5)
    assert principal_axes(features, 8) is None
    settings = HeadSettings(8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django_visual_search.learning.lda.PRINCIPAL", WIDTH)
        reduced = learn_reduced_head(wide, labels, settings, principal_axes(wide, settings.dimensions))
    assert reduced.head.features == 40
    expected = embed_by(learn_head(features, labels, settings).head)(features)
    found = embed_by(reduced.head)(wide)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=2e-3)


def test_a_label_without_meaning_is_hardly_ever_called_better():
    """Of heads that learned a label drawn at random, chance alone may call one in forty better."""
    called = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        features = rng.standard_normal((40, WIDTH)).astype(np.float32)
        labels = {"product": np.arange(40), "kind": rng.integers(0, 4, 40)}
        trained = trained_on(features, labels, TrainingPlan(8, "product", aims=["kind"], kind="kind", draws=2))
        [outcome] = trained.outcomes
        assert outcome.question.aim
        called += (
            outcome.learned.mean > 2 * outcome.learned.error and outcome.after.recall[1] >= outcome.untrained.recall[1]
        )
    assert called <= 1
