"""Show the effect of a rule before it is saved: the same search without it and with it, side by side.

Entry function: ``rule_preview``. The rule counts in this request's own search only (``ranking.reading.on_trial``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.http import HttpRequest

from .. import search
from ..db.rows import all_rows, rows_with
from ..fields import EmbeddingField
from ..fields.products import with_product
from ..fields.registry import fields_of_product
from ..models import RankingRule
from ..ranking.reading import on_trial
from ..search import SearchHit, SearchResults
from ..search.answer import search_by_queries
from ..storefront.cards import load_pictures, picture_of, thumbnail_of, title_of
from ..storefront.handles import HandleExpired, read_handle
from .hits import change_url, reason_names
from .products import content_type_model, primary_key, visible_products

PREVIEWED = 8
"""Hits of each search: what a page of similar items shows."""
DEEPER = 24
"""Hits of each search that are compared, so that the page can say from how far down a product comes."""


@dataclass(frozen=True)
class PreviewHit:
    title: str
    thumbnail: str
    url: str
    rank: int
    reasons: list[Any]
    other_rank: int | None
    """Its rank in the other search, of DEEPER; None where it isn't there."""

    @property
    def is_same(self) -> bool:
        return self.rank == self.other_rank

    @property
    def is_shown(self) -> bool:
        """Return whether the other search shows it too."""
        return self.other_rank is not None and self.other_rank <= PREVIEWED


@dataclass(frozen=True)
class RulePreview:
    """``before`` without the rule, ``after`` with it: the similar items of ``query``; empty, a photo's hits."""

    query: str
    query_url: str
    before: list[PreviewHit]
    after: list[PreviewHit]

    @property
    def changes(self) -> bool:
        return [(one.title, one.url) for one in self.before] != [(one.title, one.url) for one in self.after]


def rule_preview(admin_site: Any, request: HttpRequest, rule: RankingRule, photo: str = "") -> RulePreview | None:
    """Return a rule's effect on the similar items of its query product, or of a product that it probably affects.

    ``photo``: the handle of the photo whose hits staff look at; a rule for every search is shown with those, until the
    handle expires. None without such a search: a product without a vector, or one that the user may not see.
    ``rule``: saved or not, without faults.
    """
    model = content_type_model(rule.content_type_id)
    fields = fields_of_product(model) if model else []
    if model is None or not fields:
        return None
    field, within = _searched_by_staff(admin_site, request, model, fields[0])
    sent = _photo_query(photo, field, request) if photo and not rule.query_id else None
    query = None if sent else _query_product(rule, model, field, within)

    def found() -> SearchResults:
        if sent:
            return search_by_queries(sent, field.label, limit=DEEPER, within=within)
        return search.similar_to(query, limit=DEEPER, within=within, field=field.label)  # type: ignore[arg-type]

    if query is None and not sent:
        return None
    with on_trial(rule, counts=False):
        before = found()
    with on_trial(rule):
        after = found()
    return RulePreview(
        "" if query is None else title_of(query),
        "" if query is None else change_url(admin_site, query),
        _hits(admin_site, field, before, after),
        _hits(admin_site, field, after, before),
    )


def _photo_query(handle: str, field: EmbeddingField, request: HttpRequest) -> list[Any]:
    """Return the vectors of the photo that staff searched by; empty where the handle doesn't hold any more."""
    try:
        return read_handle(handle, field, request).queries
    except HandleExpired:
        return []


def _searched_by_staff(
    admin_site: Any, request: HttpRequest, model: type[Model], field: EmbeddingField
) -> tuple[EmbeddingField, Any]:
    """Return the field and the products of staff's own searches, where the model's admin has them."""
    model_admin: Any = admin_site.get_model_admin(model) if admin_site.is_registered(model) else None
    chosen = model_admin.get_visual_search_field() if hasattr(model_admin, "get_visual_search_field") else None
    return chosen or field, visible_products(admin_site, request, model)


def _query_product(rule: RankingRule, model: type[Model], field: EmbeddingField, within: Any) -> Model | None:
    """Return the product whose similar items the rule changes; for every search, a neighbour of what it is about."""
    if rule.query_id:
        return _first_row(within.filter(pk=primary_key(model, rule.query_id)))
    if rule.object_id:
        named = _first_row(within.filter(pk=primary_key(model, rule.object_id)))
    else:
        group = rows_with(model, rule.attribute, rule.value).values("pk")
        rows, path = with_product(field, all_rows(field.model).filter(**{f"{field.name}__isnull": False}))
        embedded = rows.values(path)
        return _first_row(within.filter(pk__in=group).filter(pk__in=embedded).order_by("pk"))
    if named is None:
        return None
    nearest = search.similar_to(named, limit=1, within=within, field=field.label, ranking=False)
    return nearest[0].product if nearest else None


def _first_row(rows: Any) -> Model | None:
    found: Model | None = rows.first()
    return found


def _hits(admin_site: Any, field: EmbeddingField, results: SearchResults, others: SearchResults) -> list[PreviewHit]:
    ranks = {hit.product.pk: hit.rank for hit in others}
    load_pictures(field, results[:PREVIEWED])
    return [_hit(admin_site, field, hit, ranks.get(hit.product.pk)) for hit in results[:PREVIEWED]]


def _hit(admin_site: Any, field: EmbeddingField, hit: SearchHit, other_rank: int | None) -> PreviewHit:
    return PreviewHit(
        title_of(hit.product),
        thumbnail_of(picture_of(field, hit.row)),
        change_url(admin_site, hit.product),
        hit.rank,
        reason_names(hit.reasons),
        other_rank,
    )
