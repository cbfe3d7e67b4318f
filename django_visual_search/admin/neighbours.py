"""The panel on a product's page: what looks like it, as staff may see it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.utils import quote
from django.db.models import Model
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from .. import search
from ..indexing.states import State
from ..indexing.statuses import statuses
from .hits import staff_hits
from .status_badge import badge


def neighbours(model_admin: Any, request: HttpRequest, product: Model) -> SafeString:
    """The product's status and its nearest neighbours, in the order that shoppers get them."""
    field = model_admin.get_visual_search_field()
    limit = model_admin.visual_search_neighbours_shown
    within = model_admin.get_visual_search_queryset(request)
    results = search.similar_to(product, limit=limit, within=within, field=field.label)
    status = statuses(model_admin.model, [product.pk])[product.pk]
    context = {
        "status": badge(status, told=True),
        "has_vector": status.counts[State.CURRENT] + status.counts[State.STALE] > 0,
        "hits": staff_hits(model_admin, request, results),
        "exact": results.exact,
        "more": f"{model_admin.visual_search_address}?{urlencode({'product': quote(product.pk)})}",
    }
    return render_to_string("visual_search/admin/neighbours.html", context, request=request)
