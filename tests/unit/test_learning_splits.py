from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_visual_search.learning.splits import near_duplicates, unseen_pictures, unseen_products


@st.composite
def shops(draw):
    """Products and scenes of up to 40 pictures, some without a product."""
    count = draw(st.integers(2, 40))
    products = draw(st.lists(st.sampled_from([None, "", *"abcdefg"]), min_size=count, max_size=count))
    scenes = draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))
    return products, np.array(scenes)


def sides(split, count):
    assert sorted([*split.train, *split.held_out]) == list(range(count))
    assert len(split.held_out)
    return set(split.train.tolist()), set(split.held_out.tolist())


@settings(max_examples=200, deadline=None)
@given(shops(), st.integers(0, 3), st.floats(0.05, 0.95))
def test_unseen_pictures_of_learned_products(shop, seed, share):
    products, scenes = shop
    per_product = {product: set() for product in products if product}
    for product, scene in zip(products, scenes.tolist(), strict=True):
        if product:
            per_product[product].add(scene)
    if all(len(own) < 2 for own in per_product.values()):
        with pytest.raises(ValueError, match="No product has two pictures"):
            unseen_pictures(products, share=share, scenes=scenes, seed=seed)
        return
    split = unseen_pictures(products, share=share, scenes=scenes, seed=seed)
    train, held = sides(split, len(products))
    for product, own in per_product.items():
        rows = {i for i, other in enumerate(products) if other == product}
        assert rows & train  # something to learn from
        assert not {scenes[i] for i in rows & train} & {scenes[i] for i in rows & held}  # no scene on both sides
        assert bool(rows & held) == (len(own) > 1)
    assert all(products[i] for i in held)
    assert split.leaked == sum(scenes[i] in {scenes[j] for j in train} for i in held)


@settings(max_examples=200, deadline=None)
@given(shops(), st.integers(0, 3), st.floats(0.05, 0.95))
def test_unseen_products_are_whole(shop, seed, share):
    products, scenes = shop
    if len({product for product in products if product}) < 2:
        with pytest.raises(ValueError, match="two or more products"):
            unseen_products(products, share=share, scenes=scenes, seed=seed)
        return
    split = unseen_products(products, share=share, scenes=scenes, seed=seed)
    train, held = sides(split, len(products))
    assert not {products[i] for i in train} & {products[i] for i in held}
    assert {products[i] for i in train} - {None, ""}
    assert split.leaked == sum(scenes[i] in {scenes[j] for j in train} for i in held)


def test_shares_are_about_what_was_asked_for():
    products = np.repeat(np.arange(60), 20)
    scenes = np.arange(1200) // 2
    for share in (0.2, 0.3, 0.5):
        pictures = unseen_pictures(products, share=share, scenes=scenes)
        assert len(pictures.held_out) / 1200 == pytest.approx(share, abs=0.05)
        assert np.bincount(products[pictures.held_out]).max() <= 20 * share + 2
        whole = unseen_products(products, share=share)
        assert len(whole.held_out) / 1200 == pytest.approx(share, abs=0.05)


def test_equal_seeds_draw_alike_and_others_differently():
    products = np.repeat(np.arange(12), 6)
    for make in (unseen_pictures, unseen_products):
        first = make(products, seed=1)
        np.testing.assert_array_equal(first.held_out, make(products, seed=1).held_out)
        assert first.held_out.tolist() != make(products, seed=2).held_out.tolist()


def test_unseen_products_come_from_every_category():
    products = np.repeat(np.arange(40), 5)
    categories = np.where(products < 10, "rare", "common")
    for seed in range(5):
        held = unseen_products(products, share=0.3, categories=categories, seed=seed).held_out
        assert (categories[held] == "rare").mean() == pytest.approx(0.25, abs=0.01)


def test_products_of_one_scene_go_together():
    products = np.repeat(np.arange(10), 4)
    scenes = np.arange(40)
    scenes[4] = scenes[0]  # products 0 and 1 share a photo
    for seed in range(8):
        split = unseen_products(products, share=0.3, scenes=scenes, seed=seed)
        assert np.isin([0, 1], products[split.held_out]).sum() in (0, 2)
        assert split.leaked == 0
    # Where nearly everything hangs together, scenes can't be kept on one side, and that is said.
    split = unseen_products(products, share=0.3, scenes=np.zeros(40, int))
    assert split.leaked == len(split.held_out)
    assert "12 with a near-duplicate among these" in str(split)
    assert "not looked for" in str(unseen_products(products))


def test_near_duplicates_are_joined_in_chains():
    angles = np.deg2rad([0, 10, 20, 90, 95, 200])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [5], [0.1], [1], [1], [1]]
    close = np.cos(np.deg2rad(12))
    assert near_duplicates(features, threshold=close).tolist() == [0, 0, 0, 1, 1, 2]
    # Only within a product, and not at all without one.
    assert near_duplicates(features, threshold=close, within=[*"aabbb", None]).tolist() == [0, 0, 1, 2, 2, 3]
    # Other features that differ take a pair apart.
    other = np.array([[1, 0], [1, 0], [0, 1], [1, 0], [1, 0], [1, 0]])
    assert near_duplicates(features, threshold=close, beside=other).tolist() == [0, 0, 1, 2, 2, 3]


def test_near_duplicates_by_parts_are_the_same():
    features = np.random.default_rng(0).standard_normal((60, 3))
    whole = near_duplicates(features, threshold=0.95)
    assert 1 < len(set(whole.tolist())) < 60
    np.testing.assert_array_equal(near_duplicates(features, threshold=0.95, at_once=7), whole)


def test_the_threshold_is_estimated_from_pictures_of_different_products():
    """A direction that all features share makes every cosine higher, and no more of the pictures near-duplicates."""
    rng = np.random.default_rng(2)
    products = np.repeat(np.arange(100), 6)
    taken = np.tile([0, 0, 0, 1, 1, 2], 100)  # three photos of one scene, two of another, one alone
    scenes = rng.standard_normal((100, 1, 200)) + 0.5 * rng.standard_normal((100, 3, 200))
    for one, other in ((0, 1), (2, 3), (4, 5)):  # another variety on the same shelf
        scenes[other] = scenes[one] + 0.3 * rng.standard_normal((3, 200))
    features = scenes[products, taken] + 0.08 * rng.standard_normal((600, 200))
    expected = products * 3 + taken
    shared = np.full(200, 2.0)
    for moved in (features, features + shared):
        np.testing.assert_array_equal(near_duplicates(moved, within=products), expected)
    joined = near_duplicates(features + shared, threshold=0.9, within=products)
    np.testing.assert_array_equal(joined, products)
    # Too few pictures for an estimate: the default threshold holds.
    few = near_duplicates(features[:12], within=products[:12])
    np.testing.assert_array_equal(few, near_duplicates(features[:12], threshold=0.9, within=products[:12]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unseen_pictures([1, 1], share=1.0), "between 0 and 1"),
        (lambda: unseen_pictures([1, 1], scenes=np.zeros(3, int)), "3 scenes for 2 pictures"),
        (lambda: unseen_pictures([None, None]), "No product has two pictures"),
        (lambda: near_duplicates(np.array([[np.nan]])), "finite"),
        (lambda: near_duplicates(np.ones((3, 2)), beside=np.ones((2, 2))), "2 beside"),
        (lambda: near_duplicates(np.ones((3, 2)), within=[1]), "1 labels"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
