"""From a text to its place in the live spaces of a field.

Entry function: ``placed_text``. A *text head* is learned for one space and never used in another: in a space without
one, the extractor's own text tower places the text, if it has one.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connections, router
from numpy.typing import NDArray

from ..db.statements import Memory, Statement, ask, cache_key
from ..extractors import ExtractorUnavailable
from ..extractors.base import l2_normalise
from ..fields import EmbeddingField
from ..learning.serialise import text_head_from
from ..learning.text import TextProjection
from ..models import TextHead
from .heads import extractor_of_space, key_of_space
from .live import REMEMBERED_SECONDS, live_spaces

logger = logging.getLogger("django_visual_search")

text_heads_memory = Memory(REMEMBERED_SECONDS)
"""Answers to ``text_heads_statement``."""


@dataclass(frozen=True)
class PlacedText:
    """The place of a text in one space, float32 ``(dimensions,)`` each."""

    vector: NDArray[np.float32]
    """To search by the text alone; of unit length."""
    direction: NDArray[np.float32]
    """To move the vector of a picture towards the words; of unit length."""


@dataclass(frozen=True)
class TextPlaces:
    """The places of a text in the live spaces of a field."""

    by_key: dict[str, PlacedText]
    """By extractor key; without the spaces in which nothing places the text."""
    learned: bool
    """Whether any live space has a text head or a text tower, which may know nothing of this text."""


def placed_text(field: EmbeddingField, text: str) -> TextPlaces:
    """Return where the text is in each live space, the one that vectors are made in first.

    A space whose text head can't be read, or whose extractor can't run here, is logged and left out.
    """
    using = router.db_for_read(field.model)
    ids = text_heads(field)
    found, learned = {}, False
    for space in live_spaces(field).all:
        try:
            key = key_of_space(field, space)
            if key in ids:
                place = _by_head(_stored_text_head(cache_key(connections[using]), using, ids[key]), text)
            else:
                extractor = extractor_of_space(field, space)
                if not extractor.has_text_tower:
                    continue
                if advice := extractor.export_needed():
                    raise ExtractorUnavailable(advice)
                row = l2_normalise(extractor.embed_text([text]))[0]
                place = PlacedText(row, row)
        except ExtractorUnavailable as e:
            logger.warning("visual search: %s: texts can't be placed in a vector space: %s", field.label, e)
            continue
        learned = True
        if place is not None:
            found[key] = place
    return TextPlaces(found, learned)


def text_heads(field: EmbeddingField) -> dict[str, int]:
    """Return the primary key of each space's latest text head, by extractor key; remembered for REMEMBERED_SECONDS."""
    connection = connections[router.db_for_read(field.model)]
    answers, _ = ask(connection, {"text heads": (text_heads_memory, text_heads_statement(field))})
    return dict(answers["text heads"])


def text_heads_statement(field: EmbeddingField) -> Statement:
    """Return SQL that reads (extractor key, primary key) of the field's text heads, the latest of a space last."""
    return f"SELECT space_key, id FROM {TextHead._meta.db_table} WHERE label = %s ORDER BY id", (field.label,)


def forget_text_heads() -> None:
    """Ask the database again, as after a text head was learned."""
    text_heads_memory.forget()
    _stored_text_head.cache_clear()


def _by_head(head: TextProjection, text: str) -> PlacedText | None:
    direction = head(text)
    if direction is None:
        return None
    vector, direction = l2_normalise(np.stack([head.mean + direction, direction]))
    return PlacedText(vector, direction)


@functools.lru_cache(maxsize=16)
def _stored_text_head(database: Any, using: str, pk: int) -> TextProjection:
    # Remembered in any transaction, as heads are.
    row = TextHead.objects.using(using).filter(pk=pk).first()
    if row is None:
        raise ExtractorUnavailable(f"The text head {pk} is not in the database any more.")
    try:
        return text_head_from(bytes(row.data), row.sha256)
    except ValueError as e:
        raise ExtractorUnavailable(f"The text head of {row} can't be used: {e}") from e
