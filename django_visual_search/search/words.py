"""Searches by words, alone or beside a picture: a text's place among the pictures, and products whose text matches.

Entry functions: ``check_text``, ``read_words``, and ``fuse``, which makes one order of both sources.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db.models import QuerySet
from numpy.typing import NDArray

from ..conf import conf
from ..db.rows import all_rows
from ..extractors import ExtractorUnavailable
from ..extractors.base import l2_normalise
from ..fields import EmbeddingField
from ..fields.keys import split_key
from ..fields.products import with_product
from ..ranking.types import Candidate
from ..spaces.heads import extractor_of_space, key_of_space
from ..spaces.live import live_spaces
from ..spaces.text import PlacedText, placed_text, text_heads
from .candidates import database_of
from .fulltext import full_text_matches, text_paths
from .query import Query

LONGEST_TEXT = 200
"""Characters of a text to search by."""
RANK_OFFSET = 60
"""Of reciprocal rank fusion: G. V. Cormack, C. L. A. Clarke and S. Büttcher, "Reciprocal rank fusion outperforms
Condorcet and individual rank learning methods", 2009."""
STANDING = 20
"""Best matches whose pictures stand for a text that has no place of its own."""
TEXT = "text"
"""Reason of a hit whose text matches."""


class TextUnavailable(ValueError):  # noqa: N818 - as images.ImageRefused
    """Searches by text are not set up. The message says what to do."""


@dataclass(frozen=True)
class Words:
    """A text, as the search of one field understands it."""

    text: str
    places: dict[str, PlacedText]
    """By extractor key, where a text head or a text tower places it."""
    matches: dict[Any, int]
    """Primary keys of products whose text matches, with their ranks, best first."""
    complete: bool
    """Whether ``matches`` are all that match."""
    using: str
    """Alias of the database that is searched."""
    beside: bool
    """Whether the text stands beside a picture. Then products that have the words rank by looks."""

    @property
    def directions(self) -> dict[str, NDArray[np.float32]]:
        return {key: place.direction for key, place in self.places.items()}


def check_text(text: str) -> str:
    """Return the text without space around it. Raises ValueError, with the reason, for a text that is not accepted."""
    if not isinstance(text, str):
        raise ValueError(f"A text to search by must be a str, not {type(text).__name__}.")
    text = text.strip()
    if not text:
        raise ValueError("The text to search by is empty.")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"A text to search by has at most {LONGEST_TEXT} characters, not {len(text)}.")
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("The text to search by has characters that no text has: NUL or half a surrogate pair.")
    return text


def understands_text(field: EmbeddingField) -> bool:
    """Return whether products of the field can be searched by words: by their texts, a text head or a text tower."""
    if text_paths(field.product_model):
        return True
    learned = text_heads(field)
    for space in live_spaces(field).all:
        with contextlib.suppress(ExtractorUnavailable):  # the search itself says so
            if key_of_space(field, space) in learned or extractor_of_space(field, space).has_text_tower:
                return True
    return False


def read_words(field: EmbeddingField, text: str, within: QuerySet[Any], limit: int, *, beside: bool) -> Words:
    """Find a text's place and matches before the search; ``beside``: a picture.

    Beside a picture that the words move, products' texts are only looked at among the nearest (``fuse``), so a large
    catalogue needs no index of them. Raises TextUnavailable where there is neither ``TEXT_FIELDS`` nor a text head nor
    a text tower.
    """
    places = placed_text(field, text)
    if not places.learned and not text_paths(field.product_model):
        elsewhere = bool(text_heads(field))
        raise TextUnavailable(
            f"{field.label} can't be searched by text"
            + (
                ": its text head was learned for another vector space than the one that serves. Run"
                if elsewhere
                else ": run"
            )
            + f" `manage.py train_embedding {field.label} --text`, or set VISUAL_SEARCH['TEXT_FIELDS']"
            f"[{field.product_model._meta.label!r}]."
        )
    using = database_of(field, within)
    if beside and places.by_key:
        return Words(text, places.by_key, {}, complete=False, using=using, beside=True)
    most = max(limit, conf.RANKING_DEPTH)
    matches = full_text_matches(field, text, within, most, graded=not beside)
    return Words(text, places.by_key, matches, complete=len(matches) < most, using=using, beside=beside)


def standing_queries(field: EmbeddingField, words: Words) -> list[Query]:
    """Return in each space the middle of the pictures of the best matches, for a text that nothing else places."""
    rows, path = with_product(field, all_rows(field.model, words.using))
    rows = rows.filter(**{f"{path}__in": list(words.matches)[:STANDING], f"{field.name}__isnull": False})
    by_key: dict[str, list[Any]] = {}
    for vector, key in rows.values_list(field.name, field.key_name):
        if key:
            by_key.setdefault(split_key(key)[0], []).append(vector)
    live = [key_of_space(field, space) for space in live_spaces(field).all]
    return [
        Query(l2_normalise(np.mean(np.stack(by_key[key]), axis=0, keepdims=True))[0], key)
        for key in live
        if key in by_key
    ]


def fuse(field: EmbeddingField, words: Words, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Order candidates by reciprocal rank fusion of looks and words.

    The scores are dealt out again, the largest to the first, so that rankers see one scale; similarities stay.
    Candidates that a rule pins and whose text doesn't match stay at the end.
    """
    matches = words.matches
    if not words.complete:
        unknown = [candidate.product_pk for candidate in candidates if candidate.product_pk not in matches]
        every = all_rows(field.product_model, words.using)
        also = full_text_matches(field, words.text, every, len(unknown), only=unknown, graded=not words.beside)
        after = max(matches.values(), default=0)
        matches = matches | {pk: after + rank for pk, rank in also.items()}
    near = [candidate for candidate in candidates if not candidate.pinned or candidate.product_pk in matches]
    near.sort(key=lambda candidate: -candidate.score)
    scores = [candidate.score for candidate in near]
    fused = []
    for place, candidate in enumerate(near, 1):
        candidate.pinned = False
        value = 1 / (RANK_OFFSET + place)
        if candidate.product_pk in matches:
            value += 1 / (RANK_OFFSET + matches[candidate.product_pk])
            candidate.reasons = [*candidate.reasons, TEXT]
        fused.append((-value, place, candidate))
    ordered = [candidate for *_, candidate in sorted(fused, key=lambda one: one[:2])]
    for candidate, score in zip(ordered, scores, strict=True):
        candidate.score = score
    return ordered + [c for c in candidates if c.pinned and c.product_pk not in matches]
