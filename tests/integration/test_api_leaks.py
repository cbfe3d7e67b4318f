"""No route shows a hidden product, to any visitor, whenever it was hidden."""

import json
from collections import Counter
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_visual_search.models import RankingRule
from django_visual_search.search import results

from ..shop_api import data_url, make_articles, make_products, photo
from ..testshop.models import Article, Category, Product, Tag

pytestmark = pytest.mark.django_db
PRODUCTS, ARTICLES = 12, 6
CHANNELS = ("web", "a", "b")
many = settings(
    max_examples=settings.default.max_examples // 2,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def channel_of(request):
    return getattr(request, "META", {}).get("HTTP_X_CHANNEL", "web")


def is_staff(request):
    return bool(getattr(request, "user", None) and request.user.is_staff)


def products_of_visitor(request):
    """Filter over a relation that returns a product several times."""
    if is_staff(request):
        return Product.objects.all()
    allowed = Product.objects.filter(is_published=True, tags__name__in=[channel_of(request), "everywhere"])
    return allowed.exclude(category__name="drafts").distinct()


def articles_of_visitor(request):
    if is_staff(request):
        return Article.objects.all()
    return Article.objects.filter(is_public=True, category__name=channel_of(request))


class Visitor:
    """Anonymous in a channel, or staff."""

    def __init__(self, kind):
        self.kind = kind
        self.channel = kind if kind in CHANNELS else "web"
        self.client = Client(raise_request_exception=True)
        self.user = AnonymousUser()
        if kind == "staff":
            self.user, _ = User.objects.get_or_create(username="staff", defaults={"is_staff": True})
            self.client.force_login(self.user)

    def request(self, method, path, data=None, **extra):
        return getattr(self.client, method)(path, data, headers={"x-channel": self.channel}, **extra)

    def may_see(self, state):
        return self.kind == "staff" or (state["published"] and not state["draft"] and self.channel in state["channels"])


products_states = st.lists(
    st.fixed_dictionaries(
        {"published": st.booleans(), "draft": st.booleans(), "channels": st.sets(st.sampled_from(CHANNELS))}
    ),
    min_size=PRODUCTS,
    max_size=PRODUCTS,
)
articles_states = st.lists(st.tuples(st.booleans(), st.sampled_from(CHANNELS)), min_size=ARTICLES, max_size=ARTICLES)
visitors = st.sampled_from([*CHANNELS, "staff"])
numbers = st.integers(0, PRODUCTS - 1)


@pytest.fixture(autouse=True)
def shop_rules(settings):
    settings.VISUAL_SEARCH = {
        **settings.VISUAL_SEARCH,
        "VISIBLE": {
            **settings.VISUAL_SEARCH["VISIBLE"],
            "testshop.Product": products_of_visitor,
            "testshop.Article": articles_of_visitor,
        },
        "THROTTLE_RATES": {"similar": None, "photo": None},
    }


@pytest.fixture
def shop():
    return Shop()


class Shop:
    def __init__(self):
        self.categories = {name: Category.objects.create(name=name) for name in ("drafts", "goods", *CHANNELS)}
        self.tags = {name: Tag.objects.create(name=name) for name in (*CHANNELS, "everywhere")}
        self.products = make_products(PRODUCTS, name=lambda i: f"secret-{i:03}")
        self.articles = make_articles(ARTICLES)

    def put(self, states):
        for product, state in zip(self.products, states, strict=True):
            category = self.categories["drafts" if state["draft"] else "goods"]
            Product.objects.filter(pk=product.pk).update(is_published=state["published"], category=category)
        through = Product.tags.through
        through.objects.all().delete()
        through.objects.bulk_create(
            through(product=product, tag=self.tags[channel])
            for product, state in zip(self.products, states, strict=True)
            for channel in sorted(state["channels"])
        )

    def put_articles(self, states):
        for article, (public, channel) in zip(self.articles, states, strict=True):
            Article.objects.filter(pk=article.pk).update(is_public=public, category=self.categories[channel])

    def pin(self, i):
        RankingRule.objects.all().delete()
        RankingRule.objects.create(kind="pin", slot=1, product=self.products[i])

    def seen_by(self, visitor, states):
        """Return the keys of the products that this visitor may see."""
        return {str(p.pk) for p, state in zip(self.products, states, strict=True) if visitor.may_see(state)}


def checked(answer, allowed, products):
    """Return the hits, after a look for hidden products everywhere in the response."""
    assert answer.status_code == 200, answer.content
    body = answer.json()
    found = [hit["id"] for hit in body["results"]]
    assert set(found) <= allowed
    assert len(set(found)) == len(found)
    for product in products:
        if str(product.pk) not in allowed:
            assert product.name not in answer.content.decode()
    tokens = [body["token"]]
    if body["next"]:
        tokens += parse_qs(urlsplit(body["next"]).query)["cursor"]
    return found, [place.product_pk for token in tokens for place in results.read_token(token).places]


def follow(visitor, answer, allowed, products):
    """Return the keys of the hits on this page and all later ones."""
    found, _ = checked(answer, allowed, products)
    while answer.json()["next"]:
        answer = visitor.request("get", answer.json()["next"])
        found += checked(answer, allowed, products)[0]
    assert len(set(found)) == len(found)
    return found


PATHS = {
    "similar": ("/api/products/{}/similar/", "/visual-search/testshop/product/{}/similar/"),
    "photo": ("/api/products/search-by-image/", "/visual-search/testshop/product/search-by-image/"),
}


def test_similar_items_and_photos(shop):
    """Both APIs, all pages, with a pin on a product that may be hidden: all visible products and no others."""

    @many
    @given(states=products_states, kind=visitors, number=numbers, pinned=numbers, limit=st.integers(1, 12))
    def check(states, kind, number, pinned, limit):
        shop.put(states)
        shop.pin(pinned)
        visitor = Visitor(kind)
        allowed = shop.seen_by(visitor, states)
        product = str(shop.products[number].pk)
        for path in PATHS["similar"]:
            answer = visitor.request("get", path.format(product), {"limit": limit})
            if product not in allowed:
                assert answer.status_code == 404
                assert shop.products[number].name not in answer.content.decode()
                continue
            assert set(follow(visitor, answer, allowed, shop.products)) == allowed - {product}
            places = checked(answer, allowed, shop.products)[1]
            assert {place for place in places if place} <= allowed
        for path in PATHS["photo"]:
            answer = visitor.request("post", path, {"image": photo(number), "limit": limit})
            assert set(follow(visitor, answer, allowed, shop.products)) == allowed
            first = answer.json()["results"][:1]
            if str(shop.products[pinned].pk) in allowed:
                assert first[0]["id"] == str(shop.products[pinned].pk)

    check()


def test_facets(shop):
    """Only visible products are counted; a category that only hidden products have is missing."""

    @many
    @given(states=products_states, kind=visitors)
    def check(states, kind):
        shop.put(states)
        visitor = Visitor(kind)
        allowed = shop.seen_by(visitor, states)
        answer = visitor.request("post", PATHS["photo"][0], {"image": photo(), "limit": 1})
        checked(answer, allowed, shop.products)
        facets = answer.json()["facets"]
        seen = [state for state in states if visitor.may_see(state)]
        by_category = Counter(shop.categories["drafts" if state["draft"] else "goods"].pk for state in seen)
        assert {value["value"]: value["count"] for value in facets["category"]} == by_category
        by_tag = Counter(tag for state in seen for tag in state["channels"] or [None])
        assert {value["value"]: value["count"] for value in facets["tags__name"]} == by_tag

    check()


def test_tokens_after_hiding_and_with_somebody_else(shop):
    """Page 2 shows products that are visible now, to the present visitor."""

    @many
    @given(before=products_states, after=products_states, kinds=st.tuples(visitors, visitors), number=numbers)
    def check(before, after, kinds, number):
        shop.put(before)
        first, second = map(Visitor, kinds)
        product = str(shop.products[number].pk)
        answers = [first.request("post", path, {"image": photo(), "limit": 2}) for path in PATHS["photo"]]
        if product in shop.seen_by(first, before):
            answers += [first.request("get", path.format(product), {"limit": 2}) for path in PATHS["similar"]]
        shop.put(after)
        allowed = shop.seen_by(second, after)
        for answer in answers:
            assert answer.status_code == 200
            shown = {hit["id"] for hit in answer.json()["results"]}
            if not answer.json()["next"]:
                continue
            following = second.request("get", answer.json()["next"])
            if "similar" in answer.json()["next"] and product not in allowed:
                assert following.status_code == 404
                continue
            found = set(follow(second, following, allowed, shop.products))
            there = shop.seen_by(first, before) & allowed
            assert found == there - shown - ({product} if "similar" in answer.json()["next"] else set())

    check()


def test_products_with_several_pictures(shop):
    path = "/visual-search/testshop/article/"

    @many
    @given(states=articles_states, kind=visitors, number=st.integers(0, ARTICLES - 1))
    def check(states, kind, number):
        shop.put_articles(states)
        visitor = Visitor(kind)
        allowed = {
            str(article.pk)
            for article, (public, channel) in zip(shop.articles, states, strict=True)
            if kind == "staff" or (public and channel == visitor.channel)
        }
        body = json.dumps({"image": data_url(number), "limit": 2})
        answer = visitor.request("post", f"{path}search-by-image/", body, content_type="application/json")
        assert set(follow(visitor, answer, allowed, [])) == allowed
        article = str(shop.articles[number].pk)
        answer = visitor.request("get", f"{path}{article}/similar/", {"limit": 2})
        if article in allowed:
            assert set(follow(visitor, answer, allowed, [])) == allowed - {article}
        else:
            assert answer.status_code == 404

    check()


def test_filters_do_not_show_what_is_hidden(shop):
    """Neither by its key nor in a filter's error message."""

    @many
    @given(states=products_states, kind=visitors, number=numbers)
    def check(states, kind, number):
        shop.put(states)
        visitor = Visitor(kind)
        allowed = shop.seen_by(visitor, states)
        name = shop.products[number].name
        for query in (f"search={name}", f"price_min={number}&price_max={number}"):
            answer = visitor.request("post", f"{PATHS['photo'][0]}?{query}", {"image": photo()})
            expected = {str(shop.products[number].pk)} & allowed
            assert set(checked(answer, allowed, shop.products)[0]) == expected
        answer = visitor.request("post", PATHS["photo"][0], {"image": photo(), "text": name})
        assert set(checked(answer, allowed, shop.products)[0]) == {str(shop.products[number].pk)} & allowed

    check()
