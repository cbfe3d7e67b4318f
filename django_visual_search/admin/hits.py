"""Hits as staff see them: with fields of the product, a link to its page, and the shop's own links.

``staff_hits`` prepares hits for a template; ``neighbours`` renders the panel on a product's page.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.utils import (
    display_for_field,
    display_for_value,
    label_for_field,
    lookup_field,
    quote,
)
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from .. import search
from ..fields.registry import get_field
from ..indexing.status import State, statuses
from ..models import RankingRule
from ..ranking.types import VISUAL
from ..search import SearchHit, SearchResults
from ..storefront.cards import load_pictures, picture_of, thumbnail_of, title_of
from ..storefront.merchandising import rule_links
from .status_column import badge

STAFF_REASONS: dict[str, Any] = {
    "feedback": _("liked by shoppers"),
    "disliked": _("disliked by shoppers"),
    "pinned": _("pinned"),
    "boosted": _("boosted"),
    "lowered": _("lowered"),
    "diverse": _("for variety"),
}
"""Names of our rankers' reasons; a reason of a ranker of the shop's own is shown as it is."""


@dataclass(frozen=True)
class StaffHit:
    """``details`` are (label, value) pairs, ``links`` (label, URL) pairs; an empty URL is a label without a link."""

    rank: int
    similarity: float
    product: Model
    title: str
    url: str
    thumbnail: str
    reasons: list[Any]
    details: list[tuple[str, Any]]
    links: list[tuple[Any, str]]
    rules: list[tuple[str, str]]
    """(label, URL) of the forms for a new rule about it; empty if the user may not add rules."""


def staff_hits(
    model_admin: Any,
    request: HttpRequest,
    results: SearchResults,
    names: Iterable[str] = (),
    *,
    links: bool = False,
    query: Model | None = None,
    photo: str = "",
) -> list[StaffHit]:
    """Return a StaffHit for each hit.

    ``names``: as in ``list_display``; ``links``: whether to add the shop's links; ``query``: the product whose similar
    items they are, and to which new rules apply (without it, to every search); ``photo``: the handle of the photo whose
    hits they are.
    """
    names = list(names)
    if results:
        load_pictures(get_field(results.label), results)
    may_add = may_add_rules(model_admin.admin_site, request)
    back = request.get_full_path() if request.method == "GET" else ""
    labels = [str(capfirst(label_for_field(name, model_admin.model, model_admin))) for name in names]
    return [
        _staff_hit(
            model_admin,
            results.label,
            hit,
            [(label, _display(name, hit.product, model_admin)) for label, name in zip(labels, names, strict=True)],
            list(model_admin.visual_search_links(request, hit.product)) if links else [],
            rule_links(hit.product, query, admin_name=model_admin.admin_site.name, back=back, photo=photo)
            if may_add
            else [],
        )
        for hit in results
    ]


def may_add_rules(admin_site: Any, request: HttpRequest) -> bool:
    """Return whether the user may add ranking rules in this admin."""
    registered = admin_site.is_registered(RankingRule)
    return registered and bool(admin_site.get_model_admin(RankingRule).has_add_permission(request))


def _staff_hit(
    model_admin: Any,
    label: str,
    hit: SearchHit,
    details: list[tuple[str, Any]],
    links: list[tuple[Any, str]],
    rules: list[tuple[str, str]],
) -> StaffHit:
    return StaffHit(
        hit.rank,
        hit.similarity,
        hit.product,
        title_of(hit.product),
        change_url(model_admin.admin_site, hit.product, model_admin.model),
        thumbnail_of(picture_of(get_field(label), hit.row)),
        reason_names(hit.reasons),
        details,
        links,
        rules,
    )


def reason_names(reasons: Iterable[str]) -> list[Any]:
    """Return the reasons in words, except that a hit looks like the query."""
    return [STAFF_REASONS.get(reason, reason) for reason in reasons if reason != VISUAL]


def change_url(admin_site: Any, product: Model, model: type[Model] | None = None) -> str:
    """Return the URL of the product's page; empty where there is none. ``model``: the registered one."""
    opts = (model or product._meta.model)._meta
    try:
        return reverse(f"{admin_site.name}:{opts.app_label}_{opts.model_name}_change", args=[quote(product.pk)])
    except NoReverseMatch:
        return ""


def _display(name: str, product: Model, model_admin: Any) -> Any:
    """Return a field, attribute or method as the admin's list shows it."""
    empty = model_admin.get_empty_value_display()
    try:
        field, attribute, value = lookup_field(name, product, model_admin)
    except ObjectDoesNotExist:
        return empty
    if field is not None:
        return display_for_field(value, field, empty) if not field.remote_field else value or empty
    empty = getattr(attribute, "empty_value_display", empty)
    return display_for_value(value, empty, getattr(attribute, "boolean", False))


def neighbours(
    model_admin: Any, request: HttpRequest, product: Model, rules: Iterable[tuple[str, str, str, bool]] = ()
) -> SafeString:
    """Render the product's status and its nearest neighbours, in the order that shoppers see.

    ``rules``: what ``rules.rules_about`` returns.
    """
    field = model_admin.get_visual_search_field()
    limit = model_admin.visual_search_neighbours_shown
    within = model_admin.get_visual_search_queryset(request)
    results = search.similar_to(product, limit=limit, within=within, field=field.label)
    status = statuses(model_admin.model, [product.pk])[product.pk]
    context = {
        "status": badge(status, in_full=True),
        "has_vector": status.counts[State.CURRENT] + status.counts[State.STALE] > 0,
        "hits": staff_hits(model_admin, request, results, query=product),
        "exact": results.exact,
        "rules": list(rules),
        "own": rule_links(product, admin_name=model_admin.admin_site.name, back=request.get_full_path())
        if may_add_rules(model_admin.admin_site, request)
        else [],
        "more": f"{model_admin.visual_search_url}?{urlencode({'product': quote(product.pk)})}",
    }
    return render_to_string("visual_search/admin/neighbours.html", context, request=request)
