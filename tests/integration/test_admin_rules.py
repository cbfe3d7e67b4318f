"""Rules where staff look: groups, the form of one kind, what a rule does before it is saved, and the way back."""

import re
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.http import HttpResponse
from django.template import Context, Template
from django.test import RequestFactory
from django.urls import reverse
from django.views.decorators.cache import cache_page

from django_visual_search import search
from django_visual_search.models import RankingRule, SearchLog

from ..conftest import embed_all, picture_file
from ..staff import staff
from ..testshop.models import Article, ArticleImage, Category, Product

pytestmark = pytest.mark.django_db

ADD = "/admin/django_visual_search/rankingrule/add/"
CHOICES = "/admin/django_visual_search/rankingrule/products/"
MAY_ADD = ("django_visual_search.add_rankingrule", "testshop.view_product")


@pytest.fixture
def products(monkeypatch):
    monkeypatch.setattr(Product, "__str__", lambda self: self.name)
    monkeypatch.setattr(Category, "__str__", lambda self: self.name)
    hats, shoes = (Category.objects.create(name=name) for name in ("Hats", "Shoes"))
    made = [
        Product.objects.create(name=f"Product {n}", image=picture_file(n), category=shoes if n % 2 else hats)
        for n in range(6)
    ]
    embed_all()
    return made


@pytest.fixture
def kind():
    return ContentType.objects.get_for_model(Product).pk


def panel_of(client, product):
    page = client.get(f"/admin/testshop/product/{product.pk}/change/").content.decode()
    return page[page.index('class="visual-search-panel"') :]


def rule_links(html):
    found = re.findall(rf'href="({ADD}\?[^"]*)"', html)
    return [parse_qs(urlsplit(link.replace("&amp;", "&")).query) for link in found]


class TestFromANeighbour:
    def test_links_fill_the_form_in(self, client, products, kind):
        client.force_login(staff())
        links = rule_links(panel_of(client, products[0]))
        assert len(links) == 3 * 5 + 3, "of each neighbour, and of the product itself in every search"
        first = search.similar_to(products[0])[0].product
        assert [link["kind"][0] for link in links[:3]] == ["pin", "boost", "hide"]
        assert links[0]["object_id"] == [f"{kind}:{first.pk}"]
        assert links[0]["query_id"] == [f"{kind}:{products[0].pk}"]
        assert links[-1]["object_id"] == [f"{kind}:{products[0].pk}"]
        assert "query_id" not in links[-1]
        assert links[0]["_next"] == [f"/admin/testshop/product/{products[0].pk}/change/"]

    def test_only_for_whoever_may_add_rules(self, client, products):
        client.force_login(staff("testshop.view_product", "django_visual_search.view_rankingrule"))
        assert rule_links(panel_of(client, products[0])) == []
        client.force_login(staff(*MAY_ADD))
        assert rule_links(panel_of(client, products[0]))

    def test_the_effect_is_shown_before_anything_is_saved(self, client, products, kind):
        client.force_login(staff(*MAY_ADD))
        last = search.similar_to(products[0])[-1].product
        given = {"kind": "pin", "slot": 1, "object_id": f"{kind}:{last.pk}", "query_id": f"{kind}:{products[0].pk}"}
        response = client.get(ADD, given)
        preview = response.context["preview"]
        assert preview.query == "Product 0"
        assert [hit.title for hit in preview.before][-1] == preview.after[0].title == last.name
        assert (preview.after[0].rank, preview.after[0].other_rank, preview.after[0].reasons) == (1, 5, ["pinned"])
        assert preview.changes
        assert "was 5." in response.content.decode()
        given = {**given, "kind": "hide", "factor": "", "slot": "", "_preview": "1"}
        response = client.post(ADD, given)
        assert [hit.title for hit in response.context["preview"].after].count(last.name) == 0
        assert "gone" in response.content.decode()
        assert not response.context["errors"]
        assert not RankingRule.objects.exists()
        assert search.similar_to(products[0])[-1].product == last

    def test_saving_leads_back_to_where_staff_came_from(self, client, products, kind):
        client.force_login(staff())
        data = {"kind": "hide", "object_id": f"{kind}:{products[1].pk}", "query_id": ""}
        home = f"/admin/testshop/product/{products[0].pk}/change/"
        assert client.post(ADD, {**data, "_save": "1", "_next": home}).url == home
        elsewhere = client.post(ADD, {**data, "_save": "1", "_next": "https://elsewhere.example/"})
        assert elsewhere.url == "/admin/django_visual_search/rankingrule/"
        panel = panel_of(client, products[1])
        assert panel.count('class="visual-search-about"') == 2
        assert 'class="visual-search-about"' not in panel_of(client, products[2])

    def test_a_saved_rule_is_compared_with_none(self, client, products, kind):
        rule = RankingRule.objects.create(kind="hide", content_type_id=kind, object_id=products[1].pk)
        client.force_login(staff())
        page = client.get(f"/admin/django_visual_search/rankingrule/{rule.pk}/change/")
        preview = page.context["preview"]
        assert "Product 1" in [hit.title for hit in preview.before]
        assert "Product 1" not in [hit.title for hit in preview.after]

    def test_on_photo_hits(self, client, products, kind):
        client.force_login(staff())
        page = client.post("/admin/testshop/product/visual-search/", {"photo": picture_file(1)})
        links = rule_links(page.content.decode())
        assert len(links) == 3 * 6
        assert all("query_id" not in link for link in links)
        first, last = links[0], links[-3]
        preview = client.get(f"{ADD}?{urlencode(last, doseq=True)}").context["preview"]
        assert (preview.query, preview.after[0].other_rank) == ("", 6), "of the photo's own hits"
        assert preview.before[0].other_rank == 2
        cache.clear()
        preview = client.get(f"{ADD}?{urlencode(first, doseq=True)}").context["preview"]
        assert preview.query.startswith("Product "), "the vectors are gone"


class TestGroups:
    def test_choices_have_groups_by_name(self, client, products, kind):
        hats = Category.objects.get(name="Hats")
        client.force_login(staff())
        found = client.get(CHOICES, {"term": "hats", "field_name": "object_id"}).json()["results"]
        assert found[0] == {"id": f"{kind}~category={hats.pk}", "text": "Category: Hats"}
        assert client.get(CHOICES, {"term": "hats", "field_name": "query_id"}).json()["results"] == []
        client.force_login(staff(*MAY_ADD))  # who may not see categories
        assert client.get(CHOICES, {"term": "hats", "field_name": "object_id"}).json()["results"] == []

    def test_a_group_is_hidden(self, client, products, kind):
        shoes = Category.objects.get(name="Shoes")
        client.force_login(staff())
        data = {"kind": "hide", "object_id": f"{kind}~category={shoes.pk}", "query_id": "", "slot": "x", "factor": ""}
        assert client.post(ADD, data).status_code == 302
        rule = RankingRule.objects.get()
        assert (rule.attribute, rule.value, rule.object_id, rule.slot, rule.factor) == (
            *("category", str(shoes.pk), "", None, 1.2),
        )
        assert {hit.product.category.name for hit in search.similar_to(products[0])} == {"Hats"}
        page = client.get(f"/admin/django_visual_search/rankingrule/{rule.pk}/change/")
        assert "<h2>Hide: Category: Shoes</h2>" in page.content.decode()
        assert page.context["preview"].changes
        assert "Category: Shoes" in client.get("/admin/django_visual_search/rankingrule/").content.decode()
        assert "Category: Shoes" in panel_of(client, products[1])
        assert "Category: Shoes" not in panel_of(client, products[0])

    @pytest.mark.parametrize(
        ("path", "value", "wrong"),
        [
            ("category__name", "Shoes", ""),
            ("colour", "red", "has no attribute"),
            ("price", "x", "not a value of price"),
        ],
    )
    def test_any_attribute_path(self, client, products, path, value, wrong):
        client.force_login(staff())
        data = {"kind": "boost", "factor": 2, "object_id": "", "query_id": "", "attribute": path, "value": value}
        response = client.post(ADD, {**data, "model": "testshop.Product"})
        assert wrong in str(response.context["errors"]) if wrong else response.status_code == 302

    def test_nothing_named(self, client, products):
        client.force_login(staff())
        response = client.post(ADD, {"kind": "hide", "object_id": "", "query_id": ""})
        assert "Choose a product or a group" in str(response.context["errors"])

    def test_pictures_of_companions(self, client):
        article = Article.objects.create(title="A")
        image = ArticleImage.objects.create(article=article, original=picture_file(1))
        embed_all("testshop.ArticleImageEmbedding.embedding")
        client.force_login(staff())
        (found,) = client.get(CHOICES, {"term": "A"}).json()["results"]
        assert found["picture"] == image.original.url


class TestOnTheShopsOwnPage:
    TEMPLATE = "{% load visual_search %}{% similar_items product %}{% staff_similar_items product %}"

    @pytest.fixture(autouse=True)
    def _empty(self):
        cache.clear()

    def page(self, product, user=None, cookie=True):
        request = RequestFactory().get("/tea/?page=2")
        if user is not None:
            request.user = user
        if cookie:
            request.COOKIES["sessionid"] = "x"
        self.request = request
        return Template(self.TEMPLATE).render(Context({"request": request, "product": product}))

    def test_staff_see_links_and_the_page_is_not_cached(self, products, kind):
        html = self.page(products[0], staff(*MAY_ADD))
        links = rule_links(html)
        assert len(links) == 3 * 5
        assert links[0]["query_id"] == [f"{kind}:{products[0].pk}"]
        assert links[0]["_next"] == ["/tea/?page=2"]
        assert self.request._cache_update_cache is False

    def test_nobody_else_does(self, products, django_assert_num_queries):
        for user in (staff("testshop.view_product"), None):
            assert rule_links(self.page(products[0], user)) == []
            assert not hasattr(self.request, "_cache_update_cache")
        assert rule_links(self.page(products[0], staff(), cookie=False)) == []

    def test_cached_pages_never_show_them_to_shoppers(self, client, products):
        @cache_page(600)
        def view(request):
            html = Template(self.TEMPLATE).render(Context({"request": request, "product": products[0]}))
            return HttpResponse(html)

        def ask(user, cookie):
            request = RequestFactory().get("/tea/")
            request.user = user
            if cookie:
                request.COOKIES["sessionid"] = cookie
            return view(request).content.decode()

        boss = staff()
        assert rule_links(ask(boss, "staff"))
        assert rule_links(ask(None, None)) == []
        assert rule_links(ask(None, None)) == []

    def test_it_is_no_search_of_a_shopper(self, products):
        Template("{% load visual_search %}{% staff_similar_items product %}").render(
            Context({"request": self.signed_in(), "product": products[0]})
        )
        assert not SearchLog.objects.exists()

    def signed_in(self):
        request = RequestFactory().get("/")
        request.user, request.COOKIES["sessionid"] = staff(), "x"
        return request


def test_another_admin_site_or_none(products, settings):
    from django_visual_search.storefront.merchandising import rule_links as links

    assert links(products[0], admin_name="elsewhere") == []
    assert quote(reverse("admin:index")) in links(products[0])[0][1]
