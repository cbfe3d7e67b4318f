"""Cards: what they say of a product, and the reactions that shoppers send from them without scripts."""

import html
import re
from decimal import Decimal
from types import SimpleNamespace

import pytest
from django.contrib.contenttypes.models import ContentType
from django.template import RequestContext, Template
from django.utils import translation

from django_visual_search import search
from django_visual_search.models import Feedback, RankingRule
from django_visual_search.storefront.cards import cards, usual_card

from ..conftest import embed_all, picture_file
from ..testshop.models import Product

pytestmark = pytest.mark.django_db

REACTIONS = "/visual-search/reactions/"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def shop(monkeypatch):
    monkeypatch.setattr(Product, "get_absolute_url", lambda self: f"/products/{self.pk}/", raising=False)
    monkeypatch.setattr(Product, "__str__", lambda self: self.name)
    products = [Product.objects.create(name=f"<p{i}>", image=picture_file(i), price=i % 2) for i in range(6)]
    embed_all()
    return products


@pytest.fixture
def page(shop, rf):
    """Return a function that renders the similar items of the first product."""

    def render(request=None, **context):
        source = Template("{% load visual_search %}{% similar_items product %}")
        return source.render(RequestContext(request or rf.get("/products/1/"), {"product": shop[0], **context}))

    return render


def set_card(settings, **values):
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, **values}


class TestWhatACardSays:
    def test_price_sold_out_and_the_way_to_more(self, page, settings):
        set_card(settings, CARD=lambda product, request: {"price": Decimal("1234.50"), "sold_out": product.price == 0})
        shown = page()
        assert shown.count('<span class="visual-search-price">1234.50</span>') == 5
        assert shown.count('<span class="visual-search-sold-out">Sold out</span>') == 2
        assert len(re.findall(r'href="/products/\d+/#visual-search-similar" data-visual-search-more="\d+"', shown)) == 5
        with translation.override("de"):
            assert page().count(">1234,50<") == 5

    def test_without_a_setting_whole_numbers_are_no_prices(self, page):
        assert "visual-search-offer" not in page()

    @pytest.mark.parametrize(
        ("product", "says"),
        [
            ({"price": Decimal("9.99"), "is_sold_out": lambda: True}, {"price": Decimal("9.99"), "sold_out": True}),
            ({"price": 999, "in_stock": False}, {"sold_out": True}),
            ({"price": None, "in_stock": 3, "is_in_stock": True}, {"sold_out": False}),
            ({}, {}),
        ],
    )
    def test_usual_names(self, product, says):
        assert usual_card(SimpleNamespace(**product)) == says

    def test_the_reason_in_words(self, shop, page, settings):
        rule = {"content_type": ContentType.objects.get_for_model(Product), "object_id": str(shop[3].pk)}
        RankingRule.objects.create(kind="pin", slot=1, **rule)
        set_card(settings, CARD=lambda product, request: {"same": {"Same colour": product.price}})
        found = {card.hit.product: card.reason for card in cards(search.similar_to(shop[0]), product=shop[0])}
        same, other = "Same colour", ""
        assert found == {shop[1]: other, shop[2]: same, shop[3]: "Chosen by us", shop[4]: same, shop[5]: other}
        assert page().count('<span class="visual-search-reason">') == 3

    def test_what_fails_costs_no_page_and_is_said_once(self, page, settings, caplog):
        def broken(*args):
            raise ValueError("no such thing")

        set_card(settings, CARD=broken, THUMBNAIL="nowhere.thumbnail")
        for _ in range(2):
            shown = page()
            assert shown.count("data-visual-search-hit") == 5
            assert "<img" not in shown
        said = [record.getMessage() for record in caplog.records]
        assert len([line for line in said if "no thumbnail of products/" in line]) == 5
        assert len([line for line in said if "no card of testshop.Product" in line]) == 6  # and of the product itself

    def test_a_misspelt_key_is_named(self, page, settings, caplog):
        set_card(settings, CARD=lambda product, request: {"soldout": True})
        assert page().count("data-visual-search-hit") == 5
        assert "CARD returned 'soldout'; its keys are price, sold_out, same." in caplog.text


class TestPictures:
    def test_two_sizes(self, shop, settings):
        set_card(settings, THUMBNAIL=lambda picture, size: f"/t/{size}/{picture.name}")
        card = cards(search.similar_to(shop[0]))[0]
        name = card.hit.product.image.name
        assert card.thumbnail == f"/t/240/{name}"
        assert card.srcset == f"/t/240/{name} 240w, /t/480/{name} 480w"
        assert card.sizes

    def test_without_thumbnails_there_is_one(self, shop, page):
        assert cards(search.similar_to(shop[0]))[0].srcset == ""
        assert "srcset" not in page()

    def test_nothing_is_made_before_a_template_asks(self, page, settings, tmp_path):
        made = []
        set_card(settings, THUMBNAIL=lambda picture, size: made.append(size) or "/t/", CARD=lambda *of: made.append(of))
        override(settings, tmp_path, "{% for hit in results %}{{ hit.product }};{% endfor %}{{ cards|length }}")
        assert page().endswith(";5")
        assert made == []


def override(settings, folder, source):
    (folder / "visual_search").mkdir()
    (folder / "visual_search" / "similar_items.html").write_text(source)
    (templates,) = settings.TEMPLATES
    settings.TEMPLATES = [{**templates, "DIRS": [folder]}]


class TestTemplates:
    def test_the_pages_context_and_csrf_token_reach_a_shops_own(self, page, settings, tmp_path):
        override(settings, tmp_path, "{{ greeting }} {% csrf_token %} {{ user.is_authenticated }} {{ cards.0.title }}")
        shown = page(greeting="Good day", cards="the page's own")
        assert re.fullmatch(r'Good day <input type="hidden" name="csrfmiddlewaretoken".*> False &lt;p\d&gt;', shown)

    def test_names_of_the_page_dont_reach_ours(self, page):
        assert page(list=[3], title="Tea", reactions=3, card=3).count("<ul class=") == 1


class TestReactions:
    @pytest.fixture
    def form(self, page):
        """Return the form's address, its token, and the products of its buttons."""
        shown = page()
        found = re.search(r'<form id="([^"]+)" method="post" action="([^"]+)"[^>]*>.*? value="([^"]+)"', shown)
        keys = re.findall(rf'<button form="{found[1]}" name="favourite" value="(\d+)"', shown)
        assert keys == re.findall(rf'<button form="{found[1]}" name="skip" value="(\d+)"', shown)
        return found[2], html.unescape(found[3]), keys

    @pytest.mark.parametrize("kind", ["favourite", "skip"])
    def test_a_button_is_a_report(self, kind, form, client):
        url, token, keys = form
        back = {"HTTP_REFERER": "http://testserver/products/1/?a=1&b=2", "HTTP_ORIGIN": "http://testserver"}
        answer = client.generic("POST", url, f"token={token}&{kind}={keys[1]}", FORM, **back)
        assert answer.status_code == 200
        assert "Thank you" in answer.content.decode()
        assert 'href="http://testserver/products/1/?a=1&amp;b=2"' in answer.content.decode()
        event = Feedback.objects.get(kind=kind)
        assert (event.object_id, event.rank, event.query_kind) == (keys[1], 2, "product")

    @pytest.mark.parametrize(
        ("change", "headers", "status"),
        [
            ({"token": "forged"}, {}, 400),
            ({"favourite": "999"}, {}, 400),
            ({"favourite": None}, {}, 400),
            ({}, {"HTTP_ORIGIN": "https://elsewhere.example", "HTTP_SEC_FETCH_SITE": "cross-site"}, 403),
        ],
    )
    def test_what_is_refused_says_why(self, change, headers, status, form, client):
        _, token, keys = form
        sent = {"token": token, "favourite": keys[0], **change}
        body = "&".join(f"{name}={value}" for name, value in sent.items() if value is not None)
        headers["HTTP_REFERER"] = "https://elsewhere.example/"
        answer = client.generic("POST", REACTIONS, body, FORM, **headers)
        assert answer.status_code == status
        assert "That did not work" in answer.content.decode()
        assert 'href="/"' in answer.content.decode()
        assert not Feedback.objects.exists()
