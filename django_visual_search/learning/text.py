"""A text head: from words to a direction in the vector space of the pictures.

Entry functions: ``learn_text``, and ``TextProjection``, which NumPy alone applies. A *term* is a word or a piece of
one; a text is a sum of its terms, weighted by how rare they are (TF-IDF: K. Sparck Jones, "A statistical interpretation
of term specificity", 1972); ridge regression takes it to the vectors of the shop's own pictures. So a shop's titles
teach its search what its words look like, in any language.
"""

from __future__ import annotations

import re
import time
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extractors.base import l2_normalise
from .labels import Doubles, one_blas_thread, require

WORD_PIECES = (3, 4, 5)
"""Characters of the pieces of a word: they find "sneakers" for "sneaker", and words that are written in one."""
RUN_PIECES = (1, 2, 3)
"""Characters of the pieces of a run of letters that are written without spaces between words."""
LONGEST_WORD = 40
"""Characters of a word that are looked at."""
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese letters, for a regular expression."""
_RUNS = re.compile(f"[{UNSPACED}]+|[^\\W{UNSPACED}]+")
_UNSPACED = re.compile(f"[{UNSPACED}]")

WORD_BIT = 1 << 32
MOST_TERMS = 6000
"""Terms of a head: 3 MB at 256 dimensions in half precision; solving for them takes 0.3 GB for a moment."""
FEWEST_TEXTS = 2
"""Texts that must have a term: a term of one text describes that one picture only."""
LEAST_KNOWN = 0.2
"""Share of a text's weight that must be in terms of the head. Below, the head has no direction for the text."""

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Ridge penalties to choose from: of names of held-out products of the example shop, .99, .98 and .92 found their
picture among the first ten of 336 with 0.3, 1 and 3."""
HELD_OUT_SHARE = 0.2
"""Share of the products that are held out, to measure, and again to choose the penalty."""
TEXT_CHOSEN_BY = 2000
"""Products at most that the penalty is chosen with."""
TEXT_FOLDS = 4
"""Parts of the products that are left out in turn to learn which dimensions texts tell."""
LEAST_ERROR = 0.1
"""Of the mean error: what every dimension's error counts at least."""
TEXT_QUERIES = 2000
"""Held-out texts that are queries at most."""
FEWEST_PRODUCTS = 20
"""Products with a text and a vector that learning needs."""
FIRST = 10
"""Hits among which a text should find its product's picture."""


def runs_of(text: str) -> list[str]:
    """Return the words of a text, and its runs of letters that are written without spaces; in lower case."""
    return _RUNS.findall(unicodedata.normalize("NFKC", text).casefold())


def is_unspaced(run: str) -> bool:
    """Return whether the run is of a script that has no spaces between words."""
    return bool(_UNSPACED.match(run))


def terms_of(text: str) -> tuple[list[str], list[str]]:
    """Return the whole words of a text and the pieces of words, each as often as it occurs."""
    words, pieces = [], []
    for run in runs_of(text):
        run = run[:LONGEST_WORD]
        if is_unspaced(run):
            sizes, edged = RUN_PIECES, run
        else:
            words.append(run)
            sizes, edged = WORD_PIECES, f"<{run}>"
        pieces += [edged[i : i + size] for size in sizes for i in range(len(edged) - size + 1)]
    return words, pieces


Counted = tuple[Doubles, Doubles]
"""The terms of a text, ``(t,)``: their codes, in order of appearance, and 1 + log of how often each occurs."""


def _counted(text: str) -> Counted:
    """Count the terms of a text by their CRC-32, the words' with the highest bit of 33 set."""
    words, pieces = terms_of(text)
    counts = Counter([zlib.crc32(word.encode()) | WORD_BIT for word in words])
    counts.update([zlib.crc32(piece.encode()) for piece in pieces])
    codes = np.fromiter(counts.keys(), np.float64, len(counts))
    return codes, 1 + np.log(np.fromiter(counts.values(), np.float64, len(counts)))


@dataclass(frozen=True, eq=False)
class TextProjection:
    """TF-IDF of a text's terms, then ``x @ matrix``: a direction from ``mean``, the middle of the pictures' vectors.

    ``codes``: float64 ``(t,)``, ascending whole numbers that stand for the terms; ``weights``: float32 ``(t,)``, how
    rare each is; ``matrix``: float16 ``(t, d)``; ``mean``: float32 ``(d,)``. Raises ValueError if their shapes don't
    fit, or a value isn't finite.
    """

    codes: NDArray[np.float64]
    weights: NDArray[np.float32]
    matrix: NDArray[np.float16]
    mean: NDArray[np.float32]

    def __post_init__(self) -> None:
        shapes = self.codes.shape, self.weights.shape, self.matrix.shape, self.mean.shape
        terms, dimensions = self.matrix.shape if self.matrix.ndim == 2 else (0, 0)
        if not terms or not dimensions or shapes != ((terms,), (terms,), (terms, dimensions), (dimensions,)):
            raise ValueError(f"These are not the parts of a text head: arrays of the shapes {shapes}.")
        parts = (self.codes, self.weights, self.matrix, self.mean)
        if not all(np.isfinite(part).all() for part in parts) or (np.diff(self.codes) <= 0).any():
            raise ValueError("A text head must be made of finite numbers, its codes ascending.")

    @property
    def dimensions(self) -> int:
        return int(self.matrix.shape[1])

    def rows(self, text: str) -> tuple[NDArray[np.intp], NDArray[np.float32], float]:
        """Return the terms of the head that a text has, their TF-IDF, of unit length, and their share of its weight."""
        codes, tf = _counted(text)
        places = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        known = self.codes[places] == codes
        # An unknown term is as rare as can be.
        weights = tf * np.where(known, self.weights[places], self.weights.max())
        whole, part = float(weights @ weights), float(weights[known] @ weights[known])
        share = part / whole if whole else 0.0
        return places[known], (weights[known] / np.sqrt(part or 1.0)).astype(np.float32), share

    def __call__(self, text: str) -> NDArray[np.float32] | None:
        """Return the direction from ``mean``, ``(d,)``, or None if the head knows too few of the text's terms."""
        places, values, share = self.rows(text)
        if share < LEAST_KNOWN:
            return None
        return np.asarray(values @ self.matrix[places].astype(np.float32), np.float32)


@dataclass(frozen=True)
class TextFigures:
    """The figures of searches by the texts of held-out products."""

    first: float
    """Share of the texts whose picture is the first hit."""
    first_ten: float
    """Share of the texts that have it among the first FIRST hits."""
    copied: float
    """The same share for the baseline: the search by the picture of the learned product with the most similar text."""
    chance: float
    """The same share for hits drawn at random."""
    queries: int
    gallery: int
    """Pictures that were searched."""

    def __str__(self) -> str:
        return (
            f"texts of {self.queries} unseen products find their own picture among {self.gallery}: first "
            f"{self.first:.3f}, in the first {FIRST} {self.first_ten:.3f} (by the picture of the most similar text's "
            f"product: {self.copied:.3f}; at random: {self.chance:.3f})"
        )

    def as_dict(self) -> dict[str, Any]:
        shares = {"first": self.first, "first_ten": self.first_ten, "copied": self.copied, "chance": self.chance}
        rounded = {name: round(share, 4) for name, share in shares.items()}
        return {**rounded, "queries": self.queries, "gallery": self.gallery}


@dataclass(frozen=True)
class TrainedText:
    """A text head, learned from all products, and the figures of one that was learned from some of them."""

    projection: TextProjection
    penalty: float
    figures: TextFigures
    seconds: float


def learn_text(
    texts: Sequence[Sequence[str]], vectors: NDArray[np.float32], products: Sequence[Any], seed: int = 0
) -> TrainedText:
    """Learn a text head and measure it on products that are held out.

    ``texts``: for each picture the texts of its product, the name first; "" for none. ``vectors``: unit vectors of the
    pictures, ``(n, d)``. ``products``: the product of each picture. Every text is learned from by itself, so that the
    head understands names as well as descriptions. Raises ExtractorUnavailable without scikit-learn, and ValueError for
    fewer than FEWEST_PRODUCTS products with a text.
    """
    require()
    started = time.monotonic()
    number: dict[Any, int] = {}
    owner = np.array([number.setdefault(product, len(number)) for product in products], np.intp)
    named = np.unique(owner[[any(texts_of) for texts_of in texts]]) if len(owner) else owner
    if len(named) < FEWEST_PRODUCTS:
        raise ValueError(
            f"{len(named)} products have both a text and a vector; a text head is learned from {FEWEST_PRODUCTS} or "
            "more."
        )
    rng = np.random.default_rng(seed)
    pictures = _Pictures(texts, vectors, owner)
    with one_blas_thread():
        learned, held_out = _hold_out(named, rng)
        penalty = _choose_penalty(pictures, learned, rng)
        trust = _trust(pictures, learned, penalty)
        measured = _weighted(_Regression(pictures, learned).solved(penalty), trust)
        figures = _text_figures(measured, pictures, learned, held_out[:TEXT_QUERIES])
        projection = _weighted(_Regression(pictures, named).solved(penalty), trust)
    return TrainedText(projection, penalty, figures, time.monotonic() - started)


def _hold_out(products: NDArray[np.intp], rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    mixed = rng.permutation(products)
    count = max(1, round(HELD_OUT_SHARE * len(mixed)))
    return mixed[count:], mixed[:count]


class _Pictures:
    """All pictures, with their texts and products."""

    def __init__(self, texts: Sequence[Sequence[str]], vectors: NDArray[np.float32], owner: NDArray[np.intp]) -> None:
        self.texts, self.vectors, self.owner = texts, vectors, owner
        self._counted: dict[str, Counted] = {}

    def counted(self, text: str) -> Counted:
        """Count the terms of a text, once: several heads are learned from it."""
        if text not in self._counted:
            self._counted[text] = _counted(text)
        return self._counted[text]

    def names(self, products: NDArray[np.intp]) -> list[str]:
        """Return the first text of each product."""
        name: dict[int, str] = {}
        for row in np.flatnonzero(np.isin(self.owner, products)).tolist():
            name.setdefault(self.owner[row], next((text for text in self.texts[row] if text), ""))
        return [name[product] for product in products]


def _choose_penalty(pictures: _Pictures, learned: NDArray[np.intp], rng: np.random.Generator) -> float:
    """Choose by products held out of ``learned``; the figures come from others."""
    owner = pictures.owner
    some, inner = _hold_out(rng.permutation(learned)[:TEXT_CHOSEN_BY], rng)
    rows = np.isin(owner, some)
    gallery = np.flatnonzero(rows | np.isin(owner, inner))
    regression, names, vectors = _Regression(pictures, some), pictures.names(inner), pictures.vectors[gallery]
    best = (-1.0, PENALTIES[0])
    for penalty in PENALTIES:
        ranks = _ranks(_queries(regression.solved(penalty), names), vectors, owner[gallery], inner)
        # The larger of equals: it is moved less by single texts.
        best = max(best, (float((1 / (1 + ranks)).mean() + (ranks < FIRST).mean()), penalty))
    return best[1]


def _trust(pictures: _Pictures, learned: NDArray[np.intp], penalty: float) -> NDArray[np.float32]:
    """Return how well texts predict each dimension, ``(d,)``, mean 1, by products left out in turn.

    Where errors are normal and independent, the likelihood of a picture ``v`` given a text ranks as ``v @ (p / s)``:
    ``p`` the prediction, ``s`` the variance of its error by dimension. Measured on the example shop in the space of a
    head that was learned by category: .93 of unseen names found their picture among the first ten without this, .99
    with it.
    """
    predicted, seen = [], []
    for fold in range(TEXT_FOLDS):
        part = learned[fold::TEXT_FOLDS]
        head = _Regression(pictures, np.setdiff1d(learned, part)).solved(penalty)
        first = {product: row for row, product in reversed(list(enumerate(pictures.owner.tolist())))}
        predicted.append(_queries(head, pictures.names(part), unit=False) - head.mean)
        seen.append(pictures.vectors[[first[product] for product in part.tolist()]] - head.mean)
    p, y = np.concatenate(predicted), np.concatenate(seen)
    scale = np.clip((p * y).sum(axis=0) / np.maximum((p * p).sum(axis=0), 1e-12), 0, None)
    error = ((y - scale * p) ** 2).mean(axis=0)
    trust = scale / (error + LEAST_ERROR * error.mean())
    return np.asarray(trust / trust.mean() if trust.any() else np.ones_like(trust), np.float32)


def _weighted(head: TextProjection, trust: NDArray[np.float32]) -> TextProjection:
    return replace(head, matrix=(head.matrix * trust).astype(np.float16))


class _Regression:
    """Ridge regression from the texts of the products ``learned`` to their pictures' vectors."""

    def __init__(self, pictures: _Pictures, learned: NDArray[np.intp]) -> None:
        rows = np.flatnonzero(np.isin(pictures.owner, learned))
        pairs = [(row, text) for row in rows.tolist() for text in pictures.texts[row] if text]
        counted = [pictures.counted(text) for _, text in pairs]
        self._codes, self._weights = _vocabulary(counted)
        targets = pictures.vectors[[row for row, _ in pairs]].astype(np.float64)
        self._mean = targets.mean(axis=0)
        self._targets = targets - self._mean
        self._x = _tfidf(counted, self._codes, self._weights)
        self._fewer_texts = self._x.shape[0] <= self._x.shape[1]
        self._gram = np.asarray((self._x @ self._x.T if self._fewer_texts else self._x.T @ self._x).todense())

    def solved(self, penalty: float) -> TextProjection:
        """Solve it with this penalty."""
        from scipy.linalg import cho_factor, cho_solve

        gram = self._gram.copy()
        gram[np.diag_indices_from(gram)] += penalty
        factor = cho_factor(gram, overwrite_a=True, check_finite=False)
        if self._fewer_texts:
            matrix = self._x.T @ cho_solve(factor, self._targets, check_finite=False)
        else:
            matrix = cho_solve(factor, self._x.T @ self._targets, check_finite=False)
        return TextProjection(self._codes, self._weights, matrix.astype(np.float16), self._mean.astype(np.float32))


def _vocabulary(counted: Sequence[Counted]) -> tuple[Doubles, NDArray[np.float32]]:
    """Return the most frequent terms, MOST_TERMS at most, half of them words where there are so many; and their IDF."""
    codes, first, frequency = np.unique(
        np.concatenate([own for own, _ in counted]), return_index=True, return_counts=True
    )
    frequent = np.flatnonzero(frequency >= FEWEST_TEXTS)
    frequent = frequent[np.lexsort((first[frequent], -frequency[frequent]))]
    words, pieces = frequent[codes[frequent] >= WORD_BIT], frequent[codes[frequent] < WORD_BIT]
    some = max(MOST_TERMS // 2, MOST_TERMS - len(pieces))
    kept = np.sort(np.concatenate([words[:some], pieces[: MOST_TERMS - min(some, len(words))]]))
    if not len(kept):
        raise ValueError("No word occurs in the texts of two products: there is nothing to learn.")
    idf = np.log((1 + len(counted)) / (1 + frequency[kept])) + 1
    return codes[kept], idf.astype(np.float32)


def _tfidf(counted: Sequence[Counted], codes: Doubles, weights: NDArray[np.float32]) -> Any:
    """Return a sparse ``(texts, terms)`` with rows of unit length."""
    from scipy.sparse import csr_matrix

    own, tf = (np.concatenate(parts) for parts in zip(*counted, strict=True))
    text = np.repeat(np.arange(len(counted)), [len(terms) for terms, _ in counted])
    place = np.minimum(np.searchsorted(codes, own), len(codes) - 1)
    known = codes[place] == own
    text, place = text[known], place[known]
    values = tf[known] * weights[place]
    values /= np.sqrt(np.bincount(text, values**2, len(counted)))[text]
    ends = np.concatenate([[0], np.cumsum(np.bincount(text, minlength=len(counted)))])
    return csr_matrix((values, place, ends), shape=(len(counted), len(codes)))


def _queries(head: TextProjection, names: Sequence[str], *, unit: bool = True) -> NDArray[np.float32]:
    found = [head(name) for name in names]
    rows = np.stack([head.mean if one is None else head.mean + one for one in found])
    return l2_normalise(rows) if unit else rows


def _ranks(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], owner: NDArray[np.intp], products: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return for each query how many pictures are nearer to it than the nearest one of its product."""
    ranks = np.empty(len(products), np.intp)
    for i, product in enumerate(products):
        near = gallery @ queries[i]
        ranks[i] = (near > near[owner == product].max()).sum()
    return ranks


def _text_figures(
    head: TextProjection, pictures: _Pictures, learned: NDArray[np.intp], held_out: NDArray[np.intp]
) -> TextFigures:
    names, vectors, owner = pictures.names(held_out), pictures.vectors, pictures.owner
    ranks = _ranks(_queries(head, names), vectors, owner, held_out)
    known = _tfidf([pictures.counted(name) for name in pictures.names(learned)], head.codes, head.weights)
    asked = _tfidf([pictures.counted(name) for name in names], head.codes, head.weights)
    nearest = [int((known @ asked[i].T).toarray().argmax()) for i in range(len(names))]
    first_picture = {product: row for row, product in reversed(list(enumerate(owner.tolist())))}
    copied = vectors[[first_picture[learned[place]] for place in nearest]]
    own = np.array([(owner == product).sum() for product in held_out])
    return TextFigures(
        float((ranks == 0).mean()),
        float((ranks < FIRST).mean()),
        float((_ranks(copied, vectors, owner, held_out) < FIRST).mean()),
        float(np.minimum(1.0, 1 - (1 - own / len(owner)) ** FIRST).mean()),
        len(names),
        len(owner),
    )
