"""Build the shop and look at it, in one process: the commands given as arguments, a catalogue, an order.

``python -m tests.oscarshop.build "makemigrations shop" migrate "reindex_embeddings --sync"`` writes ``seen.json``.
"""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import time
from pathlib import Path

import django
from django.core.management import call_command

django.setup()

import oscar  # noqa: E402
from django.apps import apps  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib.auth.models import Permission, User  # noqa: E402
from django.core.files.base import ContentFile  # noqa: E402
from django.db import connection  # noqa: E402
from django.template import engines  # noqa: E402
from django.test import Client, RequestFactory, override_settings  # noqa: E402
from django.test.utils import CaptureQueriesContext, setup_test_environment  # noqa: E402
from oscar.apps.checkout.signals import post_checkout  # noqa: E402
from oscar.apps.order.processing import EventHandler  # noqa: E402
from oscar.core.loading import get_model  # noqa: E402

from django_visual_search import search  # noqa: E402
from django_visual_search.contrib import thumbnails  # noqa: E402
from django_visual_search.contrib.oscar.apps import hiding  # noqa: E402
from django_visual_search.contrib.oscar.models import public  # noqa: E402
from django_visual_search.models import Feedback, RankingRule  # noqa: E402
from example_project.shop.drawing.catalogue import catalogue  # noqa: E402
from example_project.shop.drawing.scenes import studio  # noqa: E402
from example_project.shop.drawing.write import cutout  # noqa: E402

Product = get_model("catalogue", "Product")
ProductImage = get_model("catalogue", "ProductImage")
LIMIT = 8


SECONDS = {}
"""Processor time of each command."""


def run(*lines):
    """Run management commands; return what each said."""
    said = []
    for line in lines:
        out, started = io.StringIO(), time.process_time()
        call_command(*line.split(), stdout=out, stderr=out)
        SECONDS[line.split()[0]] = round(time.process_time() - started, 1)
        said.append(out.getvalue())
    return said


# The catalogue


def fill():
    """Return products by name: standalone ones, and parents of which some have pictures and some have children's."""
    kinds = get_model("catalogue", "ProductClass")
    plain, other = (kinds.objects.create(name=name, track_stock=False) for name in ("Things", "Others"))
    category = get_model("catalogue", "Category").add_root(name="All things")
    partner = get_model("partner", "Partner").objects.create(name="Us")
    country = {"printable_name": "Utopia", "name": "Utopia", "is_shipping_country": True}
    get_model("address", "Country").objects.create(iso_3166_1_a2="UT", **country)
    items = [item for item in catalogue(4) if item.design.kind in ("mug", "lamp", "backpack", "teapot")]
    made = {}

    def make(name, parent=None, pictures=1, **values):
        item = items[len(made) % len(items)]
        structure = {"structure": "child", "parent": made[parent]} if parent else {"product_class": plain}
        product = Product(title=f"{item.name}", upc=name, **{**structure, **values})
        product.save()
        if not parent:
            product.categories.add(category)
        if product.structure != "parent":
            product.stockrecords.create(partner=partner, partner_sku=name, price=item.price, num_in_stock=9)
        for i in range(pictures):
            file = io.BytesIO()
            studio(cutout(item.design), f"{item.design.seed} {i}").resize((300, 300)).save(file, "JPEG", quality=85)
            image = ContentFile(file.getvalue(), f"{name}-{i}.jpg")
            ProductImage.objects.create(product=product, original=image, display_order=i)
        made[name] = product
        return product

    for i in range(10):
        make(f"single{i}", **({"product_class": other} if i == 3 else {}))
    make("pictured", structure="parent")
    make("pictured-child", "pictured", pictures=0)
    make("bare", structure="parent", pictures=0)
    make("bare-child", "bare", pictures=2)
    make("bare-sibling", "bare", pictures=0)
    make("hidden", structure="parent", is_public=False)
    make("hidden-child", "hidden")
    make("pictured-secret", "pictured", is_public=False)
    make("blank", pictures=0)
    make("deleted")
    return made


# What searches and pages show


def found(product, **options):
    return sorted(hit.product.upc for hit in search.similar_to(product, limit=30, **options))


def searches(made):
    within = public()
    similar = {name: found(made[name], within=within) for name in made if name != "deleted"}
    with made["bare-child"].images.first().original.open() as file:
        photo = [hit.product.upc for hit in search.search_by_image(file, "catalogue.Product", within=within)][:1]
    made["deleted"].delete()
    return {"similar": similar, "photo": photo, "after": found(made["single0"], within=within)}


def pages(made, client):
    """Return queries and bytes of Oscar's product page, with similar items and by Oscar's own template alone."""
    url = made["single0"].get_absolute_url()
    own = [{**settings.TEMPLATES[0], "DIRS": [str(Path(oscar.__file__).parent / "templates")]}]
    seen = {"with": cost(client, url)}
    with override_settings(TEMPLATES=own):
        seen["without"] = cost(client, url)
    response = client.get(url)
    html = response.content.decode()
    keys = re.findall(r'data-visual-search-product="(\d+)"', html)
    cards = engines["django"].from_string(
        "{% load product_tags %}{% for product in products %}{% render_product product %}{% endfor %}"
    )
    request = response.wsgi_request
    products = Product.objects.browsable().base_queryset().filter(pk__in=keys)
    for _ in range(2):
        with CaptureQueriesContext(connection) as captured:
            text = cards.render({"products": products.all(), "user": request.user}, request)
    seen["cards"] = [statements(captured), len(text.encode())]
    seen["hits"] = [Product.objects.get(pk=key).upc for key in keys]
    seen["picture_of_bare"] = _picture(html, made["bare"])
    seen["child"] = cost(client, made["pictured-child"].get_absolute_url())
    return seen


def _picture(html, product):
    """Return whether the card of the parent without pictures shows its child's rather than the missing image."""
    card = html.partition(f'data-visual-search-product="{product.pk}"')[2].partition("</li>")[0]
    return "image_not_found" not in card and "<img" in card


def cost(client, url):
    """Return queries and bytes of a page, once caches are warm."""
    client.get(url)
    with CaptureQueriesContext(connection) as captured:
        response = client.get(url)
    assert response.status_code == 200, url
    return [statements(captured), len(response.content)]


def statements(captured):
    return len([query for query in captured.captured_queries if query["sql"] not in ("BEGIN", "COMMIT")])


# Purchases and returns


def buy(made):
    """Let a guest click on a similar item, buy one of its children and something else, and send all back."""
    guest = Client(headers={"user-agent": "guest"}, REMOTE_ADDR="203.0.113.7")
    html = guest.get(made["single0"].get_absolute_url()).content.decode()
    token, url = re.search(r'data-visual-search-token="([^"]+)" data-visual-search-url="([^"]+)"', html).groups()
    click = {"token": token, "events": [{"kind": "click", "product": str(made["bare"].pk)}]}
    assert guest.post(url, click, "application/json").json() == {"counted": 1}
    for name in ("bare-child", "single5"):
        assert guest.post(f"/basket/add/{made[name].pk}/", {"quantity": 1}).status_code == 302
    guest.post("/checkout/", {"username": "guest@example.com", "options": "anonymous"})
    names = {"first_name": "A", "last_name": "Guest", "line1": "Street 1", "line4": "Town", "postcode": "1234"}
    guest.post("/checkout/shipping-address/", {**names, "country": "UT"})
    guest.get("/checkout/shipping-method/")
    answer = guest.post("/checkout/preview/", {"action": "place_order"})
    assert answer.status_code == 302, answer.content.decode()
    order = get_model("order", "Order").objects.get()
    assert order.is_anonymous
    events = {"placed": _events()}
    sent_back = get_model("order", "ShippingEventType").objects.create(name="Returned")
    single = order.lines.filter(product=made["single5"])
    EventHandler().create_shipping_event(order, sent_back, single, [1])
    events["sent back"] = _events()
    line = order.lines.get(product=made["bare-child"])
    line.set_status("Returned")
    order.set_status("Returned")
    events["returned"] = _events()
    events["lines"] = _by_other_means(order, made)
    return events


def _by_other_means(order, made):
    """Place an order for a guest whose basket knows no request; only the checkout's own signal does."""
    from oscar.test.factories import create_basket, create_order

    before = Feedback.objects.count()
    basket = create_basket(empty=True)
    basket.add_product(made["bare-sibling"])
    placed = create_order(basket=basket, number="by-hand")
    silent = Feedback.objects.count() - before
    request = RequestFactory(headers={"user-agent": "guest"}).get("/", REMOTE_ADDR="203.0.113.7")
    for _ in range(2):
        post_checkout.send(sender=None, order=placed, user=None, request=request, response=None)
    return [silent, Feedback.objects.count() - before]


def _events():
    events = Feedback.objects.filter(kind__in=["purchase", "return"]).order_by("id")
    names = dict(Product.objects.values_list("pk", "upc"))
    return [
        [e.kind, names[int(e.object_id)], e.query_kind, names[int(e.query_id)] if e.query_id else ""] for e in events
    ]


# Staff


def dashboard(made):
    """Return what staff see, and what they may not."""
    boss = User.objects.create_superuser("boss", "boss@example.com", "boss")
    clerk = User.objects.create_user("clerk", "clerk@example.com", "clerk", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_dashboard"))
    pages = ["", "findability/", "rules/", "rules/create/"]
    seen = {}
    for user in (boss, clerk):
        client = Client()
        client.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[0])
        seen[user.username] = [client.get(f"/dashboard/visual-search/{page}").status_code for page in pages]
        menu = client.get("/dashboard/visual-search/").content.decode()
        seen[f"{user.username}'s menu"] = [page for page in pages[:3] if f'"/dashboard/visual-search/{page}"' in menu]
    seen["nobody"] = Client().get("/dashboard/visual-search/").url
    client = Client()
    client.force_login(boss, backend=settings.AUTHENTICATION_BACKENDS[0])
    seen["session"] = client.cookies["sessionid"].value
    listed = client.get("/dashboard/visual-search/findability/?reason=no-picture").content.decode()
    seen["findability"] = [name for name, product in made.items() if f"/products/{product.pk}/" in listed]
    rule = {"kind": "pin", "object_id": made["single7"].pk, "query_id": made["single0"].pk, "slot": 1, "factor": 1.2}
    refused = client.post("/dashboard/visual-search/rules/create/", {**rule, "query_id": made["single7"].pk})
    seen["refused"] = "not among its own similar items" in refused.content.decode()
    client.post("/dashboard/visual-search/rules/create/", rule)
    made_rule = RankingRule.objects.get()
    seen["first"] = search.similar_to(made["single0"], limit=3)[0].product.upc
    seen["form"] = client.get(f"/dashboard/visual-search/rules/{made_rule.pk}/").content.decode().count("selected")
    seen["redirect"] = client.get(f"/dashboard/visual-search/products/{made['single7'].pk}/").url
    client.post(f"/dashboard/visual-search/rules/{made_rule.pk}/delete/")
    group = {"kind": "hide", "attribute": "product_class", "value": made["single3"].product_class_id, "factor": 1.2}
    client.post("/dashboard/visual-search/rules/create/", group)
    seen["hidden"] = "single3" not in found(made["single0"])
    client.post(f"/dashboard/visual-search/rules/{RankingRule.objects.get().pk}/delete/")
    seen["left"] = RankingRule.objects.count()
    return seen


def thumbnail_urls(product):
    """Return the URL of a thumbnail by each of Oscar's thumbnailers."""
    picture = product.images.first().original
    urls = []
    for name in ("SorlThumbnail", "EasyThumbnails"):
        with override_settings(OSCAR_THUMBNAILER=f"oscar.core.thumbnails.{name}"):
            urls.append(thumbnails.oscar(picture, 80))
    return urls


def checked():
    """Return what the system checks say, and which apps hide our templates in this order and in another."""
    names = [config.name for config in apps.get_app_configs()]
    return [
        run("check --database default")[0],
        hiding(names),
        hiding(sorted(names, key=lambda name: "contrib." in name)),
    ]


def main():
    SECONDS["start"] = round(time.process_time(), 1)
    *before, reindex = sys.argv[1:]
    seen = {"commands": run(*before)}
    seen["migrations"] = run("makemigrations --check --dry-run")[0]
    made = fill()
    seen["indexed"] = run(reindex)[0]
    setup_test_environment()  # pages as with DEBUG off
    logging.disable(logging.WARNING)  # of pages that staff may not open
    seen["search"] = searches(made)
    seen["pages"] = pages(made, Client(headers={"user-agent": "visitor"}))
    seen["events"] = buy(made)
    seen["dashboard"] = dashboard(made)
    seen["thumbnails"] = thumbnail_urls(made["single1"])
    seen["checks"] = checked()
    seen["seconds"] = SECONDS
    seen["urls"] = {name: product.get_absolute_url() for name, product in made.items() if product.pk}
    SECONDS["all"] = round(time.process_time(), 1)
    (settings.BASE_DIR / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
