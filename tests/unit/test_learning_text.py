"""Text heads: terms of texts in any script, what is learned, its figures, and how it is stored."""

import numpy as np
import pytest

from django_visual_search.learning import text
from django_visual_search.learning.serialise import sha256_hex, text_head_bytes, text_head_from
from django_visual_search.learning.text import TextProjection, learn_text, terms_of

KINDS = ["mug", "teapot", "sneaker", "lamp", "chair", "backpack"]
COLOURS = ["red", "blue", "green", "black", "yellow"]
DIMENSIONS = 24


def catalogue(seed=0, rename=str):
    """Products of every kind and colour but the last pair; a vector is that of its kind and colour, and some noise."""
    rng = np.random.default_rng(seed)
    looks = {name: rng.standard_normal(DIMENSIONS) for name in KINDS + COLOURS}
    names, vectors = [], []
    for kind in KINDS:
        for colour in COLOURS:
            names.append(rename(f"{colour} {kind}"))
            vectors.append(looks[kind] + looks[colour] + rng.standard_normal(DIMENSIONS) * 0.1)
    vectors = np.array(vectors, np.float32)
    return names, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def trained():
    names, vectors = catalogue()
    return learn_text([[name] for name in names], vectors, names)


def nearest(projection, vectors, words):
    return int((vectors @ (projection.mean + projection(words))).argmax())


def test_terms():
    words, pieces = terms_of("Red-shoe, RED 42")
    assert words == ["red", "shoe", "red", "42"]
    assert {"<re", "red", "ed>", "<red>", "<shoe", "<42>"} <= set(pieces)
    assert terms_of("")[0] == terms_of(" ,. ")[1] == []


def test_scripts_without_spaces_have_pieces_and_no_words():
    words, pieces = terms_of("红色跑步鞋 Nike")
    assert words == ["nike"]
    assert {"红", "红色", "跑步鞋"} <= set(pieces)
    assert not terms_of("รองเท้า")[0]


def test_full_width_letters_are_letters():
    assert terms_of("\uff21\uff22\uff23") == terms_of("abc")


def test_a_text_finds_what_it_names(trained):
    names, vectors = catalogue()
    found = [names[nearest(trained.projection, vectors, name)] for name in names]
    assert np.mean([a == b for a, b in zip(names, found, strict=True)]) >= 0.9
    assert names[nearest(trained.projection, vectors, "sneakers, blue")] == "blue sneaker"


def test_figures_are_of_products_that_were_not_learned_from(trained):
    figures = trained.figures
    assert figures.queries == 6
    assert figures.gallery == 30
    assert figures.first_ten >= 0.8 > figures.chance
    rng = np.random.default_rng(1)
    names, vectors = catalogue()
    shuffled = learn_text([[name] for name in names], vectors[rng.permutation(len(vectors))], names)
    assert shuffled.figures.first_ten < figures.first_ten


def test_a_text_of_unknown_words_says_nothing(trained):
    assert trained.projection("xylophone zzyzx") is None
    assert trained.projection("") is None
    assert trained.projection("红色") is None


def test_chinese():
    words = ["杯子", "茶壶", "跑鞋", "台灯", "椅子", "背包", "红色", "蓝色", "绿色", "黑色", "黄色"]
    chinese = dict(zip(KINDS + COLOURS, words, strict=True))
    names, vectors = catalogue(rename=lambda name: "".join(chinese[word] for word in name.split()))
    learned = learn_text([[name] for name in names], vectors, names).projection
    assert names[nearest(learned, vectors, "蓝色跑鞋")] == "蓝色跑鞋"


def test_several_pictures_of_a_product_are_held_out_together():
    names, vectors = catalogue()
    twice = learn_text([[name] for name in names * 2], np.concatenate([vectors, vectors]), names * 2)
    assert twice.figures.queries == 6
    assert twice.figures.gallery == 60


def test_the_number_of_terms_is_bounded(monkeypatch):
    names, vectors = catalogue()
    texts = [[name] for name in names]
    few = learn_text(texts, vectors, names).projection
    monkeypatch.setattr(text, "MOST_TERMS", 24)
    bounded = learn_text(texts, vectors, names).projection
    assert len(bounded.codes) == 24 < len(names) < len(few.codes)
    assert names[nearest(bounded, vectors, "blue mug")] == "blue mug"


def test_the_same_every_time(trained):
    names, vectors = catalogue()
    again = learn_text([[name] for name in names], vectors, names)
    assert text_head_bytes(again.projection) == text_head_bytes(trained.projection)


def test_too_little_to_learn_from():
    names, vectors = catalogue()
    with pytest.raises(ValueError, match="12 products have both"):
        learn_text([[name] for name in names[:12]] + [[""]] * 18, vectors, names)
    with pytest.raises(ValueError, match="No word occurs"):
        learn_text([[letter * 3] for letter in "abcdefghijklmnopqrstuvwxyz"], vectors[:26], list(range(26)))


def test_stored_as_bytes(trained):
    data = text_head_bytes(trained.projection)
    again = text_head_from(data, sha256_hex(data))
    np.testing.assert_array_equal(again("blue mug"), trained.projection("blue mug"))
    for damaged in (data[:-1], data + b"x", b"", data[:200], data.replace(b"NUMPY", b"NUMPX", 1)):
        with pytest.raises(ValueError, match="Learn it again"):
            text_head_from(damaged)
    with pytest.raises(ValueError, match="was damaged"):
        text_head_from(data, sha256_hex(b""))


def test_parts_that_do_not_fit_are_refused(trained):
    parts = {name: getattr(trained.projection, name) for name in ("codes", "weights", "matrix", "mean")}
    for name, value in (
        ("codes", parts["codes"][::-1]),
        ("weights", parts["weights"][:-1]),
        ("matrix", parts["matrix"][0]),
        ("mean", np.full(DIMENSIONS, np.nan, np.float32)),
    ):
        with pytest.raises(ValueError, match="text head"):
            TextProjection(**{**parts, name: value})
