"""The likelihood that a hit is what the query shows, or the very product, by the calibration learned with the head.

Entry functions: ``Confidence`` and ``close_enough``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import router
from django.db.models import Model

from ..db.rows import all_rows
from ..fields import EmbeddingField
from ..learning.calibration import Calibration, margins
from ..ranking.types import Candidate
from ..spaces.heads import StoredHead, stored_head
from ..spaces.live import Space, live_spaces


class Confidence:
    """The calibrations of a field's spaces.

    ``live``: those spaces, where they are at hand; ``blank``: keys of those in which the query shows nothing, so that
    no hit is what it shows (``Query.blank``); ``using``: the database.
    """

    def __init__(
        self,
        field: EmbeddingField,
        live: Sequence[Space] | None = None,
        *,
        blank: Collection[str] = (),
        using: str | None = None,
    ) -> None:
        self.field = field
        self.blank = blank
        self.using = using = using or router.db_for_read(field.model)
        spaces = live_spaces(field, using=using).all if live is None else live
        heads = [stored_head(using, space.head, space.key) for space in spaces if space.head is not None]
        self.by_key: dict[str, StoredHead] = {head.key: head for head in heads if head.calibration is not None}

    def __bool__(self) -> bool:
        """Return whether any live space is calibrated."""
        return bool(self.by_key)

    def of_hit(self, extractor_key: str, similarity: float, product: Model, best: float) -> float | None:
        """Return the confidence of one hit, 0 to 1, or None where its space has no calibration. Sends no query.

        ``best``: the highest similarity in its space among the hits of the answer (``best_of``).
        """
        head = self.by_key.get(extractor_key)
        if head is None:
            return None
        return self._of(head, similarity, self._category(head, product), best)

    def of_candidates(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """Return the confidence of each candidate, as ``of_hit``; one query where their categories matter."""
        heads = [self.by_key.get(candidate.extractor_key) for candidate in candidates]
        named = {head.category for head in heads if head is not None and head.category and head.tells_categories}
        categories = {path: self._categories(path, [c.product_pk for c in candidates]) for path in named}
        best = best_of((candidate.extractor_key, candidate.similarity) for candidate in candidates)
        return [
            None
            if head is None
            else self._of(
                head,
                candidate.similarity,
                categories.get(head.category, {}).get(candidate.product_pk),
                best[candidate.extractor_key],
            )
            for head, candidate in zip(heads, candidates, strict=True)
        ]

    def same_products(self, found: Sequence[tuple[str, float]]) -> list[float | None]:
        """Return the probability that each product found by a photo is the one that it shows.

        None where its space has not learned that. ``found``: extractor key and similarity of each. Sends no query.
        """
        keys, similarities = [key for key, _ in found], [similarity for _, similarity in found]
        sure: list[float | None] = [None] * len(found)
        for key in {key for key in keys if key in self.by_key}:
            calibration = self.by_key[key].calibration
            places = [i for i, one in enumerate(keys) if one == key]
            if calibration is not None and calibration.same_product is not None:
                own = [similarities[i] for i in places]
                for i, probability in zip(places, calibration.same_product(own, margins(own)), strict=True):
                    sure[i] = 0.0 if key in self.blank else float(probability)
        return sure

    def _of(self, head: StoredHead, similarity: float, category: str | None, best: float) -> float:
        calibration: Calibration | None = head.calibration
        assert calibration is not None
        if head.key in self.blank:
            return 0.0
        return float(calibration([similarity], None if category is None else [category], best)[0])

    def _categories(self, path: str, keys: Iterable[Any]) -> dict[Any, str]:
        found: dict[Any, str] = {}
        products = all_rows(self.field.product_model, self.using)
        for key, value in products.filter(pk__in=list(keys)).order_by("pk").values_list("pk", path):
            found.setdefault(key, "" if value is None else str(value))
        return found

    def _category(self, head: StoredHead, product: Model) -> str | None:
        try:
            column = product._meta.get_field(head.category).attname if head.category else ""
        except (FieldDoesNotExist, AttributeError):  # over a relation: asking would cost a query for each hit
            return None
        value = product.__dict__.get(column)
        return None if value is None else str(value)


def best_of(found: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the highest similarity of each space by its extractor key. ``found``: key and similarity of each hit."""
    best: dict[str, float] = {}
    for key, similarity in found:
        best[key] = max(similarity, best.get(key, similarity))
    return best


class ConfidenceUnknown(ValueError):  # noqa: N818 - as images.ImageRefused
    """``min_confidence`` was given, but no confidence was learned. The text says what to do."""


def close_enough(
    candidates: list[Candidate],
    confidence: Confidence,
    min_similarity: float | None,
    min_confidence: float | None,
) -> list[Candidate]:
    """Return the candidates that reach both bounds. Raises ConfidenceUnknown where no live space is calibrated.

    While vectors move between two spaces, hits of one that has no calibration are not judged by it.
    """
    if min_similarity is not None:
        candidates = [candidate for candidate in candidates if candidate.similarity >= min_similarity]
    if min_confidence is None:
        return candidates
    if not confidence:
        raise ConfidenceUnknown(
            f"No confidence was learned for {confidence.field.label}, so min_confidence can't be used: run "
            "`manage.py train_embedding` and `switch_embedding` first."
        )
    for candidate, sure in zip(candidates, confidence.of_candidates(candidates), strict=True):
        candidate.confidence = sure
    return [c for c in candidates if c.confidence is None or c.confidence >= min_confidence]
