"""Records that staff only view: feedback, searches and evidence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..fields.registry import get_field, named_model
from ..models import Evidence, Feedback, SearchLog
from .base import FieldFilter, RecordAdmin, rounded
from .products import ProductKey, content_type_model

HIT, QUERY = 0, 1


@admin.register(Feedback)
class FeedbackAdmin(RecordAdmin):
    list_display = ["hit", "kind", "query", "rank", "created_at"]
    list_display_links = ["kind"]  # the products lead to their own pages
    list_filter = ["kind", "query_kind", "created_at"]
    search_fields = ["=object_id", "=query_id"]
    search_help_text = _("A product's primary key.")
    ordering = ["-id"]
    fields = [
        *("kind", "created_at", "hit", "query", "query_kind", "rank", "similar", "embedding_field", "extractor_key"),
        *("search", "counted", "gain", "exposure"),
    ]

    def product_keys(self, row: Feedback) -> Iterable[ProductKey | None]:
        return [self._key(row, row.object_id), self._key(row, row.query_id)]

    @staticmethod
    def _key(row: Feedback, text: str) -> ProductKey | None:
        model = content_type_model(row.content_type_id)
        return (model, text) if model and text else None

    def subtitle_of(self, row: Feedback) -> str:
        return f"{capfirst(row.get_kind_display())}: {self.product_name(row, HIT)}"

    @admin.display(description=_("product"), ordering="object_id")
    def hit(self, row: Feedback) -> SafeString | str:
        return self.cell(row, HIT, row.object_id)

    @admin.display(description=_("similarity"), ordering="similarity")
    def similar(self, row: Feedback) -> str:
        return rounded(row.similarity, 3)

    @admin.display(description=_("found by"))
    def query(self, row: Feedback) -> SafeString | str:
        return self.cell(row, QUERY, row.get_query_kind_display())


@admin.register(SearchLog)
class SearchLogAdmin(RecordAdmin):
    list_display = ["created_at", "query", "surface", "results", "best", "duration", "exact"]
    list_filter = ["kind", "surface", "exact", "created_at", FieldFilter]
    ordering = ["-created_at"]
    fields = [
        *("created_at", "embedding_field", "kind", "surface", "query", "results", "best", "exact", "duration"),
        *("extractor_key", "number"),
    ]

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).defer("vector")

    def product_keys(self, row: SearchLog) -> Iterable[ProductKey | None]:
        return [self._key(row)]

    @staticmethod
    def _key(row: SearchLog) -> ProductKey | None:
        if not row.query_id:
            return None
        try:
            return get_field(row.label).product_model, row.query_id
        except LookupError:  # the field no longer exists
            return None

    @admin.display(description=_("searched by"), ordering="kind")
    def query(self, row: SearchLog) -> SafeString | str:
        return self.cell(row, 0, row.query_id or row.get_kind_display())

    @admin.display(description=_("search"))
    def number(self, row: SearchLog) -> str:
        """Return the search's id, which its feedback has."""
        return str(row.pk)

    @admin.display(description=_("best similarity"), ordering="best_similarity")
    def best(self, row: SearchLog) -> str:
        return rounded(row.best_similarity, 3)

    @admin.display(description=_("duration"), ordering="milliseconds")
    def duration(self, row: SearchLog) -> str:
        return gettext("%(number)s ms") % {"number": rounded(row.milliseconds, 0)}


@admin.register(Evidence)
class EvidenceAdmin(RecordAdmin):
    list_display = ["hit", "query", "worth", "looks", "as_of"]
    list_display_links = ["worth"]
    search_fields = ["=object_id", "=query_id"]
    search_help_text = _("A product's primary key.")
    ordering = ["-gain"]
    fields = ["hit", "query", "worth", "looks", "as_of"]

    def product_keys(self, row: Evidence) -> Iterable[ProductKey | None]:
        return [self._key(row, row.object_id), self._key(row, row.query_id)]

    @staticmethod
    def _key(row: Evidence, text: str) -> ProductKey | None:
        model = named_model(row.model)
        return (model, text) if model and text else None

    def subtitle_of(self, row: Evidence) -> str:
        return self.product_name(row, HIT)

    @admin.display(description=_("product"), ordering="object_id")
    def hit(self, row: Evidence) -> SafeString | str:
        return self.cell(row, HIT, row.object_id)

    @admin.display(description=_("gain"), ordering="gain")
    def worth(self, row: Evidence) -> str:
        return rounded(row.gain, 2)

    @admin.display(description=_("exposure"), ordering="exposure")
    def looks(self, row: Evidence) -> str:
        return rounded(row.exposure, 2)

    @admin.display(description=_("as a hit of"), ordering="query_id")
    def query(self, row: Evidence) -> SafeString | str:
        return self.cell(row, QUERY, _("any search"))
