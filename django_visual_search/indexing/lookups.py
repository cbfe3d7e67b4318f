"""What a batch asks of the ORM, compiled once: Django takes longer over such a query than PostgreSQL to answer it."""

from __future__ import annotations

from django.db import connections, router
from django.db.models import Exists

from ..db.by_key import ByKey
from ..fields import EmbeddingField
from .stale import attempts_at, stale, targets

LOCK = "FOR NO KEY UPDATE SKIP LOCKED"
"""Appended to the query for ``targets``: against changes of the picture, wherever in a chain of tables it lies; foreign
keys to the rows stay possible."""


class Lookups:
    """The queries of one run over a field."""

    def __init__(self, field: EmbeddingField) -> None:
        self.field = field
        self.connection = connections[router.db_for_write(field.model)]
        rows = stale(field).annotate(visual_tried=Exists(attempts_at(field).filter(attempts__gt=0)))
        self.stale = ByKey(rows, "pk", "visual_image", "visual_wanted", "visual_tried")
        """(key, image, wanted vector's key, whether an earlier attempt at that began and did not finish)"""
        self.wanted = ByKey(stale(field), "pk", "visual_wanted")
        """(key, wanted vector's key)"""
        linked = [field.link.target_field.attname] if field.link else []
        self.targets = ByKey(targets(field).order_by("pk"), "pk", "visual_image", *linked)
        """(key, image), stale or not, and what a companion's link refers to, where there are companions"""
