"""Two products that are the same: staff keep one, and a ranking rule hides the other from visual search.

Entry functions: ``pair_url`` for the findability report, ``pair_page`` for the page that asks which one to keep. A rule
is all that changes: deleting it undoes everything.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import Count, Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from ..db.rows import key_text
from ..feedback.events import Kind
from ..models import Feedback, RankingRule
from ..storefront.cards import card_says, price_text, title_of
from .base import BREADCRUMB_LIST
from .hits import change_url, may_add_rules
from .products import load_products, product_thumbnails

TWINS = "django_visual_search_findability_pair"
"""Name of the page's URL."""
TWIN_SIDE = 480
"""Pixels of a picture, which is to be compared."""
SHOWN_KINDS = (Kind.IMPRESSION, Kind.CLICK, Kind.CART, Kind.PURCHASE)


@dataclass(frozen=True)
class Twin:
    """One of the two products, as the page shows it."""

    key: str
    title: str
    url: str
    thumbnail: str
    price: str
    sold_out: bool
    did: list[tuple[str, int]]
    """What shoppers did with it: (kind in words, count)."""
    worth: tuple[int, int, int]
    """Purchases, carts and clicks: the product with more of them is kept unless staff choose the other."""


def pair_url(admin_name: str, model: type[Model], keys: tuple[str, str]) -> str:
    """Return the URL of the page that asks which of two products to keep."""
    url = reverse(f"{admin_name}:{TWINS}")
    return f"{url}?{urlencode({'model': model._meta.label, 'product': keys[0], 'other': keys[1]})}"


def pair_page(model_admin: Any, request: HttpRequest, model: type[Model]) -> HttpResponse:
    """Ask which of two products to keep, and hide the other: for whoever may view both and add rules."""
    site = model_admin.admin_site
    if not may_add_rules(site, request):
        raise PermissionDenied
    keys = request.GET.get("product", ""), request.GET.get("other", "")
    products = load_products(site, request, [(model, key) for key in keys])
    pair = [products[model, key] for key in keys if (model, key) in products]
    if len({product.pk for product in pair}) != 2:
        raise Http404
    back = reverse(f"{site.name}:django_visual_search_findability_changelist")
    back += "?" + urlencode({"model": model._meta.label, "reason": "duplicate"})
    kept = request.POST.get("keep")
    if request.method == "POST" and kept in keys:
        first, second = pair if kept == keys[0] else reversed(pair)
        _hide(site, request, second, first)
        return HttpResponseRedirect(back)
    twins = _twins(site, request, model, dict(zip(keys, pair, strict=True)))
    request.current_app = site.name
    context = {
        **site.each_context(request),
        "title": _("Are these the same product?"),
        "subtitle": None,
        "opts": model_admin.opts,
        "breadcrumb_list": BREADCRUMB_LIST,
        "list_url": back,
        "twins": twins,
        "kept": max(twins, key=lambda twin: twin.worth).key,
    }
    return TemplateResponse(request, "visual_search/admin/pair.html", context)


def _twins(site: Any, request: HttpRequest, model: type[Model], pair: dict[str, Model]) -> list[Twin]:
    using = router.db_for_read(Feedback)
    stored = {key: key_text(model, product.pk, router.db_for_read(model)) for key, product in pair.items()}
    kind = ContentType.objects.get_for_model(model._meta.concrete_model)
    rows = Feedback.objects.using(using).filter(content_type=kind, object_id__in=stored.values())
    counts: dict[str, Counter[str]] = {key: Counter() for key in stored.values()}
    for key, name, count in rows.values_list("object_id", "kind").annotate(count=Count("*")).order_by():
        counts[key][name] = count
    thumbnails = product_thumbnails(model, pair.values(), TWIN_SIDE)
    found = []
    for key, product in pair.items():
        did, says = counts[stored[key]], card_says(product, request)
        found.append(
            Twin(
                key,
                title_of(product),
                change_url(site, product),
                thumbnails.get(product.pk, ""),
                price_text(says.get("price")),
                bool(says.get("sold_out")),
                [(str(event.label), did[event]) for event in SHOWN_KINDS],
                (did[Kind.PURCHASE], did[Kind.CART], did[Kind.CLICK]),
            )
        )
    return found


def _hide(site: Any, request: HttpRequest, hidden: Model, kept: Model) -> None:
    """Hide a product everywhere by a rule, unless one does already, and say how to undo it."""
    note = Truncator(_("The same product as %(title)s") % {"title": title_of(kept)}).chars(255)
    rule = RankingRule(
        kind=RankingRule.Kind.HIDE,
        content_type=ContentType.objects.get_for_model(hidden._meta.concrete_model),
        object_id=str(hidden.pk),
        note=note,
    )
    rule.full_clean()
    own = {name: getattr(rule, name) for name in ("kind", "content_type", "object_id", "attribute", "query_id")}
    if existing := RankingRule.objects.filter(**own, starts_at=None, ends_at=None).first():
        rule = existing
    else:
        rule.save()
        site.get_model_admin(RankingRule).log_addition(request, rule, [{"added": {}}])
    said = _("%(title)s is hidden from visual search, and %(kept)s is found.")
    undo = reverse(f"{site.name}:django_visual_search_rankingrule_delete", args=[quote(rule.pk)])
    sentence = said % {"title": title_of(hidden), "kept": title_of(kept)}
    messages.success(request, format_html('{} <a href="{}">{}</a>', sentence, undo, _("Undo")), fail_silently=True)
