"""The shop's first day: shoppers who look, like, dismiss and buy; staff's rules; a findability check; a login.

Entry functions: ``open_shop`` and ``admin_login``. What shoppers do goes through visual search's own functions, in the
order in which pages call them, so that the dashboard, the rankings and the rules have something to show.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from random import Random

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import F

from django_visual_search import feedback, findability, search
from django_visual_search.fields.registry import get_field
from django_visual_search.models import Feedback, RankingRule, SearchLog

from .filling import CUSTOMERS
from .models import Order, OrderLine, Product
from .selectors import visible_products

FIELD = "shop.Product.embedding"
VISITED = ("MUG-004", "LAM-002", "CHA-007", "WAT-003")
"""SKUs of the pages that shoppers visit; none is of a kind that the demo's photos show."""
SHOWN = 8
CHECKED = 20
"""Products of the findability check."""
STAFF = "demo"


def open_shop() -> None:
    """Let the first day pass, unless there was one already. Products need their vectors."""
    if Feedback.objects.exists():
        return
    with transaction.atomic():
        visits()
        rules()
    feedback.aggregate()
    findability.check(get_field(FIELD), limit=CHECKED, seed=1)


def visits() -> None:
    """Let each customer look at a few products' similar items, and do something with one or two of them."""
    rng = Random("the first day")
    User.objects.bulk_create(
        [User(username=name, email=f"{name}@example.com", password=make_password(None)) for name in CUSTOMERS],
        ignore_conflicts=True,
    )
    products = Product.objects.in_bulk(VISITED, field_name="sku")
    for number, shopper in enumerate(User.objects.filter(username__in=CUSTOMERS).order_by("username")):
        for product in products.values():
            started = time.perf_counter()
            results = search.similar_to(product, limit=SHOWN, within=visible_products())
            feedback.log_search(results, (time.perf_counter() - started) * 1000, surface=SearchLog.Surface.SIMILAR)
            hits = [hit.product for hit in results]
            # Most like the third; the last one is nobody's choice.
            liked = hits[2] if rng.random() < 0.6 else rng.choice(hits[:-1])
            for hit in hits:
                feedback.record("impression", hit, user=shopper, results=results)
            feedback.record("click", liked, user=shopper, results=results)
            if rng.random() < 0.3:
                feedback.record("favourite", liked, user=shopper, results=results)
            if rng.random() < 0.2:
                feedback.record("skip", hits[-1], user=shopper, results=results)
            if number % 4 == 0 and product.sku == VISITED[0]:
                feedback.record("cart", liked, user=shopper, results=results)
                order(liked, shopper)


def order(product: Product, customer: User) -> None:
    """Order one piece, as ``ordering.buy_one`` does for a request; the click before it names the search behind it."""
    Product.objects.filter(pk=product.pk, stock__gt=0).update(stock=F("stock") - 1)
    order = Order.objects.create(customer=customer, email=customer.email)
    line = OrderLine.objects.create(order=order, product=product, price=product.price)
    feedback.record("purchase", product, user=customer, reference=f"order line {line.pk}")


def rules() -> None:
    """Pin, boost and hide a product beside others, as staff would."""
    products = Product.objects.in_bulk(
        ["LAM-002", "LAM-009", "CHA-007", "CHA-012", "WAT-003", "WAT-011"], field_name="sku"
    )
    kind = ContentType.objects.get_for_model(Product)
    for beside, sku, rule in (
        ("LAM-002", "LAM-009", RankingRule(kind="pin", slot=1, note="Lamp of the month")),
        ("CHA-007", "CHA-012", RankingRule(kind="boost", factor=1.6, note="Plenty in stock")),
        ("WAT-003", "WAT-011", RankingRule(kind="hide", note="Waiting for a new strap")),
    ):
        rule.content_type, rule.object_id, rule.query_id = kind, str(products[sku].pk), str(products[beside].pk)
        rule.full_clean()
        rule.save()


# Staff


def admin_login() -> tuple[str, str]:
    """Return name and password of a superuser; the password is drawn once and kept in the shop's own folder."""
    file = Path(settings.MEDIA_ROOT).parent / "admin-password.txt"
    user, is_new = User.objects.get_or_create(username=STAFF, defaults={"is_staff": True, "is_superuser": True})
    if is_new or not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(9))
        user.set_password(file.read_text())
        user.save()
    return user.username, file.read_text()
