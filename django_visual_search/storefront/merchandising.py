"""Pin, boost and hide where staff look: links from a hit to the admin's form of a new rule, filled in.

Entry functions: ``rule_links`` for one hit, ``staff_cards`` for the shop's own page. Only users who may add rules in
the admin see them; the form shows the rule's effect before it saves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from ..fields.registry import fields_of_product
from ..search import SearchResults
from .cards import title_of

PERMISSION = "django_visual_search.add_rankingrule"
NEXT = "_next"
"""Parameter of the form: the page to which saving leads."""
PHOTO = "_photo"
"""Parameter of the form: the handle of a photo to show the rule's effect with."""
BOOST = 1.5
"""The factor that the form begins with."""


@dataclass(frozen=True)
class StaffCard:
    rank: int
    title: str
    links: list[tuple[str, str]]


def product_choice(product: Model) -> str:
    """Return how the form names a product: the content type of the model that searches find, and the primary key."""
    model = fields_of_product(product._meta.model)[0].product_model
    return f"{ContentType.objects.get_for_model(model).pk}:{product.pk}"


def rule_links(
    product: Model, query: Model | None = None, *, admin_name: str = "admin", back: str = "", photo: str = ""
) -> list[tuple[str, str]]:
    """Return (label, URL) of *Pin*, *Boost* and *Hide* for a hit. The caller checks PERMISSION.

    ``query``: the product whose similar items the hit is among; None for every search. ``back``: the page to which
    saving leads. ``photo``: the handle of the photo whose hit it is, for the preview. Empty where the project has no
    such admin.
    """
    try:
        url = reverse(f"{admin_name}:django_visual_search_rankingrule_add")
    except NoReverseMatch:
        return []
    about = {"object_id": product_choice(product)}
    about |= {"query_id": product_choice(query)} if query is not None else {}
    about |= {NEXT: back} if back else {}
    about |= {PHOTO: photo} if photo else {}
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("pin", _("Pin"), {"slot": 1}),
        ("boost", _("Boost"), {"factor": BOOST}),
        ("hide", _("Hide"), {}),
    ]
    return [(label, f"{url}?{urlencode({'kind': kind, **about, **more})}") for kind, label, more in kinds]


def may_merchandise(request: HttpRequest | None) -> bool:
    """Return whether the request's user is staff who may add rules.

    Without a session cookie it is not looked up, so that a page for shoppers stays the same for all and can be cached.
    For staff, Django's own cache is told not to keep the page; others see ``Vary: Cookie``, as the session was read.
    """
    if request is None or settings.SESSION_COOKIE_NAME not in request.COOKIES:
        return False
    user = getattr(request, "user", None)
    if user is None or not user.is_active or not user.is_staff or not user.has_perm(PERMISSION):
        return False
    request._cache_update_cache = False  # type: ignore[attr-defined] # read by UpdateCacheMiddleware and cache_page
    return True


def staff_cards(
    request: HttpRequest, results: SearchResults, query: Model | None = None, *, admin_name: str = "admin"
) -> list[StaffCard]:
    """Return staff's links for each hit; empty for other visitors, and without such an admin."""
    if not results or not may_merchandise(request):
        return []
    back = request.get_full_path()
    found = []
    for hit in results:
        links = rule_links(hit.product, query, admin_name=admin_name, back=back)
        found += [StaffCard(hit.rank, title_of(hit.product), links)] if links else []
    return found
