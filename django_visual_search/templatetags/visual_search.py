"""``{% load visual_search %}``: the template tags, thin wrappers over ``storefront``."""

from __future__ import annotations

from typing import Any

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from .. import storefront
from ..search import SearchResults
from ..storefront import cards, merchandising
from ..storefront.forms import photo_form_context

register = template.Library()


SIMILAR_ITEMS = "visual_search/similar_items.html"
STAFF_ITEMS = "visual_search/staff_similar_items.html"


@register.simple_tag(takes_context=True)
def similar_items(
    context: Any,
    product: Any,
    *,
    limit: int = 8,
    within: Any = None,
    field: str | None = None,
    min_similarity: float | None = None,
    title: str | None = None,
) -> SafeString:
    """``{% similar_items product limit=8 within=… field=… min_similarity=… title=… %}``; empty without hits.

    ``title``: the heading, by default "Similar items"; an empty one omits it. The template ``SIMILAR_ITEMS`` gets the
    page's context, and ``cards``, ``results``, ``title``, ``product`` and ``request``.
    """
    results = _similar_items(context, product, limit, within, field, min_similarity)
    if not results:
        return SafeString("")
    request = _request_in(context)
    shown = {
        "request": request,
        "product": product,
        "title": gettext("Similar items") if title is None else title,
        "results": results,
        "cards": cards.cards(results, request=request, product=product),
    }
    with context.push(**shown):
        rendered: SafeString = context.template.engine.get_template(SIMILAR_ITEMS).render(context)
    return rendered


@register.simple_tag(takes_context=True)
def get_similar_items(
    context: Any,
    product: Any,
    *,
    limit: int = 8,
    within: Any = None,
    field: str | None = None,
    min_similarity: float | None = None,
) -> SearchResults:
    """``{% get_similar_items product limit=8 as items %}``: the SearchResults, for the shop's own markup."""
    return _similar_items(context, product, limit, within, field, min_similarity)


def _similar_items(
    context: Any, product: Any, limit: int, within: Any, field: str | None, min_similarity: float | None
) -> SearchResults:
    return storefront.similar_items(
        product, _request_in(context), limit=limit, within=within, field=field, min_similarity=min_similarity
    )


@register.simple_tag(takes_context=True)
def staff_similar_items(
    context: Any,
    product: Any,
    *,
    limit: int = 8,
    within: Any = None,
    field: str | None = None,
    min_similarity: float | None = None,
    admin: str = "admin",
) -> SafeString:
    """``{% staff_similar_items product %}``: *Pin*, *Boost*, *Hide* of the similar items, for staff who may add rules.

    Nothing, without a query, for everybody else. Never inside ``{% cache %}``, which would show it to shoppers.
    ``admin``: the name of the admin site; the others as for ``similar_items``.
    """
    request = _request_in(context)
    if not product or not merchandising.may_merchandise(request):
        return SafeString("")
    how: dict[str, Any] = {"limit": limit, "within": within, "field": field, "min_similarity": min_similarity}
    results = storefront.similar_items(product, request, **how, log=False)
    cards_of_staff = merchandising.staff_cards(request, results, product, admin_name=admin)
    if not cards_of_staff:
        return SafeString("")
    return context.template.engine.get_template(STAFF_ITEMS).render(context.new({"cards": cards_of_staff}))


@register.simple_tag
def feedback_attributes(results: Any) -> SafeString:
    """``<ul {% feedback_attributes items %}>``: attributes of the element around the hits, for reports of clicks."""
    return cards.feedback_attributes(results)


@register.simple_tag(takes_context=True)
def get_cards(context: Any, results: Any, product: Any = None) -> list[cards.Card]:
    """``{% get_cards items product as cards %}``: a card for each hit, for the shop's own markup."""
    return cards.cards(results, request=_request_in(context), product=product) if results else []


@register.simple_tag
def reactions(results: Any) -> cards.Reactions | None:
    """``{% reactions items as reactions %}``: the form of the cards' buttons, for pages without scripts."""
    return cards.reactions(results)


@register.inclusion_tag("visual_search/photo_search_form.html", takes_context=True)
def photo_search_form(
    context: Any, model: str, *, action: str | None = None, compact: bool = False, nonce: str = ""
) -> dict[str, Any]:
    """``{% photo_search_form "shop.Product" %}``: a form that sends a photo to the photo search page, or ``action``.

    ``compact``: one button, for a header. ``nonce``: for a CSP that wants one on the form's script.
    """
    return {
        "request": _request_in(context),
        "csrf_token": context.get("csrf_token"),
        **photo_form_context(model, action, compact=compact, nonce=nonce),
    }


@register.simple_tag
def visual_search_script(nonce: str = "") -> SafeString:
    """``{% visual_search_script %}``: the script that reports what visitors see and click. ``nonce``: for a CSP."""
    source = static("django_visual_search/feedback.js")
    if nonce:
        return format_html('<script src="{}" defer nonce="{}"></script>', source, nonce)
    return format_html('<script src="{}" defer></script>', source)


def _request_in(context: Any) -> Any:
    return getattr(context, "request", None) or context.get("request")
